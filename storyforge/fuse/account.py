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

from torch import Tensor

from storyforge.fuse.solve import Fit
from storyforge.fuse.terms import STAGES, Terms
from storyforge.model.concept import Concept
from storyforge.model.family import Family, Stage
from storyforge.model.lora import Delta

COLLISION: Final = 0.3
"""A concept leaks into another when it moves its keys and values by this share of the other's own
delta; unrelated ones of equal size do so by 0.1 at most."""


def account(
    concepts: Sequence[Concept],
    terms: Terms,
    deltas: Mapping[str, Delta],
    fits: Mapping[str, Fit],
    lost: Mapping[str, float],
) -> dict[str, object]:
    """The fusion in numbers.

    A residual is ‖(D − ΔWᵢ)X‖ / ‖ΔWᵢX‖ on what concept i sees: 0 is lossless, 1 no better than the
    base. `interference` says what each other concept's part does to the same inputs, by the same
    measure. None stands where a concept has no delta.

    lost  linear -> ‖(D − D_k)S½‖/‖DS½‖ where D was cut to a smaller rank
    """
    names = [concept.name for concept in concepts]
    stages = _by_stage(fits)
    looks = terms.looks
    return {
        "solver": terms.solver,
        "ridge": dict(terms.ridge) if looks else None,
        "preservation": terms.preservation if looks else None,
        "weights": dict(zip(names, terms.weights, strict=True)),
        "strengths": dict(zip(names, terms.strengths, strict=True)),
        "chain": terms.chain,
        "refine": terms.refine,
        "rank": max((delta.rank for delta in deltas.values()), default=0),
        "rank_error": {stage: _worst(lost, stage) for stage in STAGES} if lost else None,
        "layers": len(deltas),
        "parameters": sum(delta.up.numel() + delta.down.numel() for delta in deltas.values()),
        "residuals": {
            name: {stage: _number(fit.residuals()[i]) for stage, fit in stages.items()}
            for i, name in enumerate(names)
        },
        "residuals_by_layer": {
            linear: _named(names, fit.residuals()) for linear, fit in fits.items()
        },
        "interference": {
            stage: {
                name: _named(names, row)
                for name, row in zip(names, fit.interference(), strict=True)
            }
            for stage, fit in stages.items()
        },
        "warnings": [*_namesakes(concepts), *_collisions(names, stages)],
    }


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
            "concepts of one class lose the most likeness when fused"
        )


def _collisions(names: Sequence[str], stages: Mapping[Stage, Fit]) -> Iterator[str]:
    """A warning for every concept whose keys and values another one moves."""
    if "kv" not in stages:
        return
    moved = stages["kv"].interference()
    for i, name in enumerate(names):
        for j, other in enumerate(names):
            share = moved[i, j].item()
            if math.isfinite(share) and share > COLLISION:
                yield (
                    f"`{other}` leaks into `{name}`: it moves the text that `{name}` is drawn from "
                    f"by {share:.0%} of what `{name}` itself does"
                )


def _named(names: Sequence[str], values: Tensor) -> dict[str, float | None]:
    return {name: _number(value) for name, value in zip(names, values, strict=True)}


def _number(value: Tensor) -> float | None:
    """Four digits, or None for what JSON has no number for."""
    return round(value.item(), 4) if value.isfinite() else None
