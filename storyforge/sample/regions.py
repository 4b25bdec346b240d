"""Regions of a panel as shares of the cells of every attention level.

A plain box covers whole cells, at least one. Masks, polygons and soft edges cover each cell by the
exact part of its area. Regions with a larger `z` are laid over the others; those with equal `z`
share by weight what they cover.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from storyforge.errors import StoryForgeError
from storyforge.geometry.box import Corners
from storyforge.model.attention import levels
from storyforge.model.base import BaseModel
from storyforge.tasks import RegionTask

Plane = NDArray[np.float64]
Size = tuple[int, int]

_FINE = 512
"""Pixels along the longer side of the plane on which polygons and soft edges are drawn."""

_SEEN = 0.5
"""What covers less than this of every cell would not be seen on a level; its best cell is its."""


def region_weights(
    regions: Sequence[RegionTask], size: Size, span: tuple[float, float] | None = None
) -> torch.Tensor:
    """What each region has of each cell.

    Args:
      regions: their weights count where they overlap.
      size: rows and columns of the grid.
      span: rows and columns that the picture fills of it, where it does not fill the last ones.

    Returns:
      (r, rows · columns), of a cell at most 1 in all

    Raises:
      StoryForgeError: for a mask that cannot be read, or shows nothing of its region.
    """
    region_weights, left = torch.zeros(len(regions), *size), torch.ones(size)
    cover = [_coverage(region, size, span or size) for region in regions]
    for depth in sorted({region.z for region in regions}, reverse=True):
        index = [i for i, region in enumerate(regions) if region.z == depth and region.weight > 0]
        if index:
            parts = torch.stack([cover[i] for i in index])
            weights = torch.tensor([regions[i].weight for i in index])[:, None, None]
            covered = parts.sum(0).clamp(max=1)
            total = (weights * parts).sum(0).clamp(min=1e-12)
            region_weights[index] = weights * parts / total * (covered * left)
            left = left * (1 - covered)
    return region_weights.flatten(1)


def _coverage(region: RegionTask, size: Size, span: tuple[float, float]) -> torch.Tensor:
    """(rows, columns): which part of each cell the region covers, in [0, 1]."""
    plain = region.polygon is None and region.soft == 0
    if plain and region.mask is None:
        return torch.from_numpy(_boxed(region, size, span)).float()
    if plain and region.mask is not None:
        made = _boxed(region, size, span) * _means(_mask(region), size, span)
    else:
        made = _means(_drawn(region, span), size, span)
    most = made.max()
    if most <= 0:
        raise StoryForgeError(
            f"nothing is left of region `{region.name}`",
            hint="is its mask black where its box or polygon is?",
        )
    return torch.from_numpy(made / most if most < _SEEN else made).float()


def _boxed(region: RegionTask, size: Size, span: tuple[float, float]) -> Plane:
    """1 in the whole cells of the region's box, at least one of them."""
    box, grid = region.box, np.zeros(size)
    y0, y1 = _whole(box.y0, box.y1, size[0], span[0])
    x0, x1 = _whole(box.x0, box.x1, size[1], span[1])
    grid[y0:y1, x0:x1] = 1
    return grid


def _whole(start: float, end: float, count: int, span: float) -> tuple[int, int]:
    """As `Box.cells`, on a grid of which the picture fills `span` cells."""
    first, last = math.floor(start * span + 0.5), math.floor(end * span + 0.5)
    last = count if end == 1 else last
    if first < last:
        return min(first, count - 1), min(last, count)
    nearest = min(math.floor((start + end) / 2 * span), count - 1)
    return nearest, nearest + 1


def _drawn(region: RegionTask, span: tuple[float, float]) -> Plane:
    """The region on a fine plane of the picture's shape, its edge fading."""
    finer = max(1, round(_FINE / max(span)))
    height, width = (max(1, round(cells * finer)) for cells in span)
    box = region.box
    around = ((box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1))
    made = _filled(region.polygon or around, height, width)
    if region.mask is not None:
        made = made * _means(_mask(region), (height, width), (height, width))
    reach = round(region.soft * min(height, width) / 2)
    return _faded(_faded(made, reach, 0), reach, 1) if reach else made


def _filled(corners: Corners, height: int, width: int) -> Plane:
    """1 in the pixels whose middle lies inside: an odd number of sides is to the right of it."""
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    inside = np.zeros((height, width), bool)
    for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
        across = (ay > y) != (by > y)
        meets = ax + (y[across] - ay) * (bx - ax) / (by - ay) if by != ay else y[across]
        inside[across] ^= x < meets[:, None]
    if not inside.any():
        # Thinner than a pixel: the one in its middle stands for it.
        middle = np.mean(corners, axis=0)
        row, column = (
            min(int(middle[1] * height), height - 1),
            min(int(middle[0] * width), width - 1),
        )
        inside[row, column] = True
    return inside.astype(np.float64)


def _faded(plane: Plane, reach: int, axis: int) -> Plane:
    """The mean over `reach` pixels to both sides; beyond the frame it goes on as at its edge."""
    wide = [(reach, reach) if axis == each else (0, 0) for each in range(2)]
    total = np.cumsum(np.pad(plane, wide, mode="edge"), axis)
    total = np.concatenate([np.zeros_like(total.take([0], axis)), total], axis)
    count, length = 2 * reach + 1, plane.shape[axis]
    ends = total.take(range(count, count + length), axis)
    made: Plane = (ends - total.take(range(length), axis)) / count
    return made


def _means(picture: Plane, size: Size, span: tuple[float, float]) -> Plane:
    """The mean of a picture over each cell of a grid, exact for pixels cut by a cell's edge."""
    made = picture
    for axis in range(2):
        edges = np.minimum(np.arange(size[axis] + 1) / span[axis], 1) * picture.shape[axis]
        zero = np.zeros_like(made.take([0], axis))
        total = np.concatenate([zero, np.cumsum(made, axis)], axis)
        whole = np.minimum(np.floor(edges).astype(int), picture.shape[axis] - 1)
        shape = [-1 if axis == each else 1 for each in range(2)]
        at = total.take(whole, axis) + (edges - whole).reshape(shape) * made.take(whole, axis)
        made = np.diff(at, axis=axis) / np.diff(edges).reshape(shape)
    return made


def _mask(region: RegionTask) -> Plane:
    try:
        with Image.open(str(region.mask)) as file:
            return np.asarray(file.convert("L"), dtype=np.float64) / 255
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise StoryForgeError(
            f"cannot read the mask `{region.mask}` of region `{region.name}`: {exc}"
        ) from exc


def region_weights_of(
    base: BaseModel, regions: Sequence[RegionTask], latent: Size
) -> dict[int, torch.Tensor]:
    """Cells of a level -> (r, cells), for every level of a latent grid of (rows, columns)."""
    found = {}
    for level, size in enumerate(levels(base, *latent)):
        span = latent[0] / 2**level, latent[1] / 2**level
        found[math.prod(size)] = region_weights(regions, size, span).to(base.device)
    return found


def guidance_map(
    scale: float, regions: Sequence[RegionTask], region_weights: torch.Tensor, latent: Size
) -> torch.Tensor | float:
    """The guidance scale of every cell, (1, 1, h, w); one number where no region has its own."""
    if all(region.guidance_scale is None for region in regions):
        return scale
    own = [scale if r.guidance_scale is None else r.guidance_scale for r in regions]
    more = (torch.tensor(own, device=region_weights.device) - scale)[:, None] * region_weights
    return scale + more.sum(0).reshape(1, 1, *latent)
