"""One layer fused twice from the same rows: in closed form, and by L-BFGS as published.

Both minimise Σᵢ ‖(D − ΔWᵢ)Xᵢ‖² alone, the published objective, on one thread each, one after the
other. The closed form's time has the Grams in it. What counts is the processor's time, which a busy
machine does not stretch as it does the clock's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import TypeVar

import torch
from torch import Tensor

from storyforge.fuse import solve
from storyforge.fuse.packing import Sum
from storyforge.fuse.solve import LBFGS_HISTORY, LBFGS_TOLERANCE
from storyforge.fuse.solvers import LBFGS_STEPS
from storyforge.model.family import Stage

Made = TypeVar("Made")

CHUNK = 5000
"""Rows that the published code works on at a time."""

RIDGE = 2e-6
"""λ of the closed form: as little as Grams summed in fp32 allow, where λ is not the question."""

NOTHING = 1e-9
"""Objectives below this share of where the search began are zero as far as fp32 tells."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What N concepts want of one linear.

    base    (m, d)      W₀
    ups     N × (m, r)  B
    downs   N × (r, d)  A
    inputs  N × (n, d)  X, fp32
    """

    stage: Stage
    base: Tensor
    ups: Sequence[Tensor]
    downs: Sequence[Tensor]
    inputs: Sequence[Tensor]


@dataclass(frozen=True, slots=True)
class Race:
    """What came of it.

    closed, searched        processor seconds of the closed form and of L-BFGS
    clocked                 seconds on the clock, likewise
    objective, as_searched  of the closed form and of L-BFGS, as shares of that of W₀
    evaluations             of the objective by L-BFGS
    """

    closed: float
    searched: float
    clocked: tuple[float, float]
    objective: float
    as_searched: float
    evaluations: int

    @property
    def ratio(self) -> float:
        """The closed form's objective over that of L-BFGS; 1 where both are zero."""
        if max(self.objective, self.as_searched) < NOTHING:
            return 1.0
        return self.objective / self.as_searched


def raced(layer: Layer) -> Race:
    """Solve the layer both ways: the closed form before and after the search, and its mean time."""
    before, change = _timed(lambda: closed(layer))
    spent, (weight, evaluations) = _timed(lambda: searched(layer, LBFGS_STEPS[layer.stage]))
    after, _ = _timed(lambda: closed(layer))
    start = objective(layer, torch.zeros_like(change))
    return Race(
        (before[0] + after[0]) / 2,
        spent[0],
        ((before[1] + after[1]) / 2, spent[1]),
        objective(layer, change) / start,
        objective(layer, weight.double() - layer.base.double()) / start,
        evaluations,
    )


def closed(layer: Layer) -> Tensor:
    """D (m, d), fp64, from the rows."""
    grams = [Sum.of(rows).gram() for rows in layer.inputs]
    fused = solve.closed_form(layer.downs, grams, solve.pull(grams, RIDGE, None, 0))
    return torch.cat(list(layer.ups), 1).double() @ torch.cat(fused).double()


def searched(layer: Layer, steps: int) -> tuple[Tensor, int]:
    """W (m, d), fp32, and how often the objective was evaluated; as in `update_quasi_newton`.

    What the linears ought to say is recorded beforehand there, and not timed here.
    """
    wanted = _wanted(layer)
    rows = torch.cat(list(layer.inputs))
    weight = layer.base.clone().requires_grad_()
    best, lowest, count = layer.base, float("inf"), 0
    search = torch.optim.LBFGS(
        [weight],
        lr=1,
        max_iter=steps,
        history_size=LBFGS_HISTORY,
        tolerance_grad=LBFGS_TOLERANCE,
        tolerance_change=LBFGS_TOLERANCE,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        nonlocal best, lowest, count
        search.zero_grad()
        total = 0.0
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            error = rows[part] @ weight.T - wanted[part]
            loss = error.square().sum() / wanted.numel()
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        count += 1
        if total < lowest:
            best, lowest = weight.detach().clone(), total
        return total

    search.step(closure)  # type: ignore[no-untyped-call]
    return best, count


def _wanted(layer: Layer) -> Tensor:
    """What every row ought to become, of all concepts, one below the other."""
    parts = zip(layer.inputs, layer.ups, layer.downs, strict=True)
    return torch.cat([x @ (layer.base + up @ down).T for x, up, down in parts])


def objective(layer: Layer, change: Tensor) -> float:
    """Σᵢ ‖(D − ΔWᵢ)Xᵢ‖² of a change (m, d), in fp64 and row by row."""
    total = 0.0
    for rows, up, down in zip(layer.inputs, layer.ups, layer.downs, strict=True):
        missed = (change - up.double() @ down.double()).T
        for start in range(0, len(rows), CHUNK):
            total += (rows[start : start + CHUNK].double() @ missed).square().sum().item()
    return total


def _timed(work: Callable[[], Made]) -> tuple[tuple[float, float], Made]:
    """Processor and clock seconds, and what came of it."""
    used, clock = process_time(), perf_counter()
    made = work()
    return (process_time() - used, perf_counter() - clock), made
