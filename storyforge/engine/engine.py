"""The stages at work: what is missing of a plan is made, kept at once, and entered in the ledger.

One failed task takes nothing from the others. Which tasks are wanted is `project`'s to say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from storyforge.engine.books import Books
from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.executor import Failure, OnProgress, peak_memory, processors, run
from storyforge.plan.plan import Plan
from storyforge.plan.status import shelf_of, subject_of
from storyforge.plan.takes import picture_of
from storyforge.store import Entry, Ledger, Store, size_of
from storyforge.story.story import Story
from storyforge.tasks import BookTask, FuseTask, PanelTask, Task, TrainTask

if TYPE_CHECKING:
    from storyforge.model.base import BaseModel
    from storyforge.train.logs import Logs

T = TypeVar("T", TrainTask, FuseTask, BookTask)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many products of each kind."""

    concepts: int = 0
    fused: int = 0
    panels: int = 0
    books: int = 0


@dataclass(frozen=True, slots=True)
class Trouble:
    """A task that failed, and why."""

    subject: str
    error: StoryForgeError


def ledger_of(store: Store, story: Story) -> Ledger:
    """The story's own ledger; several stories may share a store."""
    where = hashlib.sha256(str(story.path.absolute()).encode()).hexdigest()[:8]
    return store.ledger(f"{story.path.stem}-{where}")


@dataclass(slots=True)
class Engine:
    """One run at work: what it has made, and what went wrong.

    names   what the ledger calls a product, by key, where it is not the plan's own
    """

    plan: Plan
    store: Store
    on_progress: OnProgress
    troubles: list[Trouble] = field(default_factory=list)
    made: list[Task] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    stage_began: float = 0.0
    made_before: int = 0
    books: Books = field(init=False)

    def __post_init__(self) -> None:
        """Open the ledger."""
        pinned = {panel: pin.picture for panel, pin in self.plan.pins.items()}
        self.books = Books(self.store, self.plan.story, pinned, self._note)
        self.entries = ledger_of(self.store, self.plan.story).entries()

    def learn(self, tasks: Sequence[TrainTask], jobs: int | None, logs: Logs | None = None) -> None:
        """Learn concepts, several at a time; by-products of each go to its folder in `logs`."""
        if not tasks:
            return
        self._begin()
        work = partial(learn_concept, self.store.root, logs)
        failures = run(work, tasks, jobs or _usual_jobs(len(tasks)), self.on_progress, self._keep)
        self._regret(failures)

    def fuse(self, task: FuseTask | None) -> None:
        """Fuse the concepts, if every one of them was learnt."""
        if task is None or self.troubles:
            return
        self._begin()
        files = {name: self._concept_file(name, key) for name, key in task.concepts}
        self._regret(
            run(partial(fuse_concepts, self.store, files), [task], 1, self.on_progress, self._keep)
        )
        self.note_all()

    def _concept_file(self, name: str, key: str) -> Path:
        spec = self.plan.story.concepts[name]
        return spec if isinstance(spec, Path) else self.store.path("concepts", key)

    def draw(self, tasks: Sequence[PanelTask], previews: Path | None = None) -> None:
        """Draw pictures, the base opened once; those after a failed one are tried by themselves.

        previews  a folder where they can be seen while they are drawn
        """
        fuse = self.plan.fuse
        fused = self.store.path("fused", fuse.key) if fuse is not None else None
        if not tasks:
            return
        if lacking := self._lacking(tasks):
            self._regret_unmade(tasks, f"{lacking} is not made")
            return
        self._begin()
        work = partial(_draw, self._drawn, fused, self._own_files(tasks), previews)
        failures = run(work, [tuple(tasks)], 1, self.on_progress, lambda *_: None)
        rest = [(task,) for task in tasks if not self.store.has("panels", task.key)]
        if not failures or not rest:
            return
        error = failures[0].error
        if len(tasks) == 1 or (len(rest) == len(tasks) and isinstance(error, EnvironmentProblem)):
            self.troubles += [Trouble(subject_of(task), error) for (task,) in rest]
            return
        for failure in run(work, rest, 1, self.on_progress, lambda *_: None):
            self.troubles.append(Trouble(subject_of(failure.task[0]), failure.error))

    def _lacking(self, tasks: Sequence[PanelTask]) -> str | None:
        """What panels are drawn with and is not there; None if all of it is."""
        fuse = self.plan.fuse
        if fuse is not None and not self.store.has("fused", fuse.key):
            return "the fused model"
        own = self._own_files(tasks).items()
        return next((f"concept `{name}`" for name, file in own if not file.is_file()), None)

    def _regret_unmade(self, tasks: Sequence[Task], why: str) -> None:
        """Whoever asked for it hears that it is not there, unless the reason is known already."""
        if not self.troubles:
            error = StoryForgeError(why, hint="run `storyforge train` and `storyforge render`")
            self.troubles += [Trouble(subject_of(task), error) for task in tasks]

    def check_made(self, tasks: Sequence[PanelTask | BookTask]) -> None:
        """No run is a success that leaves out what it was asked for."""
        unmade = [task for task in tasks if not self.store.has(shelf_of(task), task.key)]
        if unmade:
            self._regret_unmade(unmade, "it was not made")

    def _own_files(self, tasks: Sequence[PanelTask]) -> dict[str, Path]:
        """The concepts whose own weights some panel is drawn with."""
        named = dict(pair for task in tasks for pair in task.concepts)
        return {name: self._concept_file(name, key) for name, key in named.items()}

    @contextmanager
    def _drawn(self, task: PanelTask) -> Iterator[Path]:
        """Take in one picture as soon as it is finished."""
        with self.store.make("panels", task.key) as path:
            yield path
        self._keep(task, peak_memory())

    def bind(self, tasks: Sequence[BookTask]) -> None:
        """Bind books, unless pictures are missing."""
        if all(self.all_drawn(task) for task in tasks):
            self._begin()
            self._regret(run(self.books.perform, tasks, 1, self.on_progress, self._keep))

    def compose(self, tasks: Sequence[BookTask]) -> None:
        """Set the books' pages beforehand, without pictures where some are missing.

        Raises StoryForgeError, naming the page on which something does not fit.
        """
        for task in tasks:
            if self.all_drawn(task):
                self.books.bound(task)
        if not self.books.books:
            for language in {task.language for task in tasks}:
                proof(self.plan.story, language)

    def all_drawn(self, task: BookTask) -> bool:
        """Whether all pictures of a book are there."""
        return all(picture_of(self.plan, self.store, *pair) for pair in task.panels)

    def counts(self) -> Counts:
        """How many products were made."""
        shelves = [shelf_of(task) for task in self.made]
        drawn = sum(shelf in {"concepts", "fused", "panels"} for shelf in shelves)
        return Counts(
            concepts=shelves.count("concepts"),
            fused=shelves.count("fused"),
            panels=shelves.count("panels"),
            books=len(shelves) - drawn,
        )

    def give_up_if_hopeless(self) -> None:
        """Raise the trouble itself if it is one of the machine's and left nothing to keep."""
        errors = {trouble.error.message: trouble.error for trouble in self.troubles}
        if len(errors) == 1 and not self.made:
            (error,) = errors.values()
            if isinstance(error, EnvironmentProblem):
                raise error

    def note_all(self) -> None:
        """Enter what exists already: it is what was last made of its subject."""
        before = dict(self.entries)
        self._note_statistics()
        for task in self.plan.tasks():
            known = self.entries.get(self._name(task))
            if self.store.has(shelf_of(task), task.key) and (not known or known.key != task.key):
                self._enter(task)
        if self.entries != before:
            ledger_of(self.store, self.plan.story).write(self.entries)

    def _note_statistics(self) -> None:
        """Enter what was watched for the fused model: other fusions will want it too."""
        fuse = self.plan.fuse
        if fuse is None:
            return
        watched = {f"statistics {name}": key for name, key in fuse.statistics}
        for subject, key in {**watched, "statistics of the base": fuse.ordinary}.items():
            if self.store.has("statistics", key):
                self.entries[subject] = Entry(key, self.plan.key_inputs[key])

    def _begin(self) -> None:
        self.stage_began, self.made_before = perf_counter(), len(self.made)

    def _keep(self, task: Task, memory: int) -> None:
        """Count a finished task and enter it, with its share of the stage's time so far."""
        self.made.append(task)
        seconds = (perf_counter() - self.stage_began) / (len(self.made) - self.made_before)
        self._enter(task, round(seconds, 2), memory)
        ledger_of(self.store, self.plan.story).write(self.entries)

    def _enter(self, task: Task, seconds: float = 0.0, memory: int = 0) -> None:
        size = size_of(self.store.path(shelf_of(task), task.key))
        entry = Entry(task.key, self.plan.key_inputs[task.key], seconds, memory, size)
        self.entries[self._name(task)] = entry

    def _name(self, task: Task) -> str:
        return self.names.get(task.key) or subject_of(task)

    def _note(self, subject: str, entry: Entry) -> None:
        """Enter what was made on the way to a book."""
        self.entries[subject] = entry
        ledger_of(self.store, self.plan.story).write(self.entries)

    def _regret(self, failures: Sequence[Failure[T]]) -> None:
        self.troubles += [Trouble(subject_of(each.task), each.error) for each in failures]


def proof(story: Story, language: str | None) -> None:
    """Set the whole book without its pictures: what does not fit is known before they are drawn.

    Raises StoryForgeError, naming the page.
    """
    from storyforge.book.leaf import Art
    from storyforge.book.page import bind

    art = {
        panel.id: Art(panel.id, story.path, *(panel.size or story.size or (1, 1)))
        for _, panel in story.panels()
    }
    bind(story, art, language)


def _usual_jobs(count: int) -> int:
    """One on an accelerator, which one concept fills; else one for every processor."""
    from storyforge.model.base import best_device

    return 1 if best_device().type == "cuda" else min(count, processors())


def _about(task: Task, on_progress: OnProgress) -> OnProgress:
    """Tell of a task under its own name."""
    return lambda what, done, total: on_progress(f"{subject_of(task)}: {what}", done, total)


def opened(task: TrainTask | FuseTask | PanelTask) -> BaseModel:
    """The base that a task names, on the best device that there is."""
    from storyforge.model.base import best_device, open_base

    return open_base(task.base, task.base_hash, device=best_device())


def learn_concept(root: Path, logs: Logs | None, task: TrainTask, on_progress: OnProgress) -> None:
    """Learn one concept into the store at `root`."""
    from storyforge.engine.judge import judge_of
    from storyforge.train import edlora

    store, judge, base = Store(root), judge_of(task), opened(task)
    with store.make("concepts", task.key) as path:
        own = None if logs is None else logs.of(task.concept)
        scratch = store.scratch(task.key)
        edlora.train_concept(base, task, path, scratch, _about(task, on_progress), own, judge=judge)
        if task.settings.statistics is not None:
            from storyforge.fuse import carried

            carried.carry_statistics(base, task, path, _about(task, on_progress))


def fuse_concepts(
    store: Store, concepts: dict[str, Path], task: FuseTask, on_progress: OnProgress
) -> None:
    """Fuse concepts, whose files are given by name, into the store."""
    from storyforge.fuse import fusion

    with store.make("fused", task.key) as path:
        fusion.fuse_concepts(
            partial(opened, task), task, concepts, store, path, _about(task, on_progress)
        )


Keeper = Callable[[PanelTask], AbstractContextManager[Path]]
"""Gives the path to write a picture to, and takes it in."""


def _draw(
    keep: Keeper,
    fused: Path | None,
    concepts: dict[str, Path],
    previews: Path | None,
    tasks: tuple[PanelTask, ...],
    on_progress: OnProgress,
) -> None:
    from storyforge.sample import sampler

    preview = sampler.previews_in(previews) if previews else None
    sampler.draw_panels(opened(tasks[0]), tasks, fused, keep, on_progress, concepts, preview)
