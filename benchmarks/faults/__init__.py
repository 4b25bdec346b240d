"""What becomes of a story when its files are cut, its disk is full and its runs are killed.

`disk` is a file layer that fails at the call it is told, `life` a story whose stages cost nothing
and whose every file is compared, `__main__` the counts. Run with `python -m benchmarks.faults`.
"""
