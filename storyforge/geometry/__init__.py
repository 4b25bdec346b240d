"""Boxes and poses: fractions in, cells and pixels out."""
