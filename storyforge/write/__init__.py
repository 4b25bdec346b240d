"""From words to a draft of a story: manuscripts split by rules, ideas by a language model."""
