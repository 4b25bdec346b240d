"""Diffusion transformers: what they do otherwise than the U-Nets of Stable Diffusion."""
