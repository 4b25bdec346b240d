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
    """Points of cells to shares of inks in their pixels."""

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

    def features(self, seen: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Points (m, p, seen) of cells (m, known) to (m, p, width)."""
        gain, shift = self.gain(known)[:, None].chunk(2, -1)
        x = F.relu(self.seen(seen) * (1 + gain) + shift)
        each = self.each(known).reshape(len(known), self.grid.points**2, x.shape[-1])
        made: torch.Tensor = self.norm(self.thoughts(x + each))
        return made

    def shares(self, x: torch.Tensor, *, coarse: bool) -> torch.Tensor:
        """(m, p, width) to logits (m, q, q, inks) of the q² pixels of a cell; half of them a side
        if `coarse`."""
        if not coarse:
            return in_rows(self.out(x), self.grid, self.count)
        weight, bias = (self._halved(values) for values in (self.out.weight, self.out.bias))
        grid = self.grid._replace(pixels=self.grid.pixels // 2)
        return in_rows(F.linear(x, weight, bias[:, 0]), grid, self.count)

    def _halved(self, values: torch.Tensor) -> torch.Tensor:
        """What writes pixels, (pixels² · inks, …), to what writes the means of 2 × 2 of them."""
        side = self.grid.pixels
        mean = F.avg_pool2d(values.reshape(side, side, -1).permute(2, 0, 1), 2)
        return mean.permute(1, 2, 0).reshape(self.count * (side // 2) ** 2, -1)


class Finer(nn.Module):
    """Quarters of points, each drawn for itself from where it is and what its point knows."""

    def __init__(self, seen: int, width: int, inks: int, grid: Grid) -> None:
        """It draws nothing as it begins; `grid` is that of the points."""
        super().__init__()
        self.count, self.points = inks, grid.points
        self.grid = Grid(2 * grid.points, grid.pixels // 2)
        self.split = nn.Linear(width, 4 * width)
        self.seen = nn.Linear(seen, width)
        self.second = nn.Linear(width, width)
        self.out = nn.Linear(width, inks * self.grid.pixels**2)
        silence(self.out)

    def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Features (m, p, width) and what is seen (m, 4·p, seen) to logits (m, q, q, inks)."""
        each = in_rows(self.split(x), Grid(self.points, 2), x.shape[-1]).flatten(1, 2)
        y = F.relu(self.second(F.relu(each + self.seen(seen))))
        return in_rows(self.out(y), self.grid, self.count)


def in_rows(values: torch.Tensor, grid: Grid, width: int) -> torch.Tensor:
    """(m, points², pixels² · width) to (m, q, q, width): as they lie in their cell, row by row."""
    points, pixels = grid
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
