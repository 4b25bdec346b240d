"""Cells drawn with inks, each point of them for itself.

Points of cells, with what their cell knows and what lies there in planes of features, become
shares of a few inks: colours that are told, and others that go with them. So a shape is learnt once
for all colours. Not covered: where points lie and what is known of cells.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from storyforge.model.convolution import WIDER, silence

LOUDEST = 12.0
"""Logits of shares count so far, either way."""


class Grid(NamedTuple):
    """Points a side of a cell, and pixels a side that each of them writes."""

    points: int
    pixels: int


class Raster(NamedTuple):
    """Which points of a cell are looked at, and what of it they write.

    points  a side of a cell
    pixels  a side that each writes
    middle  whether that is the middle of what it might write, and not all of it, averaged
    shift   of all points, rightwards and down, in cells
    """

    points: int
    pixels: int
    middle: bool = False
    shift: tuple[float, float] = (0.0, 0.0)

    @property
    def side(self) -> int:
        """Pixels a side of a cell."""
        return self.points * self.pixels

    @property
    def at(self) -> torch.Tensor:
        """(points², 2) where points lie, row by row, in cells from the middle of theirs."""
        at = (torch.arange(self.points) + 0.5) / self.points - 0.5
        y, x = torch.meshgrid(at + self.shift[1], at + self.shift[0], indexing="ij")
        return torch.stack([x, y], -1).flatten(0, 1)


class Nearby(NamedTuple):
    """What cells know, and the eight around each, if these may be asked.

    known  (u, k)  of all that are asked
    which  (m, c)  of them each of m cells asks; c is 9, row by row, or 1 for the cell alone
    there  (m, c)  1 for those that are asked, 0 for the others
    """

    known: torch.Tensor
    which: torch.Tensor
    there: torch.Tensor

    def shares(self, raster: Raster, nodes: int) -> torch.Tensor:
        """(m, p, c · nodes²) how much each of so many nodes a side of a cell counts at each point:
        by how near it is, so that nothing jumps where cells meet."""
        every = _hats(raster, nodes).to(self.there.device)
        if self.there.shape[1] == 1:
            every = every[:, len(every[0]) // 2, None]
        weights = (every * self.there[:, None, :, None]).flatten(2)
        return weights / weights.sum(2, keepdim=True)


def alone(known: torch.Tensor, which: torch.Tensor | None = None) -> Nearby:
    """Cells that ask no other: each has its row of (u, k), or the one that `which` (m,) says."""
    which = torch.arange(len(known), device=known.device) if which is None else which
    return Nearby(known, which[:, None], torch.ones_like(which, dtype=torch.float32)[:, None])


def nearby(known: torch.Tensor, here: torch.Tensor, among: torch.Tensor) -> Nearby:
    """Cells and those around them.

    known  (n, h, w, k), or (n, k) where all cells of a picture know the same
    here   (n, h, w) of bool: which m are meant; they are among those that may be asked
    among  (n, h, w) of bool: those
    """
    if known.dim() == 4:
        asked = _nine(here[..., None]).any(3)[..., 0] & among
        numbers, rows = asked.flatten().cumsum(0).reshape(here.shape) - 1, known[asked]
    else:
        numbers, rows = torch.arange(len(known), device=here.device)[:, None, None], known
    which = _nine(numbers.expand(here.shape)[..., None])[here][..., 0]
    return Nearby(rows, which, _nine(among[..., None].float())[here][..., 0])


def _nine(values: torch.Tensor) -> torch.Tensor:
    """(n, h, w, k) to (n, h, w, 9, k): of each cell and of those around it, 0 beyond the edge."""
    high, wide = values.shape[1:3]
    padded = F.pad(values, (0, 0, 1, 1, 1, 1))
    parts = [padded[:, y : y + high, x : x + wide] for y in range(3) for x in range(3)]
    return torch.stack(parts, 3)


def _hats(raster: Raster, nodes: int) -> torch.Tensor:
    """(p, 9, nodes²) the share of each node of nine cells at each point of the middle one."""
    at = (torch.arange(3 * nodes) + 0.5) / nodes - 1.5
    across, down = (
        (1 - (points[:, None] - at).abs() * nodes).clamp(min=0) for points in raster.at.unbind(1)
    )
    both = (down[:, :, None] * across[:, None]).reshape(-1, 3, nodes, 3, nodes)
    return both.transpose(2, 3).reshape(len(both), 9, nodes**2)


class Thought(nn.Module):
    """What to think of a point, beside the identity."""

    def __init__(self, width: int) -> None:
        """(…, width) to the same."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, WIDER * width)
        self.back = nn.Linear(WIDER * width, width)
        silence(self.back)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add what is found."""
        found: torch.Tensor = self.back(F.relu(self.wide(self.norm(x))))
        return x + found


class Inking(nn.Module):
    """Points of cells to shares of inks in their pixels.

    What lies at a point is a function of where that is, and cells lie anywhere in their subject:
    so points may lie as close as one wants. Those of `grid` are enough to learn from, and each
    writes all pixels that are nearest to it; where each writes what is around its middle alone,
    lines are as smooth as they were learnt (as of fields that networks represent: Park et al. 2019,
    DeepSDF).
    """

    def __init__(
        self, reads: tuple[int, int], width: int, depth: int, inks: int, grid: Grid
    ) -> None:
        """`reads` so many numbers of a point and of its cell."""
        super().__init__()
        seen, known = reads
        self.count, self.grid = inks, grid
        self.seen = nn.Linear(seen, width)
        self.gain = nn.Linear(known, 2 * width)
        self.each = nn.Linear(known, width * grid.points**2)
        self.thoughts = nn.Sequential(*(Thought(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, inks * grid.pixels**2)
        for layer in (self.gain, self.each):
            silence(layer)

    def features(self, seen: torch.Tensor, cells: Nearby, raster: Raster) -> torch.Tensor:
        """Points (m, p, seen) of m cells to (m, p, width)."""
        gains = self.gain(cells.known)
        gain, shift = (cells.shares(raster, 1).to(gains) @ gains[cells.which]).chunk(2, -1)
        x = F.relu(self.seen(seen) * (1 + gain) + shift)
        own, width = self.grid.points, x.shape[-1]
        each = self.each(cells.known).reshape(len(cells.known), own**2, width)
        each = each[cells.which].flatten(1, 2)
        made: torch.Tensor = self.norm(self.thoughts(x + cells.shares(raster, own).to(each) @ each))
        return made

    def shares(self, x: torch.Tensor, raster: Raster) -> torch.Tensor:
        """(m, p, width) to logits (m, q, q, inks) of the q² pixels of a cell."""
        side = self.grid.pixels
        weight = self.out.weight.reshape(side, side, self.count, -1)
        bias = self.out.bias.reshape(side, side, self.count, 1)
        written = _middle if raster.middle else _means
        weight, bias = (written(each, raster.pixels).flatten(0, 2) for each in (weight, bias))
        return in_rows(F.linear(x, weight, bias[:, 0]), raster, self.count)


def _means(values: torch.Tensor, pixels: int) -> torch.Tensor:
    """What writes (s, s, …) pixels, to what writes so many a side: their means."""
    planes = values.flatten(2).permute(2, 0, 1)
    made = F.adaptive_avg_pool2d(planes, pixels).permute(1, 2, 0)
    return made.reshape(pixels, pixels, *values.shape[2:])


def _middle(values: torch.Tensor, pixels: int) -> torch.Tensor:
    """What writes (s, s, …) pixels, to what writes so many a side in the middle of these."""
    spare = len(values) - pixels
    if spare % 2:
        # Between pixels.
        values = (values[1:] + values[:-1]) / 2
        values = (values[:, 1:] + values[:, :-1]) / 2
    first = spare // 2
    return values.narrow(0, first, pixels).narrow(1, first, pixels)


def in_rows(values: torch.Tensor, grid: Grid | Raster, width: int) -> torch.Tensor:
    """(m, points², pixels² · width) to (m, q, q, width): as they lie in their cell, row by row."""
    points, pixels = grid[:2]
    parts = values.reshape(len(values), points, points, pixels, pixels, width)
    return parts.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def parts_of(shares: torch.Tensor) -> torch.Tensor:
    """Logits (m, q, q, k) to what each ink has of a pixel (m, q², k), beside the others."""
    return shares.float().clamp(-LOUDEST, LOUDEST).exp().flatten(1, 2)


def inked(shares: torch.Tensor, inks: torch.Tensor) -> torch.Tensor:
    """Logits (m, q, q, k) and colours (m, k, 3) to pixels (m, q, q, 3)."""
    with torch.autocast(shares.device.type, enabled=False):
        # Sums of shares and of what they weigh in one product: softmax over so few is slow.
        made = parts_of(shares) @ F.pad(inks.float(), (0, 1), value=1.0)
        return (made[..., :3] / made[..., 3:]).reshape(*shares.shape[:3], 3)
