"""Low-rank changes of named linears: attach them, merge them, and leave no trace.

The change of a weight is `scale · up @ down`; `scale` is always alpha / rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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


def difference(
    wanted: Mapping[str, Delta], present: Mapping[str, Delta], names: Iterable[str]
) -> dict[str, Delta]:
    """What turns the changes that are `present` into those that are `wanted`, for some linears."""
    made = {}
    for name in names:
        parts = [wanted[name]] if name in wanted else []
        if name in present:
            there = present[name]
            parts.append(Delta(there.up, there.down, -there.scale))
        if parts:
            made[name] = joined(parts)
    return made


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
        if self.scale != 1:
            up = self.scale * up  # the small factor, not every number of the output
        return output + F.linear(F.linear(inputs[0], down), up)


@dataclass(frozen=True, slots=True)
class Local:
    """Low-rank changes that count on a part of the picture.

    deltas          linear -> change
    region_weights  cells of a level -> (cells,): how much of the change each cell has
    """

    deltas: Mapping[str, Delta]
    region_weights: Mapping[int, torch.Tensor]


@contextmanager
def attached_locally(base: BaseModel, parts: Sequence[Local]) -> Iterator[None]:
    """Add changes to the outputs on their own cells: `y = W x + Σ sᵢ ⊙ Bᵢ Aᵢ x`."""
    named: dict[str, list[tuple[Delta, Mapping[int, torch.Tensor]]]] = {}
    for part in parts:
        for name, delta in part.deltas.items():
            named.setdefault(name, []).append((delta, part.region_weights))
    handles = [
        base.linears[name].register_forward_hook(_LocalHook(own)) for name, own in named.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _LocalHook:
    """All changes of one linear as one, each rank of it silent outside its cells."""

    def __init__(self, parts: list[tuple[Delta, Mapping[int, torch.Tensor]]]) -> None:
        self.parts, self.delta = parts, joined([delta for delta, _ in parts])
        self.region_weights: dict[int, torch.Tensor] = {}

    def __call__(
        self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> torch.Tensor:
        cells = inputs[0].shape[1]
        if cells not in self.region_weights:
            # Once for each level, not for each call: the device and the precision stay.
            self.delta = Delta(self.delta.up.to(output), self.delta.down.to(output))
            ranks = [
                region_weights[cells][:, None].expand(-1, d.rank)
                for d, region_weights in self.parts
            ]
            self.region_weights[cells] = torch.cat(ranks, 1).to(output)
        low = F.linear(inputs[0], self.delta.down) * self.region_weights[cells]
        return output + F.linear(low, self.delta.up)


@contextmanager
def merged(base: BaseModel, deltas: Mapping[str, Delta], strength: float = 1.0) -> Iterator[None]:
    """Change the weights themselves while the block runs; afterwards they are bit-equal.

    Weights of half precision, or kept in fewer bits, are left alone and the outputs are changed
    instead: a small change would be lost in the rounding of a large weight.
    """
    if base.narrow:
        with attached(base, deltas, strength):
            yield
        return
    kept = {name: base.linears[name].weight.detach().clone() for name in deltas}
    try:
        with torch.no_grad():
            for name, delta in deltas.items():
                weight = base.linears[name].weight
                # Merged, a step costs what the base costs; hooks multiply twice more a layer.
                weight += (strength * delta.weight()).to(weight)
        yield
    finally:
        with torch.no_grad():
            for name, weight in kept.items():
                base.linears[name].weight.copy_(weight)
