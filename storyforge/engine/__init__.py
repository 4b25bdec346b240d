"""A plan made real: which tasks run where, opened models kept, books bound, judges asked."""
