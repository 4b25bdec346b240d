"""Gram matrices small enough to keep: as correlations of 16 bits, or as few eigenvectors.

A Gram G (d, d) is kept in d² or d²/4 bytes instead of 8d², and in 2d² while it is being summed. All
forms stay positive definite: what lies under the step of 16 bits, and what the kept eigenvectors
leave over, counts as isotropic. (To drop the rest instead would tell the solver that nothing is
ever seen there.) What each costs is measured by `python -m benchmarks.fusion`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

_STEPS: Final = 32767
"""Correlations lie in [−1, 1]; whole steps are finer than fp16 where correlations are large."""

_NOISE: Final = 2.2 / math.sqrt(12) / _STEPS
"""Rounding is noise of step/√12 an entry; a symmetric (d, d) of it reaches 2√d times that (and a
tenth is added)."""

EIGENVECTORS: Final = 8
"""A compact Gram keeps d/8 eigenvectors."""


def fold(square: Tensor) -> Tensor:
    """A symmetric matrix without its diagonal, in half the room.

    square  (d, d)  d = 2h or 2h − 1

    Returns (h, 2h): its lower half, the upper left triangle in the place above the diagonal.
    """
    half = (len(square) + 1) // 2
    even = torch.nn.functional.pad(square, (0, 2 * half - len(square)) * 2)
    right = even[half:, half:].tril(-1) + even[:half, :half].triu(1)
    return torch.cat([even[half:, :half], right], dim=1)


def unfold(folded: Tensor, diagonal: Tensor) -> Tensor:
    """The matrix (d, d) that was folded to (h, 2h), with its diagonal (d,) and in its precision."""
    half, width = len(folded), len(diagonal)
    left, lower, upper = folded[:, :half], folded[:, half:].tril(-1), folded[:, half:].triu(1)
    square = diagonal.new_empty(2 * half, 2 * half)
    square[half:, :half], square[:half, half:] = left, left.T
    square[half:, half:] = lower + lower.T
    square[:half, :half] = upper + upper.T
    square = square[:width, :width]
    square.diagonal().copy_(diagonal)
    return square


@dataclass(slots=True)
class Sum:
    """XXᵀ while the rows of X pass, in fp32: finer than what is kept of it in the end.

    diagonal  (d,)
    folded    (h, 2h)
    """

    diagonal: Tensor
    folded: Tensor

    @staticmethod
    def of(rows: Tensor) -> Sum:
        """Begin with the first rows (n, d)."""
        return Sum(*_products(rows))

    def add(self, rows: Tensor) -> None:
        """Add more rows (n, d)."""
        diagonal, folded = _products(rows)
        self.diagonal += diagonal
        self.folded += folded

    def gram(self) -> Tensor:
        """(d, d), fp64."""
        return unfold(self.folded, self.diagonal.double())


def _products(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Diagonal and fold of XXᵀ; a quarter of it, twice there, is not computed."""
    rows = rows.float()
    half = (rows.shape[1] + 1) // 2
    upper, lower = rows[:, :half].T @ rows[:, :half], rows[:, half:].T @ rows
    diagonal = torch.cat([upper.diagonal(), lower[:, half:].diagonal()])
    missing = 2 * half - rows.shape[1]
    folded = torch.nn.functional.pad(lower, (0, missing, 0, missing))
    folded[:, half:].tril_(-1).add_(upper.triu_(1))
    # A device holds the sum of one input at a time, the processor's memory those of all.
    return diagonal.cpu(), folded.cpu()


@dataclass(frozen=True, slots=True)
class Full:
    """A Gram as its correlations.

    scale   (d,)    fp32  roots of the diagonal
    folded  (h, 2h) int16 the correlations, see `fold`
    """

    scale: Tensor
    folded: Tensor

    @staticmethod
    def of(gram: Tensor) -> Full:
        """Pack a Gram (d, d); what never occurs stays zero."""
        scale = gram.double().diagonal().clamp_min(0).sqrt()
        inverse = torch.where(scale > 0, 1 / scale, 0)
        steps = (gram.double() * inverse[:, None] * inverse * _STEPS).round().to(torch.int16)
        return Full(scale.float(), fold(steps).contiguous())

    def gram(self) -> Tensor:
        """(d, d), fp64."""
        step = (1 - _NOISE * math.sqrt(len(self.scale))) / _STEPS
        scale = self.scale.double()
        square = unfold(self.folded, torch.full_like(scale, 1 / step))
        return square.mul_(scale[:, None]).mul_(step * scale)

    def tensors(self) -> dict[str, Tensor]:
        """What a file holds of it."""
        return {"scale": self.scale, "folded": self.folded}


@dataclass(frozen=True, slots=True)
class Compact:
    """A Gram as its largest eigenvalues and vectors; the rest, evenly spread.

    vectors  (d, k)    fp16
    values   (k + 1,)  fp32  largest first; the last is what every other direction has
    """

    vectors: Tensor
    values: Tensor

    @staticmethod
    def of(gram: Tensor) -> Compact:
        """Pack a Gram (d, d)."""
        values, vectors = torch.linalg.eigh(gram.double())
        count = max(1, len(gram) // EIGENVECTORS)
        kept = values[-count:].flip(0)
        rest = values[:-count].clamp_min(0).mean()[None]
        return Compact(vectors[:, -count:].flip(1).half(), torch.cat([kept, rest]).float())

    def gram(self) -> Tensor:
        """(d, d), fp64."""
        vectors, rest = self.vectors.double(), self.values[-1].double()
        strengths = self.values[:-1].double() - rest
        whole = (vectors * strengths) @ vectors.T
        whole.diagonal().add_(rest)
        return whole

    def tensors(self) -> dict[str, Tensor]:
        """What a file holds of it."""
        return {"vectors": self.vectors, "values": self.values}


Packed = Full | Compact


def unpacked(tensors: Mapping[str, Tensor]) -> Packed:
    """The packed Gram that a file's tensors are; KeyError if they are none."""
    if "vectors" in tensors:
        return Compact(tensors["vectors"], tensors["values"])
    return Full(tensors["scale"], tensors["folded"])
