"""The diffusion model, and what can be attached to it: deltas, concept tokens, region contexts."""
