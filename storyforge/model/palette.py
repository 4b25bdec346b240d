"""The colours of patches: of what is bright, red or blue in each, and of what is not.

Stripes, dots and the outlines of small things are lost in means of pixels, and which two colours a
patch has is more than a few small convolutions find out. Nothing is learnt here.
"""

from __future__ import annotations

import torch

AXES = ((1.0, 1.0, 1.0), (1.0, -1.0, 0.0), (-1.0, -1.0, 2.0))
"""Bright and dark, red and green, blue and yellow."""
COLOURS = 2 * len(AXES)
"""How many colours are told of a patch."""
FLAT = 1e-3
"""What every pixel counts: patches of one colour have only that."""


def palettes(pictures: torch.Tensor, side: int) -> torch.Tensor:
    """(n, 3, side·h, side·w) in [−1, 1] to (n, 3 · `COLOURS`, h, w) in [−1, 1].

    Along each axis the mean of the pixels above the patch's mean, then of those below, each by how
    far it is from there: of two colours in a patch both come out as they are.
    """
    n, _, high, wide = pictures.shape
    cells = pictures.reshape(n, 3, high // side, side, wide // side, side)
    mean = cells.mean((3, 5), keepdim=True)
    apart = cells - mean
    axes = torch.tensor(AXES, device=pictures.device, dtype=pictures.dtype)
    along = torch.einsum("ac,nchywx->nahywx", axes / axes.norm(dim=1, keepdim=True), apart)
    weights = torch.cat([along, -along], 1).clamp(min=0) + FLAT
    lack = torch.einsum("nahywx,nchywx->nachw", weights, apart)
    made = lack / weights.sum((3, 5))[:, :, None] + mean[:, None, :, :, 0, :, 0]
    return made.flatten(1, 2)
