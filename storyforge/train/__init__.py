"""From a handful of pictures to a concept."""
