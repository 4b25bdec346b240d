"""Whether a head has eyes: two small spots side by side, alike, that stand out from what is around.

A drawing's commonest fault is a face that ran. Nobody who looks at it is fooled, but a CLIP is: it
sees the right colours. Spots are found by the determinant of the Hessian (Lindeberg 1998), which
edges do not have. Heads from behind or in profile have no two eyes to be seen, and are said to have
none.
"""

from __future__ import annotations

from itertools import combinations
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

_SIDE: Final = 64
"""Pixels along a head's side, as it is looked at."""

_SCALES: Final = (1.5, 2.2, 3.2, 4.6)
"""Standard deviations of the spots that are looked for, in these pixels."""

_MOST: Final = 12
"""Spots of each kind, dark or light, that may be eyes."""

_APART: Final = (0.12, 0.65)
"""How far apart two eyes are, in sides of the head."""

_LEVEL: Final = 0.4
"""One eye may be higher than the other by so much of what they are apart."""

_LOWEST: Final = 0.75
"""Below so much of the head there is no eye."""

_MIDDLE: Final = 0.3
"""Two eyes have the face's middle between them: no nearer to the edge than so much of the side."""

_ROUND: Final = 2
"""How much less counts what is longer than wide."""

_MARGIN: Final = 5
"""Pixels at the edge, where the head ends, in which no eye is looked for."""


def eyes_seen(head: Image.Image) -> float:
    """How clearly two eyes are seen in the picture of a head: 0 not at all, about 1 black on white.

    The weaker one of the best pair counts.
    """
    grey = head.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(grey, dtype=np.float32) / 255)
    return max(_best_pair(_spots(pixels, dark=dark)) for dark in (True, False))


Spot = tuple[float, float, float]
"""How clear it is, row and column."""


def _spots(pixels: Tensor, *, dark: bool) -> list[Spot]:
    """The clearest spots of one kind, the clearest first; no two in one place."""
    layers = torch.stack([_clearness(pixels, scale, dark=dark) for scale in _SCALES])
    best, _ = layers.max(0)
    highest = F.max_pool2d(best[None, None], 5, 1, 2)[0, 0]
    inner = slice(_MARGIN, _SIDE - _MARGIN)
    kept = torch.zeros_like(best)
    kept[inner, inner] = (best * (best == highest))[inner, inner]
    values, places = kept.flatten().topk(_MOST)
    pairs = zip(values.tolist(), places.tolist(), strict=True)
    return [(value, *divmod(place, _SIDE)) for value, place in pairs if value > 0]


def _clearness(pixels: Tensor, scale: float, *, dark: bool) -> Tensor:
    """(h, w): how much each place is the middle of a spot of this size, 1 for black on white."""
    places = torch.arange(-round(4 * scale), round(4 * scale) + 1).float()
    bell = torch.exp(-(places**2) / (2 * scale**2))
    bell /= bell.sum()
    slope, bend = -places / scale**2 * bell, (places**2 / scale**4 - 1 / scale**2) * bell
    across, down = _convolved(pixels, bell, bend), _convolved(pixels, bend, bell)
    both = _convolved(pixels, slope, slope)
    spot = (across * down - both**2).clamp(min=0).sqrt()
    bent = (across + down) * (1 if dark else -1)
    # 1 for what is round, less for the ends and corners of lines.
    roundness = (2 * spot / bent.clamp(min=1e-9)).clamp(max=1)
    # A disc of the scale that suits it best answers with about half of its contrast.
    return 2 * scale**2 * spot * roundness**_ROUND * (bent > 0)


def _convolved(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    reach = len(rows) // 2
    wide = F.pad(pixels[None, None], (reach,) * 4, mode="replicate")
    made = F.conv2d(wide, rows.reshape(1, 1, -1, 1))
    return F.conv2d(made, columns.reshape(1, 1, 1, -1))[0, 0]


def _best_pair(spots: list[Spot]) -> float:
    best = 0.0
    for (one, row, column), (other, beside, further) in combinations(spots, 2):
        apart, level = abs(column - further), abs(row - beside)
        middle = (column + further) / 2 / _SIDE
        faces = _MIDDLE <= middle <= 1 - _MIDDLE and max(row, beside) <= _LOWEST * _SIDE
        if faces and _APART[0] <= apart / _SIDE <= _APART[1] and level <= _LEVEL * apart:
            best = max(best, min(one, other))
    return best
