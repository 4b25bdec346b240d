"""What many workers are worth: how near to N times as fast, and what is lost with one.

`work` is what simulated workers do, `__main__` the counts. Run with `python -m benchmarks.cluster`.
"""
