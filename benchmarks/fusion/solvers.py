"""The closed form against L-BFGS as published, by stage, on two kinds of layers.

Those of Stable Diffusion 1.5, with as many rows as the published code records; and those of the
embedded model, with all rows that storyforge watches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from benchmarks.fusion.embedded import Scene, layers
from benchmarks.fusion.race import Layer, Race, raced
from benchmarks.fusion.shapes import (
    Input,
    directions,
    energies,
    factors,
    features,
    stable_diffusion,
)
from storyforge.fuse.terms import STAGES
from storyforge.model.family import Stage

CONCEPTS = 2
"""Both solvers' times grow alike with their number."""


def on_stable_diffusion(scene: Scene, shrink: int) -> dict[str, dict[str, object]]:
    """One race for each shape and kind of input, in which one of its linears is solved.

    `speedup` is that of these races. `speedup_whole` counts each race as often as there are such
    layers: L-BFGS once for every linear, the closed form once for every input, as Grams and their
    factors serve all linears that read it.
    """
    alike: dict[tuple[object, ...], list[Input]] = {}
    for each in stable_diffusion(shrink):
        alike.setdefault((each.stage, each.width, each.rows, each.linears[0][1]), []).append(each)
    races = [(same, raced(stand_in(scene, same[0]))) for same in alike.values()]
    found = summed((same[0].stage, _words(same[0]), race) for same, race in races)
    for stage, figures in found.items():
        own = [(same, race) for same, race in races if same[0].stage == stage]
        searched = sum(sum(len(each.linears) for each in same) * r.searched for same, r in own)
        closed = sum(len(same) * race.closed for same, race in own)
        figures["speedup_whole"] = round(searched / closed, 1)
    return found


def _words(shape: Input) -> str:
    return f"{shape.rows} rows of {shape.width}, to {shape.linears[0][1]}"


def stand_in(scene: Scene, shape: Input) -> Layer:
    """A layer of this shape, its inputs and deltas as strong as recorded ones of its kind."""
    generator = torch.Generator().manual_seed(0)
    cast = scene.cast[:CONCEPTS]
    strengths = energies([each[like(scene, shape)] for each in scene.exact[:CONCEPTS]], shape.width)
    axes = directions(shape.width, generator)
    inputs = [features(shape.rows, own, axes, generator) for own in strengths]
    out = shape.linears[0][1]
    base = torch.randn(out, shape.width, generator=generator) / shape.width**0.5
    size = base.norm().item() * relative_size(scene)
    pairs = [factors(each, out, size, generator) for each in inputs[: len(cast)]]
    return Layer(shape.stage, base, [up for up, _ in pairs], [down for _, down in pairs], inputs)


def like(scene: Scene, shape: Input) -> str:
    """The middle one of the embedded model's inputs of the same kind."""
    family = scene.base.family
    kind = shape.kind.split()[1]
    same = [
        source
        for source in family.inputs
        if family.stage(source) == shape.stage and source.rpartition(".")[2] == kind
    ]
    return same[len(same) // 2]


def relative_size(scene: Scene) -> float:
    """How large the first concept's deltas are, as a share of the weights: the median."""
    base = scene.base
    shares: list[float] = [
        (delta.weight().norm() / base.linears[name].weight.norm()).item()
        for name, delta in scene.cast[0].deltas.items()
    ]
    return sorted(shares)[len(shares) // 2]


def on_embedded(scene: Scene) -> dict[str, dict[str, object]]:
    """Races on features that were recorded."""
    races = (
        (layer.stage, f"{sum(map(len, layer.inputs))} rows of {layer.base.shape[1]}", raced(layer))
        for layer in layers(scene)
    )
    return summed(races)


def summed(races: Iterable[tuple[Stage, str, Race]]) -> dict[str, dict[str, object]]:
    """By stage: L-BFGS's time over the closed form's, and the worst ratio of objectives."""
    by: dict[Stage, list[tuple[str, Race]]] = {stage: [] for stage in STAGES}
    for stage, what, race in races:
        by[stage].append((what, race))
    return {stage: dict(_figures(own)) for stage, own in by.items() if own}


def _figures(own: list[tuple[str, Race]]) -> Iterator[tuple[str, object]]:
    races = [race for _, race in own]
    closed, searched = sum(r.closed for r in races), sum(r.searched for r in races)
    clocked = sum(r.clocked[1] for r in races) / sum(r.clocked[0] for r in races)
    yield "speedup", round(searched / closed, 1)
    yield "speedup_least", round(min(r.searched / r.closed for r in races), 1)
    yield "speedup_by_the_clock", round(clocked, 1)
    yield "objective_ratio", round(max(r.ratio for r in races), 6)
    yield "layers", {what: _told(race) for what, race in own}


def _told(race: Race) -> Mapping[str, float]:
    return {
        "closed_seconds": round(race.closed, 4),
        "lbfgs_seconds": round(race.searched, 3),
        "evaluations": race.evaluations,
        "closed_objective": race.objective,
        "lbfgs_objective": race.as_searched,
    }


def gram_of(strengths: Tensor, axes: Tensor) -> Tensor:
    """The Gram (d, d) of features of these energies (d,) along these axes, fp64."""
    return ((axes * strengths) @ axes.T).double()
