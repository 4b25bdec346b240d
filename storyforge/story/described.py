"""A concept known by words alone: what to ask a model for, so that it can be learnt from pictures.

Prompts are few words each: what somebody does, from where they are seen, and where they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final

from storyforge.geometry.pose import Facing, Pose
from storyforge.pictures import with_article
from storyforge.settings import Kind

_ENDS: Final = re.compile(
    r",|\b(?:with|without|wearing|in|on|of|by|at|from|under|near|who|that|which|and|made|holding)\b"
)
"""Words that begin what is only said of it: before them stands the word for it."""

_POSES: Final[tuple[tuple[Pose, Facing], ...]] = (
    ("standing", "right"),
    ("waving", "right"),
    ("sitting", "left"),
    ("running", "right"),
    ("standing", "left"),
    ("jumping", "left"),
    ("holding", "right"),
    ("running", "left"),
)
_VIEWS: Final = ("from the front", "from the side", "close-up", "seen from above")
_GROUNDS: Final = ("on a white ground", "on a green meadow", "in the snow", "on a beach")
_HOURS: Final = ("by day", "at night", "in the snow", "in the rain", "at sunset", "in the fog")


@dataclass(frozen=True, slots=True)
class Asked:
    """One picture to draw.

    caption  what differs from the other pictures: its caption, with the concept as `[trigger]`
    prompt   for a model that knows nothing of the concept
    pose     of a body; None for what has none
    """

    caption: str
    prompt: str
    pose: Pose | None = None
    facing: Facing | None = None


def class_in(words: str) -> str | None:
    """The everyday word for what is described: `fox` for `a mint fox with a golden horn`."""
    head = _ENDS.split(words.strip(), maxsplit=1)[0].strip()
    found = re.findall(r"[^\W\d_][\w'-]*", head)
    known = [word for word in found if word.lower() not in {"a", "an", "the", "some"}]
    return known[-1] if known else None


def pictures_of(kind: Kind, words: str, style: str, count: int) -> tuple[Asked, ...]:
    """What to draw of a description, so many pictures; all that can vary varies in turn."""
    return tuple(islice(_every(kind, with_article(words.strip(" ,.")), style), count))


def _every(kind: Kind, words: str, style: str) -> Iterator[Asked]:
    end = f", {style}" if style else ""
    if kind == "scene":
        for hour, view in zip(cycle(_HOURS), cycle(("", "a wide view", "")), strict=False):
            said = ", ".join(part for part in (hour, view) if part)
            yield Asked(f"in [trigger], {said}", f"{words}, {said}{end}")
    elif kind == "object":
        for number, view in enumerate(cycle(_VIEWS)):
            ground = _ground(number)
            yield Asked(f"a [trigger], {view}, {ground}", f"{words}, {view}, {ground}{end}")
    else:
        for number, (pose, facing) in enumerate(cycle(_POSES)):
            said = f"{pose}, {_ground(number)}"
            yield Asked(f"a [trigger], {said}", f"{words}, {said}{end}", pose, facing)


def _ground(number: int) -> str:
    """Another one for every picture, and for the same pose or view in the next round."""
    return _GROUNDS[(number + number // len(_GROUNDS)) % len(_GROUNDS)]
