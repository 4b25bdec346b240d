"""Concepts → one fused model: gather statistics, solve every layer, report what it cost whom.

The fused model is a change of rank N·r of the base's attention layers, beside everybody's tokens.
Not covered: the paper's chain of stages, where text is fused before keys and values are watched.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from pathlib import Path
from time import perf_counter
from typing import Final

import torch
from torch import Tensor

from storyforge.executor import Tell
from storyforge.fuse import solve, statistics
from storyforge.fuse.solve import Fit
from storyforge.fuse.statistics import Grams
from storyforge.model.base import BaseModel, best_device, open_base
from storyforge.model.concept import Concept, FusedModel
from storyforge.model.denoising import OnStep
from storyforge.model.family import Family, Stage
from storyforge.model.lora import Delta, joined
from storyforge.plan import FuseTask
from storyforge.story import FuseSettings

RIDGE: Final[dict[Stage, float]] = {"text": 1e-2, "kv": 1e-2, "spatial": 1e-3}
"""λ where the story names none: held-out residuals preferred more of it where rows are few."""

PRESERVATION: Final = 0.5
"""p where the story names none. On a prototype of the embedded model, with eight concepts, ordinary
pictures drifted by a quarter less and likeness did not suffer."""

COLLISION: Final = 0.3
"""A concept leaks into another when it moves its keys and values by this share of the other's own
delta; unrelated ones of equal size do so by 0.1 at most."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms concepts are fused, with nothing left open.

    exact         least squares; else every delta's plain mean
    ridge         λ of each stage
    preservation  p
    """

    exact: bool
    ridge: Mapping[Stage, float]
    preservation: float

    @staticmethod
    def of(settings: FuseSettings, concepts: int) -> Terms:
        """The story's terms for that many concepts.

        A concept alone has nobody to compromise with: it keeps its delta, as its own mean, unless
        the story asks for ridge or preservation.
        """
        alone = concepts == 1 and settings.ridge is None and settings.preservation is None
        return Terms(
            settings.solver == "closed-form" and not alone,
            RIDGE if settings.ridge is None else dict.fromkeys(RIDGE, settings.ridge),
            PRESERVATION if settings.preservation is None else settings.preservation,
        )


def perform(task: FuseTask, concepts: Mapping[str, Path], out: Path, tell: Tell) -> None:
    """Fuse the concepts of `task` and write the fused model into the folder `out`.

    concepts  name in the story -> its file

    Raises EnvironmentProblem for a base or a file that cannot be read, and for a concept that was
    learnt on another base.
    """
    base = open_base(task.base, task.base_hash, device=best_device())
    cast = [Concept.load(concepts[name]).renamed(name) for name, _ in task.concepts]
    fused = fuse(base, cast, task.settings, tell)
    out.mkdir(parents=True, exist_ok=True)
    fused.save(out)


def fuse(
    base: BaseModel, concepts: Sequence[Concept], settings: FuseSettings, tell: Tell
) -> FusedModel:
    """One model that knows every concept; its report says how well.

    The plain mean is watched as well: its price is worth knowing where the two are compared.

    Raises EnvironmentProblem for a concept that was learnt on another base.
    """
    if len({concept.name for concept in concepts}) != len(concepts) or not concepts:
        raise ValueError("fusion takes one or more concepts, each of its own name")
    for concept in concepts:
        concept.fits(base)
    terms = Terms.of(settings, len(concepts))
    started = perf_counter()
    seen, ordinary = _watch(base, concepts, terms, tell)
    watched = perf_counter()
    tell("solving", 0, 1)
    deltas, fits = _solve_all(base, concepts, terms, seen, ordinary)
    seconds = {"statistics": watched - started, "solution": perf_counter() - watched}
    report = _report(concepts, terms, deltas, fits, seconds)
    tokens = {concept.name: concept.tokens for concept in concepts}
    return FusedModel(base.reference, base.hash, tokens, deltas, report)


def _watch(
    base: BaseModel, concepts: Sequence[Concept], terms: Terms, tell: Tell
) -> tuple[list[Grams], Grams | None]:
    """Statistics of every concept, and of the base where they are called for."""
    preserves = terms.exact and terms.preservation > 0
    total = statistics.STEPS * (len(concepts) + preserves)

    def hears(what: str, index: int) -> OnStep:
        def on_step(step: int, steps: int, latents: Tensor) -> None:
            tell(f"watching {what}", index * steps + step, total)

        return on_step

    seen = [
        statistics.of_concept(base, concept, hears(f"`{concept.name}`", index))
        for index, concept in enumerate(concepts)
    ]
    ordinary = statistics.of_base(base, hears("the base", len(concepts))) if preserves else None
    return seen, ordinary


def _solve_all(
    base: BaseModel,
    concepts: Sequence[Concept],
    terms: Terms,
    seen: Sequence[Grams],
    ordinary: Grams | None,
) -> tuple[dict[str, Delta], dict[str, Fit]]:
    """The fused delta of every linear that some concept changes, and how well it fits."""
    deltas: dict[str, Delta] = {}
    fits: dict[str, Fit] = {}
    for source, readers in base.family.inputs.items():
        grams = [grams[source] for grams in seen]
        held = None
        if terms.exact:
            preserved = None if ordinary is None else ordinary[source]
            ridge = terms.ridge[base.family.stage(source)]
            held = solve.pull(grams, ridge, preserved, terms.preservation)
        changed = [name for name in readers if any(name in c.deltas for c in concepts)]
        own = [[_delta(base, concept, name) for concept in concepts] for name in changed]
        for linear, parts, downs in zip(changed, own, _solved(own, grams, held), strict=True):
            ups = [part.up for part in parts]
            deltas[linear] = joined([Delta(u, d) for u, d in zip(ups, downs, strict=True)])
            fits[linear] = solve.fit(ups, [part.down for part in parts], downs, grams)
    return deltas, fits


def _solved(
    own: Sequence[Sequence[Delta]], grams: Sequence[Tensor], held: Tensor | None
) -> Iterator[tuple[Tensor, ...]]:
    """A′ of every concept, for each linear that reads one input; the mean if nothing is held.

    The linears share the input's Grams, and so their A are stacked and solved for at once.

    own  linear, concept -> delta
    """
    stacked = [torch.cat([delta.down for delta in each]) for each in zip(*own, strict=True)]
    if held is None or not stacked:
        solved = solve.average(stacked)
    else:
        solved = solve.closed_form(stacked, grams, held)
    ranks = [[delta.rank for delta in each] for each in zip(*own, strict=True)]
    return zip(*map(torch.split, solved, ranks), strict=True)


def _delta(base: BaseModel, concept: Concept, linear: str) -> Delta:
    """A concept's delta with its scale in `up`; of rank 0 where it leaves the linear alone."""
    if linear not in concept.deltas:
        module = base.linears[linear]
        return Delta(torch.zeros(module.out_features, 0), torch.zeros(0, module.in_features))
    delta = concept.deltas[linear]
    return Delta(delta.scale * delta.up.float().cpu(), delta.down.float().cpu())


def _report(
    concepts: Sequence[Concept],
    terms: Terms,
    deltas: Mapping[str, Delta],
    fits: Mapping[str, Fit],
    seconds: Mapping[str, float],
) -> dict[str, object]:
    """The fusion in numbers, plain JSON.

    A residual is ‖(D − ΔWᵢ)X‖ / ‖ΔWᵢX‖ on what concept i sees: 0 is lossless, 1 no better than the
    base. `interference` says what each other concept's part does to the same inputs, by the same
    measure. None stands where a concept has no delta.
    """
    names = [concept.name for concept in concepts]
    stages = _by_stage(fits)
    parameters = sum(delta.up.numel() + delta.down.numel() for delta in deltas.values())
    return {
        "solver": "closed-form" if terms.exact else "average",
        "ridge": dict(terms.ridge) if terms.exact else None,
        "preservation": terms.preservation if terms.exact else None,
        "seconds": {what: round(spent, 3) for what, spent in seconds.items()},
        "rank": max((delta.rank for delta in deltas.values()), default=0),
        "layers": len(deltas),
        "parameters": parameters,
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


def _by_stage(fits: Mapping[str, Fit]) -> dict[Stage, Fit]:
    """The fits of all linears of a stage together."""
    found: dict[Stage, Fit] = {}
    for stage in RIDGE:
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
