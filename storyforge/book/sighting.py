"""Where the figures of a drawn picture stand, seen in its colours.

A region says where a figure was asked for; the drawing may put it elsewhere. Colours that are
common in a region and rare outside all of them are the figure's: histograms of figures and ground,
fitted in turns (as GrabCut does, without its cut). Sees coloured figures on another ground; finds
nothing where both look alike, and then the region has to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from storyforge.book.leaf import Rect

_SIDE: Final = 64
"""Cells along a side of the picture as it is looked at."""

_SHADES: Final = 8
"""Steps of each colour channel that are told apart."""

_ROUNDS: Final = 5
_REACH: Final = 0.1
"""How far beyond its region a figure may be drawn, as a standard deviation in picture widths."""

_EXPECTED: Final = 0.8
_GROUND: Final = 0.35
"""How likely a cell inside a region is the figure's, and at least the ground's, before its colour
is seen."""

_CORE: Final = 0.2
"""The first look takes a figure's colours from its region without so much of each edge."""

_SURE: Final = 0.84
"""A cell is the figure's above this probability."""

_SCRAP: Final = 0.12
"""Patches smaller than this share of the largest one are not the figure's."""

_STRAY: Final = 0.03
"""So many of its cells on each side may be strays."""

_FEWEST: Final = 20
_WHOLE: Final = 0.6
"""What is less high than this share of its region is seen in part, and reaches as far as that."""

PixelGrid = NDArray[np.float64]
Codes = NDArray[np.int64]


def sighted(path: Path, changed: int, regions: tuple[Rect, ...]) -> tuple[Rect | None, ...]:
    """Where the figure of each region stands, in fractions; None where nothing can be made out.

    Nothing is seen in a file that is no picture. `changed` (ns) tells when to look again.
    """
    return _sighted(path, changed, regions) if regions else ()


@lru_cache(maxsize=256)
def _sighted(path: Path, changed: int, regions: tuple[Rect, ...]) -> tuple[Rect | None, ...]:
    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    except (UnidentifiedImageError, OSError):
        return (None,) * len(regions)
    shares = _shares(_coded(np.asarray(small)), regions)
    return tuple(
        _extended(_extent(share), region) for share, region in zip(shares, regions, strict=True)
    )


def _coded(pixels: NDArray[np.uint8]) -> Codes:
    """(h, w, 3) bytes as (h, w) numbers of coarse colours."""
    steps = np.minimum(pixels.astype(np.int64) * _SHADES // 256, _SHADES - 1)
    return (steps[..., 0] * _SHADES + steps[..., 1]) * _SHADES + steps[..., 2]


def _shares(codes: Codes, regions: Sequence[Rect]) -> list[PixelGrid]:
    """For each region, how probably each cell is its figure's, (h, w) in 0 to 1."""
    priors = [_EXPECTED * _nearness(region, _REACH) for region in regions]
    ground_prior = np.clip(1 - np.maximum.reduce(priors), _GROUND, 1)
    shares = [
        _nearness(region.inset(_CORE * region.width, _CORE * region.height), 0.02)
        for region in regions
    ]
    ground = 1 - np.maximum.reduce([_nearness(region, 0.02) for region in regions]) + 1e-3
    for _ in range(_ROUNDS):
        figures = [
            prior * _histogram(codes, share)[codes]
            for prior, share in zip(priors, shares, strict=True)
        ]
        behind = ground_prior * _histogram(codes, ground)[codes]
        total = np.add.reduce(figures) + behind
        shares = [figure / total for figure in figures]
        ground = behind / total
    return shares


def _nearness(rect: Rect, reach: float) -> PixelGrid:
    """1 inside a rectangle, less the further away."""
    rows, columns = (np.mgrid[0:_SIDE, 0:_SIDE] + 0.5) / _SIDE
    across = np.maximum(np.maximum(rect.x - columns, columns - rect.right), 0)
    down = np.maximum(np.maximum(rect.y - rows, rows - rect.bottom), 0)
    near: PixelGrid = np.exp(-(across**2 + down**2) / (2 * reach**2))
    return near


def _histogram(codes: Codes, weights: PixelGrid) -> PixelGrid:
    """How common each colour is, like colours counting a little for each other."""
    counts = np.bincount(codes.ravel(), weights.ravel(), minlength=_SHADES**3)
    cube = counts.reshape(_SHADES, _SHADES, _SHADES)
    below, above = [0, *range(_SHADES - 1)], [*range(1, _SHADES), _SHADES - 1]
    for axis in range(3):
        cube = 0.6 * cube + 0.2 * (np.take(cube, below, axis) + np.take(cube, above, axis))
    even = cube.ravel() + 0.01 * weights.sum() / _SHADES**3
    return np.asarray(even / even.sum(), dtype=np.float64)


def _extent(share: PixelGrid) -> Rect | None:
    """The rectangle round the figure's cells, scraps and strays left out."""
    shifts = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]
    smooth = np.add.reduce([np.roll(share, shift, (0, 1)) for shift in shifts]) / len(shifts)
    patches = _patches(smooth > _SURE)
    cells = np.array(
        [cell for patch in patches if len(patch) > _SCRAP * len(patches[0]) for cell in patch]
    )
    if len(cells) < _FEWEST:
        return None
    rows, columns = np.sort(cells[:, 0]), np.sort(cells[:, 1])
    stray = int(_STRAY * len(cells))
    left, top = int(columns[stray]), int(rows[stray])
    right, bottom = int(columns[-1 - stray]) + 1, int(rows[-1 - stray]) + 1
    return Rect(left / _SIDE, top / _SIDE, (right - left) / _SIDE, (bottom - top) / _SIDE)


def _patches(mask: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """Cells that hang together, the largest patch first."""
    left = {(int(row), int(column)) for row, column in zip(*np.nonzero(mask), strict=True)}
    patches = []
    while left:
        waiting, patch = [left.pop()], []
        while waiting:
            row, column = waiting.pop()
            patch.append((row, column))
            beside = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)}
            waiting += left & beside
            left -= beside
        patches.append(sorted(patch))
    return sorted(patches, key=lambda patch: (-len(patch), patch))


def _extended(seen: Rect | None, region: Rect) -> Rect | None:
    """What is seen of a figure, as high as its region if it is seen in part."""
    if seen is None or seen.common(region) is None:
        return None
    if seen.height >= _WHOLE * region.height:
        return seen
    top, bottom = min(seen.y, region.y), max(seen.bottom, region.bottom)
    return Rect(seen.x, top, seen.width, bottom - top)
