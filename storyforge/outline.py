"""What of a plan has to be made, why, and how long it may take, judged by what was made before.

Reasons come from the store's ledger; without it everything that is missing is called new.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Final, Literal

from storyforge.panels import PanelTask
from storyforge.plan import BookTask, FuseTask, Plan, Recipe, Task, TrainTask
from storyforge.store import Entry, Shelf, Store

State = Literal["fresh", "stale", "unneeded"]

_CHANGED: Final = {
    "base": "the base changed",
    "base_hash": "the base changed",
    "class": "its class changed",
    "font": "the font changed",
    "fused": "the fused model changed",
    "guidance_scale": "guidance changed",
    "make": "storyforge changed",
    "pictures": "pictures changed",
    "region_blend": "region_blend changed",
    "settings": "settings changed",
    "story": "words or settings changed",
}
"""How a field of a recipe is called in a reason; others by their own name."""


@dataclass(frozen=True, slots=True)
class Line:
    """One task of a plan, and what becomes of it.

    state     `fresh`: made already; `stale`: to be made; `unneeded`: missing, and nothing asks
              for it
    reason    why it is stale; empty if it is not
    seconds   how long it may take, from what its like took; None if unknown or not to be made
    """

    subject: str
    task: Task
    state: State
    reason: str
    seconds: float | None


def shelf_of(task: Task) -> Shelf:
    """Where the store keeps what the task makes."""
    match task:
        case TrainTask():
            return "concepts"
        case FuseTask():
            return "fused"
        case PanelTask():
            return "panels"
        case BookTask():
            return task.format


def subject_of(task: Task) -> str:
    """What the task makes, in words that stay the same when its key changes."""
    match task:
        case TrainTask():
            return f"concept {task.concept}"
        case FuseTask():
            return "fused model"
        case PanelTask():
            return f"panel {task.panel}"
        case BookTask():
            return f"book {task.format} {task.language}"


def missing(plan: Plan, store: Store) -> Plan:
    """The plan without what exists already, and without what nothing missing is made from."""
    books = tuple(book for book in plan.books if not store.has(book.format, book.key))
    panels = tuple(panel for panel in plan.panels if not store.has("panels", panel.key))
    fuse = plan.fuse
    if fuse is not None and (not panels or store.has("fused", fuse.key)):
        fuse = None
    fused = dict(fuse.concepts) if fuse is not None else {}
    train = {
        task.key: task
        for task in plan.train
        if task.concept in fused and not store.has("concepts", task.key)
    }
    return replace(plan, train=tuple(train.values()), fuse=fuse, panels=panels, books=books)


def outline(plan: Plan, store: Store, entries: Mapping[str, Entry]) -> list[Line]:
    """Every task of the plan in order; `entries` are the story's ledger."""
    wanted = {(shelf_of(task), task.key) for task in missing(plan, store).tasks()}
    usual = _usual_seconds(entries)
    lines: list[Line] = []
    for task in plan.tasks():
        subject, shelf = subject_of(task), shelf_of(task)
        if (shelf, task.key) in wanted:
            last = entries.get(subject)
            reason = _why(task.key, plan.recipes[task.key], last)
            lines.append(Line(subject, task, "stale", reason, usual.get(subject.split()[0])))
        else:
            state: State = "fresh" if store.has(shelf, task.key) else "unneeded"
            lines.append(Line(subject, task, state, "", None))
    return lines


def _usual_seconds(entries: Mapping[str, Entry]) -> dict[str, float]:
    """The median time by the first word of the subject."""
    times: dict[str, list[float]] = {}
    for subject, entry in entries.items():
        if entry.seconds > 0:
            times.setdefault(subject.split()[0], []).append(entry.seconds)
    return {word: median(seconds) for word, seconds in times.items()}


def _why(key: str, recipe: Recipe, last: Entry | None) -> str:
    if last is None:
        return "new"
    if last.key == key:
        return "its file is missing"
    return ", ".join(dict.fromkeys(_changes(last.recipe, recipe))) or "its recipe changed"


def _changes(old: Recipe, new: Recipe) -> Iterator[str]:
    """What differs between two recipes, in words."""
    for field in [*new, *(field for field in old if field not in new)]:
        before, after = old.get(field), new.get(field)
        if before == after:
            continue
        match field, before, after:
            case "concepts", dict(), dict() if "fusion" in str(new.get("make")):
                yield from _renamed("concept", before, after)
            case "panels", dict(), dict():
                yield from _renamed("panel", before, after)
            case "regions", list(), list():
                yield from _region_changes(before, after)
            case _:
                yield _CHANGED.get(field, f"{field} changed")


def _renamed(what: str, old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[str]:
    """Which of the things named by a recipe came, changed or left."""
    for name in new:
        if name not in old:
            yield f"{what} `{name}` is new"
        elif old[name] != new[name]:
            yield f"{what} `{name}` changed"
    yield from (f"{what} `{name}` is gone" for name in old if name not in new)


def _region_changes(old: list[object], new: list[object]) -> Iterator[str]:
    before, after = _by_name(old), _by_name(new)
    for name, region in after.items():
        if name not in before:
            yield f"region `{name}` is new"
            continue
        fields = [f for f in region if region[f] != before[name].get(f)]
        yield from (f"region `{name}`: {field} changed" for field in fields)
    yield from (f"region `{name}` is gone" for name in before if name not in after)
    if before == after:
        yield "regions changed places"


def _by_name(regions: list[object]) -> dict[str, Recipe]:
    return {str(region["name"]): region for region in regions if isinstance(region, dict)}
