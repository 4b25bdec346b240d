"""What a fusion cost whom: residuals, interference and warnings, as plain JSON.

It travels in the fused model's manifest; `report` shows it to people.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import combinations
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from storyforge.fuse.solve import Fit
from storyforge.fuse.terms import STAGES, Terms
from storyforge.model.concept import Concept
from storyforge.model.family import Family, Stage
from storyforge.model.lora import Delta

COLLISION: Final = 0.3
"""Two concepts collide where one moves the other's keys and values by this share of the other's own
delta. Measured in pairs on the sample story's concepts: unrelated ones move each other by 0.06 to
0.19, one file under two names by 0.46 (0.39 among five). The same pictures learnt again from
another seed come to 0.21, little more than strangers: learnt words differ, and only the class tells
that the two are alike. `python -m benchmarks.fusion` measures strangers and twins again."""

Numbers = dict[str, dict[str, float | None]]


class Account(BaseModel):
    """The fusion in numbers.

    A residual is ‖(D − ΔWᵢ)X‖ / ‖ΔWᵢX‖ on what concept i sees: 0 is lossless, 1 no better than the
    base. Interference is what each other concept's part of D does to the same inputs, by the same
    measure. None stands where a concept has no delta.
    """

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    solver: str
    ridge: dict[str, float] | None
    """λ by stage; None for solvers that look at nothing"""
    preservation: float | None
    """p; None likewise"""
    weights: dict[str, float]
    strengths: dict[str, float]
    chain: bool
    refine: int
    rank: int
    """of the widest delta"""
    rank_error: dict[str, float] | None
    """by stage, the largest ‖(D − D_k)S½‖/‖DS½‖ of a linear; None where D was not cut"""
    layers: int
    parameters: int
    residuals: Numbers
    """concept -> stage"""
    residuals_by_layer: Numbers
    """linear -> concept"""
    interference: dict[str, Numbers]
    """stage -> who sees -> who disturbs"""
    warnings: tuple[str, ...]
    seconds: dict[str, float] = Field(default_factory=dict)
    """by what they were spent on"""


def account(
    concepts: Sequence[Concept],
    terms: Terms,
    deltas: Mapping[str, Delta],
    fits: Mapping[str, Fit],
    lost: Mapping[str, float],
) -> Account:
    """Sum up a fusion.

    lost  linear -> ‖(D − D_k)S½‖/‖DS½‖ where D was cut to a smaller rank
    """
    names = [concept.name for concept in concepts]
    stages = _by_stage(fits)
    return Account(
        solver=terms.solver,
        ridge={str(stage): ridge for stage, ridge in terms.ridge.items()} if terms.looks else None,
        preservation=terms.preservation if terms.looks else None,
        weights=dict(zip(names, terms.weights, strict=True)),
        strengths=dict(zip(names, terms.strengths, strict=True)),
        chain=terms.chain,
        refine=terms.refine,
        rank=max((delta.rank for delta in deltas.values()), default=0),
        rank_error={stage: _worst(lost, stage) for stage in STAGES} if lost else None,
        layers=len(deltas),
        parameters=sum(delta.up.numel() + delta.down.numel() for delta in deltas.values()),
        residuals={
            name: {stage: _number(fit.residuals()[i]) for stage, fit in stages.items()}
            for i, name in enumerate(names)
        },
        residuals_by_layer={linear: _named(names, fit.residuals()) for linear, fit in fits.items()},
        interference={
            stage: {
                name: _named(names, row)
                for name, row in zip(names, fit.interference(), strict=True)
            }
            for stage, fit in stages.items()
        },
        warnings=(*_namesakes(concepts), *_collisions(names, stages)),
    )


def _worst(lost: Mapping[str, float], stage: Stage) -> float:
    """The largest loss of a linear of the stage."""
    own = [share for linear, share in lost.items() if Family.stage(linear) == stage]
    return round(max(own, default=0.0), 4)


def _by_stage(fits: Mapping[str, Fit]) -> dict[Stage, Fit]:
    """The fits of all linears of a stage together."""
    found: dict[Stage, Fit] = {}
    for stage in STAGES:
        own = [fit for linear, fit in fits.items() if Family.stage(linear) == stage]
        if own:
            found[stage] = reduce(operator.add, own)
    return found


def _namesakes(concepts: Sequence[Concept]) -> Iterator[str]:
    """A warning for every two concepts of one class: they lose most when fused."""
    for one, other in combinations(concepts, 2):
        words = one.class_phrase.split(), other.class_phrase.split()
        if not all(words) or words[0][-1].casefold() != words[1][-1].casefold():
            continue
        yield (
            f"`{one.name}` and `{other.name}` are both of the class `{words[0][-1]}`; "
            "concepts of one class lose the most likeness when fused; it helps to show each in a "
            "region of its own, and to let the one that matters count more "
            f"(`fuse: {{weights: {{{one.name}: 2}}}}`)"
        )


def _collisions(names: Sequence[str], stages: Mapping[Stage, Fit]) -> Iterator[str]:
    """A warning for every two concepts of which one moves the other's keys and values."""
    if "kv" not in stages:
        return
    moved = stages["kv"].interference()
    for i, j in combinations(range(len(names)), 2):
        shares = [(moved[a, b].item(), names[a], names[b]) for a, b in ((i, j), (j, i))]
        known = [each for each in shares if math.isfinite(each[0])]
        share, hurt, loud = max(known, key=lambda each: each[0], default=(0.0, "", ""))
        if share > COLLISION:
            yield (
                f"`{names[i]}` and `{names[j]}` collide: `{loud}` moves the text that `{hurt}` is "
                f"drawn from by {share:.0%} of what `{hurt}` itself does; it helps to train them "
                "with different class words, to leave one out, or to let the one that matters "
                f"count more (`fuse: {{weights: {{{hurt}: 2}}}}`)"
            )


def _named(names: Sequence[str], values: Tensor) -> dict[str, float | None]:
    return {name: _number(value) for name, value in zip(names, values, strict=True)}


def _number(value: Tensor) -> float | None:
    """Four digits, or None for what JSON has no number for."""
    return round(value.item(), 4) if value.isfinite() else None
