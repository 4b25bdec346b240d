"""Whether subjects bleed into each other: the same panels drawn in every way there is.

Panels are drawn up from a folder of concepts (`compositions`), each is drawn by every method
(`methods`) from the same seed, and a CLIP looks at every region's box, cut out of the picture as it
is, against the references of all characters and objects. Scenes are not judged. A concept is
missing where its region is less like its references than half-way from what the base draws for its
class in the same regions to the references among themselves. Products and pictures are kept: an
interrupted run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import sqrt
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
from PIL import Image

from storyforge.contact_sheet import Cell, write_contact_sheet
from storyforge.engine.stages import DrawingJob
from storyforge.errors import EnvironmentProblem
from storyforge.evaluate.compositions import caption, composed
from storyforge.evaluate.concept_set import ConceptSet, read_concept_set
from storyforge.evaluate.gallery import Gallery
from storyforge.evaluate.judge import clip_for
from storyforge.evaluate.methods import METHODS, REGIONS, STRANGERS, Models, RegionsMethod, task_of
from storyforge.evaluate.report.regions import RegionsRow, regions_page
from storyforge.evaluate.results import Evaluation, origin, plain, write_results
from storyforge.executor import OnProgress
from storyforge.geometry.box import Box
from storyforge.metrics.alignment import (
    RegionScore,
    among_themselves,
    apartness,
    text_alignment,
    together,
)
from storyforge.metrics.clip import Clip, Vectors
from storyforge.metrics.references import references_of, region_scores_of
from storyforge.modelref import base_at
from storyforge.pictures import on_paper, open_picture
from storyforge.settings import FuseSettings, Solver
from storyforge.store import Store
from storyforge.story.story import Panel, Story
from storyforge.tasks import PanelTask

PANELS: Final = 40
STEPS: Final = 20
SHOWN: Final = 2
"""Panels of each number of subjects on the sheet."""

_TURN: Final = 10
"""Panels that one way draws before it is the next one's turn: a machine that is busier for a while
is so for all of them."""


@dataclass(frozen=True, slots=True)
class RegionsConfig:
    """What is asked.

    concepts  a folder of concepts' folders
    count     how many of them take part, in their order; all if None
    jobs      ways drawn beside each other
    store     None for `.storyforge` in the folder
    out       where pictures and results go; None for `regions` in the folder
    command   what was typed, for the record
    """

    concepts: Path
    count: int | None = None
    panels: int = PANELS
    methods: Mapping[str, RegionsMethod] = field(default_factory=lambda: METHODS)
    base: str = "pocket"
    clip: str | None = None
    steps: int = STEPS
    jobs: int = 1
    store: Path | None = None
    out: Path | None = None
    command: str = ""


@dataclass(frozen=True, slots=True)
class ComparedPanel:
    """One panel in every way.

    caption  the panel in words, everybody by their class
    twins    whether two of its subjects are of one class
    regions  (name, box, concept) of its subjects
    tasks    way -> its picture
    """

    panel: Panel
    caption: str
    twins: bool
    regions: tuple[tuple[str, Box, str], ...]
    tasks: Mapping[str, PanelTask]


def evaluate_regions(config: RegionsConfig, on_progress: OnProgress) -> Evaluation:
    """Learn, fuse and draw what is missing, and judge it all.

    Raises StoryForgeError for concepts of which no two are subjects, EnvironmentProblem without a
    CLIP.
    """
    started = perf_counter()
    base = base_at(config.base, Path.cwd())
    cast = read_concept_set(config.concepts, base, Store(config.store) if config.store else None)
    count = min(config.count or len(cast.members), len(cast.members))
    story = composed(cast.members[:count], config.panels, config.steps)
    clip = clip_for(base.reference, config.clip)
    folder = config.out or config.concepts / "regions"
    gallery = Gallery(folder / "pictures", cast.store, cast.ledger)
    cast.learn(["ed-lora"], count, config.jobs, on_progress)
    models = _models(config, cast, count, on_progress)
    shown, skipped = _shown(story, config.methods, models)
    drawn = gallery.draw(list(_jobs(cast, shown)), on_progress, config.jobs)
    on_progress("judging", 0, 1)
    references = {
        task.concept: references_of(clip, task)
        for task in cast.tasks("ed-lora", count)
        if task.kind != "scene"
    }
    results = _RegionsResults(config, clip, gallery, shown, references)
    content = plain(results.content(skipped) | origin(base, clip.reference, config.command))
    write_results(folder, content, regions_page(content, [_row(each) for each in shown]))
    _write_sheet(gallery, shown, _likenesses(cast, count), folder / "sheet.png")
    on_progress("judging", 1, 1)
    return Evaluation(content, drawn, perf_counter() - started, folder)


def _models(config: RegionsConfig, cast: ConceptSet, count: int, on_progress: OnProgress) -> Models:
    """Fuse the concepts by every solver that some way asks for."""
    fused: dict[Solver, str] = {}
    for method in config.methods.values():
        if method.solver is not None and method.solver not in fused:
            task = cast.fusion("ed-lora", FuseSettings(solver=method.solver), count)
            cast.fuse(task, on_progress)
            fused[method.solver] = task.key
    keys = {task.concept: task.key for task in cast.tasks("ed-lora", count)}
    return Models(cast.base, keys, fused)


def _shown(
    story: Story, methods: Mapping[str, RegionsMethod], models: Models
) -> tuple[list[ComparedPanel], dict[str, str]]:
    """Every panel in every way, and the ways that cannot be drawn here, with the reason."""
    tasks: dict[str, list[PanelTask]] = {}
    skipped: dict[str, str] = {}
    for name, method in methods.items():
        try:
            tasks[name] = [task_of(name, method, story, place, models) for place in story.panels()]
        except EnvironmentProblem as exc:
            if not method.posed:
                raise
            skipped[name] = exc.message
    made = []
    for index, (_, panel) in enumerate(story.panels()):
        boxes = story.region_boxes(panel)
        regions = tuple(
            (name, boxes[name], region.concept)
            for name, region in panel.regions.items()
            if region.concept is not None
        )
        classes = [getattr(story.concepts[concept], "class_", "") for _, _, concept in regions]
        words = caption(story, panel, named=False)
        own = {name: every[index] for name, every in tasks.items()}
        made.append(ComparedPanel(panel, words, len(set(classes)) < len(classes), regions, own))
    return made, skipped


def _jobs(cast: ConceptSet, shown: Sequence[ComparedPanel]) -> Iterator[DrawingJob]:
    for first, name in product(range(0, len(shown), _TURN), shown[0].tasks):
        tasks = tuple(each.tasks[name] for each in shown[first : first + _TURN])
        key = tasks[0].fused
        model = cast.store.path("fused", key) if key else None
        files = {
            concept: cast.store.path("concepts", file)
            for task in tasks
            for concept, file in task.concepts
        }
        yield DrawingJob(tasks, model, files)


@dataclass(frozen=True, slots=True)
class _RegionsResults:
    """All pictures in numbers.

    references  of every character and object
    """

    config: RegionsConfig
    clip: Clip
    gallery: Gallery
    shown: Sequence[ComparedPanel]
    references: Mapping[str, Vectors]

    def content(self, skipped: Mapping[str, str]) -> dict[str, object]:
        """The whole document."""
        names = list(self.shown[0].tasks)
        seen = {name: self._sightings(name) for name in names}
        thresholds = self._thresholds(seen[STRANGERS])
        usual = apartness(seen[REGIONS]).margins
        return {
            "methods": {
                name: {
                    **self._figures(seen[name], thresholds),
                    "text": self._text(name),
                    "margin_over_regions": _compared(apartness(seen[name]).margins, usual),
                    "seconds": _median([self._seconds(each, name) for each in self.shown]),
                    "seconds_ratio": _median(
                        [self._seconds(s, name) / self._seconds(s, REGIONS) for s in self.shown]
                    ),
                    "by_subjects": self._split(
                        seen[name], thresholds, lambda each: str(len(each.regions))
                    ),
                    "by_class": self._split(
                        seen[name], thresholds, lambda each: "same" if each.twins else "different"
                    ),
                    "leakage": together(seen[name], thresholds).leakage,
                    "sightings": [_told(each, self.shown) for each in seen[name]],
                }
                for name in names
            },
            "skipped": dict(skipped),
            "thresholds": thresholds,
            "upper": {name: among_themselves(rows) for name, rows in self.references.items()},
            "panels": [_described(each) for each in self.shown],
            "steps": self.config.steps,
        }

    def _sightings(self, method: str) -> list[RegionScore]:
        return [
            sighting
            for each in self.shown
            for sighting in region_scores_of(
                self.clip,
                each.panel.id,
                self.gallery.path(each.tasks[method]),
                each.regions,
                self.references,
            )
        ]

    def _thresholds(self, strangers: Sequence[RegionScore]) -> dict[str, float]:
        """Of each concept, half-way from strangers of its class to its references."""
        found = {}
        for name, rows in self.references.items():
            alike = [each.image_alignment[name] for each in strangers if each.concept == name]
            half = (float(np.mean(alike)) + among_themselves(rows)) / 2 if alike else -1.0
            found[name] = half if np.isfinite(half) else -1.0
        return found

    def _figures(
        self, seen: Sequence[RegionScore], thresholds: Mapping[str, float]
    ) -> dict[str, float]:
        told, apart = together(seen, thresholds), apartness(seen)
        return {
            "panels": len(apart.margins),
            "regions": told.regions,
            "found": told.found,
            "complete": told.complete,
            "apart": apart.apart,
            "apart_complete": apart.complete,
            "missing": told.missing,
            "likeness": float(np.mean([each.image_alignment[each.concept] for each in seen])),
            "margin": apart.margin,
        }

    def _split(
        self,
        seen: Sequence[RegionScore],
        thresholds: Mapping[str, float],
        kind: Callable[[ComparedPanel], str],
    ) -> dict[str, dict[str, float]]:
        """The figures of panels of each kind."""
        kinds: dict[str, set[str]] = {}
        for each in self.shown:
            kinds.setdefault(kind(each), set()).add(each.panel.id)
        return {
            name: self._figures([each for each in seen if each.panel in panels], thresholds)
            for name, panels in kinds.items()
        }

    def _text(self, method: str) -> float:
        pictures = [Image.open(self.gallery.path(each.tasks[method])) for each in self.shown]
        words = self.clip.words([each.caption for each in self.shown])
        return text_alignment(self.clip.pictures(pictures), words)

    def _seconds(self, shown: ComparedPanel, method: str) -> float:
        return self.gallery.seconds(shown.tasks[method])


def _median(values: Sequence[float]) -> float:
    """Of those that are known; NaN of none."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.median(known)) if known else np.nan


def _compared(margins: Mapping[str, float], usual: Mapping[str, float]) -> dict[str, float]:
    """How much wider margins are than plain regions' on the same panels, and its standard error."""
    more = [margin - usual[panel] for panel, margin in margins.items()]
    error = float(np.std(more, ddof=1)) / sqrt(len(more)) if len(more) > 1 else np.nan
    return {"mean": float(np.mean(more)), "error": error}


def _told(sighting: RegionScore, shown: Sequence[ComparedPanel]) -> dict[str, object]:
    """One region, against the subjects of its panel and the most alike of all."""
    panel = next(each for each in shown if each.panel.id == sighting.panel)
    alike = sighting.image_alignment
    return {
        "panel": sighting.panel,
        "region": sighting.region,
        "concept": sighting.concept,
        "likeness": {concept: alike[concept] for _, _, concept in panel.regions},
        "nearest": max(alike, key=lambda name: alike[name]),
    }


def _described(shown: ComparedPanel) -> dict[str, object]:
    panel, task = shown.panel, shown.tasks[REGIONS]
    return {
        "id": panel.id,
        "layout": panel.layout,
        "scene": panel.scene,
        "concepts": [concept for _, _, concept in shown.regions],
        "twins": shown.twins,
        "seed": task.seed,
        "caption": shown.caption,
    }


def _row(shown: ComparedPanel) -> RegionsRow:
    sources = {method: f"pictures/{task.key}.png" for method, task in shown.tasks.items()}
    return RegionsRow(shown.panel.id, shown.caption, sources)


def _likenesses(cast: ConceptSet, count: int) -> dict[str, Path]:
    """One reference of every concept."""
    tasks = cast.tasks("ed-lora", count)
    return {task.concept: task.folder / task.images[0] for task in tasks}


def _write_sheet(
    gallery: Gallery, shown: Sequence[ComparedPanel], likenesses: Mapping[str, Path], path: Path
) -> None:
    """The same panels in every way, one way a row; the first row shows who is asked for where."""
    chosen: dict[int, list[ComparedPanel]] = {}
    for each in shown:
        chosen.setdefault(len(each.regions), []).append(each)
    columns = [each for some in chosen.values() for each in some[:SHOWN]]
    asked = [_asked(gallery.path(each.tasks[REGIONS]), each, likenesses) for each in columns]
    names = [each.panel.id for each in columns]
    rows = [("asked for", [Cell(*each) for each in zip(asked, names, strict=True)])]
    for method in columns[0].tasks:
        rows.append((method, [Cell(gallery.path(each.tasks[method])) for each in columns]))
    write_contact_sheet(rows, path)


def _asked(picture: Path, shown: ComparedPanel, likenesses: Mapping[str, Path]) -> Image.Image:
    """References in the places of their regions."""
    with Image.open(picture) as drawn:
        made = Image.new("RGB", drawn.size, "white")
    for _, box, concept in shown.regions:
        width, height = round(box.width * made.width), round(box.height * made.height)
        own = on_paper(open_picture(likenesses[concept]))
        own.thumbnail((width, height))
        left = round(box.x0 * made.width) + (width - own.width) // 2
        made.paste(own, (left, round(box.y1 * made.height) - own.height))
    return made
