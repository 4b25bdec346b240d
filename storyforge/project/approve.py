"""Choosing pictures: takes to choose from, and the pins that keep what was chosen.

`pick` and `pin` approve a picture that is drawn already, and touch no model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING

from storyforge.contact_sheet import Cell, write_contact_sheet
from storyforge.engine.engine import ledger_of
from storyforge.errors import StoryForgeError, closest
from storyforge.executor import OnProgress
from storyforge.modelref import own_clip
from storyforge.plan.keys import KeyInputs, canonical, key_of, own_recipe
from storyforge.plan.lockfile import lock_path
from storyforge.plan.pins import Pin, keep, picture_path, pinned_panels, release, tidied
from storyforge.plan.plan import Plan
from storyforge.plan.status import ignored, subject_of
from storyforge.plan.takes import check_panels, panel_named, take_of
from storyforge.project.making import Making, Outcome, make
from storyforge.project.output import file_of
from storyforge.settings import Made
from storyforge.store import Entry, Store, fingerprint
from storyforge.story.story import Story
from storyforge.tasks import PanelTask

if TYPE_CHECKING:
    from storyforge.evaluate.takes import TakeScore

_TAKE_SIDE = 360
"""Pixels of a take on its sheet: takes are looked at to choose from."""


@dataclass(frozen=True, slots=True)
class Takes:
    """What came of drawing takes: a contact sheet for each panel.

    scores   panel -> take -> what there is to say of it
    ranking  panel -> its takes, the most promising first
    """

    outcome: Outcome
    sheets: tuple[Path, ...]
    scores: Mapping[str, Mapping[int, TakeScore]]
    ranking: Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Approval:
    """A panel whose picture is kept from now on.

    ignores   for what it would be drawn anew, were it not pinned
    """

    panel: str
    take: int
    picture: Path
    ignores: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """A panel whose picture is no longer kept; `take` is its number if the story has another."""

    panel: str
    take: int | None


def draw_takes(
    drawn: Plan,
    store: Store,
    panels: Sequence[str],
    count: int,
    how: Making,
    on_progress: OnProgress,
    clip: str | None = None,
) -> Takes:
    """Draw takes 0 to `count` - 1 of each panel and lay them on a contact sheet; bind no book.

    Takes that exist already are not drawn again. A CLIP says how alike each is to whom it shows and
    how well it shows what was asked: the one that is named, else the base's own, if it has one.
    """
    if not panels:
        hint = f"such as `storyforge render {drawn.story.path} PANEL --takes {count}`"
        raise StoryForgeError("takes are drawn of panels that are named", hint=hint)
    check_panels(drawn, panels)
    wanted = [task for task in drawn.panels if task.panel in panels]
    tasks: dict[str, list[PanelTask]] = {}
    key_inputs, names = dict(drawn.key_inputs), {}
    for task in wanted:
        for number in range(count):
            take, recipe = take_of(drawn, task, number)
            key_inputs[take.key] = recipe
            names[take.key] = _take_name(task, number)
            tasks.setdefault(task.panel, []).append(take)
    takes = tuple(take for each in tasks.values() for take in each)
    asked = replace(drawn, panels=takes, books=(), key_inputs=key_inputs, pins={})
    outcome = make(asked, store, replace(how, names=names), on_progress)
    judged = _judged(drawn, store, takes, clip, on_progress)
    sheets = []
    for panel, each in tasks.items():
        if cells := _cells(drawn, store, each, judged):
            sheets.append(_sheet(drawn, how.out, panel, cells))
    scores = {
        panel: {n: judged[task.key] for n, task in enumerate(each) if task.key in judged}
        for panel, each in tasks.items()
    }
    return Takes(outcome, tuple(sheets), scores, _ranking(scores))


def _judged(
    drawn: Plan, store: Store, takes: Sequence[PanelTask], clip: str | None, on_progress: OnProgress
) -> Mapping[str, TakeScore]:
    """What there is to say of every take that is drawn; more where there is a CLIP."""
    from storyforge.evaluate.judge import clip_for
    from storyforge.evaluate.takes import take_scores

    on_progress("judging", 0, 1)
    base = takes[0].base
    able = clip is not None or own_clip(base) is not None
    return take_scores(drawn, store, takes, clip_for(base, clip) if able else None)


def _ranking(scores: Mapping[str, Mapping[int, TakeScore]]) -> dict[str, Sequence[int]]:
    from storyforge.evaluate.takes import ranking

    return {panel: ranking(each) for panel, each in scores.items()}


def _take_name(task: PanelTask, number: int) -> str:
    return f"{subject_of(task)} take {number}"


def _cells(
    drawn: Plan, store: Store, takes: Sequence[PanelTask], judged: Mapping[str, TakeScore]
) -> list[Cell]:
    """Those takes of a panel that are drawn, by their number; the one in the book is framed."""
    panel = takes[0].panel
    (own,) = (task.key for task in drawn.panels if task.panel == panel)
    shown = drawn.pins[panel].key if panel in drawn.pins else own
    return [
        Cell(
            store.path("panels", task.key),
            f"take {number}, seed {task.seed}" + (", in the book" if task.key == shown else ""),
            str(judged.get(task.key, "")),
            chosen=task.key == shown,
        )
        for number, task in enumerate(takes)
        if store.has("panels", task.key)
    ]


def _sheet(drawn: Plan, out: Path | None, panel: str, cells: Sequence[Cell]) -> Path:
    """The contact sheet of one panel, about as wide as it is high."""
    columns = min(len(cells), max(2, ceil(sqrt(len(cells)))))
    rows = [
        ("" if start else panel, cells[start : start + columns])
        for start in range(0, len(cells), columns)
    ]
    return write_contact_sheet(rows, file_of(drawn.story, out, f".{panel}.takes.png"), _TAKE_SIDE)


def pick(drawn: Plan, store: Store, panel: str, take: int) -> Approval:
    """Approve one take of a panel: it is what the books show from now on.

    It is the picture that was last drawn as this take, whatever changed since.
    """
    check_panels(drawn, [panel])
    (task,) = (task for task in drawn.panels if task.panel == panel)
    entries = ledger_of(store, drawn.story).entries()
    candidates = [entries.get(_take_name(task, take))]
    if panel_named(drawn, panel).take == take:
        candidates += [_own(drawn, task), entries.get(subject_of(task))]
    else:
        other, recipe = take_of(drawn, task, take)
        candidates.append(Entry(other.key, recipe))
    found = _first_drawn(candidates, store)
    if found is None:
        hint = f"run `storyforge render {drawn.story.path} {panel} --takes {take + 1}`"
        raise StoryForgeError(f"take {take} of panel `{panel}` is not drawn", hint=hint)
    return _approved(drawn, store, {panel: (take, found)}, entries)[0]


def pin(drawn: Plan, store: Store, panels: Sequence[str]) -> tuple[Approval, ...]:
    """Approve the pictures of panels as they are drawn now; of all that are, if none is named.

    A panel that was changed after it was drawn keeps the picture that was last drawn of it. Raises
    StoryForgeError for a panel that is named and not drawn, and if none is drawn at all.
    """
    check_panels(drawn, panels)
    entries = ledger_of(store, drawn.story).entries()
    chosen: dict[str, tuple[int, Entry]] = {}
    lacking = []
    for task in drawn.panels:
        if (panels and task.panel not in panels) or task.panel in drawn.pins:
            continue
        found = _first_drawn([_own(drawn, task), entries.get(subject_of(task))], store)
        if found is None:
            lacking.append(f"`{task.panel}`")
        else:
            chosen[task.panel] = (panel_named(drawn, task.panel).take, found)
    if lacking and (panels or not (chosen or drawn.pins)):
        hint = f"run `storyforge render {drawn.story.path}`"
        raise StoryForgeError(f"not drawn yet: {', '.join(lacking)}", hint=hint)
    return _approved(drawn, store, chosen, entries)


def pin_picture(drawn: Plan, store: Store, panel: str, file: Path, made: Made | None) -> Approval:
    """Keep a picture that the author brings in place of the panel's own, as if it were drawn.

    made   who made it; None for what its file says, and for a retouched one if the panel was drawn

    Raises StoryForgeError for a file that is no picture.
    """
    from storyforge.book.own import made_by, ready

    check_panels(drawn, [panel])
    (task,) = (task for task in drawn.panels if task.panel == panel)
    entries = ledger_of(store, drawn.story).entries()
    before = [_own(drawn, task), entries.get(subject_of(task))]
    was_drawn = panel in pinned_panels(drawn.story) or _first_drawn(before, store) is not None
    who = made or ("retouched" if was_drawn else made_by(file, None))
    content = ready(file, who)
    recipe: KeyInputs = json.loads(canonical(own_recipe(file, who)))
    key = key_of(recipe)
    if not store.sound("panels", key):
        with store.make("panels", key) as out:
            out.write_bytes(content)
    chosen = {panel: (panel_named(drawn, panel).take, Entry(key, recipe))}
    return _approved(drawn, store, chosen, entries)[0]


def unpin(story: Story, store: Store, panels: Sequence[str]) -> tuple[Release, ...]:
    """Let go of pinned pictures, or of all if no panel is named; the next run draws what changed.

    The pictures stay in the store until it is tidied.
    """
    tidied(story, store)
    takes = pinned_panels(story)
    for name in panels:
        if name not in takes:
            guess = closest(name, takes)
            hint = f"did you mean `{guess}`?" if guess else f"see `{lock_path(story.path)}`"
            raise StoryForgeError(f"no picture of a panel named `{name}` is pinned", hint=hint)
    own = {panel.id: panel.take for _, panel in story.panels()}
    released = [name for name in takes if not panels or name in panels]
    release(story, released, store)
    return tuple(
        Release(name, takes[name] if own.get(name, takes[name]) != takes[name] else None)
        for name in released
    )


def _own(drawn: Plan, task: PanelTask) -> Entry:
    return Entry(task.key, drawn.key_inputs[task.key])


def _first_drawn(candidates: Sequence[Entry | None], store: Store) -> Entry | None:
    """The first of the pictures that exists."""
    for entry in candidates:
        if entry is not None and store.sound("panels", entry.key):
            return entry
    return None


def _approved(
    drawn: Plan,
    store: Store,
    chosen: Mapping[str, tuple[int, Entry]],
    entries: Mapping[str, Entry],
) -> tuple[Approval, ...]:
    """Pin pictures by panel, each with the number of its take."""
    pins = {panel: _pin(drawn, store, panel, *each, entries) for panel, each in chosen.items()}
    keep(drawn.story, pins.values(), store)
    tasks = {task.panel: task for task in drawn.panels}
    return tuple(
        Approval(
            panel,
            pin_.take,
            picture_path(drawn.story.folder, panel, pin_.key),
            ignored(drawn, pin_, tasks[panel]),
        )
        for panel, pin_ in pins.items()
    )


def _pin(
    drawn: Plan,
    store: Store,
    panel: str,
    take: int,
    entry: Entry,
    entries: Mapping[str, Entry],
) -> Pin:
    picture = store.path("panels", entry.key)
    model = _model_of(drawn, entry.recipe, entries)
    return Pin(panel, take, entry.key, fingerprint(picture), entry.recipe, model, picture)


def _model_of(
    drawn: Plan, recipe: Mapping[str, object], entries: Mapping[str, Entry]
) -> Mapping[str, object]:
    """The recipe of the fused model that a picture was drawn with, as far as it is known."""
    fused, last = recipe.get("fused"), entries.get("fused model")
    nothing: KeyInputs = {}
    if drawn.fuse is not None and drawn.fuse.key == fused:
        return drawn.key_inputs[drawn.fuse.key]
    return last.recipe if last is not None and last.key == fused else nothing
