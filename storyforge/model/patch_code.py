"""Components of patches: read off pictures, and drawn.

They are closed form, so that what was read is there whatever else is learnt. A few components of a
patch are a blurred picture with ripples at its edges. What drawings look like there is learnt, and
added. Not covered: what is told of cells, which draws pictures that nobody has read.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from storyforge.model.convolution import Block, silence
from storyforge.modelref import PATCH_SCALES

PATCH, DRAWN = PATCH_SCALES[:2]
"""Pixels a side of the patches that are read, and of what is drawn for each."""
SPOT = 4
"""Pixels a side that are looked at, and thought of, as one."""


class PatchCode(nn.Module):
    """A linear code, and what it lacks."""

    basis: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, components: int, width: int, depth: int) -> None:
        """What it lacks is thought of in `depth` layers of so many numbers a spot."""
        super().__init__()
        self.register_buffer("basis", torch.zeros(components, 3 * PATCH**2))
        self.register_buffer("mean", torch.zeros(3 * PATCH**2))
        self.register_buffer("scale", torch.ones(()))
        self.first = nn.Conv2d(3 * SPOT**2, width, 1)
        self.layers = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.last = nn.Conv2d(width, 3 * (DRAWN // PATCH * SPOT) ** 2, 1)
        silence(self.last)

    def read(self, pictures: torch.Tensor) -> torch.Tensor:
        """(n, 3, 16·h, 16·w) in [−1, 1] to the components of its patches (n, k, h, w)."""
        count, _, high, wide = pictures.shape
        parts = pictures.reshape(count, 3, high // PATCH, PATCH, wide // PATCH, PATCH)
        rows = parts.permute(0, 2, 4, 3, 5, 1).flatten(3)
        return ((rows - self.mean) @ self.basis.mT / self.scale).permute(0, 3, 1, 2)

    def blurred(self, components: torch.Tensor) -> torch.Tensor:
        """(n, k, h, w) to (n, 3, 16·h, 16·w): the components alone."""
        rows = components.permute(0, 2, 3, 1) * self.scale @ self.basis + self.mean
        count, high, wide, _ = rows.shape
        parts = rows.reshape(count, high, wide, PATCH, PATCH, 3).permute(0, 5, 1, 3, 2, 4)
        return parts.reshape(count, 3, high * PATCH, wide * PATCH)

    def forward(self, components: torch.Tensor) -> torch.Tensor:
        """(n, k, h, w) to (n, 3, 32·h, 32·w) in [−1, 1], or a little beyond."""
        blurred, times = self.blurred(components), DRAWN // PATCH
        x = self.layers(self.first(F.pixel_unshuffle(blurred, SPOT)))
        larger = F.interpolate(blurred, scale_factor=times)
        return larger + F.pixel_shuffle(self.last(x), times * SPOT)
