"""Measurements: programs that print one JSON document, `python -m benchmarks.NAME --json`."""
