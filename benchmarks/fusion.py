"""Fusion measured: the solvers side by side on one set of concepts, and what packing costs.

`python -m benchmarks.fusion --json` prints one JSON document; `--concepts DIR` names other concept
files than those of the sample story. Times are wall clock, on as many threads as torch takes;
compare only figures of one run. Solvers are timed with the Grams at hand, for all alike:
`statistics_seconds` says what those took. Not covered: what pictures look like, and larger bases.
"""

from __future__ import annotations

import argparse
import json
import operator
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import torch
from torch import Tensor

from storyforge.executor import processors
from storyforge.fuse import fusion, solve, statistics
from storyforge.fuse.account import COLLISION
from storyforge.fuse.packing import Compact, Full
from storyforge.fuse.solve import Fit
from storyforge.fuse.solvers import Problem, solved
from storyforge.fuse.statistics import Statistics
from storyforge.fuse.terms import RIDGE, STAGES, Terms
from storyforge.fusesettings import FuseSettings, Solver
from storyforge.model.base import BaseModel, open_base
from storyforge.model.concept import Concept, FusedModel
from storyforge.model.family import Stage
from storyforge.store import fingerprint, size_of

HERE = Path(__file__).parent
CONCEPTS = HERE.parent / "tests" / "goldens" / "fox-and-lantern" / "concepts"
WEIGHTS = HERE.parent / "storyforge" / "pocket" / "weights"

SOLVERS: tuple[Solver, ...] = ("closed-form", "average", "sum")
"""Those that take seconds; L-BFGS takes minutes for a whole model and is timed on some inputs."""

COMPARED: tuple[Solver, ...] = ("closed-form", "lbfgs", "average")

EVERY = 7
"""One input in so many is solved by L-BFGS too, evenly over the model."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Concepts and what is seen of them.

    exact     Grams in full precision
    features  bytes in fp16 of all inputs of the first concept, which are not kept
    seconds   to watch each concept
    sizes     bytes of one concept's statistics, by packing
    """

    base: BaseModel
    cast: list[Concept]
    exact: list[dict[str, Tensor]]
    features: int
    seen: list[Statistics]
    ordinary: Statistics
    seconds: list[float]
    sizes: dict[str, int]


def watched(base: BaseModel, cast: list[Concept]) -> Scene:
    """Watch every concept once."""
    exact, seen, seconds, features = [], [], [], 0
    for concept in cast:
        tokens = {concept.name: concept.tokens}
        model = FusedModel(base.reference, base.hash, tokens, concept.deltas)
        lines = statistics.CONCEPT_PROMPTS[concept.kind]
        prompts = [line.replace("<it>", f"<{concept.name}>") for line in lines]
        started = perf_counter()
        with counted(base) as passed:
            grams, _ = statistics.watch(base, model, prompts)
        packed = {source: Full.of(gram) for source, gram in grams.items()}
        seconds.append(perf_counter() - started)
        told(f"watched {concept.name} in {seconds[-1]:.1f} s")
        features = features or 2 * sum(passed)
        exact.append(grams)
        seen.append(Statistics(base.hash, base.family.inputs, packed, {}))
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "statistics.safetensors"
        seen[0].save(path)
        sizes = {"full": size_of(path)}
        few = {source: Compact.of(gram) for source, gram in exact[0].items()}
        Statistics(base.hash, seen[0].readers, few, {}).save(path)
        sizes["compact"] = size_of(path)
    return Scene(base, cast, exact, features, seen, statistics.of_base(base), seconds, sizes)


@contextmanager
def counted(base: BaseModel) -> Iterator[list[int]]:
    """Count the numbers that pass into every distinct input while the block runs."""
    passed: list[int] = []
    handles = [
        base.linears[readers[0]].register_forward_pre_hook(
            lambda _, inputs: passed.append(inputs[0].numel())
        )
        for readers in base.family.inputs.values()
    ]
    try:
        yield passed
    finally:
        for handle in handles:
            handle.remove()


def compare_solvers(scene: Scene) -> dict[str, object]:
    """Each solver on the whole model: residual per stage, seconds, and their ratio."""
    found: dict[str, dict[str, object]] = {}
    spent: dict[str, float] = {}
    for solver in SOLVERS:
        terms = Terms.of(FuseSettings(solver=solver), [each.name for each in scene.cast])
        started = perf_counter()
        fused = fusion.fuse(scene.cast, scene.seen, scene.ordinary, terms, silent)
        spent[solver] = perf_counter() - started
        told(f"{solver}: {spent[solver]:.2f} s")
        residuals = fused.report["residuals"]
        assert isinstance(residuals, dict)
        mean = {
            stage: sum(each[stage] for each in residuals.values()) / len(residuals)
            for stage in STAGES
        }
        found[solver] = {"residual": rounded(mean), "seconds": round(spent[solver], 3)}
    for solver, numbers in found.items():
        numbers["seconds_over_closed_form"] = round(spent[solver] / spent["closed-form"], 2)
    return dict(found)


def problems(scene: Scene) -> Iterator[tuple[Stage, Problem]]:
    """The least squares problem of some inputs, in the closed form's own terms."""
    terms = Terms.of(FuseSettings(), [each.name for each in scene.cast])
    for source, readers in list(scene.base.family.inputs.items())[::EVERY]:
        stage = scene.base.family.stage(source)
        grams = [each[source] for each in scene.exact]
        held = solve.pull(
            grams, terms.ridge[stage], scene.ordinary.gram(source), terms.preservation
        )
        own = [[each.deltas[linear] for each in scene.cast] for linear in readers]
        ups = [[d.scale * d.up for d in each] for each in own]
        downs = [[d.down for d in each] for each in own]
        yield stage, Problem(stage, ups, downs, grams, held, terms.weights)


def compare_stages(found: Iterator[tuple[Stage, Problem]]) -> dict[str, dict[str, float]]:
    """L-BFGS and the average beside the closed form, by stage: seconds, objectives, residuals."""
    sums: dict[Stage, dict[str, tuple[float, float, Fit]]] = {}
    for stage, problem in found:
        told(f"solving one input of {stage}")
        for solver in COMPARED:
            started = perf_counter()
            fused = solved(solver, problem)
            seconds = perf_counter() - started
            here = (seconds, cost(problem, fused), fitted(problem, fused))
            before = sums.setdefault(stage, {}).get(solver)
            if before is not None:
                here = (here[0] + before[0], here[1] + before[1], here[2] + before[2])
            sums[stage][solver] = here
    return {stage: rounded(dict(figures(by))) for stage, by in sums.items()}


def figures(by: Mapping[str, tuple[float, float, Fit]]) -> Iterator[tuple[str, float]]:
    """What one stage comes to."""
    best = by["closed-form"]
    yield "speedup", by["lbfgs"][0] / best[0]
    yield "objective_ratio", best[1] / by["lbfgs"][1]
    yield "average_objective_ratio", best[1] / by["average"][1]
    for solver, (seconds, _, fit) in by.items():
        yield f"{solver}_seconds", seconds
        yield f"{solver}_residual", fit.residuals().mean().item()


def fitted(problem: Problem, fused: Sequence[Sequence[Tensor]]) -> Fit:
    """How well all linears of one input serve the concepts."""
    fits = [
        solve.fit(ups, downs, made, problem.grams)
        for ups, downs, made in zip(problem.ups, problem.downs, fused, strict=True)
    ]
    return reduce(operator.add, fits)


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
        return (vectors[:, -kept:] * values[-kept:]) @ vectors[:, -kept:].T

    return {
        "full": lambda gram: Full.of(gram).gram(),
        "compact": lambda gram: Compact.of(gram).gram(),
        "fp16-correlation": half,
        "eigenvectors-without-tail": cut,
    }


def compare_packings(scene: Scene) -> dict[str, dict[str, float]]:
    """Objective with exact Grams of what is solved from packed ones, over the least; by stage."""
    found: dict[str, dict[str, float]] = {}
    ordinary, count = scene.ordinary, len(scene.cast)
    for name, pack in packings().items():
        sums = {stage: [0.0, 0.0] for stage in STAGES}
        for source, readers in scene.base.family.inputs.items():
            stage = scene.base.family.stage(source)
            exact = [each[source] for each in scene.exact]
            kept = [pack(gram) for gram in exact]
            held, near = (
                solve.pull(grams, RIDGE[stage], ordinary.gram(source), 0.5)
                for grams in (exact, kept)
            )
            own = [[each.deltas[linear] for each in scene.cast] for linear in readers]
            ups = [[d.scale * d.up for d in each] for each in own]
            downs = [[d.down for d in each] for each in own]
            true = Problem(stage, ups, downs, exact, held, (1.0,) * count)
            lossy = Problem(stage, ups, downs, kept, near, (1.0,) * count)
            sums[stage][0] += cost(true, solved("closed-form", lossy))
            sums[stage][1] += cost(true, solved("closed-form", true))
        found[name] = rounded({stage: lossy / least for stage, (lossy, least) in sums.items()})
    return found


def collisions(scene: Scene) -> dict[str, float]:
    """How strongly pairs move each other's keys and values: strangers, and one under two names."""

    def strongest(first: int, second: int, names: tuple[str, str]) -> float:
        cast = [scene.cast[i].renamed(name) for i, name in zip((first, second), names, strict=True)]
        seen = [scene.seen[first], scene.seen[second]]
        terms = Terms.of(FuseSettings(), names)
        told_of = fusion.fuse(cast, seen, scene.ordinary, terms, silent).report["interference"]
        assert isinstance(told_of, dict)
        return max(told_of["kv"][names[0]][names[1]], told_of["kv"][names[1]][names[0]])

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
        terms = Terms.of(FuseSettings(), [each.name for each in scene.cast[:count]])
        started = perf_counter()
        fusion.fuse(scene.cast[:count], scene.seen[:count], scene.ordinary, terms, silent)
        return perf_counter() - started

    return rounded(
        {"without_it": timed(last), "with_it": timed(last + 1), "watching_it": scene.seconds[last]}
    )


def measured(scene: Scene) -> dict[str, object]:
    """All figures."""
    gram_bytes = sum(8 * gram.numel() for gram in scene.exact[0].values())
    return {
        "concepts": [each.name for each in scene.cast],
        "solvers": compare_solvers(scene),
        "solver_pocket": compare_stages(problems(scene)),
        "packing_objective_ratio": compare_packings(scene),
        "statistics_bytes": scene.sizes,
        "statistics_seconds": [round(spent, 2) for spent in scene.seconds],
        "memory_ratio": round(gram_bytes / scene.features, 6),
        "re_solving_seconds": re_solving(scene),
        "collision": collisions(scene),
        "machine": {"processors": processors(), "threads": torch.get_num_threads()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def rounded(numbers: Mapping[str, float]) -> dict[str, float]:
    """Six digits after the point."""
    return {name: round(value, 6) for name, value in numbers.items()}


def silent(what: str, done: int, total: int) -> None:
    """Hear nothing."""


def told(words: str) -> None:
    """Progress, beside the data."""
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--concepts", type=Path, default=CONCEPTS, help="folder of concept files")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args()
    cast = [Concept.load(path) for path in sorted(asked.concepts.glob("*.safetensors"))]
    base = open_base("pocket", fingerprint(WEIGHTS))
    for concept in cast:
        concept.fits(base)
    found = measured(watched(base, cast))
    if asked.json:
        print(json.dumps(found, indent=1))
    else:
        for name, value in found.items():
            print(f"{name}: {json.dumps(value)}")


if __name__ == "__main__":
    main()
