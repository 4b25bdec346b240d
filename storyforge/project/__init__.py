"""A story read once, and the verbs on it."""
