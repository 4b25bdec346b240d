"""Gram matrices small enough to keep: as correlations of 16 bits, or as few eigenvectors.

A Gram G (d, d) is kept in d² or d²/4 bytes instead of 8d². Both forms stay positive definite: what
lies under the step of 16 bits, and what the kept eigenvectors leave over, counts as isotropic. (To
drop the rest instead would tell the solver that nothing is ever seen there.) What each costs is
measured by `python -m benchmarks.fusion`.
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


@dataclass(frozen=True, slots=True)
class Full:
    """A Gram as its correlations.

    scale   (d,)    fp32  roots of the diagonal
    folded  (h, 2h) int16 d = 2h or 2h − 1; the lower half of the correlations, their upper left
            triangle folded into the place above the diagonal
    """

    scale: Tensor
    folded: Tensor

    @staticmethod
    def of(gram: Tensor) -> Full:
        """Pack a Gram (d, d); what never occurs stays zero."""
        scale = gram.double().diagonal().clamp_min(0).sqrt()
        inverse = torch.where(scale > 0, 1 / scale, 0)
        steps = (gram.double() * inverse[:, None] * inverse * _STEPS).round().to(torch.int16)
        half = (len(scale) + 1) // 2
        square = torch.nn.functional.pad(steps, (0, 2 * half - len(scale)) * 2)
        right = square[half:, half:].tril(-1) + square[:half, :half].triu(1)
        return Full(scale.float(), torch.cat([square[half:, :half], right], dim=1).contiguous())

    def gram(self) -> Tensor:
        """(d, d), fp64."""
        half, width = len(self.folded), len(self.scale)
        left, right = self.folded[:, :half].float(), self.folded[:, half:].float()
        square = torch.empty(2 * half, 2 * half)
        square[half:, :half], square[:half, half:] = left, left.T
        square[half:, half:] = right.tril(-1) + right.tril(-1).T
        square[:half, :half] = right.triu(1) + right.triu(1).T
        doubt = _NOISE * math.sqrt(width)
        square = square[:width, :width].mul_((1 - doubt) / _STEPS).fill_diagonal_(1)
        return (square * self.scale[:, None] * self.scale).double()

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
