"""Books from a store's pictures: bound once for all formats, enlarged for print where asked.

What a page looks like is `book`'s; when books are made is `engine.engine`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from storyforge.errors import Diagnostic, EnvironmentProblem, Report, StoryForgeError, TaskFailed
from storyforge.executor import OnProgress
from storyforge.geometry.box import Box
from storyforge.pictures import beside
from storyforge.plan.keys import KeyInputs, key_of
from storyforge.plan.pins import Pin
from storyforge.plan.status import subject_of
from storyforge.provenance.recipe import subjects_in
from storyforge.provenance.xmp import told_by
from storyforge.store import Entry, Store, fingerprint
from storyforge.store.products import Source
from storyforge.story.story import Story
from storyforge.tasks import BookTask

if TYPE_CHECKING:
    from storyforge.book.leaf import Art, Book, Rect
    from storyforge.book.preflight import Marks

NoteProduct = Callable[[str, Entry], None]
"""Enters in the ledger what was made of a subject, so that the store keeps it."""


@dataclass(slots=True)
class Books:
    """The books of one story.

    pinned   the pictures that are not taken from the store, by panel
    note     hears of enlarged pictures
    """

    store: Store
    story: Story
    pinned: Mapping[str, Pin]
    note: NoteProduct
    books: dict[str, Book] = field(default_factory=dict)

    def bound(self, task: BookTask) -> Book:
        """The book in the task's language, every page composed; its pictures are as drawn.

        Raises StoryForgeError, naming the page.
        """
        from storyforge.book.page import bind

        if task.language not in self.books:
            art = {panel: art_of(panel, self._drawn(panel, key)) for panel, key in task.panels}
            self.books[task.language] = bind(self.story, art, task.language)
        return self.books[task.language]

    def perform(self, task: BookTask, on_progress: OnProgress) -> None:
        """Write one book to the store."""
        from storyforge.book.formats import write_book
        from storyforge.book.wrap import inside, press_of, wrap

        subject = subject_of(task)
        on_progress(f"{subject}: binding", 0, 1)
        book = self.printed(task, on_progress)
        if task.format == "cover":
            book = wrap(book, self.story)
        elif task.format == "inside":
            book = inside(book)
        if task.format in {"cover", "inside"}:
            book = replace(book, press=press_of(self.story))
        with self.store.make_missing(task.format, task.key, self._sources(task)) as path:
            if path is not None:
                write_book(book, task.format, path, task.ppi)
                self._check_pinned(task)
        on_progress(f"{subject}: binding", 1, 1)

    def printed(self, task: BookTask, on_progress: OnProgress) -> Book:
        """The book with its pictures as large as the story asks for.

        Raises EnvironmentProblem if the model that enlarges them is missing.
        """
        from storyforge.book.upscale import widths, with_art

        book = self.bound(task)
        method = self.story.book.upscale
        if method == "none":
            return book
        keys = dict(task.panels)
        model = None if method == "lanczos" else self._model(method)
        wanted = widths(book)
        larger = {
            panel: self._enlarged(panel, keys[panel], wanted[panel], model, on_progress)
            for panel in wanted
            if panel in keys
        }
        return with_art(book, larger)

    def judged(self, tasks: Sequence[BookTask], on_progress: OnProgress) -> tuple[Diagnostic, ...]:
        """Whether the book is fit to print: its pages, and its PDF if that is made.

        Raises StoryForgeError where the book cannot be bound.
        """
        from storyforge.book.preflight import check_book, check_pdf

        report, marks = Report(str(self.story.path)), _marks(self.story)
        for number, task in enumerate(tasks):
            book = self.printed(task, on_progress)
            if number == 0:
                check_book(book, replace(marks, drawn=_widths(self.bound(task))), report)
            if task.format == "pdf" and self.store.has("pdf", task.key):
                check_pdf(book, self.store.path("pdf", task.key), marks, report)
        return tuple(sorted(report.findings()))

    def _drawn(self, panel: str, key: str) -> Path:
        pin = self.pinned.get(panel)
        return self.store.path("panels", key) if pin is None else pin.picture

    def _sources(self, task: BookTask) -> list[Source]:
        return [("panels", key) for panel, key in task.panels if panel not in self.pinned]

    def _check_pinned(self, task: BookTask) -> None:
        """Raise TaskFailed if a pinned picture is not any more what was approved."""
        for panel in dict(task.panels).keys() & self.pinned.keys():
            pin = self.pinned[panel]
            if fingerprint(pin.picture) != pin.sha256:
                message = f"`{pin.picture}` was changed while the book was bound"
                raise TaskFailed(message, hint="run the same command again")

    def _model(self, method: str) -> Path:
        path = beside(self.story.folder, method)
        if not path.is_file():
            hint = "`book.upscale` is `none`, `lanczos`, or a model file"
            raise EnvironmentProblem(f"no file at `{path}` to enlarge pictures with", hint=hint)
        return path

    def _enlarged(
        self, panel: str, drawn: str, width: int, model: Path | None, on_progress: OnProgress
    ) -> Art:
        """One picture from the store, enlarged and kept there."""
        method = "lanczos" if model is None else fingerprint(model)
        recipe: KeyInputs = {
            "make": "upscaled 1",
            "panel": drawn,
            "method": method,
            "width": width,
        }
        key = key_of(recipe)
        while not self.store.sound("upscaled", key):
            own: list[Source] = [] if panel in self.pinned else [("panels", drawn)]
            with self.store.make_missing("upscaled", key, own) as path:
                if path is not None:
                    source = self._drawn(panel, drawn)
                    _enlarge(panel, source, model, width, path, on_progress)
            self.store.wait_for("upscaled", key)
            self.note(f"upscaled {panel}", Entry(key, recipe))
        return art_of(panel, self.store.path("upscaled", key))


def _widths(book: Book) -> dict[str, int]:
    """How many pixels across each panel's picture has."""
    return {item.art.panel: item.art.width for leaf in book.leaves for item in leaf.pictures}


def _marks(story: Story) -> Marks:
    """Where the story file speaks of its book and of each panel."""
    from storyforge.book.preflight import Marks

    named = {panel.id: story.places.panel(panel.id) for _, panel in story.panels()}
    return Marks(story.places.key("book"), named)


def _enlarge(
    panel: str, source: Path, model: Path | None, width: int, path: Path, on_progress: OnProgress
) -> None:
    from storyforge.book.upscale import fitted, opened, save

    picture, made = opened(source), told_by(source) or "model"
    if model is None:
        save(fitted(picture, width), path, made)
        return
    from storyforge.sample.upscaler import enlarge_until, open_upscaler

    def about(what: str, done: int, total: int) -> None:
        """Tell of the picture under its own name."""
        on_progress(f"upscaled {panel}: {what}", done, total)

    larger = enlarge_until(picture, open_upscaler(model), width, about)
    save(fitted(larger, width), path, made)


_PNG: Final = b"\x89PNG\r\n\x1a\n"


def art_of(panel: str, path: Path) -> Art:
    """The picture with its size, who made it and who is where, read from the PNG's head.

    Raises StoryForgeError if it is no PNG.
    """
    from storyforge.book.leaf import Art, DrawnSubject

    with path.open("rb") as file:
        head = file.read(24)
    size = int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
    if not head.startswith(_PNG) or 0 in size:
        raise StoryForgeError(f"`{path}` is no picture", hint="`storyforge cache verify --repair`")
    subjects = tuple(
        DrawnSubject(
            name, _rect(each.body), None if each.head is None else _rect(each.head), each.exact
        )
        for name, each in subjects_in(path).items()
    )
    return Art(panel, path, *size, told_by(path) or "model", subjects)


def _rect(box: Box) -> Rect:
    from storyforge.book.leaf import Rect

    return Rect(box.x0, box.y0, box.width, box.height)
