"""Every picture of a story beside its concepts' own pictures, for the eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from storyforge.contact_sheet import Cell, Row, write_contact_sheet
from storyforge.errors import StoryForgeError
from storyforge.plan.plan import Plan
from storyforge.plan.takes import picture_of
from storyforge.project.output import file_of
from storyforge.store import Store

_SIDE: Final = 208
"""Pixels of a picture."""

_REFERENCES: Final = 4
"""Reference pictures of each concept on a contact sheet."""


def draw_sheet(drawn: Plan, store: Store, out: Path | None) -> Path:
    """Lay every picture beside its concepts' reference pictures; the file that shows them."""
    references = {
        task.concept: [task.folder / image for image in task.images[:_REFERENCES]]
        for task in drawn.train
    }
    keys = {task.panel: task.key for task in drawn.pictures()}
    rows: list[Row] = []
    for page, panel in drawn.story.panels():
        if picture := picture_of(drawn, store, panel.id, keys[panel.id]):
            shown = {n: references[n] for n in drawn.story.cast(panel) if n in references}
            rows += _panel_rows(f"{panel.id}, page {page}", picture, shown)
    if not rows:
        hint = f"run `storyforge render {drawn.story.path}`"
        raise StoryForgeError("no picture of this story is drawn", hint=hint)
    return write_contact_sheet(rows, file_of(drawn.story, out, ".sheet.png"), _SIDE)


def _panel_rows(title: str, picture: Path, references: Mapping[str, Sequence[Path]]) -> list[Row]:
    """A panel's picture, and beside it a row of each concept's own."""
    rows: list[Row] = []
    for name, pictures in references.items() or [("", [])]:
        first = Cell(None) if rows else Cell(picture)
        rows.append(("" if rows else title, [first, *(Cell(each, name) for each in pictures)]))
    return rows
