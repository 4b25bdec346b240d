"""Regions that were found, written into the story's text, so that they are the author's own."""

from __future__ import annotations

from collections.abc import Mapping

from storyforge.errors import Report, StoryForgeError
from storyforge.geometry.box import Box
from storyforge.story.edit import numbers, quoted, remove_value, set_value
from storyforge.story.story import Panel
from storyforge.story.yaml import load_text

KeyPath = tuple[str | int, ...]


def panel_path(text: str, name: str) -> KeyPath:
    """Where a panel is written.

    Raises StoryForgeError if there is none of that name.
    """
    root = load_text(text, Report("story"))
    for number, page in enumerate(root.each("pages") if root else ()):
        for index, panel in enumerate(page.each("panels")):
            if panel.text_at("id") == name:
                return ("pages", number, "panels", index)
    raise StoryForgeError(f"no panel named `{name}` in this story")


def with_found(text: str, panel: Panel, boxes: Mapping[str, Box]) -> str:
    """The story's text with a box for each of a panel's regions that were to be found.

    Raises StoryForgeError where nothing was found, or where it is written by an alias.
    """
    sought = [name for name, region in panel.regions.items() if region.auto]
    lacking = [f"`{name}`" for name in sought if name not in boxes]
    if not sought or lacking:
        what = f"nobody knows where {', '.join(lacking)} is" if lacking else "it has no such region"
        hint = "draw it first; then it is known" if lacking else "this is for `regions: auto`"
        raise StoryForgeError(f"panel `{panel.id}`: {what}", hint=hint)
    path = panel_path(text, panel.id)
    if _in_one_word(text, path):
        written = ", ".join(
            f"{quoted(name)}: {{concept: {quoted(str(panel.regions[name].concept))}, "
            f"box: {numbers(boxes[name].sides())}}}"
            for name in sought
        )
        return set_value(text, (*path, "regions"), f"{{{written}}}")
    for name in sought:
        where = (*path, "regions", name)
        text = set_value(text, (*where, "box"), numbers(boxes[name].sides()))
        text = remove_value(text, (*where, "at"))
    return text


def _in_one_word(text: str, path: KeyPath) -> bool:
    """Whether the panel's regions are written as `auto`."""
    _, number, _, index = path
    root = load_text(text, Report("story"))
    pages = list(root.each("pages")) if root else []
    panel = list(pages[int(number)].each("panels"))[int(index)]
    return panel.text_at("regions") is not None
