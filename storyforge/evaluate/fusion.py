"""What fusing costs, against the number of concepts: Mix-of-Show's comparison (§4.1).

Every concept of a folder is learnt by each method that is compared, and the first N are fused. All
are drawn from the same prompts and seeds by the base (the class in the concept's place: the lower
bound), by each concept alone and by each fused model. How likeness and obedience fall from alone
to fused is the price. Products and pictures are kept: an interrupted run goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Final

from storyforge.errors import StoryForgeError, closest
from storyforge.evaluate.answers import Comparison
from storyforge.evaluate.concept_set import ConceptSet, Training, read_concept_set
from storyforge.evaluate.gallery import Gallery, alone
from storyforge.evaluate.judge import PictureJudge, clip_for
from storyforge.evaluate.questions import DrawingStyle, questions
from storyforge.evaluate.report.fusion import FusionRow, fusion_page
from storyforge.evaluate.results import Evaluation, origin, plain, write_results
from storyforge.executor import OnProgress
from storyforge.metrics.clip import Vectors
from storyforge.metrics.ensemble import Tally, upper_bound
from storyforge.metrics.references import references_of
from storyforge.model.card import Card
from storyforge.modelref import base_at
from storyforge.settings import FuseSettings
from storyforge.store import Store

COUNTS: Final = (2, 3, 5, 8, 14)
"""Numbers of concepts that are compared, as far as there are so many."""

STEPS: Final = 20


@dataclass(frozen=True, slots=True)
class Route:
    """One way from pictures of concepts to one model.

    train  how each is learnt
    fuse   how they are fused; None where nothing but words is learnt, for those need only stand
           side by side, and each draws what it draws alone
    """

    train: Training
    fuse: FuseSettings | None


ROUTES: Final[Mapping[str, Route]] = {
    "ed-lora+closed-form": Route("ed-lora", FuseSettings()),
    "ed-lora+lbfgs": Route("ed-lora", FuseSettings(solver="lbfgs")),
    "ed-lora+averaging": Route("ed-lora", FuseSettings(solver="average")),
    "lora+averaging": Route("lora", FuseSettings(solver="average")),
    "p-plus": Route("p-plus", None),
    "custom-diffusion": Route("custom-diffusion", FuseSettings(solver="custom-diffusion")),
}
"""What the paper compares, by name."""


@dataclass(frozen=True, slots=True)
class FusionConfig:
    """What is asked.

    concepts  a folder of concepts' folders
    counts    numbers of concepts to fuse; those of `COUNTS` that there are if empty
    prompts   of each of the four kinds; at most five
    seeds     pictures of each prompt
    jobs      processes beside each other
    store     None for `.storyforge` in the folder
    out       where pictures and results go; None for `evaluation` in the folder
    command   what was typed, for the record
    """

    concepts: Path
    counts: tuple[int, ...] = ()
    routes: Mapping[str, Route] = field(default_factory=lambda: ROUTES)
    base: str = "pocket"
    clip: str | None = None
    prompts: int = 2
    seeds: int = 1
    steps: int = STEPS
    jobs: int = 1
    store: Path | None = None
    out: Path | None = None
    command: str = ""


def routes_named(names: Sequence[str]) -> dict[str, Route]:
    """The methods with these names; all for none. StoryForgeError for one that is unknown."""
    for name in names:
        if name not in ROUTES:
            guess = closest(name, ROUTES)
            hint = f"did you mean `{guess}`?" if guess else f"known: {', '.join(ROUTES)}"
            raise StoryForgeError(f"no method named `{name}`", hint=hint)
    return {name: route for name, route in ROUTES.items() if not names or name in names}


def evaluate_fusion(config: FusionConfig, on_progress: OnProgress) -> Evaluation:
    """Learn, fuse and draw what is missing, and judge it all.

    Raises StoryForgeError for more concepts than there are, EnvironmentProblem without a CLIP.
    """
    started = perf_counter()
    base = base_at(config.base, Path.cwd())
    cast = read_concept_set(config.concepts, base, Store(config.store) if config.store else None)
    counts = _counts(config, len(cast.members))
    clip = clip_for(base.reference, config.clip)
    folder = config.out or config.concepts / "evaluation"
    gallery = Gallery(folder / "pictures", cast.store, cast.ledger)
    cast.learn(_trainings(config), max(counts), config.jobs, on_progress)
    shown = _hung(config, cast, counts, on_progress)
    drawn = shown.draw(gallery, on_progress, config.jobs)
    on_progress("judging", 0, 1)
    judge = PictureJudge(clip, gallery)
    tasks = cast.tasks(_trainings(config)[0], max(counts))
    results = _FusionResults(
        config, cast, judge, shown, {t.concept: references_of(clip, t) for t in tasks}
    )
    content = plain(results.content(counts))
    write_results(
        folder, content, fusion_page(content, _rows(config, cast, shown, folder, max(counts)))
    )
    on_progress("judging", 1, 1)
    return Evaluation(content, drawn, perf_counter() - started, folder)


def _counts(config: FusionConfig, known: int) -> tuple[int, ...]:
    counts = config.counts or tuple(count for count in COUNTS if count <= known) or (known,)
    for count in counts:
        if not 1 <= count <= known:
            message = f"cannot fuse {count} concepts: `{config.concepts}` holds {known}"
            raise StoryForgeError(message, hint="ask for fewer with `--n`")
    return tuple(sorted(set(counts)))


def _trainings(config: FusionConfig) -> list[Training]:
    return list(dict.fromkeys(route.train for route in config.routes.values()))


def _alone(training: Training) -> str:
    return f"{training} alone"


def _fused(method: str, count: int) -> str:
    return f"{method} of {count}"


def _hung(
    config: FusionConfig, cast: ConceptSet, counts: Sequence[int], on_progress: OnProgress
) -> Comparison:
    """Everyone who draws: the base, each concept alone, and every fused model, made if need be."""
    tasks = cast.tasks(_trainings(config)[0], max(counts))
    asked = {task.concept: list(questions(task, config.prompts, config.seeds)) for task in tasks}
    shown = Comparison(DrawingStyle(cast.base, config.steps), asked)
    shown.show("base", asked, None, None)
    for training in _trainings(config):
        for task in cast.tasks(training, max(counts)):
            model = alone(cast.store, task.concept, task.key)
            shown.show(_alone(training), [task.concept], task.key, model)
    for count in counts:
        names = list(asked)[:count]
        for method, route in config.routes.items():
            if route.fuse is None:
                shown.borrow(_fused(method, count), names, _alone(route.train))
                continue
            fusing = cast.fusion(route.train, route.fuse, count)
            shown.show(_fused(method, count), names, fusing.key, cast.fuse(fusing, on_progress))
    return shown


@dataclass(frozen=True, slots=True)
class _FusionResults:
    """All pictures in numbers.

    references  of every concept
    """

    config: FusionConfig
    cast: ConceptSet
    judge: PictureJudge
    shown: Comparison
    references: Mapping[str, Vectors]

    def content(self, counts: Sequence[int]) -> dict[str, object]:
        """The whole document."""
        config, cast = self.config, self.cast
        return {
            "n": {
                str(count): {method: self._price(method, count) for method in config.routes}
                for count in counts
            },
            "bounds": {str(count): self._bounds(count) for count in counts},
            "concepts": {name: self._concept(name) for name in list(self.references)},
            "methods": {name: _told(route) for name, route in config.routes.items()},
            "prompts": config.prompts,
            "seeds": config.seeds,
            "steps": config.steps,
            **origin(cast.base, self.judge.clip.reference, config.command),
        }

    def _first(self, count: int) -> dict[str, Vectors]:
        return dict(list(self.references.items())[:count])

    def _price(self, method: str, count: int) -> dict[str, object]:
        """What one method makes of the first concepts, alone and fused."""
        references = self._first(count)
        return {
            **self._compared(method, count, references),
            "kinds": {
                kind: self._compared(method, count, names)
                for kind, names in self._by_kind(references).items()
            },
            "concepts": {name: self._compared(method, count, [name]) for name in references},
        }

    def _compared(self, method: str, count: int, names: Iterable[str]) -> dict[str, float]:
        """Alone and fused, of some of the first concepts."""
        names, among = list(names), self._first(count)
        source = _alone(self.config.routes[method].train)
        single = self.shown.tally(self.judge, source, among, names)
        fused = self.shown.tally(self.judge, _fused(method, count), among, names)
        return {
            "image_single": single.image,
            "image_fused": fused.image,
            "image_drop": single.image - fused.image,
            "text_single": single.text,
            "text_fused": fused.text,
            "identified_single": single.identified,
            "identified_fused": fused.identified,
        }

    def _by_kind(self, names: Iterable[str]) -> dict[str, list[str]]:
        kinds = {spec.name: spec.kind for spec in self.cast.members}
        found: dict[str, list[str]] = {}
        for name in names:
            found.setdefault(kinds[name], []).append(name)
        return found

    def _bounds(self, count: int) -> dict[str, object]:
        """What pictures without and with nothing but the concepts come to."""
        among = self._first(count)

        def bounds(names: Sequence[str]) -> dict[str, float]:
            """Of some of the concepts."""
            lower = self.shown.tally(self.judge, "base", among, names)
            return {
                "image_lower": lower.image,
                "text_lower": lower.text,
                "identified_lower": lower.identified,
                "image_upper": upper_bound({name: among[name] for name in names}),
            }

        kinds = self._by_kind(among)
        return {
            **bounds(list(among)),
            "kinds": {kind: bounds(names) for kind, names in kinds.items()},
        }

    def _concept(self, name: str) -> dict[str, object]:
        """One concept alone, by each way of learning it."""
        spec = next(spec for spec in self.cast.members if spec.name == name)
        lower = self._seen("base", name)
        return {
            "kind": spec.kind,
            "class": spec.class_,
            "train": spec.train.model_dump(mode="json", exclude_unset=True),
            "image_upper": upper_bound({name: self.references[name]}),
            "image_lower": lower.image,
            "text_lower": lower.text,
            "single": {
                training: self._single(name, training) for training in _trainings(self.config)
            },
        }

    def _single(self, name: str, training: Training) -> dict[str, object]:
        seen = self._seen(_alone(training), name)
        return {
            "image": seen.image,
            "text": seen.text,
            "identified": seen.identified,
            "drift": Card.read(self.cast.file(training, name)).drift,
        }

    def _seen(self, condition: str, name: str) -> Tally:
        return self.shown.tally(self.judge, condition, self.references, [name])


def _told(route: Route) -> dict[str, object]:
    fuse = route.fuse.model_dump(mode="json", exclude_none=True) if route.fuse else None
    return {"train": route.train, "fuse": fuse}


def _rows(
    config: FusionConfig, cast: ConceptSet, shown: Comparison, folder: Path, count: int
) -> list[FusionRow]:
    """Pictures for the page: the first of each kind of prompt, by everyone who draws them."""
    conditions = ["base", *map(_alone, _trainings(config))]
    conditions += [_fused(name, count) for name, route in config.routes.items() if route.fuse]
    rows = []
    for task in cast.tasks(_trainings(config)[0], count):
        reference = Path("references") / f"{task.concept}{Path(task.images[0]).suffix}"
        (folder / reference).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(task.folder / task.images[0], folder / reference)
        first: dict[str, int] = {}
        for place, question in enumerate(shown.asked[task.concept]):
            first.setdefault(question.kind, place)
        for place in first.values():
            drawn = {who: shown.answers[who][task.concept][place][1].key for who in conditions}
            sources = {who: f"pictures/{key}.png" for who, key in drawn.items()}
            sources = {"reference": reference.as_posix(), **sources}
            rows.append(FusionRow(task.concept, shown.asked[task.concept][place].plain, sources))
    return rows
