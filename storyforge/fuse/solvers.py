"""The ways to fuse behind one interface: a problem in, the fused A′ of every concept out.

All keep the concepts' B, so that what comes out is a change of rank N·r whichever way is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from storyforge.fuse import solve
from storyforge.model.family import Stage
from storyforge.settings import Solver

LBFGS_STEPS: Final[dict[Stage, int]] = {"text": 500, "kv": 500, "spatial": 50}
"""The paper's own."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What N concepts want of the L linears that read one input, and what they see there.

    ups        L × N × (m, rᵢ)  B
    downs      L × N × (rᵢ, d)  A
    grams      N × (d, d)       G, times what each concept counts
    held       (d, d)           P, see `solve.pull`
    weights    N                what each concept counts
    words      N × (n, d)       features of the concepts' words; None where no text is read
    """

    stage: Stage
    ups: Sequence[Sequence[Tensor]]
    downs: Sequence[Sequence[Tensor]]
    grams: Sequence[Tensor]
    held: Tensor
    weights: Sequence[float]
    words: Sequence[Tensor] | None = None


def solved(solver: Solver, problem: Problem) -> list[list[Tensor]]:
    """A′ of every linear and concept, L × N × (rᵢ, d).

    Custom Diffusion changes keys and values only: elsewhere its way is the mean.
    """
    match solver:
        case "closed-form":
            return _stacked(problem)
        case "lbfgs":
            return [
                _searched(problem, ups, downs)
                for ups, downs in zip(problem.ups, problem.downs, strict=True)
            ]
        case "sum":
            return [list(downs) for downs in problem.downs]
        case "custom-diffusion" if problem.words is not None:
            words = problem.words
            return [solve.constrained(downs, words, problem.held) for downs in problem.downs]
        case _:
            return [solve.average(downs, problem.weights) for downs in problem.downs]


def _stacked(problem: Problem) -> list[list[Tensor]]:
    """All linears at once: they share the Grams, and rows of A are solved for one by one."""
    stacked = [torch.cat(each) for each in zip(*problem.downs, strict=True)]
    fused = solve.closed_form(stacked, problem.grams, problem.held)
    parts = [
        torch.split(whole, [len(downs[index]) for downs in problem.downs])
        for index, whole in enumerate(fused)
    ]
    return [list(each) for each in zip(*parts, strict=True)]


def _searched(problem: Problem, ups: Sequence[Tensor], downs: Sequence[Tensor]) -> list[Tensor]:
    """L-BFGS from the base's weights.

    Its gradients, and so every iterate, lie in the columns of the B: A′ = B⁺D loses nothing.
    """
    deltas = [up.double() @ down.double() for up, down in zip(ups, downs, strict=True)]
    steps = LBFGS_STEPS[problem.stage]
    change = solve.lbfgs(deltas, problem.grams, problem.held, steps)
    every = torch.cat([up.double() for up in ups], dim=1)
    fused = torch.linalg.pinv(every) @ change
    parts = torch.split(fused, [len(down) for down in downs])
    return [part.to(down.dtype) for part, down in zip(parts, downs, strict=True)]
