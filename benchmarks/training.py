"""Training measured: ED-LoRA and what it is compared with, on the cast, and the speed of a step.

`python -m benchmarks.training --json` trains six concepts by five methods, with and without prior
pictures, from three seeds; judges their pictures with the deltas and without; times each method on
one concept (`pace`); and times a step on the shapes of Stable Diffusion 1.5 against the published
recipe (`speed`). Concepts and pictures are kept in a store: a run that was ended goes on, and what
is missing is named. Times are of one run, on one thread; compare nothing else.

Alignments are those of `storyforge evaluate`: the mean over concepts of the mean over seeds. The
lower bound is the base's own picture of the class, the upper one the references among themselves.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import mean, pstdev

import numpy as np
import torch
import yaml
from PIL import Image
from pydantic import ValidationError

from benchmarks import trainspeed
from benchmarks.cast import draw_all
from benchmarks.methods import Bounds, Figures, Studio, Variant, learn, variant
from storyforge import __version__
from storyforge.errors import StoryForgeError
from storyforge.metrics.clip import open_clip
from storyforge.model.base import open_base
from storyforge.modelref import ModelRef, base_at
from storyforge.settings import TrainSettings
from storyforge.store import Store
from storyforge.train.config import METHODS

CONCEPTS = ("ember", "sorrel", "glimmer", "stripy", "moonwood", "reef")
"""Two characters of one species, two objects, two scenes."""

PARTS = ("quality", "pace", "speed")
DIGITS = 4

Found = dict[Variant, Figures]
Numbers = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Order:
    """What is measured, and where it lies.

    cast      the folder of the cast, drawn if it is not there
    train     whether to train what the store lacks
    prior     with prior pictures, without them, or both
    recipe    settings of every training as under `train:` in a concept's file
    """

    cast: Path
    store: Store
    clip: str
    concepts: Sequence[str]
    methods: Sequence[str]
    seeds: Sequence[int]
    prior: Sequence[bool]
    prompts: int
    jobs: int
    train: bool
    sheet: Path | None
    recipe: Mapping[str, object] = field(default_factory=dict)

    @property
    def base(self) -> ModelRef:
        """The embedded model."""
        return base_at("pocket", self.cast)

    def variants(self) -> list[Variant]:
        """All trainings, in the order in which a part of them tells the most."""
        return [
            variant(
                self.cast / name,
                self.base,
                method,
                prior=prior,
                seed=seed,
                recipe=self.recipe,
            )
            for seed in self.seeds
            for prior in self.prior
            for method in self.methods
            for name in self.concepts
        ]


def quality(order: Order) -> dict[str, object]:
    """Alignments and drift of every method, with and without prior pictures."""
    clip = open_clip(order.clip)
    wanted, troubles = order.variants(), list[str]()
    if order.train:
        troubles = learn(wanted, order.store, order.jobs)
    base = open_base("pocket", order.base.hash)
    studio = Studio(base, clip, order.store, order.prompts)
    tasks = {each.task.concept: each.task for each in wanted}
    bounds = {name: studio.bounds(task) for name, task in tasks.items()}
    found: Found = {}
    for each in wanted:
        if order.store.has("concepts", each.task.key):
            found[each] = studio.figures(each.task)
            sys.stderr.write(f"judged {each.words}\n")
    if order.sheet is not None:
        write_sheet(studio, list(found), order.sheet)
    return {
        **summed(found, prior=True),
        "without_prior": summed(found, prior=False),
        "bounds": bounds_over(list(bounds.values())),
        "per_concept": per_concept(found, bounds),
        "missing": [each.words for each in wanted if each not in found],
        "troubles": troubles,
    }


def summed(found: Found, *, prior: bool) -> dict[str, object]:
    """The figures of each method over all concepts and seeds that there are."""
    methods = [name for name in METHODS if any(_is(v, name, prior) for v in found)]

    def over(figure: Callable[[Figures], float]) -> Numbers:
        return {name: _mean(found, name, prior, figure) for name in methods}

    return {
        "image_alignment": over(lambda f: f.image),
        "text_alignment": over(lambda f: f.text),
        "embedding_only": over(lambda f: f.words_image),
        "embedding_only_text": over(lambda f: f.words_text),
        "drift": over(lambda f: f.drift),
        "file_bytes": over(lambda f: f.size),
        "spread_of_seeds": {name: _spread(found, name, prior) for name in methods},
        "kinds": {name: _kinds(found, name, prior) for name in methods},
        "trainings": {name: sum(_is(v, name, prior) for v in found) for name in methods},
    }


def _is(each: Variant, method: str, prior: bool) -> bool:
    return each.method == method and each.prior is prior


def _mean(
    found: Found, method: str, prior: bool, figure: Callable[[Figures], float]
) -> float | None:
    """Mean over concepts of the mean over seeds."""
    concepts: dict[str, list[float]] = {}
    for each, figures in found.items():
        if _is(each, method, prior):
            concepts.setdefault(each.task.concept, []).append(figure(figures))
    return round(mean(map(mean, concepts.values())), DIGITS) if concepts else None


def _kinds(found: Found, method: str, prior: bool) -> dict[str, dict[str, float]]:
    """Image- and text-alignment by kind of prompt, mean over all trainings."""
    own = [figures.kinds for each, figures in found.items() if _is(each, method, prior)]
    return {
        kind: {
            name: round(mean(kinds[kind][index] for kinds in own), DIGITS)
            for index, name in enumerate(("image", "text"))
        }
        for kind in (own[0] if own else ())
    }


def _spread(found: Found, method: str, prior: bool) -> float | None:
    """Standard deviation over seeds of the image alignment, mean over concepts with several."""
    concepts: dict[str, list[float]] = {}
    for each, figures in found.items():
        if _is(each, method, prior):
            concepts.setdefault(each.task.concept, []).append(figures.image)
    several = [pstdev(values) for values in concepts.values() if len(values) > 1]
    return round(mean(several), DIGITS) if several else None


def bounds_over(bounds: Sequence[Bounds]) -> dict[str, float]:
    """Mean over concepts."""
    return {
        "lower": round(mean(each.image for each in bounds), DIGITS),
        "upper": round(mean(each.upper for each in bounds), DIGITS),
        "lower_text": round(mean(each.text for each in bounds), DIGITS),
    }


def per_concept(found: Found, bounds: Mapping[str, Bounds]) -> dict[str, object]:
    """Every training's own figures, by concept."""
    told: dict[str, dict[str, object]] = {
        name: {"bounds": rounded(asdict(each))} for name, each in bounds.items()
    }
    for each, figures in found.items():
        words = f"{each.method}{'' if each.prior else ' without prior'}, seed {each.seed}"
        numbers = {k: v for k, v in asdict(figures).items() if k != "kinds"}
        told[each.task.concept][words] = rounded(numbers)
    return dict(told)


def rounded(numbers: Mapping[str, float]) -> dict[str, float]:
    """The same, with as many digits as mean anything."""
    return {name: round(value, DIGITS) for name, value in numbers.items()}


def write_sheet(studio: Studio, found: Sequence[Variant], path: Path) -> None:
    """Every concept's strips by ED-LoRA one below the other, in full and by its words alone."""
    rows = []
    for each in found:
        if each.method == "ed-lora" and each.prior and each.seed == found[0].seed:
            file = studio.store.path("concepts", each.task.key)
            rows += [studio.strip(each.task, file, strength) for strength in (1.0, 0.0)]
    strips = [np.asarray(Image.open(row)) for row in rows]
    if strips:
        Image.fromarray(np.concatenate(strips)).save(path)


def pace(order: Order) -> dict[str, object]:
    """Each method on the first concept, one process after the other."""
    found: dict[str, object] = {}
    for prior in order.prior:
        for method in order.methods:
            folder = order.cast / order.concepts[0]
            words = [folder, method, "--store", order.store.root, "--clip", order.clip]
            words += [] if prior else ["--no-prior"]
            name = method if prior else f"{method} without prior"
            sys.stderr.write(f"timing {name}\n")
            found[name] = _asked("benchmarks.pace", words)
    return found


def _asked(module: str, words: Sequence[object]) -> object:
    command = [sys.executable, "-m", module, *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def measured(order: Order, parts: Sequence[str], steps: int, batch: int) -> dict[str, object]:
    """The parts asked for; the others are null, and named among what is missing."""
    empty = dict.fromkeys(("image_alignment", "text_alignment", "embedding_only", "bounds"))
    found: dict[str, object] = {**empty, "missing": []}
    if "quality" in parts:
        found |= quality(order)
    found["pace"] = pace(order) if "pace" in parts else None
    found["speed"] = trainspeed.compare(steps, batch) if "speed" in parts else None
    lacking = [part for part in PARTS if part not in parts]
    missing = found["missing"]
    assert isinstance(missing, list)
    return {**found, "missing": [*missing, *lacking], "run": _run(order)}


def _run(order: Order) -> dict[str, object]:
    """What made the figures."""
    packages = ("torch", "diffusers", "transformers")
    return {
        "command": shlex.join(["python", "-m", "benchmarks.training", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "base_hash": order.base.hash,
        "versions": {"storyforge": __version__, **{name: version(name) for name in packages}},
    }


def read_order(words: argparse.Namespace) -> Order:
    """What the command line asks for."""
    cast = words.cast
    if not all((cast / name / "concept.yaml").is_file() for name in words.concepts):
        draw_all(cast)
    both: tuple[bool, ...] = () if words.no_prior else (True,)
    both += () if words.only_prior or words.quick else (False,)
    return Order(
        cast=cast,
        store=Store(words.store or cast / ".storyforge"),
        clip=words.clip,
        concepts=words.concepts[:1] if words.quick else words.concepts,
        methods=words.methods,
        seeds=words.seeds[:1] if words.quick else words.seeds,
        prior=both,
        prompts=words.prompts,
        jobs=words.jobs,
        train=not words.no_train,
        sheet=words.sheet,
        recipe=words.train,
    )


def settings(text: str) -> dict[str, object]:
    """What stands under `train:`, as `{steps: 400}`; an error of argparse if it is none."""
    try:
        said = yaml.safe_load(text)
        TrainSettings.model_validate(said)
    except (yaml.YAMLError, ValidationError) as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
    return dict(said)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--json", action="store_true", help="understood; there is no other form")
    add("--quick", action="store_true", help="one concept, one seed, with prior; quality alone")
    add("--only", nargs="+", choices=PARTS, help="[all, or quality with --quick]")
    add("--cast", type=Path, default=Path("build/cast"), help="drawn there if need be")
    add("--store", type=Path, help="where concepts are kept [CAST/.storyforge]")
    add("--clip", default="pocket", help="a folder or hub id [the embedded model's own]")
    add("--concepts", nargs="+", default=list(CONCEPTS), metavar="NAME")
    add("--methods", nargs="+", default=list(METHODS), choices=METHODS, metavar="METHOD")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N")
    add("--no-prior", action="store_true", help="only without prior pictures")
    add("--only-prior", action="store_true", help="only with prior pictures")
    add("--train", type=settings, default={}, metavar="YAML", help="as in a concept.yaml [none]")
    add("--prompts", type=int, default=3, help="of each of the four kinds, at most 5 [3]")
    add("--jobs", type=int, default=1, help="trainings at a time [1]")
    add("--no-train", action="store_true", help="judge what the store has, and train nothing")
    add("--steps", type=int, default=3, help="steps that are timed for `speed` [3]")
    add("--batch", type=int, default=4, help="pictures a step for `speed`; 4 take 13 GB [4]")
    add("--sheet", type=Path, metavar="FILE", help="a PNG of what ED-LoRA drew")
    return parser


def main() -> None:
    """Measure and print."""
    words = _parser().parse_args()
    torch.set_num_threads(1)
    parts = words.only or (("quality",) if words.quick else PARTS)
    try:
        print(json.dumps(measured(read_order(words), parts, words.steps, words.batch)))
    except StoryForgeError as exc:
        raise SystemExit(f"{exc.message}; {exc.hint}" if exc.hint else exc.message) from exc


if __name__ == "__main__":
    main()
