"""Regions of a panel as weights on the cells of every attention level.

Boxes come as fractions and cover whole cells, at least one. Where regions overlap, those with the
larger `z` are in front; with equal `z` they share by weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from storyforge.errors import StoryForgeError
from storyforge.model.attention import RegionText, levels
from storyforge.model.base import BaseModel
from storyforge.model.concept import FusedModel
from storyforge.model.tokens import encode
from storyforge.plan import RegionTask


def cell_weights(regions: Sequence[RegionTask], rows: int, columns: int) -> torch.Tensor:
    """(r, rows · columns): the weight of each region on each cell, 0 where another is in front."""
    grid = torch.zeros(len(regions), rows, columns)
    for index, region in enumerate(regions):
        y0, y1, x0, x1 = region.box.cells(rows, columns)
        grid[index, y0:y1, x0:x1] = region.weight
        if region.mask is not None:
            grid[index] *= _mask(region, rows, columns)
    depth = torch.tensor([region.z for region in regions], dtype=torch.float32)[:, None, None]
    front = torch.where(grid > 0, depth, -torch.inf).amax(0)
    return (grid * (depth == front)).flatten(1)


def _mask(region: RegionTask, rows: int, columns: int) -> torch.Tensor:
    try:
        with Image.open(str(region.mask)) as file:
            # In floats: the least touch of white still counts in a large cell.
            small = file.convert("L").convert("F").resize((columns, rows), Image.Resampling.BOX)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise StoryForgeError(
            f"cannot read the mask `{region.mask}` of region `{region.name}`: {exc}"
        ) from exc
    return torch.from_numpy(np.asarray(small, dtype=np.float32) / 255)


def region_texts(
    base: BaseModel, fused: FusedModel, regions: Sequence[RegionTask], latent: tuple[int, int]
) -> list[RegionText]:
    """What each region reads: its negative prompt, then its prompt; `latent` is (rows, columns)."""
    if not regions:
        return []
    weights = {
        rows * columns: cell_weights(regions, rows, columns).to(base.device)
        for rows, columns in levels(base, *latent)
    }
    found = []
    for index, region in enumerate(regions):
        text = encode(base, [region.negative, region.prompt], fused.tokens)
        own = {cells: grid[index] for cells, grid in weights.items()}
        found.append(RegionText(text, own))
    return found
