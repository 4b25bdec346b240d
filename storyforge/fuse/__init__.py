"""Concepts become one model: what each layer sees, the least squares problem, the fused deltas."""
