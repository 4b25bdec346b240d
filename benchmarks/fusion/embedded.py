"""Fusion of concepts of the embedded model: the ways to fuse, what packing costs, who collides.

Ways to fuse are timed with the Grams at hand, for all alike; `statistics_seconds` says what those
took. Not covered: what pictures look like, which `storyforge evaluate` judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import torch
from torch import Tensor

from benchmarks.fusion.race import Layer
from storyforge.executor import silent
from storyforge.fuse import fusion, solve, statistics
from storyforge.fuse.account import COLLISION
from storyforge.fuse.packing import Compact, Full, Packed
from storyforge.fuse.solvers import Problem, solved
from storyforge.fuse.statistics import Statistics
from storyforge.fuse.terms import PRESERVATION, RIDGE, STAGES, Terms
from storyforge.model.base import BaseModel
from storyforge.model.concept import Concept
from storyforge.settings import FuseSettings, Solver
from storyforge.store import size_of

SOLVERS: tuple[Solver, ...] = ("closed-form", "average", "sum")
"""Those that take seconds; L-BFGS takes minutes for a whole model and is timed on some inputs."""

EVERY = 7
"""One input in so many is raced for, evenly over the model."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Concepts and what is seen of them.

    exact     Grams in full precision
    rows      parts (n, d) of all that passed into some inputs
    seconds   to watch each concept
    sizes     bytes of one concept's statistics, by packing
    """

    base: BaseModel
    cast: list[Concept]
    exact: list[dict[str, Tensor]]
    rows: list[dict[str, list[Tensor]]]
    seen: list[Statistics]
    ordinary: Statistics
    seconds: list[float]
    sizes: dict[str, int]


def watched(base: BaseModel, cast: list[Concept], every: int = EVERY) -> Scene:
    """Watch every concept once, and record the rows of one input in so many."""
    sources = list(base.family.inputs)[::every]
    exact: list[dict[str, Tensor]] = []
    rows: list[dict[str, list[Tensor]]] = []
    seen: list[Statistics] = []
    seconds: list[float] = []
    for concept in cast:
        started = process_time()
        rows.append({source: [] for source in sources})
        with _hearing(base, rows[-1]):
            grams, _ = statistics.watch(base, concept.alone(), told_of(concept), whole)
        packed: dict[str, Packed] = {source: Full.of(gram) for source, gram in grams.items()}
        seconds.append(process_time() - started)
        exact.append(grams)
        seen.append(Statistics(base.hash, base.family.inputs, packed, {}))
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "statistics.safetensors"
        seen[0].save(path)
        sizes = {"full": size_of(path)}
        few: dict[str, Packed] = {source: Compact.of(gram) for source, gram in exact[0].items()}
        Statistics(base.hash, seen[0].readers, few, {}).save(path)
        sizes["compact"] = size_of(path)
    return Scene(base, cast, exact, rows, seen, statistics.of_base(base), seconds, sizes)


def told_of(concept: Concept) -> list[str]:
    """The prompts that a concept is watched in."""
    lines = statistics.CONCEPT_PROMPTS[concept.kind]
    return [line.replace("<it>", f"<{concept.name}>") for line in lines]


def whole(gram: Tensor) -> Tensor:
    """Keep a Gram as it is."""
    return gram


def layers(scene: Scene) -> Iterator[Layer]:
    """One linear of some inputs, with the rows that were seen there of every concept."""
    base = scene.base
    for source in scene.rows[0]:
        linear = base.family.inputs[source][0]
        deltas = [each.deltas[linear] for each in scene.cast]
        yield Layer(
            base.family.stage(source),
            base.linears[linear].weight.detach().float(),
            [d.scale * d.up.float() for d in deltas],
            [d.down.float() for d in deltas],
            [torch.cat(each[source]) for each in scene.rows],
        )


@contextmanager
def _hearing(base: BaseModel, passed: dict[str, list[Tensor]]) -> Iterator[None]:
    handles = [
        base.linears[base.family.inputs[source][0]].register_forward_pre_hook(
            lambda _, inputs, kept=kept: kept.append(inputs[0].flatten(0, -2).clone())
        )
        for source, kept in passed.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def compare_solvers(scene: Scene) -> dict[str, object]:
    """Each solver on the whole model: residual per stage, seconds, and their ratio."""
    found: dict[str, dict[str, object]] = {}
    spent: dict[str, float] = {}
    for solver in SOLVERS:
        terms = Terms.of(FuseSettings(solver=solver), {c.name: c.kind for c in scene.cast})
        started = process_time()
        fused = fusion.fuse(scene.cast, scene.seen, scene.ordinary, terms, silent)
        spent[solver] = process_time() - started
        residuals = fused.report["residuals"]
        assert isinstance(residuals, dict)
        mean: dict[str, float] = {
            stage: sum(each[stage] for each in residuals.values()) / len(residuals)
            for stage in STAGES
        }
        found[solver] = {"residual": rounded(mean), "seconds": round(spent[solver], 3)}
    for name, numbers in found.items():
        numbers["seconds_over_closed_form"] = round(spent[name] / spent["closed-form"], 2)
    return dict(found)


def cost(problem: Problem, fused: Sequence[Sequence[Tensor]]) -> float:
    """The objective, summed over the linears of one input."""
    total = 0.0
    for ups, downs, made in zip(problem.ups, problem.downs, fused, strict=True):
        change = torch.cat([u.double() for u in ups], 1) @ torch.cat([m.double() for m in made])
        wanted = [u.double() @ d.double() for u, d in zip(ups, downs, strict=True)]
        total += solve.objective(change, wanted, problem.grams, problem.held).item()
    return total


def packings() -> dict[str, Callable[[Tensor], Tensor]]:
    """Ways to keep a Gram; the last two are those that we do not take."""

    def half(gram: Tensor) -> Tensor:
        scale = gram.diagonal().sqrt()
        return (gram / scale[:, None] / scale).half().double() * scale[:, None] * scale

    def cut(gram: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(gram)
        kept = max(1, len(gram) // 8)
        largest: Tensor = (vectors[:, -kept:] * values[-kept:]) @ vectors[:, -kept:].T
        return largest

    return {
        "full": lambda gram: Full.of(gram).gram(),
        "compact": lambda gram: Compact.of(gram).gram(),
        "fp16-correlation": half,
        "eigenvectors-without-tail": cut,
    }


def compare_packings(scene: Scene) -> dict[str, dict[str, object]]:
    """What each packing loses, and of the two that are taken how many bytes of a file they need.

    The loss is the objective, with exact Grams, of what is solved from packed ones, over the least
    of all, minus 1; by stage.
    """
    found: dict[str, dict[str, object]] = {}
    ordinary, count = scene.ordinary, len(scene.cast)
    for name, pack in packings().items():
        sums = {stage: [0.0, 0.0] for stage in STAGES}
        for source, readers in scene.base.family.inputs.items():
            stage = scene.base.family.stage(source)
            exact = [each[source] for each in scene.exact]
            kept = [pack(gram) for gram in exact]
            held, near = (
                solve.pull(grams, RIDGE[stage], ordinary.gram(source), PRESERVATION)
                for grams in (exact, kept)
            )
            own = [[each.deltas[linear] for each in scene.cast] for linear in readers]
            ups = [[d.scale * d.up for d in each] for each in own]
            downs = [[d.down for d in each] for each in own]
            true = Problem(stage, ups, downs, exact, held, (1.0,) * count)
            lossy = Problem(stage, ups, downs, kept, near, (1.0,) * count)
            sums[stage][0] += cost(true, solved("closed-form", lossy))
            sums[stage][1] += cost(true, solved("closed-form", true))
        lossy, least = (sum(each) for each in zip(*sums.values(), strict=True))
        found[name] = {"objective_loss": round(lossy / least - 1, 6)}
        found[name] |= {f"{stage}_loss": round(a / b - 1, 6) for stage, (a, b) in sums.items()}
        if name in scene.sizes:
            found[name]["bytes"] = scene.sizes[name]
    return found


def collisions(scene: Scene) -> dict[str, float]:
    """How strongly pairs move each other's keys and values: strangers, and one under two names."""

    def strongest(first: int, second: int, names: tuple[str, str]) -> float:
        cast = [scene.cast[i].renamed(name) for i, name in zip((first, second), names, strict=True)]
        seen = [scene.seen[first], scene.seen[second]]
        terms = Terms.of(FuseSettings(), {each.name: each.kind for each in cast})
        told_of = fusion.fuse(cast, seen, scene.ordinary, terms, silent).report["interference"]
        assert isinstance(told_of, dict)
        moved: dict[str, dict[str, float]] = told_of["kv"]
        return max(moved[names[0]][names[1]], moved[names[1]][names[0]])

    count = len(scene.cast)
    apart = [strongest(i, j, ("a", "b")) for i in range(count) for j in range(i)]
    same = [strongest(i, i, ("a", "b")) for i in range(count)]
    return rounded(
        {"strangers_most": max(apart), "twins_least": min(same), "warned_from": COLLISION}
    )


def re_solving(scene: Scene) -> dict[str, float]:
    """Adding the last concept to a fusion of the others: seconds, beside watching it."""
    last = len(scene.cast) - 1

    def timed(count: int) -> float:
        terms = Terms.of(FuseSettings(), {c.name: c.kind for c in scene.cast[:count]})
        started = process_time()
        fusion.fuse(scene.cast[:count], scene.seen[:count], scene.ordinary, terms, silent)
        return process_time() - started

    return rounded(
        {"without_it": timed(last), "with_it": timed(last + 1), "watching_it": scene.seconds[last]}
    )


def rounded(numbers: Mapping[str, float]) -> dict[str, float]:
    """Six digits after the point."""
    return {name: round(value, 6) for name, value in numbers.items()}
