"""From a story to everything that has to be made for it."""
