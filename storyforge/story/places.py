"""Where a story's words stand: file, line and column of whatever a later message is about.

The reader knows it of the form; who lays pages out or plans pictures knows it no more, and asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from storyforge.errors import Mark
from storyforge.story.locales import Locale
from storyforge.story.yaml import Node

StoryPlace = tuple[str | int, ...]
"""What is meant: `("title",)`, `("book", "dedication")`, `("page", 3, "text")`,
`("panel", "found", "say", 0)`, `("panel", "found", "control", 1)`; a page by its number from 1, a
panel by its id, members of lists from 0."""


@dataclass(frozen=True, slots=True)
class Places:
    """The story's file as it is written, and its locales'; all of them are alike to `==`."""

    file: str = ""
    root: Node = field(default_factory=lambda: Node(Mark()), compare=False)
    locales: Sequence[Locale] = field(default=(), compare=False)

    def find(self, place: StoryPlace, language: str | None = None) -> tuple[str, Mark]:
        """The file and the mark that say it, in a language if it is a text.

        What the author left out stands where the nearest thing around it does.
        """
        for locale in self.locales:
            if locale.language == language:
                node, left = _followed(locale.root, _in_locale(place))
                if not left:
                    return locale.report.file, node.mark
        node, left = _followed(self.root, self._in_story(place))
        said = node.get(language) if language and node.entries and not left else None
        return self.file, node.mark if said is None else said.mark

    def key(self, *keys: str) -> Mark:
        """Where the last of these nested keys is written; else the nearest key around it."""
        node, mark = self.root, self.root.mark
        for key in keys:
            inner = node.get(key)
            if inner is None:
                break
            node, mark = inner, node.mark_of(key)
        return mark

    def panel(self, name: str) -> Mark:
        """Where a panel begins; where the book is spoken of if there is no such panel."""
        node, left = _followed(self.root, self._in_story(("panel", name)))
        return self.key("book") if left or node is self.root else node.mark

    def _in_story(self, place: StoryPlace) -> StoryPlace:
        """The place as a path from the root of the story's tree."""
        if place[0] == "page" and isinstance(place[1], int):
            return ("pages", place[1] - 1, *place[2:])
        if place[0] != "panel":
            return place
        for number, page in enumerate(self.root.each("pages")):
            for index, panel in enumerate(page.each("panels")):
                if panel.text_at("id") == place[1]:
                    # A locale has the words where the story has the balloon around them.
                    spoken = len(place) == 4 and place[2] == "say"
                    rest = (*place[2:], "text") if spoken else place[2:]
                    return ("pages", number, "panels", index, *rest)
        return ("pages", -1)


def _in_locale(place: StoryPlace) -> StoryPlace:
    if place[0] == "page":
        return ("pages", str(place[1]))
    return ("panels", *place[1:]) if place[0] == "panel" else place


def _followed(node: Node, path: StoryPlace) -> tuple[Node, StoryPlace]:
    """The node as far down `path` as there is one, and what is left of the path."""
    for index, step in enumerate(path):
        if isinstance(step, int):
            items = node.items or []
            inner = items[step] if 0 <= step < len(items) else None
        else:
            inner = node.get(step)
        if inner is None:
            return node, path[index:]
        node = inner
    return node, ()
