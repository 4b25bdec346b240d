"""Which step of a run is the best one, from how its pictures were judged on the way.

Identity alone grows until the concept is all that is drawn; what the prompt says beside it is lost
on the way (Mix-of-Show §4.1 reads both together). A step is better than another if it has gained
more of identity, in proportion, than it has lost of the prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from PIL import Image

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Alignment:
    """What a judge says of pictures of a concept.

    image   how alike they are to the concept's own pictures, in [-1, 1]
    text    how well each shows what its prompt says, in [0, 2.5]
    chance  the same with the prompts of the other pictures: what is left if prompts are ignored
    """

    image: float
    text: float
    chance: float


class Judge(Protocol):
    """Compares pictures of one concept with its own pictures, and with texts."""

    def __call__(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> Alignment:
        """Judge pictures, each by its own text; there are at least two."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was seen after `step` steps; step 0 is the class as the base itself draws it."""

    step: int
    image: float
    text: float
    chance: float


@dataclass(slots=True)
class CheckHistory:
    """All checks of a run so far, and the weights of the best one."""

    checks: list[Check] = field(default_factory=list)
    weights: list[torch.Tensor] = field(default_factory=list)


def score(check: Check, start: Check) -> float:
    """How good a step is: the identity it has gained, times the share of the prompts it kept.

    Both are against `start`, the base itself: (I - I₀) · min(1, (T - C) / (T₀ - C₀)) of identity I,
    text alignment T and its value by chance C. A product does not ask in what units either is
    measured. Where even the base's pictures are no nearer to their own prompts than to the others,
    text says nothing, and identity decides.
    """
    gained = max(0.0, check.image - start.image)
    known = start.text - start.chance
    kept = max(0.0, min(1.0, (check.text - check.chance) / known)) if known > 0 else 1.0
    return gained * kept


def best(checks: Sequence[Check]) -> Check:
    """The check with the highest score after the first, of equal ones the latest."""
    start, *rest = checks
    return max(rest, key=lambda check: (score(check, start), check.step)) if rest else start


def stalled(checks: Sequence[Check], patience: int | None) -> bool:
    """Whether so many checks in a row were no better than one before them."""
    if patience is None or len(checks) <= 1:
        return False
    top = best(checks).step
    return sum(check.step > top for check in checks) >= patience
