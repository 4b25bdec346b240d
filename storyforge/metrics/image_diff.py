"""How alike two pictures of the same panel are: in numbers, within a tolerance, and for the eye.

Meant for regressions, where every pixel has its twin. Whether a picture looks like its concepts is
another question, and not answered here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storyforge.contact_sheet import Cell, Row, write_contact_sheet

Pixels = NDArray[np.uint8]
"""(h, w, 3) in 0..255"""

LARGEST: Final = 16
MEAN: Final = 0.5
SSIM: Final = 0.995
"""What two machines may differ by: 16/255 at one pixel, 0.5/255 on average, SSIM 0.995.

One machine draws the same bytes. Another one adds up in another order: held to SSE4 instructions,
fusion and ten steps on the embedded model differed by 1/255 at fewer than one value in a thousand
(SSIM 0.99999). The weakest change that must not pass, one hardly trained concept of four left out,
made 56/255, 6/255 on average and SSIM 0.98. The limits lie between, with room for a larger base.
The largest difference is for what is small and wrong, such as a missing eye, which hardly moves the
other two.
"""

_WINDOW: Final = 11
_SIGMA: Final = 1.5
_K1, _K2, _RANGE = 0.01, 0.03, 255.0
"""SSIM's own constants (Wang et al. 2004, §III-C)."""

_GAIN: Final = 4
"""Differences are shown this much stronger: what counts is often faint."""


@dataclass(frozen=True, slots=True)
class ImageDifference:
    """How alike two pictures are.

    largest  difference of any channel of any pixel, in 1/255
    mean     difference of all channels of all pixels, in 1/255
    ssim     structural similarity, 1 for equal pictures
    """

    largest: int
    mean: float
    ssim: float

    @property
    def equal(self) -> bool:
        """Whether no pixel differs."""
        return self.largest == 0

    @property
    def similar(self) -> bool:
        """Whether two CPUs may differ by so much."""
        return self.largest <= LARGEST and self.mean <= MEAN and self.ssim >= SSIM


def compare(one: Pixels, other: Pixels) -> ImageDifference:
    """Compare two pictures of one size; ValueError if they are not, or smaller than 11 pixels."""
    if one.shape != other.shape:
        raise ValueError(f"pictures of different sizes: {one.shape} and {other.shape}")
    apart = np.abs(one.astype(np.int16) - other.astype(np.int16))
    return ImageDifference(int(apart.max()), float(apart.mean()), ssim(one, other))


def ssim(one: Pixels, other: Pixels) -> float:
    """Mean structural similarity of the channels (Wang et al. 2004, eq. 13), in [-1, 1].

    Colours count: two colours of one brightness are not alike.
    """
    if min(one.shape[:2]) < _WINDOW:
        raise ValueError(f"a picture of {one.shape[:2]} is smaller than SSIM's window")
    x, y = one.astype(np.float64), other.astype(np.float64)
    mean_x, mean_y = _blurred(x), _blurred(y)
    spread_x = _blurred(x * x) - mean_x**2
    spread_y = _blurred(y * y) - mean_y**2
    shared = _blurred(x * y) - mean_x * mean_y
    c1, c2 = (_K1 * _RANGE) ** 2, (_K2 * _RANGE) ** 2
    brightness = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * shared + c2) / (spread_x + spread_y + c2)
    return float((brightness * structure).mean())


def _blurred(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weight with a round Gaussian, where the window fits: (h, w, c) → (h-10, w-10, c)."""
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    bell = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    bell /= bell.sum()
    for axis in (0, 1):
        length = picture.shape[axis] - _WINDOW + 1
        parts = (
            weight * picture.take(range(start, start + length), axis)
            for start, weight in enumerate(bell)
        )
        picture = sum(parts, start=np.zeros(()))
    return picture


@dataclass(frozen=True, slots=True)
class PictureChange:
    """One panel before and after; `old` and `new` are files."""

    title: str
    old: Path
    new: Path


def read_pixels(path: Path) -> Pixels:
    """The pixels of a picture file; OSError if it cannot be read."""
    with Image.open(path) as file:
        return np.array(file.convert("RGB"))


def write_changes(changes: Sequence[PictureChange], path: Path) -> Path:
    """Write one PNG: for every change a row of old | new | difference, four times as strong.

    Pictures of different sizes are shown without a difference.
    """
    return write_contact_sheet([_row(change) for change in changes], path, side=None)


def _row(change: PictureChange) -> Row:
    old, new = read_pixels(change.old), read_pixels(change.new)
    cells = [Cell(Image.fromarray(old), "old"), Cell(Image.fromarray(new), "new")]
    if old.shape == new.shape:
        apart = np.abs(old.astype(np.int16) - new.astype(np.int16)) * _GAIN
        shown = Image.fromarray(apart.clip(0, 255).astype(np.uint8))
        cells.append(Cell(shown, f"difference x {_GAIN}"))
    return change.title, cells
