"""The embedded default: a picture-book world, and a small Stable-Diffusion-class model of it."""
