"""A story's plan at work: each task with what the plan says it is made from, and the books.

How tasks become products is `maker`'s; which of them are wanted is `project`'s to say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeVar

from storyforge.engine.books import Books
from storyforge.engine.inputs import learnt_of
from storyforge.engine.maker import Maker, watched
from storyforge.engine.orders import Sendable, Sender
from storyforge.engine.stages import DrawingJob
from storyforge.executor import Done, Failure, OnProgress, run
from storyforge.plan.plan import Plan
from storyforge.plan.status import subject_of
from storyforge.plan.takes import picture_of
from storyforge.store import Entry, Ledger, Store
from storyforge.story.story import Story
from storyforge.tasks import BookTask, FuseTask, PanelTask, Task

S = TypeVar("S", bound=Sendable)

_LONGEST: Final = 60
"""Letters of a story's name in its ledger's: file systems allow 255 bytes in all."""


class Elsewhere(Protocol):
    """Other machines."""

    def perform(
        self, tasks: Sequence[S], sender: Sender, on_progress: OnProgress, done: Done[S]
    ) -> Sequence[Failure[S]]:
        """Do every task, keep each product in the store, and say which failed."""


def ledger_of(store: Store, story: Story) -> Ledger:
    """The story's own ledger; several stories may share a store."""
    where = hashlib.sha256(str(story.path.absolute()).encode()).hexdigest()[:8]
    return store.ledger(f"{story.path.stem[:_LONGEST]}-{where}")


@dataclass(slots=True)
class Engine:
    """One run of a story.

    names  what the ledger calls a product, by key, where it is not the plan's own
    share  hears of every product that was made
    """

    plan: Plan
    store: Store
    on_progress: OnProgress
    names: Mapping[str, str] = field(default_factory=dict)
    share: Callable[[Task], None] = lambda _: None
    maker: Maker = field(init=False)
    books: Books = field(init=False)

    def __post_init__(self) -> None:
        """Open the ledger."""
        ledger = ledger_of(self.store, self.plan.story)
        self.maker = Maker(
            self.store, ledger, self.plan.key_inputs, self.on_progress, self._name, self.share
        )
        self.books = Books(self.store, self.plan.story, self.plan.pins, self._note)

    def go_to(self, elsewhere: Elsewhere) -> None:
        """Let other machines do what takes a model."""

        def send(todo: Sequence[S]) -> Sequence[Failure[S]]:
            sender = Sender(self.plan, self.store)
            return elsewhere.perform(todo, sender, self.on_progress, self.maker.keep)

        self.maker.send = send

    def fuse(self, task: FuseTask | None) -> None:
        """Fuse the concepts, if every one of them was learnt."""
        if task is None or self.maker.troubles:
            return
        files = {name: self._concept_file(name, key) for name, key in task.concepts}
        self.maker.fuse(task, files, learnt_of(task, self.plan))
        self.note_all()

    def _concept_file(self, name: str, key: str) -> Path:
        return concept_file(self.plan, self.store, name, key)

    def draw(self, tasks: Sequence[PanelTask], previews: Path | None = None) -> None:
        """Draw pictures, the base opened once.

        previews  a folder where they can be seen while they are drawn
        """
        if not tasks:
            return
        if lacking := self._lacking(tasks):
            self.maker.regret_unmade(tasks, f"{lacking} is not made")
            return
        fuse = self.plan.fuse
        fused = self.store.path("fused", fuse.key) if fuse is not None else None
        brought = {key for task in tasks for _, key in task.concepts} - self.plan.learnt_keys
        job = DrawingJob(tuple(tasks), fused, self._own_files(tasks), frozenset(brought))
        self.maker.draw([job], previews=previews)

    def _lacking(self, tasks: Sequence[PanelTask]) -> str | None:
        """What panels are drawn with and is not there; None if all of it is."""
        fuse = self.plan.fuse
        if fuse is not None and not self.store.has("fused", fuse.key):
            return "the fused model"
        own = self._own_files(tasks).items()
        return next((f"concept `{name}`" for name, file in own if not file.is_file()), None)

    def _own_files(self, tasks: Sequence[PanelTask]) -> dict[str, Path]:
        """The concepts whose own weights some panel is drawn with."""
        named = dict(pair for task in tasks for pair in task.concepts)
        return {name: self._concept_file(name, key) for name, key in named.items()}

    def bind(self, tasks: Sequence[BookTask]) -> None:
        """Bind books, unless pictures are missing."""
        if all(self.all_drawn(task) for task in tasks):

            def attempt(todo: Sequence[BookTask]) -> Sequence[Failure[BookTask]]:
                """Bind those that are wanted."""
                return run(self.books.perform, todo, 1, self.on_progress, self.maker.keep)

            self.maker.until_made(tasks, attempt)

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

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Enter in the ledger what is there and what is made, however this ends."""
        self.note_all()
        try:
            with self.maker.interruptible():
                yield
        finally:
            self.note_all()

    def note_all(self) -> None:
        """Enter what exists already: it is what was last made of its subject."""
        # What was watched for the fused model is no task's: other fusions will want it too.
        self.maker.note(
            self.plan.tasks(), {} if self.plan.fuse is None else watched(self.plan.fuse)
        )

    def _name(self, task: Task) -> str:
        return self.names.get(task.key) or subject_of(task)

    def _note(self, subject: str, entry: Entry) -> None:
        """Enter what was made on the way to a book."""
        self.maker.enter({subject: entry})


def proof(story: Story, language: str | None) -> None:
    """Set the whole book without its pictures: what does not fit is known before they are drawn.

    Raises StoryForgeError, naming the page.
    """
    from storyforge.book.page import bind, undrawn

    bind(story, undrawn(story), language)


def concept_file(plan: Plan, store: Store, name: str, key: str) -> Path:
    """Where a concept of the plan lies: where the author put it, or in the store."""
    spec = plan.story.concepts[name]
    given = isinstance(spec, Path) and all(task.concept != name for task in plan.imports)
    return spec if given and isinstance(spec, Path) else store.path("concepts", key)
