"""What an author writes: read with its places, checked, and given out as data to be trusted."""
