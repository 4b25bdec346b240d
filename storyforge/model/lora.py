"""Low-rank changes of named linears: attach them, merge them, and leave no trace.

The change of a weight is `scale · up @ down`; `scale` is always alpha / rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from storyforge.model.base import BaseModel


@dataclass(frozen=True, slots=True)
class Delta:
    """One low-rank change.

    up     (out, r)
    down   (r, in)
    scale  alpha / rank
    """

    up: torch.Tensor
    down: torch.Tensor
    scale: float = 1.0

    @property
    def rank(self) -> int:
        """r."""
        return self.down.shape[0]

    def weight(self) -> torch.Tensor:
        """(out, in): the change in full."""
        return self.scale * self.up @ self.down


def joined(deltas: list[Delta]) -> Delta:
    """The sum of several changes of one linear, as one change of the summed rank."""
    return Delta(
        torch.cat([d.scale * d.up for d in deltas], 1), torch.cat([d.down for d in deltas], 0)
    )


@contextmanager
def attached(base: BaseModel, deltas: Mapping[str, Delta], strength: float = 1.0) -> Iterator[None]:
    """Add the changes to the outputs while the block runs; gradients reach `up` and `down`."""
    handles = [
        base.linears[name].register_forward_hook(_adder(delta, strength))
        for name, delta in deltas.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _adder(delta: Delta, strength: float) -> _Hook:
    return _Hook(delta, strength * delta.scale)


class _Hook:
    def __init__(self, delta: Delta, scale: float) -> None:
        self.delta, self.scale = delta, scale

    def __call__(
        self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> torch.Tensor:
        down, up = self.delta.down.to(output), self.delta.up.to(output)
        return output + self.scale * F.linear(F.linear(inputs[0], down), up)


@contextmanager
def merged(base: BaseModel, deltas: Mapping[str, Delta], strength: float = 1.0) -> Iterator[None]:
    """Change the weights themselves while the block runs; afterwards they are bit-equal."""
    kept = {name: base.linears[name].weight.detach().clone() for name in deltas}
    try:
        with torch.no_grad():
            for name, delta in deltas.items():
                weight = base.linears[name].weight
                weight += (strength * delta.weight()).to(weight)
        yield
    finally:
        with torch.no_grad():
            for name, weight in kept.items():
                base.linears[name].weight.copy_(weight)
