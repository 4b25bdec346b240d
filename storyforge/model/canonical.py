"""Figures in their canonical frames, and planes of features that lie there.

Where a cell is in its subject is one thing, where it is in that one's head another: heads are
lifted, leaned and scaled by what is told of a pose and a build. In a frame of its own every head
lies alike, and what is drawn there is learnt once, in planes that are looked up (Müller et al.
2022, Instant Neural Graphics Primitives; Jaderberg et al. 2015, Spatial Transformer Networks, for
the frames). Not covered: what becomes of the features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from storyforge.model.agreement import Spots, middles

FAR, NEAR = 0.4, 0.6
"""How near landmarks are that do not count yet, and those that count in full."""
SHARPER = 2.0
"""How much more apart kinds are when one is chosen."""
FURTHEST = 80.0
"""Squared distances that are told from each other."""
START = 0.1
"""Spread of the features in planes as they begin."""
LOUD = 1.0
"""A colour of this length, where half the range is 1, is one of something that is there."""
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Nodes around a point: rows and columns further."""


class Landmarks(nn.Module):
    """Points among the numbers told, and how much each of those counts for how near one is."""

    points: torch.Tensor
    minding: torch.Tensor

    def __init__(self, count: int, told: int) -> None:
        """All at 0, and always near."""
        super().__init__()
        self.register_buffer("points", torch.zeros(count, told))
        self.register_buffer("minding", torch.zeros(count, told))

    def forward(self, told: torch.Tensor) -> torch.Tensor:
        """(n, t, h, w) to (n, points, h, w) in (0, 1]: 1 is there."""
        with torch.autocast(told.device.type, enabled=False):
            cells = told.float().flatten(2)
            points, minding = self.points.float(), self.minding.float()
            apart = minding @ cells.square() - 2 * (minding * points) @ cells
            apart = apart + (minding * points.square()).sum(1)[:, None]
            near = (-apart.clamp(0, FURTHEST)).exp()
            return near.reshape(len(told), -1, *told.shape[-2:])


def decided(near: torch.Tensor, kinds: int) -> torch.Tensor:
    """(n, landmarks, h, w) in [0, 1], without what a little noise makes of it.

    The first landmarks are kinds. Every cell has one, so of these it counts which is nearer.
    """
    kind = (near[:, :kinds].log() * SHARPER).softmax(1)
    return torch.cat([kind, ((near[:, kinds:] - FAR) / (NEAR - FAR)).clamp(0, 1)], 1)


def snapped(told: torch.Tensor, near: torch.Tensor, landmarks: Landmarks) -> torch.Tensor:
    """What is told (n, t, h, w), where it has a name as exactly that.

    near  (n, m, h, w)  the first landmarks, as `decided`; each minds what tells of one thing
    """
    count = near.shape[1]
    minds = (landmarks.minding[:count] > 0).to(near.dtype)
    shares = torch.einsum("nmhw,mt->nthw", near, minds).clamp(max=1)
    exactly = torch.einsum("nmhw,mt->nthw", near, landmarks.points[:count].to(near.dtype) * minds)
    return told * (1 - shares) + exactly


class Named(NamedTuple):
    """Numbers told that are one of a few points, for what they tell has a name, or is not there.

    first   of the numbers
    points  all that may be told
    within  how far from a point it is what is meant
    colour  the first of three numbers that tell its colour, if it has one; what has a loud colour
            is there, so it is not the first of the points
    """

    first: int
    points: Sequence[Sequence[float]]
    within: float = math.inf
    colour: int | None = None


def settled(told: torch.Tensor, names: Sequence[Named]) -> torch.Tensor:
    """What is told (n, t, h, w), as the nearest of what may be told.

    A denoiser that does not know which of two it is to be tells their mean, and half a hat is none.
    """
    made = told.clone()
    for first, listed, within, colour in names:
        points = torch.tensor(listed, device=told.device)
        here = slice(first, first + points.shape[1])
        cells = told[:, here].permute(0, 2, 3, 1).float()
        apart = (cells[..., None, :] - points).square().sum(-1)
        if colour is not None:
            loud = told[:, colour : colour + 3].float().norm(dim=1) > LOUD
            apart[..., 0] = apart[..., 0].masked_fill(loud, FURTHEST)
        apart, nearest = apart.min(-1)
        meant = torch.where((apart < within**2)[..., None], points[nearest], cells)
        made[:, here] = meant.permute(0, 3, 1, 2).to(told.dtype)
    return made


class Frames(nn.Module):
    """Maps of spots to canonical frames, those of the landmark that is nearest."""

    maps: torch.Tensor

    def __init__(self, count: int, told: int, frames: int) -> None:
        """They change nothing yet."""
        super().__init__()
        self.known = Landmarks(count, told)
        maps = torch.zeros(count, frames, 2, 3)
        maps[..., :2] = torch.eye(2)
        self.register_buffer("maps", maps)

    def forward(self, told: torch.Tensor) -> torch.Tensor:
        """(n, t, h, w) to (n, h, w, frames, 2, 3)."""
        return self.maps.float()[self.known(told).argmax(1)]


class LandmarkGroup(NamedTuple):
    """Landmarks of which a cell is near one at most: the first, and how many."""

    first: int
    many: int


class Atlas(nn.Module):
    """A plane of features over [−1, 1]² for each landmark of some groups."""

    def __init__(self, groups: list[LandmarkGroup], side: int, width: int) -> None:
        """`side` nodes a side, `width` features each."""
        super().__init__()
        self.groups, self.side = groups, side
        planes = sum(group.many for group in groups)
        self.table = nn.Parameter(START * torch.randn(planes * side**2, width))

    def forward(self, near: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        """The sum over groups of what lies in the plane of the nearest landmark, by how near it is.

        near  (m, landmarks)  of cells
        at    (m, p, 2)  parts of them

        Returns:
          (m, p, width)
        """
        corners, shares = self._around(at)
        rows, weights, first = [], [], 0
        for group in self.groups:
            how, which = near[:, group.first : group.first + group.many].max(1)
            rows.append((first + which)[:, None, None] * self.side**2 + corners)
            weights.append(how[:, None, None] * shares)
            first += group.many
        # How near a landmark is, is not to be learnt.
        made = F.embedding_bag(
            torch.cat(rows, 2).flatten(0, 1),
            self.table.float(),
            mode="sum",
            per_sample_weights=torch.cat(weights, 2).flatten(0, 1).detach(),
        )
        return made.reshape(*at.shape[:2], self.table.shape[1])

    def _around(self, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Points (m, p, 2) to the numbers of the four nodes around each, and the share of each."""
        last = self.side - 1
        nodes = ((at.float() + 1) / 2 * last).clamp(0, last)
        low = nodes.floor().clamp(max=last - 1)
        (x, y), (u, v) = low.long().unbind(-1), (nodes - low).unbind(-1)
        numbers = [(y + down) * self.side + x + right for down, right in CORNERS]
        shares = [(v if down else 1 - v) * (u if right else 1 - u) for down, right in CORNERS]
        return torch.stack(numbers, -1), torch.stack(shares, -1)


def placed(maps: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
    """Maps (m, 2, 3) of points (m, p, 2)."""
    moved: torch.Tensor = parts @ maps[..., :2].mT + maps[:, None, :, 2]
    return moved


def waves(at: torch.Tensor, bands: tuple[float, ...]) -> torch.Tensor:
    """(…, 2) to (…, 4·bands): so many half turns to a unit (Tancik et al. 2020)."""
    turned = torch.cat([at * (math.pi * band) for band in bands], -1)
    return torch.cat([turned.sin(), turned.cos()], -1)


def amid(told: torch.Tensor, spots: Spots, here: torch.Tensor) -> tuple[torch.Tensor, Spots]:
    """What is told of the place, and where in it each cell is, by the cells that show it.

    Nothing is told where none does.

    told  (n, t, h, w)
    here  (n, h, w) of bool: cells that show the place

    Returns:
      (n, t, 1, 1) and spots
    """
    high, wide = told.shape[-2:]
    weight = here[:, None].float() + 1e-6
    total = weight.sum((2, 3), keepdim=True)

    def mean(x: torch.Tensor) -> torch.Tensor:
        """Over the cells that show it, or over all."""
        return (x.float() * weight).sum((2, 3), keepdim=True) / total

    slope = mean(spots.slope).expand(-1, -1, high, wide)
    ramp = middles(told).reshape(1, 2, high, wide) * slope
    shown = here.any((1, 2))[:, None, None, None]
    return mean(told) * shown, Spots(ramp + mean(spots.at.float() - ramp), slope)
