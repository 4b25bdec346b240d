"""Concepts fused in many ways, and the pictures that each way draws, made once and kept."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from storyforge.evaluate.answers import Comparison
from storyforge.evaluate.concept_set import ConceptSet, read_concept_set
from storyforge.evaluate.gallery import Gallery, alone
from storyforge.evaluate.questions import DrawingStyle, questions
from storyforge.fuse.carried import carried
from storyforge.fuse.packing import Full
from storyforge.fuse.statistics import Statistics, of_concept
from storyforge.model.base import BaseModel, open_base
from storyforge.model.concept import Concept, FusedModel
from storyforge.model.family import Family
from storyforge.modelref import base_at
from storyforge.plan.keys import key_of
from storyforge.settings import FuseSettings, FusionStage, Solver
from storyforge.store import Store

Make = Callable[["Bench"], FusedModel]


@dataclass(frozen=True, slots=True)
class Own:
    """The usual fused model, but every concept is drawn with its own deltas in some stages.

    That is what `sampling: {regions: exact-text}` does in text and keys and values.
    """

    stages: tuple[FusionStage, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to fuse: settings, whatever else makes a model, or one model for every concept."""

    sweep: str
    value: str
    way: FuseSettings | Make | Own

    @property
    def name(self) -> tuple[str, str]:
        """Sweep and value."""
        return self.sweep, self.value


@dataclass(slots=True)
class Bench:
    """The concepts, and all that is opened once.

    count   how many are fused
    seen    what each concept sees, once somebody asked
    models  sweep and value -> the fused model's folder
    """

    cast: ConceptSet
    count: int
    shown: Comparison
    models: dict[tuple[str, str], Path] = field(default_factory=dict)
    opened: BaseModel | None = None
    seen: list[Statistics] | None = None
    ordinary: Statistics | None = None

    def base(self) -> BaseModel:
        """The base model."""
        if self.opened is None:
            self.opened = open_base(self.cast.base.reference, self.cast.base.hash)
        return self.opened

    def concepts(self) -> list[Concept]:
        """The learnt concepts."""
        store, tasks = self.cast.store, self.cast.tasks("ed-lora", self.count)
        return [
            Concept.load(store.path("concepts", each.key)).renamed(each.concept) for each in tasks
        ]

    def statistics(self) -> list[Statistics]:
        """What each concept sees, as its own file brings it, or watched."""
        if self.seen is None:
            self.seen = list(self._seen())
        return self.seen

    def _seen(self) -> Iterator[Statistics]:
        tasks = self.cast.tasks("ed-lora", self.count)
        for index, (task, concept) in enumerate(zip(tasks, self.concepts(), strict=True)):
            told(f"watching `{concept.name}`", index, len(tasks))
            found = carried(self.cast.store.path("concepts", task.key))
            yield found or of_concept(self.base(), concept, Full)

    def solved(self, solver: Solver) -> FusedModel:
        """The model that one solver makes under default settings."""
        task = self.cast.fusion("ed-lora", FuseSettings(solver=solver), self.count)
        return FusedModel.load(self.cast.fuse(task, told))

    def make(self, variant: Variant) -> None:
        """Fuse one way, unless that was done, and hang its pictures."""
        name = variant.name
        if isinstance(variant.way, Own):
            self._lend(": ".join(name), variant.way)
            return
        if isinstance(variant.way, FuseSettings):
            task = self.cast.fusion("ed-lora", variant.way, self.count)
            key, self.models[name] = task.key, self.cast.fuse(task, told)
        else:
            usual = self.cast.fusion("ed-lora", FuseSettings(), self.count).key
            key = key_of({"make": "sweep 2", "variant": list(name), "usual": usual})
            if not self.cast.store.has("fused", key):
                with self.cast.store.make("fused", key) as folder:
                    folder.mkdir()
                    variant.way(self).save(folder)
            self.models[name] = self.cast.store.path("fused", key)
        self.shown.show(": ".join(name), self.shown.asked, key, self.models[name])

    def _lend(self, condition: str, way: Own) -> None:
        fused = self.solved("closed-form")
        whole = self.cast.fusion("ed-lora", FuseSettings(), self.count).key
        for concept in self.concepts():
            said = {"make": "sweep 2", "usual": whole, "own": list(way.stages)}
            key = key_of({**said, "concept": concept.name})
            if not self.cast.store.has("fused", key):
                with self.cast.store.make("fused", key) as folder:
                    folder.mkdir()
                    mixed(concept.alone(), fused, way.stages).save(folder)
            path = self.cast.store.path("fused", key)
            self.shown.show(condition, [concept.name], key, path)


def mixed(one: FusedModel, other: FusedModel, stages: Sequence[FusionStage]) -> FusedModel:
    """The deltas of `one` in some stages, those of `other` elsewhere."""
    deltas = {
        name: delta
        for model, own in ((one, True), (other, False))
        for name, delta in model.deltas.items()
        if (Family.stage(name) in stages) is own
    }
    return FusedModel(one.base, one.base_hash, one.tokens, deltas)


def opened(asked: argparse.Namespace, count: int, most: int | None = None) -> tuple[Bench, Gallery]:
    """The first concepts, learnt; the base and every concept alone hung already.

    most  pictures of each concept; None for all that are asked for
    """
    base = base_at("pocket", Path.cwd())
    cast = read_concept_set(asked.concepts, base, Store(asked.store) if asked.store else None)
    if count > len(cast.members):
        raise SystemExit(f"cannot fuse {count} concepts: `{asked.concepts}` holds fewer")
    cast.learn(["ed-lora"], count, asked.jobs, told)
    tasks = cast.tasks("ed-lora", count)
    every = {t.concept: list(questions(t, asked.prompts, asked.seeds))[:most] for t in tasks}
    shown = Comparison(DrawingStyle(base, asked.steps), every)
    shown.show("base", every, None, None)
    for task in tasks:
        model = alone(cast.store, task.concept, task.key)
        shown.show("alone", [task.concept], task.key, model)
    folder = asked.out or asked.concepts / "sweeps"
    return Bench(cast, count, shown), Gallery(folder / "pictures", cast.store, cast.ledger)


def told(what: str, done: int, total: int) -> None:
    """Progress, beside the data."""
    print(f"{what} {done}/{total}", file=sys.stderr, flush=True)
