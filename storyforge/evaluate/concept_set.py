"""A folder of concepts, learnt by several methods, and the first N of them fused.

Products are named as a story's are: what `storyforge train` has made in the same store is found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from pydantic import TypeAdapter, ValidationError

from storyforge.engine.maker import Maker, raise_first, watched
from storyforge.errors import StoryForgeError, closest
from storyforge.executor import OnProgress
from storyforge.modelref import ModelRef
from storyforge.plan.keys import KeyInputs
from storyforge.plan.plan import fuse_task, train_task
from storyforge.plan.status import subject_of
from storyforge.settings import ConceptName, FuseSettings
from storyforge.store import Ledger, Store
from storyforge.story.concept import ConceptSpec, read_concept
from storyforge.tasks import FuseTask, Task, TrainTask

Training = Literal["ed-lora", "lora", "textual-inversion", "p-plus", "custom-diffusion"]

ORDER: Final = "order.txt"
"""The file that says, one name a line, which concepts are taken first."""


@dataclass(frozen=True, slots=True)
class ConceptSet:
    """Concepts in the order in which fusions take them."""

    folder: Path
    members: tuple[ConceptSpec, ...]
    base: ModelRef
    store: Store
    key_inputs: dict[str, KeyInputs] = field(default_factory=dict)

    def tasks(self, training: Training, count: int) -> tuple[TrainTask, ...]:
        """How the first `count` are learnt by one method; all else is as concept.yaml says."""
        return tuple(self._task(training, spec) for spec in self.members[:count])

    def file(self, training: Training, name: str) -> Path:
        """The file of a member that was learnt by one method."""
        spec = next(spec for spec in self.members if spec.name == name)
        return self.store.path("concepts", self._task(training, spec).key)

    def _task(self, training: Training, spec: ConceptSpec) -> TrainTask:
        return train_task(spec.name, _by(spec, training), self.base, self.key_inputs)

    @property
    def ledger(self) -> Ledger:
        """The folder's own, so that no tidying takes away what was made of it."""
        where = hashlib.sha256(str(self.folder.absolute()).encode()).hexdigest()[:8]
        return self.store.ledger(f"{self.folder.name}-{where}")

    def learn(
        self, trainings: Sequence[Training], count: int, jobs: int, on_progress: OnProgress
    ) -> None:
        """Learn what the store lacks, method by method; raise what went wrong."""
        every = [task for training in trainings for task in self.tasks(training, count)]
        lacking = {task.key: task for task in every if not self.store.has("concepts", task.key)}
        maker = self._maker(on_progress)
        with self.store.at_work():
            maker.learn(tuple(lacking.values()), jobs)
            maker.note(every, {})
        raise_first(maker.troubles)

    def fusion(self, training: Training, settings: FuseSettings, count: int) -> FuseTask:
        """How the first `count` are fused."""
        keys = [(task.concept, task.key) for task in self.tasks(training, count)]
        return fuse_task(settings, self.base, keys, self.key_inputs)

    def fuse(self, task: FuseTask, on_progress: OnProgress) -> Path:
        """The fused model's folder; what is missing is made."""
        if not self.store.has("fused", task.key):
            files = {name: self.store.path("concepts", key) for name, key in task.concepts}
            maker = self._maker(on_progress)
            with self.store.at_work():
                maker.fuse(task, files, [("concepts", key) for _, key in task.concepts])
                maker.note((), {f"{name} {of[1]}": of for name, of in watched(task).items()})
            raise_first(maker.troubles)
        return self.store.path("fused", task.key)

    def _maker(self, on_progress: OnProgress) -> Maker:
        return Maker(self.store, self.ledger, self.key_inputs, on_progress, name=_product_name)


def _product_name(task: Task) -> str:
    """What the ledger calls a product: the same concept is learnt by several methods."""
    match task:
        case TrainTask():
            return f"concept {task.concept}, {task.settings.method}"
        case _:
            return f"{subject_of(task)} {task.key}"


def read_concept_set(folder: Path, base: ModelRef, store: Store | None = None) -> ConceptSet:
    """The concepts of a folder: those that its `order.txt` names, else all by name.

    store  None for `.storyforge` in the folder

    Raises StoryForgeError for a folder without concepts and for a name that is none of them,
    StoryError for mistakes in a concept.yaml.
    """
    found = {path.parent.name: path.parent for path in sorted(folder.glob("*/concept.yaml"))}
    if not found:
        hint = "name a folder that holds a folder with a concept.yaml for every concept"
        raise StoryForgeError(f"no concepts in `{folder}`", hint=hint)
    members = [read_concept(found[name]) for name in _order(folder, list(found))]
    for spec in members:
        _check_name(spec.name)
    return ConceptSet(folder, tuple(members), base, store or Store(folder / ".storyforge"))


def _order(folder: Path, known: Sequence[str]) -> Iterator[str]:
    path = folder / ORDER
    if not path.is_file():
        yield from known
        return
    for line in dict.fromkeys(path.read_text(encoding="utf-8").split("\n")):
        name = line.strip()
        if name and name not in known:
            guess = closest(name, known)
            hint = f"did you mean `{guess}`?" if guess else f"write names of folders in `{ORDER}`"
            raise StoryForgeError(f"`{path}` names `{name}`, which is no concept here", hint=hint)
        if name:
            yield name


def _check_name(name: str) -> None:
    try:
        TypeAdapter(ConceptName).validate_python(name)
    except ValidationError as exc:
        raise StoryForgeError(exc.errors()[0]["msg"], hint="rename the concept's folder") from exc


def _by(spec: ConceptSpec, training: Training) -> ConceptSpec:
    settings = spec.train.model_copy(update={"method": training})
    return spec.model_copy(update={"train": settings})
