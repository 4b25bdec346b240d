"""How well a story's concepts are kept, alone and fused, and how well they stand beside each other.

The protocol of Mix-of-Show (§4.1): every concept is drawn from the same prompts and seeds by the
base alone (with the class in the concept's place: the lower bound), by the concept alone, and by
the fused model. A CLIP compares the pictures with the concept's references and with the prompts.
Then the story's own panels are judged region by region. Pictures are kept, so that an interrupted
run goes on; nothing is read off pictures that a concept was learnt from, other than as references.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

from storyforge.engine.engine import Engine, ledger_of
from storyforge.engine.maker import raise_first
from storyforge.engine.stages import DrawingJob
from storyforge.errors import StoryForgeError, closest
from storyforge.evaluate.gallery import Gallery, alone
from storyforge.evaluate.judge import clip_for
from storyforge.evaluate.questions import DrawingStyle, Question, questions
from storyforge.evaluate.results import finite, write_results
from storyforge.executor import OnProgress
from storyforge.metrics.alignment import RegionScore, Togetherness, together
from storyforge.metrics.clip import Clip, Vectors
from storyforge.metrics.references import (
    Alignments,
    Condition,
    Given,
    alignments_of,
    references_of,
    region_scores_of,
    threshold,
)
from storyforge.modelref import ModelRef
from storyforge.plan.plan import Plan
from storyforge.plan.status import missing
from storyforge.provenance.found import found_boxes
from storyforge.store import Store
from storyforge.tasks import PanelTask, TrainTask

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class StoryConfig:
    """What is asked.

    concepts  to be judged one by one; all that were learnt here if empty
    clip      a folder or hub id; None for the embedded base's own
    prompts   of each of the four kinds; at most five
    seeds     pictures of each prompt
    panels    whether the story's panels are judged too
    out       where pictures and results go; None for `build/<story>.evaluation` beside the story
    """

    concepts: tuple[str, ...] = ()
    clip: str | None = None
    prompts: int = 5
    seeds: int = 1
    panels: bool = True
    steps: int | None = None
    out: Path | None = None


@dataclass(frozen=True, slots=True)
class StoryReport:
    """All results, and where they were written."""

    base: str
    base_hash: str
    clip: str
    concepts: Mapping[str, Alignments]
    panels: Togetherness | None
    region_scores: tuple[RegionScore, ...]
    drawn: int
    seconds: float
    folder: Path

    def content(self) -> dict[str, object]:
        """As plain JSON; what could not be measured is null."""
        told = {name: finite(each) for name, each in asdict(self).items() if name != "folder"}
        return {"schema_version": FORMAT, **told, "folder": str(self.folder)}


@dataclass(frozen=True, slots=True)
class _Probe:
    """One picture to be drawn: by whom, and in answer to what."""

    question: Question
    condition: Condition
    task: PanelTask


def evaluate_story(
    plan: Plan, store: Store, base: ModelRef, config: StoryConfig, on_progress: OnProgress
) -> StoryReport:
    """Draw what is missing of a story and judge it all.

    Raises StoryForgeError for an unknown concept, EnvironmentProblem without a CLIP.
    """
    started = perf_counter()
    clip = clip_for(base.reference, config.clip)
    story = plan.story
    folder = config.out or story.folder / "build" / f"{story.path.stem}.evaluation"
    gallery = Gallery(folder / "pictures", store, ledger_of(store, story))
    learnt = _asked(plan, config.concepts)
    _prepare(plan, store, config, on_progress)
    probes = [probe for task in learnt for probe in _probes(plan, task, config, base)]
    drawn = _draw(plan, probes, gallery, on_progress)
    on_progress("judging", 0, 1)
    references = {task.concept: references_of(clip, task) for task in plan.train}
    marks = {
        task.concept: alignments_of(
            clip, task, references[task.concept], _given(probes, task, gallery)
        )
        for task in learnt
    }
    seen = tuple(region_scores(plan, store, clip, references)) if config.panels else ()
    on_progress("judging", 1, 1)
    thresholds = {name: threshold(references[name], marks.get(name)) for name in references}
    report = StoryReport(
        base=base.reference,
        base_hash=base.hash,
        clip=clip.reference,
        concepts=marks,
        panels=together(seen, thresholds) if config.panels else None,
        region_scores=seen,
        drawn=drawn,
        seconds=perf_counter() - started,
        folder=folder,
    )
    _write(report, probes)
    return report


def _asked(plan: Plan, names: Sequence[str]) -> tuple[TrainTask, ...]:
    known = [task.concept for task in plan.train]
    for name in names:
        if name not in known:
            guess = closest(name, known)
            hint = f"did you mean `{guess}`?" if guess else "only concepts with pictures are judged"
            raise StoryForgeError(f"no concept named `{name}` with pictures here", hint=hint)
    return tuple(task for task in plan.train if not names or task.concept in names)


def _prepare(plan: Plan, store: Store, config: StoryConfig, on_progress: OnProgress) -> None:
    """Learn, fuse and, where panels are judged, draw what the story still lacks."""
    engine = Engine(plan, store, on_progress)
    with store.at_work():
        lacking = missing(plan, store)
        engine.maker.learn([t for t in plan.train if not store.has("concepts", t.key)], None)
        if plan.fuse and not store.has("fused", plan.fuse.key):
            engine.fuse(plan.fuse)
        if config.panels:
            engine.draw(lacking.panels)
    raise_first(engine.maker.troubles)


def _probes(plan: Plan, task: TrainTask, config: StoryConfig, base: ModelRef) -> Iterator[_Probe]:
    """Every picture of one concept, the three conditions from the same seeds."""
    sampling = plan.story.sampling
    style = DrawingStyle(
        base=base,
        steps=config.steps or sampling.steps,
        size=plan.story.size,
        guidance_scale=sampling.guidance_scale,
        scheduler=sampling.scheduler,
        style=plan.story.style,
        negative=plan.story.negative,
    )
    models: dict[Condition, str | None] = {"base": None, "single": task.key}
    if plan.fuse and dict(plan.fuse.concepts).get(task.concept) == task.key:
        models["fused"] = plan.fuse.key
    for question in questions(task, config.prompts, config.seeds):
        for condition, model in models.items():
            yield _Probe(question, condition, style.task(question, model))


def _draw(plan: Plan, probes: Sequence[_Probe], gallery: Gallery, on_progress: OnProgress) -> int:
    """Draw the probes that have no picture yet, model by model; how many those were."""
    groups: dict[tuple[Condition, str | None], list[_Probe]] = {}
    for probe in probes:
        groups.setdefault((probe.condition, probe.task.fused), []).append(probe)
    jobs = [
        DrawingJob(tuple(probe.task for probe in group), _model(plan, gallery.store, group[0]))
        for group in groups.values()
    ]
    return gallery.draw(jobs, on_progress)


def _model(plan: Plan, store: Store, probe: _Probe) -> Path | None:
    """The model that a probe is drawn with."""
    if probe.condition == "base":
        return None
    if probe.condition == "fused":
        assert plan.fuse is not None
        return store.path("fused", plan.fuse.key)
    task = next(task for task in plan.train if task.concept == probe.question.concept)
    return alone(store, task.concept, task.key)


def _given(probes: Sequence[_Probe], task: TrainTask, gallery: Gallery) -> list[Given]:
    return [
        Given(
            probe.condition,
            probe.question.kind,
            probe.question.plain,
            gallery.path(probe.task),
        )
        for probe in probes
        if probe.question.concept == task.concept
    ]


def region_scores(
    plan: Plan, store: Store, clip: Clip, references: Mapping[str, Vectors]
) -> Iterator[RegionScore]:
    """Every region that asks for a concept with references, cut out of its panel."""
    solid = {**plan.story.characters, **plan.story.objects}
    known = {name: rows for name, rows in references.items() if name in solid}
    for task in plan.panels:
        if store.has("panels", task.key):
            path = store.path("panels", task.key)
            found = found_boxes(path)
            asked = [
                (r.name, found.get(r.name, r.box), r.concept)
                for r in task.regions
                if r.concept in known
            ]
            yield from region_scores_of(clip, task.panel, path, asked, known)


def _write(report: StoryReport, probes: Sequence[_Probe]) -> None:
    from storyforge.evaluate.report.story import ShownPicture, story_page

    content = report.content()
    shown = [
        ShownPicture(
            concept=probe.question.concept,
            condition=probe.condition,
            kind=probe.question.kind,
            prompt=probe.question.plain,
            source=f"pictures/{probe.task.key}.png",
        )
        for probe in probes
    ]
    write_results(report.folder, content, story_page(content, shown))
