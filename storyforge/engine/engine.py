"""The stages at work: what is missing of a plan is made, kept at once, and entered in the ledger.

One failed task takes nothing from the others. Which tasks are wanted is `project`'s to say.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final, TypeVar

from storyforge.engine.books import Books
from storyforge.engine.inputs import (
    InputSums,
    check_files,
    check_own,
    check_panel,
    check_pictures,
    sources_of,
    sums_of,
)
from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.executor import Failure, OnProgress, peak_memory, processors, run
from storyforge.plan.plan import Plan
from storyforge.plan.status import shelf_of, subject_of
from storyforge.plan.takes import picture_of
from storyforge.store import Entry, Ledger, Store, size_of
from storyforge.store.products import Source
from storyforge.story.story import Story
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
    from storyforge.model.base import BaseModel
    from storyforge.train.logs import Logs

_log = logging.getLogger(__name__)

T = TypeVar("T", TrainTask, ImportTask, FuseTask, PanelTask, OwnPictureTask, BookTask)

_LONGEST: Final = 60
"""Letters of a story's name in its ledger's: file systems allow 255 bytes in all."""

_PACE: Final = 2.0
"""Seconds between two writings of the ledger; a thousand entries take a tenth of one."""


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


class Interrupted(KeyboardInterrupt):
    """Somebody ended the run; what was finished is kept."""

    def __init__(self, kept: Counts) -> None:
        """Say what this run had made by then."""
        super().__init__("interrupted")
        self.kept = kept


def ledger_of(store: Store, story: Story) -> Ledger:
    """The story's own ledger; several stories may share a store."""
    where = hashlib.sha256(str(story.path.absolute()).encode()).hexdigest()[:8]
    return store.ledger(f"{story.path.stem[:_LONGEST]}-{where}")


@dataclass(slots=True)
class Engine:
    """One run at work: what it has made, and what went wrong.

    names      what the ledger calls a product, by key, where it is not the plan's own
    share      hears of every product that was made
    unwritten  entries that the ledger's file does not have yet
    """

    plan: Plan
    store: Store
    on_progress: OnProgress
    troubles: list[Trouble] = field(default_factory=list)
    made: list[Task] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    share: Callable[[Task], None] = lambda _: None
    unwritten: dict[str, Entry] = field(default_factory=dict)
    written: float = 0.0
    stage_began: float = 0.0
    made_before: int = 0
    books: Books = field(init=False)

    def __post_init__(self) -> None:
        """Open the ledger."""
        self.books = Books(self.store, self.plan.story, self.plan.pins, self._note)
        self.entries = ledger_of(self.store, self.plan.story).entries()

    def learn(self, tasks: Sequence[TrainTask], jobs: int | None, logs: Logs | None = None) -> None:
        """Learn concepts, several at a time; by-products of each go to its folder in `logs`."""
        if not tasks:
            return
        self._begin()
        sums = {task.key: sums_of(task, self.plan.key_inputs) for task in tasks}
        work = partial(learn_concept, self.store.root, logs, sums)

        def learn(todo: Sequence[TrainTask]) -> Sequence[Failure[TrainTask]]:
            return run(work, todo, jobs or _usual_jobs(len(todo)), self.on_progress, self._keep)

        self._regret(self._until_made(tasks, learn))

    def take_in(self, tasks: Sequence[ImportTask]) -> None:
        """Make concepts of other tools' files."""
        if tasks:
            self._begin()
            work = Importer(self.store)
            self._regret(
                self._until_made(
                    tasks, lambda todo: run(work.perform, todo, 1, self.on_progress, self._keep)
                )
            )

    def take_own(self, tasks: Sequence[OwnPictureTask]) -> None:
        """Make the author's own pictures ready for books."""
        if tasks:
            self._begin()
            work = partial(ready_picture, self.store)
            self._regret(
                self._until_made(
                    tasks, lambda todo: run(work, todo, 1, self.on_progress, self._keep)
                )
            )

    def fuse(self, task: FuseTask | None) -> None:
        """Fuse the concepts, if every one of them was learnt."""
        if task is None or self.troubles:
            return
        self._begin()
        files = {name: self._concept_file(name, key) for name, key in task.concepts}
        work = partial(fuse_concepts, self.store, files, sources_of(task, self.plan))
        self._regret(
            self._until_made([task], lambda todo: run(work, todo, 1, self.on_progress, self._keep))
        )
        self.note_all()

    def _concept_file(self, name: str, key: str) -> Path:
        return concept_file(self.plan, self.store, name, key)

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
        self._regret(self._until_made(tasks, partial(self._draw_all, work)))

    def _draw_all(
        self, work: Callable[[tuple[PanelTask, ...], OnProgress], None], tasks: Sequence[PanelTask]
    ) -> Sequence[Failure[PanelTask]]:
        failures = run(work, [tuple(tasks)], 1, self.on_progress, lambda *_: None)
        rest = [task for task in tasks if not self._is_in_hand(task)]
        if not failures or not rest:
            return ()
        error = failures[0].error
        if len(tasks) == 1 or (len(rest) == len(tasks) and isinstance(error, EnvironmentProblem)):
            return [Failure(task, error) for task in rest]
        alone = [(task,) for task in rest]
        failed = run(work, alone, 1, self.on_progress, lambda *_: None)
        return [Failure(failure.task[0], failure.error) for failure in failed]

    def _is_in_hand(self, task: Task) -> bool:
        """Whether the product is there, or another run is at it."""
        shelf = shelf_of(task)
        return self.store.has(shelf, task.key) or self.store.is_making(shelf, task.key)

    def _until_made(
        self, tasks: Sequence[T], attempt: Callable[[Sequence[T]], Sequence[Failure[T]]]
    ) -> Sequence[Failure[T]]:
        """Make what nobody else is making, then wait for those who are; what failed.

        Where another run ended before its product was there, it is made here after all.
        """
        failures: list[Failure[T]] = []
        todo = list(tasks)
        while todo:
            failures += attempt(todo)
            failed = {failure.task.key for failure in failures}
            todo = [task for task in todo if task.key not in failed and not self._is_there(task)]
            for task in todo:
                self.on_progress(f"{subject_of(task)}: waiting for another run", 0, 1)
                self.store.wait_for(shelf_of(task), task.key)
            todo = [task for task in todo if not self._is_there(task)]
        self.flush()
        return failures

    def _is_there(self, task: Task) -> bool:
        return self.store.has(shelf_of(task), task.key)

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
    def _drawn(self, task: PanelTask) -> Iterator[Path | None]:
        """Take in one picture as soon as it is finished; None if it need not be drawn here."""
        sources = sources_of(task, self.plan)
        with self.store.make_missing("panels", task.key, sources) as path:
            yield path
            if path is not None:
                check_panel(task)
        if path is not None:
            self._keep(task, peak_memory())

    def bind(self, tasks: Sequence[BookTask]) -> None:
        """Bind books, unless pictures are missing."""
        if all(self.all_drawn(task) for task in tasks):
            self._begin()

            def attempt(todo: Sequence[BookTask]) -> Sequence[Failure[BookTask]]:
                return run(self.books.perform, todo, 1, self.on_progress, self._keep)

            self._regret(self._until_made(tasks, attempt))

    def compose(self, tasks: Sequence[BookTask]) -> None:
        """Set the books' pages beforehand, without pictures where some are missing.

        Raises StoryForgeError, naming the page on which something does not fit.
        """
        if any(task.format == "cover" for task in tasks):
            from storyforge.book.wrap import check_spine

            check_spine(self.plan.story)
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

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Enter in the ledger what is there and what is made, however this ends."""
        self.note_all()
        try:
            yield
        except KeyboardInterrupt as exc:
            raise Interrupted(self.counts()) from exc
        finally:
            self.note_all()

    def note_all(self) -> None:
        """Enter what exists already: it is what was last made of its subject."""
        before = dict(self.entries)
        self._note_statistics()
        for task in self.plan.tasks():
            known = self.entries.get(self._name(task))
            if self.store.has(shelf_of(task), task.key) and (not known or known.key != task.key):
                self.entries[self._name(task)] = self._entry(task)
        self._enter_all({k: v for k, v in self.entries.items() if before.get(k) != v})
        self.flush()

    def flush(self) -> None:
        """Write what is not in the ledger yet, beside what other runs have entered meanwhile."""
        if self.unwritten:
            ledger_of(self.store, self.plan.story).merge(self.unwritten)
            self.unwritten.clear()
            self.written = perf_counter()

    def _enter_all(self, entries: Mapping[str, Entry]) -> None:
        """Take entries down; they are written together with others of these seconds."""
        self.entries |= entries
        self.unwritten |= entries
        if perf_counter() - self.written > _PACE:
            self.flush()

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
        if not self._is_there(task):
            return
        self.made.append(task)
        seconds = (perf_counter() - self.stage_began) / (len(self.made) - self.made_before)
        _log.info("%s: made in %.1f s (%s)", self._name(task), seconds, task.key)
        self._enter_all({self._name(task): self._entry(task, round(seconds, 2), memory)})
        self.share(task)

    def _entry(self, task: Task, seconds: float = 0.0, memory: int = 0) -> Entry:
        size = size_of(self.store.path(shelf_of(task), task.key))
        return Entry(task.key, self.plan.key_inputs[task.key], seconds, memory, size)

    def _name(self, task: Task) -> str:
        return self.names.get(task.key) or subject_of(task)

    def _note(self, subject: str, entry: Entry) -> None:
        """Enter what was made on the way to a book."""
        self._enter_all({subject: entry})

    def _regret(self, failures: Sequence[Failure[T]]) -> None:
        self.troubles += [Trouble(subject_of(each.task), each.error) for each in failures]


def proof(story: Story, language: str | None) -> None:
    """Set the whole book without its pictures: what does not fit is known before they are drawn.

    Raises StoryForgeError, naming the page.
    """
    from storyforge.book.page import bind, undrawn

    bind(story, undrawn(story), language)


def _usual_jobs(count: int) -> int:
    """One on an accelerator, which one concept fills; else one for every processor."""
    from storyforge.model.base import best_device

    return 1 if best_device().type == "cuda" else min(count, processors())


def _about(task: Task, on_progress: OnProgress) -> OnProgress:
    """Tell of a task under its own name."""
    return lambda what, done, total: on_progress(f"{subject_of(task)}: {what}", done, total)


def opened(task: TrainTask | ImportTask | FuseTask | PanelTask) -> BaseModel:
    """The base that a task names, where it is asked to lie; opened once for all stages of a run."""
    base, side = _opened(task.base, task.base_hash)
    base.resize(side)
    return base


@lru_cache(maxsize=1)
def _opened(reference: str, identity: str) -> tuple[BaseModel, int]:
    """A base, and how large it writes its pictures of itself."""
    from storyforge.model.placement import open_placed

    base = open_placed(reference, identity)
    return base, base.side


def learn_concept(
    root: Path,
    logs: Logs | None,
    sums: Mapping[str, InputSums],
    task: TrainTask,
    on_progress: OnProgress,
) -> None:
    """Learn one concept into the store at `root`, unless it is there or another run is at it.

    sums  by the task's key, what its pictures were then
    """
    from storyforge.engine.judge import judge_of
    from storyforge.train import edlora

    store, judge, base = Store(root), judge_of(task), opened(task)
    with store.make_missing("concepts", task.key) as path:
        if path is None:
            return
        own = None if logs is None else logs.of(task.concept)
        scratch = store.scratch(task.key)
        edlora.train_concept(base, task, path, scratch, _about(task, on_progress), own, judge=judge)
        if task.settings.statistics is not None:
            from storyforge.fuse import carried

            carried.carry_statistics(base, task, path, _about(task, on_progress))
        check_pictures(task, sums.get(task.key, {}))


def concept_file(plan: Plan, store: Store, name: str, key: str) -> Path:
    """Where a concept of the plan lies: where the author put it, or in the store."""
    spec = plan.story.concepts[name]
    given = isinstance(spec, Path) and all(task.concept != name for task in plan.imports)
    return spec if given and isinstance(spec, Path) else store.path("concepts", key)


def ready_picture(store: Store, task: OwnPictureTask, on_progress: OnProgress) -> None:
    """Take one picture of the author's own into the store.

    Raises StoryForgeError if it cannot be read.
    """
    from storyforge.book.own import ready

    tell = _about(task, on_progress)
    tell("taking in", 0, 1)
    with store.make_missing("panels", task.key) as path:
        if path is not None:
            path.write_bytes(ready(task.file, task.made))
            check_own(task)
    tell("taking in", 1, 1)


@dataclass(slots=True)
class Importer:
    """Makes concepts of other tools' files; the base is opened once for all of them."""

    store: Store
    base: BaseModel | None = None

    def perform(self, task: ImportTask, on_progress: OnProgress) -> None:
        """Import one file into the store."""
        from storyforge.model.formats.foreign import Wanted, import_concept

        tell = _about(task, on_progress)
        tell("importing", 0, 1)
        self.base = self.base or opened(task)
        wanted = Wanted(task.concept, task.kind, task.class_phrase)
        with self.store.make_missing("concepts", task.key) as path:
            if path is not None:
                import_concept(self.base, task.file, wanted).concept.save(path)
        tell("importing", 1, 1)


def fuse_concepts(
    store: Store,
    concepts: dict[str, Path],
    learnt: Sequence[Source],
    task: FuseTask,
    on_progress: OnProgress,
) -> None:
    """Fuse concepts into the store, unless the model is there or another run is at it.

    concepts  their files, by name
    learnt    those of them that are products
    """
    from storyforge.fuse import fusion

    with store.make_missing("fused", task.key, learnt) as path:
        if path is None:
            return
        fusion.fuse_concepts(
            partial(opened, task), task, concepts, store, path, _about(task, on_progress)
        )
        check_files(task, concepts, learnt)


Keeper = Callable[[PanelTask], AbstractContextManager[Path | None]]
"""Gives the path to write a picture to, and takes it in; None if it need not be drawn."""


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
