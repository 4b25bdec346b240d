"""Every picture of a story beside its concepts' own pictures, for the eye."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from storyforge.errors import StoryForgeError
from storyforge.plan.plan import Plan
from storyforge.plan.takes import picture_of
from storyforge.project.output import file_of
from storyforge.store import Store, write_whole

_REFERENCES: Final = 4
"""Reference pictures of each concept on a contact sheet."""


def draw_sheet(drawn: Plan, store: Store, out: Path | None) -> Path:
    """Lay every picture beside its concepts' reference pictures; the file that shows them."""
    from storyforge.book.sheet import Reference, SheetRow, write_sheet

    references = {
        task.concept: Reference(
            task.concept, tuple(task.folder / image for image in task.images[:_REFERENCES])
        )
        for task in drawn.train
    }
    keys = {task.panel: task.key for task in drawn.panels}
    rows = [
        SheetRow(
            f"{panel.id}, page {page}",
            picture,
            tuple(references[name] for name in drawn.story.cast(panel) if name in references),
        )
        for page, panel in drawn.story.panels()
        if (picture := picture_of(drawn, store, panel.id, keys[panel.id]))
    ]
    if not rows:
        hint = f"run `storyforge render {drawn.story.path}`"
        raise StoryForgeError("no picture of this story is drawn", hint=hint)
    with TemporaryDirectory() as folder:
        data = write_sheet(rows, Path(folder) / "sheet.png").read_bytes()
    target = file_of(drawn.story, out, ".sheet.png")
    write_whole(target, data)
    return target
