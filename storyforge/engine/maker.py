"""Tasks become products: what is missing is made, kept at once, and entered in a ledger.

One failed task takes nothing from the others. Which tasks are wanted, and of what story, is for
others to say: a story's plan goes through `engine`, protocols of `evaluate` come here themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from storyforge.engine.inputs import sums_of
from storyforge.engine.orders import Sendable
from storyforge.engine.stages import (
    DrawingJob,
    Drawn,
    Importer,
    draw_panels,
    fuse_concepts,
    learn_concept,
    ready_picture,
    unheard,
)
from storyforge.errors import EnvironmentProblem, StoryForgeError, TaskFailed
from storyforge.executor import Failure, OnProgress, peak_memory, processors, run
from storyforge.plan.keys import KeyInputs
from storyforge.plan.status import shelf_of, subject_of
from storyforge.store import Entry, Ledger, Store, size_of
from storyforge.store.products import Source
from storyforge.tasks import (
    BookTask,
    FuseTask,
    ImportTask,
    OwnPictureTask,
    PanelTask,
    Task,
    TrainTask,
)

if TYPE_CHECKING:
    from storyforge.train.logs import Logs

_log = logging.getLogger(__name__)

S = TypeVar("S", bound=Sendable)
T = TypeVar("T", TrainTask, ImportTask, FuseTask, PanelTask, OwnPictureTask, BookTask)


class Send(Protocol):
    """Does tasks somewhere."""

    def __call__(self, todo: Sequence[S]) -> Sequence[Failure[S]]:
        """Do every task, keep each product in the store, and say which failed."""


_PACE: Final = 2.0
"""Seconds between two writings of the ledger, at least."""

_REST: Final = 20.0
"""How many times what a writing took is waited for the next: ten thousand entries take a second."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many products of each kind."""

    concepts: int = 0
    fused: int = 0
    panels: int = 0
    books: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Of two runs together."""
        return Counts(
            self.concepts + other.concepts,
            self.fused + other.fused,
            self.panels + other.panels,
            self.books + other.books,
        )


@dataclass(frozen=True, slots=True)
class Trouble:
    """A task that failed, and why."""

    subject: str
    error: StoryForgeError


class Interrupted(KeyboardInterrupt):
    """Somebody ended the run; what was finished is kept."""

    def __init__(self, kept: Counts) -> None:
        """Say what this run had made by then."""
        super().__init__("interrupted")
        self.kept = kept


def raise_first(troubles: Sequence[Trouble]) -> None:
    """Raise what went wrong first, for whoever needs all of it."""
    for trouble in troubles:
        if isinstance(trouble.error, EnvironmentProblem):
            raise trouble.error
        message = f"{trouble.subject}: {trouble.error.message}"
        raise TaskFailed(message, hint=trouble.error.hint) from trouble.error


@dataclass(slots=True)
class Maker:
    """One run at work: what it has made, and what went wrong.

    key_inputs  what every key is made of
    name        what the ledger calls the product of a task
    share       hears of every product that was made
    send        does tasks on other machines, and says which failed; None to do them here
    unwritten   entries that the ledger's file does not have yet
    rest        seconds until they are written
    """

    store: Store
    ledger: Ledger
    key_inputs: Mapping[str, KeyInputs]
    on_progress: OnProgress
    name: Callable[[Task], str] = subject_of
    share: Callable[[Task], None] = lambda _: None
    send: Send | None = None
    troubles: list[Trouble] = field(default_factory=list)
    made: list[Task] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    unwritten: dict[str, Entry] = field(default_factory=dict)
    written: float = 0.0
    rest: float = _PACE
    stage_began: float = 0.0
    made_before: int = 0

    def __post_init__(self) -> None:
        """Open the ledger."""
        self.entries = self.ledger.entries()

    def learn(self, tasks: Sequence[TrainTask], jobs: int | None, logs: Logs | None = None) -> None:
        """Learn concepts, several at a time; by-products of each go to its folder in `logs`."""
        sums = {task.key: sums_of(task, self.key_inputs) for task in tasks}
        work = partial(learn_concept, self.store.root, logs, sums)

        def learn(todo: Sequence[TrainTask]) -> Sequence[Failure[TrainTask]]:
            return run(work, todo, jobs or _usual_jobs(len(todo)), self.on_progress, self.keep)

        self.until_made(tasks, self.send or learn)

    def take_in(self, tasks: Sequence[ImportTask]) -> None:
        """Make concepts of other tools' files."""
        self.until_made(tasks, self.send or partial(self._here, Importer(self.store).perform))

    def take_own(self, tasks: Sequence[OwnPictureTask]) -> None:
        """Make the author's own pictures ready for books."""
        self.until_made(tasks, partial(self._here, partial(ready_picture, self.store)))

    def fuse(self, task: FuseTask, files: Mapping[str, Path], learnt: Sequence[Source]) -> None:
        """Fuse concepts.

        files   of the concepts, by name
        learnt  those of them that are products
        """
        work = partial(fuse_concepts, self.store, files, learnt)
        self.until_made([task], self.send or partial(self._here, work))

    def _here(
        self, work: Callable[[T, OnProgress], None], todo: Sequence[T]
    ) -> Sequence[Failure[T]]:
        """Do tasks one after the other."""
        return run(work, todo, 1, self.on_progress, self.keep)

    def draw(
        self,
        jobs: Sequence[DrawingJob],
        at_once: int = 1,
        previews: Path | None = None,
        drawn: Drawn = unheard,
    ) -> None:
        """Draw pictures, `at_once` jobs at a time; those after a failed one are tried alone.

        previews  a folder where they can be seen while they are drawn
        drawn     hears of each; it is to pickle if there are several jobs at a time
        """
        tasks = {task.key: task for job in jobs for task in job.tasks}

        def attempt(todo: Sequence[PanelTask]) -> Sequence[Failure[PanelTask]]:
            """Draw those that are wanted, each in its job."""
            wanted = {task.key for task in todo}
            parts = [replace(j, tasks=tuple(t for t in j.tasks if t.key in wanted)) for j in jobs]
            return self._draw([part for part in parts if part.tasks], at_once, previews, drawn)

        self.until_made(list(tasks.values()), self.send or attempt)

    def _draw(
        self, jobs: Sequence[DrawingJob], at_once: int, previews: Path | None, drawn: Drawn
    ) -> Sequence[Failure[PanelTask]]:
        def drawn_here(task: PanelTask, seconds: float) -> None:
            """Keep a picture that this process has drawn."""
            drawn(task, seconds)
            self.keep(task, peak_memory())

        def finished(job: DrawingJob, memory: int) -> None:
            """Keep the pictures of a job that another process has done."""
            for task in job.tasks:
                self.keep(task, memory)

        here = partial(draw_panels, self.store, previews, drawn_here)
        if at_once > 1 and len(jobs) > 1:
            beside = partial(draw_panels, self.store, previews, drawn)
            failures = run(beside, jobs, at_once, self.on_progress, finished)
        else:
            failures = run(here, jobs, 1, self.on_progress, _unheard)
        failed: list[Failure[PanelTask]] = []
        for failure in failures:
            tasks = failure.task.tasks
            rest = [task for task in tasks if not self._is_in_hand(task)]
            hopeless = len(rest) == len(tasks) and isinstance(failure.error, EnvironmentProblem)
            if len(tasks) == 1 or hopeless:
                failed += [Failure(task, failure.error) for task in rest]
                continue
            alone = [replace(failure.task, tasks=(task,)) for task in rest]
            again = run(here, alone, 1, self.on_progress, _unheard)
            failed += [Failure(each.task.tasks[0], each.error) for each in again]
        return failed

    def _is_in_hand(self, task: Task) -> bool:
        """Whether the product is there, or another run is at it."""
        return self.is_there(task) or self.store.is_making(shelf_of(task), task.key)

    def is_there(self, task: Task) -> bool:
        """Whether the product is made."""
        return self.store.has(shelf_of(task), task.key)

    def until_made(
        self, tasks: Sequence[T], attempt: Callable[[Sequence[T]], Sequence[Failure[T]]]
    ) -> None:
        """Make what nobody else is making, then wait for those who are; regret what failed.

        Where another run ended before its product was there, it is made here after all.
        """
        self.stage_began, self.made_before = perf_counter(), len(self.made)
        failures: list[Failure[T]] = []
        todo = list(tasks)
        while todo:
            failures += attempt(todo)
            failed = {failure.task.key for failure in failures}
            todo = [task for task in todo if task.key not in failed and not self.is_there(task)]
            for task in todo:
                self.on_progress(f"{subject_of(task)}: waiting for another run", 0, 1)
                self.store.wait_for(shelf_of(task), task.key)
            todo = [task for task in todo if not self.is_there(task)]
        self.flush()
        self.troubles += [Trouble(subject_of(each.task), each.error) for each in failures]

    def regret_unmade(self, tasks: Sequence[Task], why: str) -> None:
        """Whoever asked for it hears that it is not there, unless the reason is known already."""
        if not self.troubles:
            error = StoryForgeError(why, hint="run `storyforge train` and `storyforge render`")
            self.troubles += [Trouble(subject_of(task), error) for task in tasks]

    def check_made(self, tasks: Sequence[PanelTask | BookTask]) -> None:
        """No run is a success that leaves out what it was asked for."""
        unmade = [task for task in tasks if not self.is_there(task)]
        if unmade:
            self.regret_unmade(unmade, "it was not made")

    def give_up_if_hopeless(self) -> None:
        """Raise the trouble itself if it is one of the machine's and left nothing to keep."""
        errors = {trouble.error.message: trouble.error for trouble in self.troubles}
        if len(errors) == 1 and not self.made:
            (error,) = errors.values()
            if isinstance(error, EnvironmentProblem):
                raise error

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

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Say what was kept if somebody ends the run."""
        try:
            yield
        except KeyboardInterrupt as exc:
            raise Interrupted(self.counts()) from exc

    def keep(self, task: Task, memory: int) -> None:
        """Count a finished task and enter it, with its share of the stage's time so far."""
        if not self.is_there(task):
            return
        self.made.append(task)
        seconds = (perf_counter() - self.stage_began) / (len(self.made) - self.made_before)
        _log.info("%s: made in %.1f s (%s)", self.name(task), seconds, task.key)
        self.enter({self.name(task): self._entry(task, round(seconds, 2), memory)})
        self.share(task)

    def note(self, tasks: Iterable[Task], more: Mapping[str, Source]) -> None:
        """Enter what exists already: it is what was last made of its subject.

        more  products that no task is for: subject -> shelf and key
        """
        found: dict[str, Entry] = {}
        for subject, (shelf, key) in more.items():
            if self.store.has(shelf, key):
                found[subject] = Entry(key, self.key_inputs[key])
        for task in tasks:
            known = self.entries.get(self.name(task))
            if self.is_there(task) and (not known or known.key != task.key):
                found[self.name(task)] = self._entry(task)
        self.enter({name: each for name, each in found.items() if self.entries.get(name) != each})
        self.flush()

    def enter(self, entries: Mapping[str, Entry]) -> None:
        """Take entries down; they are written together with others of these seconds."""
        self.entries |= entries
        self.unwritten |= entries
        if perf_counter() - self.written > self.rest:
            self.flush()

    def flush(self) -> None:
        """Write what is not in the ledger yet, beside what other runs have entered meanwhile."""
        if self.unwritten:
            began = perf_counter()
            self.ledger.merge(self.unwritten)
            self.unwritten.clear()
            self.written = perf_counter()
            self.rest = max(_PACE, _REST * (self.written - began))

    def _entry(self, task: Task, seconds: float = 0.0, memory: int = 0) -> Entry:
        size = size_of(self.store.path(shelf_of(task), task.key))
        return Entry(task.key, self.key_inputs[task.key], seconds, memory, size)


def watched(task: FuseTask) -> dict[str, Source]:
    """What was watched for a fused model, by what the ledger calls it."""
    found: dict[str, Source] = {f"statistics {n}": ("statistics", k) for n, k in task.statistics}
    return {**found, "statistics of the base": ("statistics", task.ordinary)}


def _unheard(job: DrawingJob, memory: int) -> None:
    """Hear nothing of a job: of its pictures everything is known already."""


def _usual_jobs(count: int) -> int:
    """One on an accelerator, which one concept fills; else one for every processor."""
    from storyforge.model.base import best_device

    return 1 if best_device().type == "cuda" else min(count, processors())
