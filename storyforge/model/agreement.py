"""What the cells of one figure tell together: latents of the embedded model before they are drawn.

A denoiser tells in every cell who is there, in which colours, and where in it the cell is, each a
little otherwise. Nothing is learnt here. Not covered: how it is drawn.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

OWN = 3
"""The first numbers told are a cell's own: how much of it is covered, and where in its subject it
is, of that one's half size from the middle. The next tells how large that is, and it and all others
are the same in every cell of a subject; a place is one, too."""
UNIT = 16
"""Cells that a subject of size 1 is high."""
ROUNDS = 4
"""How often cells agree."""
ALIKE, NEAR = 2.0, 0.55
"""Squares of differences, and half sizes between middles, from which on cells hardly are of one."""
LEAST_COVERED = 0.02
"""How much a cell that no subject covers has to say about where it is."""
SUREST = 6.0
"""How sure a cell may be, and how unsure, in logarithms of precision."""
LARGEST = 6.0
"""Sizes that are believed are between this and one part of it."""


class Spots(NamedTuple):
    """Where in its subject each cell is, and how much further a cell is than the one before it.

    at, slope  (n, 2, h, w)
    """

    at: torch.Tensor
    slope: torch.Tensor

    def points(self, parts: torch.Tensor) -> torch.Tensor:
        """Points (p, 2) of every cell, in cells from its middle: (n, h, w, p, 2)."""
        at, slope = (v.float().permute(0, 2, 3, 1)[:, :, :, None] for v in self)
        return at + slope * parts.to(at.device)

    def mirrored(self, by: torch.Tensor) -> Spots:
        """The same, seen from the other side where `by` (n, 1, h, w) is below 0."""
        sign = torch.where(by < 0, -1.0, 1.0).to(self.at.dtype)
        both = torch.cat([sign, torch.ones_like(sign)], 1)
        return Spots(self.at * both, self.slope * both)


class Telling(NamedTuple):
    """What the numbers told are.

    told       how many they are
    sizes      what is told of a size, as `agreed` has it
    mirror     which of them is below 0 for who looks the other way
    landmarks  of how many points among them it is told how near they are
    """

    told: int
    sizes: tuple[float, float]
    mirror: int | None
    landmarks: int


def agreed(told: torch.Tensor, sizes: tuple[float, float]) -> tuple[torch.Tensor, Spots]:
    """What cells tell of their subjects, as those that are alike and near tell it together.

    told   (n, t, h, w)
    sizes  (gain, more): `gain · log(size) + more` is what is told of a size

    A denoiser tells everywhere what a figure is, each cell a little otherwise, and of a ramp over
    its cells only the middle well: the mean of what is possible is flat. So each cell says where
    the middle is, they agree on that and on all that is one over a figure by a few steps of mean
    shift (Cheng 1995), and the ramp is that of one size around one middle. Nothing is learnt here;
    what is true already stays as it is.
    """
    kind, high, wide = told.dtype, *told.shape[-2:]
    with torch.autocast(told.device.type, enabled=False):
        cells = told.float().flatten(2)
        at = middles(told)
        covered = torch.sigmoid(4 * (cells[:, :1] + 0.5)) + LEAST_COVERED
        same = cells[:, OWN:]
        half = half_size(same[:, :1], sizes)
        middle = at - cells[:, 1:OWN] * half
        for _ in range(ROUNDS):
            shares = torch.softmax(-_strange(same, middle, half), 2)
            same = same @ shares.mT
            half = half_size(same[:, :1], sizes)
            heard = shares * covered
            middle = middle @ (heard / heard.sum(2, keepdim=True)).mT
        made = torch.cat([cells[:, :1], (at - middle) / half, same], 1).reshape(told.shape)
        slope = (1 / half).reshape(-1, 1, high, wide).repeat(1, 2, 1, 1)
    spots = Spots(made[:, 1:OWN].to(kind), slope.to(kind))
    return made.to(kind), spots


def together(
    told: torch.Tensor, sure: torch.Tensor, sizes: tuple[float, float], kinds: int
) -> torch.Tensor:
    """What cells tell of their subjects, those that see it best before others.

    told   (n, t, h, w)  from the size on what each cell sees; next to it `kinds` numbers of a kind
    sure   (n, t − OWN, h, w)  logarithms of how well it is seen
    sizes  as in `agreed`

    Cells are of one subject if they say the same of its kind and of where its middle is.
    """
    with torch.autocast(told.device.type, enabled=False):
        cells = told.float().flatten(2)
        same, weights = cells[:, OWN:], weighed(sure)
        half = half_size(same[:, :1], sizes)
        kind, middle = same[:, 1 : 1 + kinds], middles(told) - cells[:, 1:OWN] * half
        for _ in range(ROUNDS):
            shares = torch.softmax(-_strange(kind, middle, half), 2)
            kind, middle, half = (each @ shares.mT for each in (kind, middle, half))
        made = shared_out(same, weights, shares)
        return torch.cat([cells[:, :OWN], made], 1).reshape(told.shape)


def kinship(told: torch.Tensor, sizes: tuple[float, float]) -> torch.Tensor:
    """(n, h·w, h·w) in (0, 1]: how surely two cells, which agree already, are of one subject.

    told, sizes  as in `agreed`
    """
    cells = told.float().flatten(2)
    half = half_size(cells[:, OWN : OWN + 1], sizes)
    return (-_strange(cells[:, OWN:], middles(told) - cells[:, 1:OWN] * half, half)).exp()


def weighed(sure: torch.Tensor) -> torch.Tensor:
    """(n, t, h, w) logarithms of how well something is seen, to weights (n, t, h·w)."""
    return sure.float().flatten(2).clamp(-SUREST, SUREST).exp()


def shared_out(values: torch.Tensor, weights: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Means of values (n, t, m) with as many weights, for each cell by its shares (n, m, m)."""
    return (values * weights) @ shares.mT / (weights @ shares.mT)


def middles(told: torch.Tensor) -> torch.Tensor:
    """(1, 2, h·w) those of cells, row by row, in cells."""
    high, wide = told.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(high, device=told.device) + 0.5,
        torch.arange(wide, device=told.device) + 0.5,
        indexing="ij",
    )
    return torch.stack([x, y]).flatten(1)[None]


def half_size(told: torch.Tensor, sizes: tuple[float, float]) -> torch.Tensor:
    """What is told of sizes, in any shape, to half of them in cells."""
    gain, more = sizes
    size = ((told - more) / gain).exp()
    return size.clamp(1 / LARGEST, LARGEST) * (UNIT / 2)


def _strange(same: torch.Tensor, middle: torch.Tensor, half: torch.Tensor) -> torch.Tensor:
    """(n, m, m) how little cells are of one subject.

    same, middle, half  (n, c, m), (n, 2, m), (n, 1, m) what is one over a subject, where its middle
                        is, and half of its size
    """
    return _apart(same) / ALIKE + _apart(middle) / (NEAR**2 * half.mT @ half)


def _apart(x: torch.Tensor) -> torch.Tensor:
    """(n, c, m) to (n, m, m): squared distances."""
    squares = x.square().sum(1)
    return (squares[:, :, None] + squares[:, None] - 2 * x.mT @ x).clamp(min=0)
