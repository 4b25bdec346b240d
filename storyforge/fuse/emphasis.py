"""What each row of features counts in a Gram matrix: cells by the picture, tokens by the prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from storyforge.fuse.area import Area
from storyforge.model.family import Stage

EMPHASIS: Final = 30.0
"""What a concept's two words count in text and in keys and values, where any other word counts 1.
They are two of 77: unless they count more, the solution serves the padding. Of fourteen concepts of
the embedded model, likeness rises up to here, and no further (`python -m benchmarks.sweeps`)."""

Stress = tuple[Sequence[tuple[int, ...]], float]
"""Places of a concept's words in each prompt, and what they count where any other word counts 1."""

RowWeights = Callable[[Tensor], Tensor]
"""(n, T, d) features -> (n, T), what each row counts."""


def of_cells(area: Area | None) -> RowWeights | None:
    """Cells as `area` says, in every guidance branch that there is; None for all alike."""
    if area is None:
        return None
    return lambda seen: torch.cat([area[seen.shape[1]]] * 2)[-len(seen) :]


def of_words(stressed: Stress | None, stage: Stage) -> RowWeights | None:
    """Tokens as `stressed` says; None for all alike.

    The text encoder reads a prompt once for every group, the U-Net after the negative ones, or
    without them where there is no guidance.
    """
    if stressed is None:
        return None
    where, emphasis = stressed

    def counts(seen: Tensor) -> Tensor:
        """What each row of an input counts."""
        own = torch.ones(len(where), seen.shape[1], device=seen.device)
        own.scatter_(1, torch.tensor(where, device=seen.device), emphasis)
        if stage == "text":
            return own.repeat_interleave(len(seen) // len(where), 0)
        return torch.cat([torch.ones_like(own), own])[-len(seen) :]

    return counts
