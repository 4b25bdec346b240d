"""What is done by hand on a page, as a change of the story's text: places, poses, layouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from storyforge.errors import StoryForgeError
from storyforge.geometry.box import Box
from storyforge.story.edit import BOM, numbers, quoted, remove_value, set_value
from storyforge.story.keeping import KeyPath, panel_path
from storyforge.story.story import Panel, Story

_SAME: Final = 0.0011
"""Fractions of a picture: boxes are written to the thousandth."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to set for a panel, or for one of its regions; None takes the key out."""

    panel: str
    key: str
    value: str | Box | None
    region: str | None = None


def changed(text: str, story: Story, change: Change) -> str:
    """The story's text with the change in it, and nothing else.

    Raises StoryForgeError, in the author's words, where that cannot be written.
    """
    if text.startswith(BOM):  # the parser's marks do not count it
        return BOM + changed(text.removeprefix(BOM), story, change)
    panel = next((each for _, each in story.panels() if each.id == change.panel), None)
    if panel is None:
        raise StoryForgeError(f"no panel named `{change.panel}` in this story")
    path = panel_path(text, change.panel)
    if change.region is not None:
        if change.region not in panel.regions:
            raise StoryForgeError(f"panel `{panel.id}` has no region `{change.region}`")
        path = (*path, "regions", change.region)
    if isinstance(change.value, Box):
        return _placed(text, path, story, panel, change, change.value)
    if change.value is None:
        return remove_value(text, (*path, change.key))
    return set_value(text, (*path, change.key), quoted(change.value))


def same(one: Box, other: Box) -> bool:
    """Whether two boxes are written alike."""
    pairs = zip(one.sides(), other.sides(), strict=True)
    return all(abs(a - b) < _SAME for a, b in pairs)


def _placed(text: str, path: KeyPath, story: Story, panel: Panel, change: Change, box: Box) -> str:
    """The region in another place, written the way in which the author wrote it."""
    region = panel.regions[str(change.region)]
    if region.auto:
        message = f"region `{change.region}` is found while the picture is drawn"
        raise StoryForgeError(message, hint="keep what was found first; then it can be moved")
    if region.polygon is not None:
        old = story.region_boxes(panel)[str(change.region)]
        moved = [_carried(corner, old, box) for corner in region.polygon]
        written = f"[{', '.join(numbers(corner) for corner in moved)}]"
        return set_value(text, (*path, "polygon"), written)
    if region.mask is not None:
        message = f"region `{change.region}` is where its `mask` is white"
        raise StoryForgeError(message, hint="paint the mask, or take it out to drag a box")
    made = set_value(text, (*path, "box"), numbers(box.sides()))
    return remove_value(made, (*path, "at")) if region.at is not None else made


def _carried(corner: Sequence[float], old: Box, new: Box) -> tuple[float, float]:
    """A corner that moves and grows with the box round all of them."""
    x = new.x0 + (corner[0] - old.x0) / old.width * new.width
    y = new.y0 + (corner[1] - old.y0) / old.height * new.height
    return min(1.0, max(0.0, x)), min(1.0, max(0.0, y))
