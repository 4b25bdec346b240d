"""What the desk knows of one story besides its pages: what is drawn, what is to be, and by whom.

The plan is made in the background, once the author rests; nothing here waits for a model.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from storyforge.book.leaf import Art
from storyforge.desk import concepts
from storyforge.desk.bus import Bus
from storyforge.desk.queue import DrawQueue
from storyforge.desk.session import Session
from storyforge.engine.books import art_of
from storyforge.engine.engine import ledger_of
from storyforge.errors import StoryForgeError
from storyforge.plan.draft import draft_tasks
from storyforge.plan.plan import Plan
from storyforge.plan.status import StatusLine, subject_of
from storyforge.plan.takes import panel_named, picture_of, take_of
from storyforge.project.project import Project
from storyforge.store import Store, write_whole
from storyforge.tasks import PanelTask

_log = logging.getLogger(__name__)

_REST: Final = 0.6
"""Seconds after the last change before the plan is made."""

_LOOK: Final = 0.05
"""Seconds between two looks at the files."""

_TAKES: Final = 16
"""Takes of a panel that are looked for."""

Values = dict[str, object]


class Studio:
    """A story, its queue, its pictures, and who listens."""

    def __init__(self, story: Path, *, store: Path | None = None, watch: bool = True) -> None:
        """Open the story.

        watch  whether to look after files that change, and to plan
        """
        self.path = story
        self.store_root = store or story.parent / ".storyforge"
        name = hashlib.sha256(str(story.absolute()).encode()).hexdigest()[:8]
        folder = self.store_root / "desk" / f"{story.stem}-{name}"
        self.bus = Bus()
        self.pictures: dict[str, Path] = {}
        self.session = Session(story, folder, self.address)
        self.queue = DrawQueue(story, self.store_root, folder, self._heard)
        # A process of their own: they are there in seconds, whatever else is being drawn.
        own = folder / "drafts"
        self.drafts = DrawQueue(story, self.store_root, own, self._heard_of_draft, draft=True)
        self._asked: set[str] = set()
        self.plan_told: Values = {"lines": [], "trouble": "not planned yet"}
        self._planned = -1
        self._drawn = threading.Event()
        self._ended = threading.Event()
        if watch:
            for work in (self._watch, self._plan_on):
                threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        """End what runs beside."""
        self._ended.set()
        self._drawn.set()
        self.queue.close()
        self.drafts.close()

    def address(self, path: Path) -> str:
        """Where a picture's file can be fetched from now on, by its path and its state."""
        try:
            stamp = f"{path.absolute()} {path.stat().st_mtime_ns}"
        except OSError:
            stamp = str(path.absolute())
        word = hashlib.sha256(stamp.encode()).hexdigest()[:20]
        self.pictures[word] = path
        return f"picture/{word}"

    def _heard(self, event: str, content: Mapping[str, object]) -> None:
        self.bus.tell(event, content)
        if event == "drawn":
            self._drawn.set()

    def _heard_of_draft(self, event: str, content: Mapping[str, object]) -> None:
        if event == "drawn":
            self._heard(event, content)

    def changed(self) -> None:
        """Say that the pages are others."""
        self.bus.tell("pages", {"version": self.session.version})

    def look_anew(self) -> None:
        """Plan soon: what pictures are made from is another."""
        self._drawn.set()

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK):
            try:
                seen = self.session.look()
            except (StoryForgeError, OSError) as exc:  # such as a full disk
                _log.warning("%s", exc)
            else:
                if seen:
                    self.changed()

    def _plan_on(self) -> None:
        """Plan whenever something changed and the author rests, and when something was drawn."""
        seen = -1
        while not self._ended.is_set():
            drawn = self._drawn.wait(_REST)
            self._drawn.clear()
            version = self.session.version
            if drawn or (version == seen and version != self._planned):
                self.plan()
                self._planned = self.session.version
            seen = self.session.version

    def project(self) -> Project:
        """The story as its file is now, read anew."""
        return Project(self.path, store=self.store_root)

    def plan(self) -> Values:
        """What would be made, why, and how long it may take; the pages show what is drawn."""
        drafts: dict[str, Art] = {}
        try:
            project = self.project()
            drafts = self._drafts(project)
            survey = project.status()
            last, shown = self._art(project.plan(), project.store)
            # What was drawn of words that are no more gives way to a draft of those that are.
            self.session.show_art({**last, **drafts, **shown}, frozenset({*drafts} - {*shown}))
        except StoryForgeError as exc:
            self._keep_showing(drafts)
            self.plan_told = {"lines": [], "trouble": exc.message, "hint": exc.hint}
        except OSError as exc:
            self.plan_told = {"lines": [], "trouble": str(exc), "hint": None}
        else:
            lines = [_line(line) for line in survey.lines]
            self.plan_told = {"lines": lines, "seconds": survey.total.seconds, "trouble": None}
        self.bus.tell("plan", self.plan_told)
        self.changed()
        return self.plan_told

    def _drafts(self, project: Project) -> dict[str, Art]:
        """The drafts that are drawn, if the story asks for them; those that are not are begun."""
        try:
            story = project.story
            tasks = draft_tasks(story) if story.draft is not None else ()
            there = {**project.pins, **project.drawn()} if tasks else {}
        except StoryForgeError:
            return {}  # which the plan tells
        found: dict[str, Art] = {}
        lacking = []
        for task in tasks:
            if project.store.has("panels", task.key):
                found |= _opened(task.panel, project.store.path("panels", task.key))
            elif task.key not in self._asked and task.panel not in there:
                lacking.append(task.panel)
                self._asked.add(task.key)
        if lacking:
            self.drafts.add(lacking)
        return found

    def _keep_showing(self, drafts: dict[str, Art]) -> None:
        """Where nothing can be planned, drafts stand beside the pictures that were shown."""
        if drafts:
            before = self.session.art.items()
            real = {name: art for name, art in before if name not in self.session.drafts}
            self.session.show_art({**drafts, **real}, frozenset({*drafts} - {*real}))

    def _art(self, plan: Plan, store: Store) -> tuple[dict[str, Art], dict[str, Art]]:
        """The picture of every panel that was drawn last, where that is another than the one to be
        shown, and those to be shown."""
        entries = ledger_of(store, plan.story).entries()
        before: dict[str, Art] = {}
        shown: dict[str, Art] = {}
        for task in plan.pictures():
            last = entries.get(subject_of(task))
            path = picture_of(plan, store, task.panel, task.key)
            if path is not None:
                shown |= _opened(task.panel, path)
            elif last is not None and store.has("panels", last.key):
                before |= _opened(task.panel, store.path("panels", last.key))
        return before, shown

    def panel(self, name: str) -> Values:
        """The takes of a panel that are drawn, and which one the book shows.

        Raises StoryForgeError for a panel that the story does not have.
        """
        project = self.project()
        plan, store = project.plan(), project.store
        task = next((each for each in plan.panels if each.panel == name), None)
        if task is None:
            raise StoryForgeError(f"no panel named `{name}` in this story")
        shown = picture_of(plan, store, name, task.key)
        pin = plan.pins.get(name)
        entries = ledger_of(store, plan.story).entries()
        takes = []
        for take, own, seed in _keys(plan, task):
            # As `pick` does: the picture that was last drawn as this take, with whatever steps.
            last = entries.get(f"{subject_of(task)} take {take}")
            keys = [own] if last is None else [last.key, own]
            key = next((key for key in keys if store.has("panels", key)), None)
            if key is not None:
                takes.append(
                    {
                        "take": take,
                        "picture": self.address(store.path("panels", key)),
                        "seed": seed,
                        "shown": shown is not None and key == (pin.key if pin else task.key),
                        **self._scores(name, take),
                    }
                )
        pinned = None if pin is None else {"take": pin.take, "picture": self.address(pin.picture)}
        return {
            "panel": name,
            "takes": takes,
            "pinned": pinned,
            "prompt": task.prompt,
            "seconds": self._seconds(name),
        }

    def concept(self, name: str) -> Values:
        """All there is to see of a concept.

        Raises StoryForgeError for a name that the story does not have.
        """
        learning = self.queue.learning
        return concepts.concept(self.project(), name, self.address, learning)

    def _scores(self, panel: str, take: int) -> Values:
        """What the judge said of a take when it was drawn here."""
        told: Values = {}
        for job in self.queue.jobs():
            if job.panel == panel:
                for kind, scores in (("identity", job.likeness), ("obedience", job.obedience)):
                    found = dict(scores).get(str(take))
                    told |= {} if found is None else {kind: found}
        return told

    def _seconds(self, panel: str) -> object:
        lines = self.plan_told.get("lines")
        for line in lines if isinstance(lines, list) else []:
            if line["subject"] == f"panel {panel}":
                return line["seconds"]
        return None

    def retouch(self, panel: str, data: bytes) -> None:
        """Pin a picture that the author painted; the books show it from now on.

        Raises StoryForgeError for what is no picture.
        """
        project = self.project()
        scratch = self.session.folder / f"retouched-{hashlib.sha256(data).hexdigest()[:20]}.png"
        write_whole(scratch, data)
        try:
            project.pin_picture(panel, scratch)
        finally:
            scratch.unlink(missing_ok=True)
        self._drawn.set()

    def approve(self, verb: str, panel: str, take: int | None) -> None:
        """Pick a take, or pin or let go of what the book shows."""
        project = self.project()
        if verb == "pick" and take is not None:
            project.pick(panel, take)
        elif verb == "pin":
            project.pin([panel])
        else:
            project.unpin([panel])
        self._drawn.set()


def _keys(plan: Plan, task: PanelTask) -> list[tuple[int, str, int]]:
    """Number, key and seed of the takes that there may be."""
    own = panel_named(plan, task.panel)
    if own.seed is not None:
        return [(own.take, task.key, task.seed)]
    takes = range(max(_TAKES, own.take + 1))
    made = [(number, take_of(plan, task, number)[0]) for number in takes]
    return [(number, each.key, each.seed) for number, each in made]


def _line(line: StatusLine) -> Values:
    return {
        "subject": line.subject,
        "state": line.state,
        "reasons": list(line.reasons),
        "ignores": list(line.ignores),
        "seconds": line.cost.seconds,
    }


def _opened(panel: str, path: Path) -> dict[str, Art]:
    """A panel's picture; nothing if it cannot be read."""
    try:
        return {panel: art_of(panel, path)}
    except (StoryForgeError, OSError) as exc:
        _log.info("%s cannot be shown: %s", path, exc)
        return {}
