"""Whether words leave faces free: balloons and plates on them, tails through them, figures cut off.

Faces are where `sighting` saw the figures, or where their regions are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from storyforge.book import balloon
from storyforge.book.inline import printed
from storyforge.book.leaf import Balloon, Leaf, Picture, Point, Rect
from storyforge.errors import Mark, Report

_COVERED: Final = 0.15
"""A face may lose this share to words before it is said."""

_PLATED: Final = 0.35
"""The same for a plate, whose words were put on the calmer side already."""

_FAR: Final = 0.18
"""A tail that ends further from its speaker, in picture widths, points at nobody."""

_SHOWN: Final = 0.85
"""A figure of which less shows than the picture has is cut off."""


ABOUT_FACES: Final = frozenset({"SF530", "SF531", "SF532", "SF533", "SF534"})
"""Codes of the findings made here."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Where the story file speaks of what: its book, and each panel by its id.

    drawn  how many pixels across each panel's picture had before it was enlarged
    """

    book: Mark = Mark()
    panels: Mapping[str, Mark] = field(default_factory=dict)
    drawn: Mapping[str, int] = field(default_factory=dict)

    def panel(self, name: str) -> Mark:
        """Where a panel stands; the book's place if it is not known."""
        return self.panels.get(name, self.book)


def check_faces(leaf: Leaf, marks: Marks, report: Report) -> None:
    """Report what hides or misses the faces on one page."""
    for item in leaf.pictures:
        mark = marks.panel(item.art.panel)
        where = f"{leaf.label}, panel `{item.art.panel}`"
        if item.corner != "circle" and leaf.kind == "story" and not item.halved:
            _check_crop(item, where, mark, report)
        for said in item.balloons:
            _check_balloon(item, said, where, mark, report)
        for text in leaf.texts:
            for head in item.heads:
                if text.plate is not None and head.face.covered(text.plate) > _PLATED:
                    message = f"{where}: the text lies on the face of {head.name}"
                    hint = "name a `quiet` part, or choose another `kind` of page"
                    report.warning(mark, "SF530", message, hint)


def check_known(leaves: Sequence[Leaf], marks: Marks, report: Report) -> None:
    """Report which pictures with words in them do not say where faces are."""
    unknown = list(
        dict.fromkeys(
            item.art.panel
            for leaf in leaves
            for item in leaf.pictures
            if any(head.planned for head in item.heads)
            and (item.balloons or any(text.plate is not None for text in leaf.texts))
        )
    )
    if unknown:
        named = ", ".join(f"`{panel}`" for panel in unknown)
        message = f"where faces are is not known of {named}"
        hint = "look at those pages; move a balloon with `at`, or draw the picture anew"
        report.warning(marks.panel(unknown[0]), "SF534", message, hint)


def _check_crop(item: Picture, where: str, mark: Mark, report: Report) -> None:
    for head in item.heads:
        if head.shown < _SHOWN:
            message = f"{where}: {head.name} is cut off at the edge of the picture's frame"
            hint = "give the region more room, or choose another `kind` of page"
            report.warning(mark, "SF533", f"{message} ({head.shown:.0%} shows)", hint)


def _check_balloon(item: Picture, said: Balloon, where: str, mark: Mark, report: Report) -> None:
    body = balloon.body_of(said)
    words = f"“{' '.join(map(printed, said.lines))[:30]}”"
    for head in item.heads:
        covered = head.face.covered(body)
        if covered > _COVERED:
            message = f"{where}: {words} lies on the face of {head.name} ({covered:.0%} of it)"
            hint = "say where it may stand with `at` or `quiet`, or say less"
            report.warning(mark, "SF530", message, hint)
    if said.tip is None:
        return
    for head in item.heads:
        if balloon.pierces(body, said.tip, head.face):
            message = f"{where}: the tail of {words} runs through the face of {head.name}"
            report.warning(mark, "SF531", message, "move the balloon with `at`")
    own = [head for head in item.heads if head.name == said.speaker]
    if own and min(_distance(head.body, said.tip) for head in own) > _FAR * item.frame.width:
        message = f"{where}: the tail of {words} ends far from {own[0].name}"
        report.warning(mark, "SF532", message, "move the balloon with `at`")


def _distance(body: Rect, point: Point) -> float:
    across = max(body.x - point.x, point.x - body.right, 0.0)
    down = max(body.y - point.y, point.y - body.bottom, 0.0)
    return math.hypot(across, down)
