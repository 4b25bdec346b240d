"""One story on the desk: its text, its pages and findings, and every change of it.

The file is the truth. What another editor writes is shown as soon as it is seen, and kept in the
history beside what was done here; nothing is written over unseen.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from storyforge.book.fit import fit_findings
from storyforge.book.leaf import Art
from storyforge.desk.hand import Change, changed, same
from storyforge.desk.history import History
from storyforge.desk.pages import Pages, Values
from storyforge.errors import Diagnostic, Severity, StoryForgeError
from storyforge.geometry.box import Box
from storyforge.plan.panels import control_findings
from storyforge.plan.pins import findings_in
from storyforge.provenance.found import found_boxes
from storyforge.store import write_whole
from storyforge.story.edit import BOM
from storyforge.story.keeping import with_found
from storyforge.story.story import Story, examined


class ChangedElsewhere(StoryForgeError):
    """The file is not what the page had in hand when it was changed there."""


@dataclass(slots=True)
class _Move:
    """One drag: from where, and the text before and after it."""

    panel: str
    region: str
    box: Box
    before: str
    after: str


@dataclass(slots=True)
class Session:
    """A story's file, opened.

    folder    where the desk keeps what is its own
    source    the address of a picture's file
    on_change is called when pages or findings are others
    """

    path: Path
    folder: Path
    source: Callable[[Path], str]
    on_change: Callable[[], None] = lambda: None
    text: str = ""
    story: Story | None = None
    findings: tuple[Diagnostic, ...] = ()
    art: dict[str, Art] = field(default_factory=dict)
    drafts: frozenset[str] = frozenset()
    pages: Pages = field(init=False)
    history: History = field(init=False)
    version: int = 0
    _shown: tuple[Values, dict[str, str]] = field(default_factory=lambda: ({}, {}))
    _trouble: str | None = None
    _moves: list[_Move] = field(default_factory=list)
    _stamp: tuple[object, ...] = ()
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        """Read the file; what is wrong with it is among the findings."""
        self.pages = Pages(self.source)
        self.history = History(self.folder / "history")
        self._stamp = self._stamp_now()
        self._take(self._read(), typed=False)

    def _read(self) -> str:
        try:
            return self.path.read_bytes().decode("utf-8")
        except OSError as exc:
            raise StoryForgeError(f"cannot read `{self.path}`: {exc.strerror}") from exc
        except UnicodeDecodeError as exc:
            raise StoryForgeError(f"`{self.path}` is not UTF-8", hint="save it as UTF-8") from exc

    def _take(self, text: str, *, typed: bool) -> None:
        """Let this be the story's text from now on, whatever is wrong with it."""
        self.text = text
        self.history.note(text.encode(), typed=typed)
        self._compose()

    def _compose(self) -> None:
        story, self.findings = examined(self.path, self.text.removeprefix(BOM))
        self._trouble = None
        if story is not None:
            self.story = story
            try:
                self._shown = self.pages.shown(story, None, self._art_of(story))
            except StoryForgeError as exc:
                self._trouble = exc.message
        self.version += 1

    def _art_of(self, story: Story) -> dict[str, Art]:
        known = {panel.id for _, panel in story.panels()}
        there = self.art.items()
        return {name: art for name, art in there if name in known and art.path.is_file()}

    def view(self, have: frozenset[str] = frozenset()) -> Values:
        """The pages as plain data; SVGs of those alone that the reader does not have yet."""
        with self._lock:
            told, painted = self._shown
            undo, redo = self.history.steps
            return {
                **told,
                "drafts": sorted(self.drafts),
                "version": self.version,
                "text": self.digest(),
                "svgs": {digest: svg for digest, svg in painted.items() if digest not in have},
                "findings": [_finding(each) for each in self.findings],
                "trouble": self._trouble,
                "undo": undo,
                "redo": redo,
            }

    def digest(self) -> str:
        """What the text is, in a word."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    def type(self, text: str, base: str) -> None:
        """Take what was typed, and write it.

        base  the digest of the text that was changed

        Raises ChangedElsewhere if the file has another text by now; nothing is written then.
        """
        with self._lock:
            self.look()
            if base != self.digest() and text != self.text:
                self._keep_aside(text)
                message = "the story was changed elsewhere meanwhile"
                raise ChangedElsewhere(message, hint="both versions are in the history")
            self._write(text, typed=True)

    def _keep_aside(self, text: str) -> None:
        """Keep a version in the history that is not the file's."""
        self.history.note(text.encode())
        self.history.note(self.text.encode())

    def move(self, panel: str, region: str, box: Box) -> None:
        """Put a region into another place; back again, the bytes are what they were."""
        with self._lock:
            self.look()
            story = self._sound()
            before, old = self.text, self._box_of(story, panel, region)
            last = self._moves[-1] if self._moves else None
            back = last is not None and (last.panel, last.region) == (panel, region)
            if last is not None and back and last.after == before and same(last.box, box):
                self._moves.pop()
                self._write(last.before)
                return
            after = changed(before, story, Change(panel, "box", box, region))
            kept = self._moves if last is not None and last.after == before else []
            self._moves = [*kept, _Move(panel, region, old, before, after)]
            self._write(after)

    def change(self, change: Change) -> None:
        """Set one key of a panel or a region."""
        with self._lock:
            self.look()
            self._write(changed(self.text, self._sound(), change))

    def keep_found(self, panel: str) -> None:
        """Write the regions that were found in a panel's picture into the story."""
        with self._lock:
            self.look()
            story = self._sound()
            found = next((each for _, each in story.panels() if each.id == panel), None)
            if found is None:
                raise StoryForgeError(f"no panel named `{panel}` in this story")
            art = self._art_of(story).get(panel)
            self._write(with_found(self.text, found, found_boxes(art.path) if art else {}))

    def undo(self) -> bool:
        """Write the version before; False if there is none."""
        return self._step(self.history.undo)

    def redo(self) -> bool:
        """Write the version after; False if there is none."""
        return self._step(self.history.redo)

    def _step(self, step: Callable[[], bytes | None]) -> bool:
        with self._lock:
            self.look()
            data = step()
            if data is None:
                return False
            self._write(data.decode())
            return True

    def _write(self, text: str, *, typed: bool = False) -> None:
        if text != self.text:
            # The history has it first: whatever happens to the file, nothing is lost.
            self.history.note(text.encode(), typed=typed)
            write_whole(self.path, text.encode())
            self._stamp = self._stamp_now()
            self.text = text
            self._compose()

    def _sound(self) -> Story:
        if self.story is None or any(each.severity is Severity.ERROR for each in self.findings):
            message = "the story has mistakes"
            raise StoryForgeError(message, hint="mend what is underlined first")
        return self.story

    def _box_of(self, story: Story, panel: str, region: str) -> Box:
        for _, each in story.panels():
            if each.id == panel and region in each.regions:
                return story.region_boxes(each)[region]
        raise StoryForgeError(f"panel `{panel}` has no region `{region}`")

    def look(self) -> bool:
        """See whether somebody else changed the story, and take that in."""
        with self._lock:
            stamp = self._stamp_now()
            if stamp == self._stamp:
                return False
            self._stamp = stamp
            try:
                text = self._read()
            except StoryForgeError as exc:
                self._trouble = exc.message
                self.version += 1
                return True
            if text == self.text:
                self._compose()
            else:
                self._take(text, typed=False)
            return True

    def _stamp_now(self) -> tuple[object, ...]:
        """What tells that the story, its layouts, its translations or its concepts are others."""
        folder = self.path.parent
        files = [self.path, *sorted((folder / "layouts").glob("*.yaml"))]
        files += sorted((folder / "locales").glob("*.yaml"))
        if self.story is not None:
            specs = self.story.concepts.values()
            files += [spec.folder / "concept.yaml" for spec in specs if not isinstance(spec, Path)]
        return tuple(map(_stamp, files))

    def show_art(self, art: dict[str, Art], drafts: frozenset[str] = frozenset()) -> None:
        """Show these pictures in the pages from now on.

        drafts  the panels whose picture is one
        """
        with self._lock:
            if art != self.art or drafts != self.drafts:
                self.art, self.drafts = art, drafts
                self._compose()

    def check(self) -> list[Values]:
        """Every finding there is, those about pages and pins included."""
        with self._lock:
            story, found = self.story, self.findings
            if story is not None and not any(f.severity is Severity.ERROR for f in found):
                more = (*findings_in(self.path), *control_findings(story))
                found = (*found, *more, *fit_findings(story, self.pages.kept))
        return [_finding(each) for each in sorted(set(found))]


def _stamp(path: Path) -> tuple[str, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return str(path), status.st_mtime_ns, status.st_size


def _finding(found: Diagnostic) -> Values:
    return {
        "file": Path(found.file).name,
        "path": found.file,
        "line": found.line,
        "column": found.column,
        "code": found.code,
        "severity": found.severity.value,
        "message": found.message,
        "hint": found.hint,
    }
