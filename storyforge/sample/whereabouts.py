"""Where the subjects of a picture were drawn, by who read their words while that was done.

A region says where a subject was asked for; it may have come out elsewhere. Cells that show it read
its words, and those of its head read them most (what cross-attention looks at: Tang et al. 2022).
Of 76 creatures in pictures of the embedded model's illustrator, nine in ten of the cells of the
body that read its noun most were the head's, which half of the body is. The word `face` found
heads less well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from storyforge.geometry.box import Box
from storyforge.model.figures import ToldFigure

_REACH: Final = 0.15
"""How far beyond its region a subject may be drawn, as a standard deviation in picture widths."""

_WHOLE: Final = 0.4
"""So much of what stands out must hang together; else nothing was made out."""

_HEAD: Final = 0.5
"""At most so many of a subject's cells are its head's."""

_LOWER: Final = 0.8
"""Of the level that best parts cells in two: a little of what is below belongs there as well."""

_MEANT: Final = 0.1
"""A figure and a region that share less of both together have nothing to do with each other."""


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a subject is in a picture, in fractions.

    body   all of it
    head   what of it is its head; None if it is known that none shows
    exact  whether latents told it, instead of attention
    """

    body: Box
    head: Box | None
    exact: bool = False


def whereabouts(read: Tensor, regions: Sequence[Box]) -> list[Whereabouts | None]:
    """Where each region's subject is; None where nothing stands out.

    read  (r, h, w)  how much each cell reads each region's words
    """
    smooth = _smoothed(read.float())
    low, high = smooth.amin((1, 2), keepdim=True), smooth.amax((1, 2), keepdim=True)
    level = (smooth - low) / (high - low).clamp(min=1e-12)
    near = torch.stack([_nearness(region, read.shape[1:]) for region in regions]).to(level)
    return [_found(each) for each in level * near]


def told(figures: Sequence[ToldFigure], regions: Mapping[str, Box]) -> dict[str, Whereabouts]:
    """Which figure is the subject of which region; whom none shares enough with is left out.

    figures  who is in the picture, as its latents tell it
    """
    shares = [
        (_overlap(figure.body, box), name, index)
        for name, box in regions.items()
        for index, figure in enumerate(figures)
    ]
    found: dict[str, Whereabouts] = {}
    left = set(range(len(figures)))
    for share, name, index in sorted(shares, reverse=True):
        if share >= _MEANT and name not in found and index in left:
            left.remove(index)
            found[name] = Whereabouts(figures[index].body, figures[index].face, exact=True)
    return {name: found[name] for name in regions if name in found}


def _overlap(one: Box, other: Box) -> float:
    """What two boxes share, of all that they cover together."""
    common = one.intersection(other)
    shared = common.area() if common is not None else 0.0
    return shared / (one.area() + other.area() - shared)


def _found(read: Tensor) -> Whereabouts | None:
    """Of one map, (h, w)."""
    shown = read > _LOWER * _between(read)
    patch = _patch(shown, read)
    if not patch.any() or patch.sum() < _WHOLE * shown.sum():
        return None
    own = read[patch].sort(descending=True).values
    least = max(own[math.ceil(_HEAD * len(own)) - 1], _LOWER * _between(own))
    return Whereabouts(_extent(patch), _extent(_patch(patch & (read >= least), read)))


def _smoothed(maps: Tensor) -> Tensor:
    """(n, h, w) under a 3 × 3 binomial kernel."""
    side = torch.tensor([1.0, 2, 1], device=maps.device) / 4
    wide = F.pad(maps[:, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(wide, torch.outer(side, side)[None, None])[:, 0]


def _nearness(region: Box, size: Sequence[int]) -> Tensor:
    """(h, w): 1 inside a region, less the further away."""
    rows, columns = ((torch.arange(count) + 0.5) / count for count in size)
    down = torch.maximum(region.y0 - rows, rows - region.y1).clamp(min=0)
    across = torch.maximum(region.x0 - columns, columns - region.x1).clamp(min=0)
    return torch.exp(-(down[:, None] ** 2 + across**2) / (2 * _REACH**2))


def _between(read: Tensor) -> Tensor:
    """The level that best parts a map in two (Otsu 1979)."""
    values = read.flatten().sort().values
    count = len(values)
    if count == 1:
        return values[0]
    below = torch.arange(1, count, device=values.device)
    sums = values.cumsum(0)
    low = sums[:-1] / below
    high = (sums[-1] - sums[:-1]) / (count - below)
    best = int((below * (count - below) * (high - low) ** 2).argmax())
    return values[best]


def _patch(shown: Tensor, read: Tensor) -> Tensor:
    """(h, w): of the cells that hang together those that read the most, all told."""
    names = torch.arange(1, shown.numel() + 1, device=shown.device).reshape(shown.shape).float()
    names = names * shown
    while True:
        # Every cell takes the largest name beside it, until all of a patch have one name.
        beside = F.max_pool2d(names[None, None], 3, 1, 1)[0, 0] * shown
        if torch.equal(beside, names):
            break
        names = beside
    sums = torch.zeros(names.numel() + 1, device=read.device)
    sums.index_add_(0, names.flatten().long(), (read * shown).flatten())
    return shown & (names == int(sums.argmax()))


def _extent(cells: Tensor) -> Box:
    """The box around some cells of a grid."""
    height, width = cells.shape
    rows, columns = cells.any(1).nonzero().flatten(), cells.any(0).nonzero().flatten()
    return Box(
        x0=int(columns[0]) / width,
        y0=int(rows[0]) / height,
        x1=(int(columns[-1]) + 1) / width,
        y1=(int(rows[-1]) + 1) / height,
    )
