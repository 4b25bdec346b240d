"""Settings of fusion one by one: what each does to likeness, to obedience and to everything else.

`python -m benchmarks.sweeps --concepts DIR --json` fuses the first N concepts of a folder, learnt
by ED-LoRA, in many ways, and judges the pictures as `storyforge evaluate fusion` does. `--sheet`
lays five concepts alone and fused by every solver on one picture. Products and pictures are kept,
and an interrupted run goes on. Not covered: other bases, other ways to learn, time and memory.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import torch

from benchmarks.fusionways import Bench, Make, Own, Variant, mixed, opened, told
from benchmarks.grid import write_grid
from benchmarks.rivals import WAYS, Way
from benchmarks.rivals import fused as merged
from storyforge import __version__
from storyforge.evaluate.concept_set import ConceptSet
from storyforge.evaluate.judge import PictureJudge, clip_for
from storyforge.evaluate.results import finite
from storyforge.fuse import fusion, statistics
from storyforge.fuse.emphasis import EMPHASIS
from storyforge.fuse.packing import Full, Packed
from storyforge.fuse.statistics import CONCEPT_PROMPTS, STEPS, Statistics
from storyforge.fuse.terms import PRESERVATION, RIDGE, STAGES, WEIGHTS, Terms
from storyforge.metrics.clip import Vectors
from storyforge.metrics.ensemble import upper_bound
from storyforge.metrics.references import references_of
from storyforge.model.base import BaseModel
from storyforge.model.concept import Concept, FusedModel
from storyforge.settings import FuseSettings, FusionStage, Solver
from storyforge.train.drift import STEPS as DRIFT_STEPS
from storyforge.train.drift import drift

SOLVERS: Final[tuple[Solver, ...]] = (
    "closed-form",
    "lbfgs",
    "average",
    "sum",
    "custom-diffusion",
)

SETTINGS: Final[Mapping[str, Mapping[str, FuseSettings]]] = {
    "ridge": {f"{x:g}": FuseSettings(ridge=x) for x in (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)},
    "preservation": {
        f"{p:g}": FuseSettings(preservation=None if p == PRESERVATION else p)
        for p in (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
    },
    "order": {
        "together": FuseSettings(),
        "chain": FuseSettings(stages="chain"),
        "together, refined once": FuseSettings(refine=1),
    },
    "area": {
        "picture": FuseSettings(),
        "subject": FuseSettings(area="subject"),
    },
    "solver": {
        name: FuseSettings(solver=name) for name in ("closed-form", "average", "custom-diffusion")
    },
}
"""Sweep -> value -> how to fuse; the other sweeps are made from the concepts."""

SCENE_WEIGHTS: Final = (1.0, 2.0, 3.0, 5.0)

STRENGTHS: Final = (1.0, 1.15, 1.3, 1.5)
"""Of every concept."""

ROWS: Final = ((1, STEPS), (2, STEPS), (4, STEPS), (8, 1), (8, 3), (8, STEPS))
"""Prompts of each concept, and denoising steps of each, that are watched; the usual ones last."""

EMPHASES: Final = (1.0, 10.0, 30.0, 100.0)
"""What a concept's words count where text is read."""

_MADE: Final = ("scene-weight", "strength", "rows", "emphasis", "stages", "own", "rivals")

SWEEPS: Final = (*SETTINGS, *_MADE)

SHOWN: Final = 5
"""Concepts on the sheet."""

ORDINARY: Final = (
    "a house by the water",
    "a girl",
    "a boy on a bench in a park",
    "a yellow star over the mountains at night",
    "a picture of a red car",
    "",
)
"""Prompts without any concept or its class, and not among those whose features are preserved."""

TOLD: Final = ("image_fused", "text_fused", "identified_fused", "drift")
"""Figures that are printed where no JSON is asked for."""


def variants(
    cast: ConceptSet, count: int, stages: Sequence[FusionStage] = STAGES
) -> Iterator[Variant]:
    """Every way to fuse that is compared; each of `stages` alone and left out."""
    for sweep, values in SETTINGS.items():
        for value, settings in values.items():
            yield Variant(sweep, value, settings)
    scenes = [spec.name for spec in cast.members[:count] if spec.kind == "scene"]
    for weight in SCENE_WEIGHTS if scenes else ():
        weights = dict.fromkeys(scenes, weight)
        usual = weight == WEIGHTS["scene"]
        settings = FuseSettings() if usual else FuseSettings(weights=weights)
        yield Variant("scene-weight", f"{weight:g}", settings)
    for strength in STRENGTHS:
        strong = {spec.name: strength for spec in cast.members[:count]}
        settings = FuseSettings() if strength == 1 else FuseSettings(strengths=strong)
        yield Variant("strength", f"{strength:g}", settings)
    for prompts, steps in ROWS:
        usual = (prompts, steps) == ROWS[-1]
        way = FuseSettings() if usual else _watching(prompts, steps)
        yield Variant("rows", f"{prompts} prompts, {steps} steps", way)
    for emphasis in EMPHASES:
        way = FuseSettings() if emphasis == EMPHASIS else _watching(*ROWS[-1], emphasis)
        yield Variant("emphasis", f"{emphasis:g}", way)
    yield Variant("stages", "all solved", FuseSettings())
    yield Variant("stages", "all averaged", FuseSettings(solver="average"))
    for stage in stages:
        rest = tuple(other for other in STAGES if other != stage)
        yield Variant("stages", f"{stage} averaged", _solving(rest))
        yield Variant("stages", f"only {stage} solved", _solving((stage,)))
    yield Variant("own", "none", FuseSettings())
    for drawn in (("text",), ("kv",), ("text", "kv"), ("spatial",)):
        yield Variant("own", " and ".join(drawn), Own(drawn))
    yield Variant("rivals", "ours", FuseSettings())
    for name, rival in WAYS.items():
        yield Variant("rivals", name, _merging(rival))


def _solving(stages: Sequence[FusionStage]) -> Make:
    return lambda bench: mixed(bench.solved("closed-form"), bench.solved("average"), stages)


def _watching(prompts: int, steps: int, emphasis: float = EMPHASIS) -> Make:
    def make(bench: Bench) -> FusedModel:
        base, cast = bench.base(), bench.concepts()
        seen: list[Statistics] = []
        for concept in cast:
            told(f"watching `{concept.name}`", len(seen), len(cast))
            lines = CONCEPT_PROMPTS[concept.kind][:prompts]
            asked = [line.replace("<it>", f"<{concept.name}>") for line in lines]
            seen.append(watched(base, concept, asked, steps, emphasis))
        if bench.ordinary is None:
            bench.ordinary = statistics.of_base(base)
        terms = Terms.of(FuseSettings(), {concept.name: concept.kind for concept in cast})
        return fusion.fuse(cast, seen, bench.ordinary, terms, told)

    return make


def _merging(way: Way) -> Make:
    def make(bench: Bench) -> FusedModel:
        return merged(way, bench.concepts(), bench.statistics())

    return make


def watched(
    base: BaseModel, concept: Concept, prompts: Sequence[str], steps: int, emphasis: float
) -> Statistics:
    """What the layers see while a concept draws some prompts in some steps.

    emphasis  what its words count where text is read
    """
    keep: Callable[[torch.Tensor], Packed] = Full.of
    where = statistics.positions(base, prompts, {concept.name: concept.tokens}, concept.name)
    packed, _ = statistics.watch(
        base, concept.alone(), prompts, keep, where=where, steps=steps, emphasis=emphasis
    )
    return Statistics(base.hash, base.family.inputs, packed, {})


@dataclass(frozen=True, slots=True)
class Figures:
    """All ways to fuse in numbers.

    references  of every concept
    steps       along which drift is measured
    """

    bench: Bench
    judge: PictureJudge
    references: Mapping[str, Vectors]
    steps: int = DRIFT_STEPS

    def of_condition(self, condition: str, who: str) -> dict[str, object]:
        """What pictures come to, of all concepts and by kind.

        who  what the figures' names end in
        """
        kinds: dict[str, list[str]] = {}
        for spec in self.bench.cast.members[: self.bench.count]:
            kinds.setdefault(spec.kind, []).append(spec.name)
        return {
            **self._tally(condition, who, list(self.references)),
            "kinds": {kind: self._tally(condition, who, own) for kind, own in kinds.items()},
        }

    def _tally(self, condition: str, who: str, names: Sequence[str]) -> dict[str, float]:
        seen = self.bench.shown.tally(self.judge, condition, self.references, names)
        told_of = {"image": seen.image, "text": seen.text, "identified": seen.identified}
        return {f"{figure}_{who}": value for figure, value in told_of.items()}

    def of_model(self, variant: Variant) -> dict[str, object]:
        """The same of one fused model, and, if it is one, how much it changes what is no concept's.

        drift        on prompts that mention neither a concept nor a class
        class_drift  on the concepts' classes
        """
        bench, figures = self.bench, self.of_condition(": ".join(variant.name), "fused")
        if variant.name not in bench.models:
            return figures
        deltas = FusedModel.load(bench.models[variant.name]).deltas
        classes = {f"a {spec.class_}": None for spec in bench.cast.members[: bench.count]}
        return {
            **figures,
            "drift": drift(bench.base(), deltas, ORDINARY, self.steps),
            "class_drift": drift(bench.base(), deltas, list(classes), self.steps),
        }


def measured(asked: argparse.Namespace) -> dict[str, object]:
    """Every way to fuse, in figures."""
    bench, gallery = opened(asked, asked.n)
    chosen = [
        v
        for v in variants(bench.cast, bench.count, asked.stage or STAGES)
        if v.sweep in asked.only or not asked.only
    ]
    for index, variant in enumerate(chosen):
        told(f"fusing, {variant.sweep} {variant.value}", index, len(chosen))
        bench.make(variant)
    drawn = bench.shown.draw(gallery, told, asked.jobs)
    judge = PictureJudge(clip_for(bench.cast.base.reference, asked.clip), gallery)
    tasks = bench.cast.tasks("ed-lora", bench.count)
    references = {task.concept: references_of(judge.clip, task) for task in tasks}
    figures = Figures(bench, judge, references, min(DRIFT_STEPS, asked.steps))
    sweeps: dict[str, dict[str, object]] = {}
    for variant in chosen:
        found = sweeps.setdefault(variant.sweep, {})
        found[variant.value] = figures.of_model(variant)
    content = finite(
        {
            "n": bench.count,
            "sweeps": sweeps,
            "single": figures.of_condition("alone", "single"),
            "base": figures.of_condition("base", "lower"),
            "image_upper": upper_bound(references),
            "defaults": {
                "ridge": dict(RIDGE),
                "preservation": PRESERVATION,
                "weights": dict(WEIGHTS),
                "steps": STEPS,
                "emphasis": EMPHASIS,
            },
            "concepts": {task.concept: task.kind for task in tasks},
            "clip": judge.clip.reference,
            "prompts": asked.prompts,
            "seeds": asked.seeds,
            "steps": asked.steps,
            "base_hash": bench.cast.base.hash,
            "versions": {"storyforge": __version__, "torch": torch.__version__},
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": shlex.join(["python", "-m", "benchmarks.sweeps", *sys.argv[1:]]),
        }
    )
    assert isinstance(content, dict)
    told(f"drew {drawn} pictures", 1, 1)
    return content


def draw_sheet(
    asked: argparse.Namespace, path: Path, shown: int = SHOWN, solvers: Sequence[Solver] = SOLVERS
) -> None:
    """Five concepts, a row each: what they look like, alone, and fused by every solver."""
    bench, gallery = opened(asked, shown, most=1)
    for solver in solvers:
        bench.make(Variant("sheet", solver, FuseSettings(solver=solver)))
    conditions = {"base": "base", "alone": "before: alone"}
    conditions |= {f"sheet: {solver}": f"after: {solver}" for solver in solvers}
    bench.shown.draw(gallery, told, asked.jobs)
    rows = []
    for task in bench.cast.tasks("ed-lora", bench.count):
        own = {who: bench.shown.answers[who][task.concept][0] for who in conditions}
        row = {"reference": task.folder / task.images[0]}
        row |= {title: gallery.path(own[who][1]) for who, title in conditions.items()}
        rows.append((own["alone"][0].named, row))
    write_grid(rows, path)


def parser() -> argparse.ArgumentParser:
    """What can be asked."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.sweeps", description=(__doc__ or "").partition("\n")[0]
    )
    made.add_argument("--concepts", type=Path, required=True, help="folder of concepts' folders")
    made.add_argument("--store", type=Path, help="where products are kept [DIR/.storyforge]")
    made.add_argument("--out", type=Path, help="where pictures are kept [DIR/sweeps]")
    made.add_argument("--n", type=int, default=8, help="how many to fuse")
    made.add_argument("--only", action="append", default=[], choices=SWEEPS, help="all if none")
    made.add_argument("--stage", action="append", choices=STAGES, help="fused apart; all if none")
    made.add_argument("--clip", help="a CLIP's folder or hub id [the base's own]")
    made.add_argument("--prompts", type=int, default=2, help="of each of the four kinds")
    made.add_argument("--seeds", type=int, default=1, help="pictures of each prompt")
    made.add_argument("--steps", type=int, default=20, help="denoising steps")
    made.add_argument("--jobs", type=int, default=1, help="processes side by side")
    made.add_argument("--sheet", type=Path, metavar="FILE", help="five concepts under every solver")
    made.add_argument("--json", action="store_true", help="print one JSON document")
    return made


def main() -> None:
    """Measure and print."""
    asked = parser().parse_args()
    if asked.sheet:
        draw_sheet(asked, asked.sheet)
        return
    found = measured(asked)
    if asked.json:
        print(json.dumps(found, indent=1))
        return
    sweeps = found["sweeps"]
    assert isinstance(sweeps, dict)
    for sweep, values in sweeps.items():
        for value, told_of in values.items():
            numbers = {name: told_of[name] for name in TOLD if name in told_of}
            print(f"{sweep} {value}: {json.dumps(numbers)}")


if __name__ == "__main__":
    main()
