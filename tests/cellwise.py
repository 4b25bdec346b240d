"""Cells drawn one by one, as the stage `shapes` learns them."""

from __future__ import annotations

import torch

from storyforge.model.cell_decoder import FINE, Decoder, in_picture
from storyforge.model.ink import Raster


def by_cells(decoder: Decoder, told: torch.Tensor, raster: Raster = FINE) -> torch.Tensor:
    """(n, t, h, w) to (n, 3, q·h, q·w): every cell by itself."""
    shape = len(told), *told.shape[-2:]
    return in_picture(decoder.drawn(told, torch.ones(shape) > 0, raster), *shape[1:])
