"""Fusion measured: its solver, its memory, its time; see `__main__`."""
