"""What a picture will show, drawn without a model: tinted regions by name, and stick figures.

The same marks serve the pages of a proof and the pictures of layouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from storyforge.book.leaf import Rect
from storyforge.book.preview.drawing import (
    DrawnShape,
    Ink,
    Label,
    Layer,
    LineShape,
    RectShape,
    ellipse,
    polylines,
)
from storyforge.book.typeface import ANDIKA, metrics
from storyforge.geometry.pose import Facing, Joint, Pose, Skeleton, skeleton

COLORS: Final = (
    "#c8452c",
    "#2579a5",
    "#4f8a3c",
    "#8a56c2",
    "#b98200",
    "#0f8f86",
    "#c43f80",
    "#7b6650",
)
"""Of regions, one for each concept."""

_TINT: Final = "2b"
"""Opacity in hexadecimal, of 255."""

_VEIL: Final = "#f4f6f8cc"
"""Over what is behind a region."""

_FAINT: Final = "70"
"""Opacity in hexadecimal, of 255."""

TAG: Final = 11.0
"""Letter size of the names of regions, in points."""

_TAG_LEADING: Final = 1.25
_STICK: Final = 0.2
"""Width of a stick, in radiuses of the head."""

_PAD: Final = 5.0


@dataclass(frozen=True, slots=True)
class Standing:
    """One region on the page, in points.

    words   what its tag says
    region  its box
    body    where in it the figure is; None draws no figure
    pose    what the figure does; None for what is no body
    sure    whether somebody has said the pose
    """

    words: str
    color: str
    z: int
    region: Rect
    body: Rect | None
    pose: Pose | None
    facing: Facing | None = None
    sure: bool = True


def regions(standing: Sequence[Standing], frame: Rect) -> list[DrawnShape]:
    """The regions' tinted boxes and their figures, those in front last, cut off at the frame."""
    marks: list[DrawnShape] = []
    for one in sorted(standing, key=lambda one: one.z):
        seen = one.region.common(frame)
        if seen is None:
            continue
        behind = [other for other in standing if other.z < one.z]
        if any(seen.common(other.region) for other in behind):
            marks.append(RectShape("regions", seen, Ink(_VEIL), 3))
        marks.append(RectShape("regions", seen, Ink(one.color + _TINT, one.color, 1.2), 3))
        if one.body is not None:
            marks += _figure(one, one.body, frame)
    return marks


def _figure(one: Standing, body: Rect, frame: Rect) -> list[DrawnShape]:
    """A stick figure on the floor of `body`, or an oval for what is no body."""
    color = one.color if one.sure else one.color + _FAINT
    if one.pose is None:
        oval = ellipse(body.inset(0.12 * body.width, 0.12 * body.height))
        return [LineShape("figures", oval, Ink(None, color, 1.6, dashed=True), frame)]
    made = skeleton(one.pose, one.facing).placed(body.x, body.y, body.width, body.height)
    pen = Ink(None, color, _STICK * made.radius)
    sticks = polylines(_sticks(made))
    x, y, radius = *made.head, made.radius
    head = ellipse(Rect(x - radius, y - radius, 2 * radius, 2 * radius))
    marks: list[DrawnShape] = [
        LineShape("figures", sticks, pen, frame),
        LineShape("figures", head, Ink("#ffffff", color, _STICK * radius), frame),
    ]
    for eye in made.joints[14:16]:
        if eye is not None:
            dot = 0.11 * radius
            oval = ellipse(Rect(eye.x - dot, eye.y - dot, 2 * dot, 2 * dot))
            marks.append(LineShape("figures", oval, Ink(color), frame))
    return marks


def _sticks(body: Skeleton) -> list[list[Joint]]:
    """Both arms with the shoulders, both legs with the hips, and the spine between them."""
    arms = [body.joints[index] for index in (4, 3, 2, 5, 6, 7)]
    legs = [body.joints[index] for index in (10, 9, 8, 11, 12, 13)]
    neck, right, left = (body.joints[index] for index in (1, 8, 11))
    pieces = [[joint for joint in limbs if joint is not None] for limbs in (arms, legs)]
    if neck is not None and right is not None and left is not None:
        pieces.append([neck, Joint((right.x + left.x) / 2, (right.y + left.y) / 2)])
    return pieces


def tags(standing: Sequence[Standing], frame: Rect, taken: Sequence[Rect]) -> list[DrawnShape]:
    """The regions' names, each in a corner of its region that nothing covers."""
    marks: list[DrawnShape] = []
    covered = list(taken)
    for one in sorted(standing, key=lambda one: -one.z):
        seen = one.region.common(frame)
        if seen is None:
            continue
        before = [other.region for other in standing if other.z > one.z]
        place = _free_corner(seen, frame, one.words, (*covered, *before))
        covered.append(place)
        marks.append(RectShape("regions", place, Ink(one.color), 3))
        marks.append(tag_words("regions", one.words, place, "#ffffff"))
    return marks


def tag_words(layer: Layer, words: str, place: Rect, color: str) -> Label:
    """One line in the middle of a tag."""
    return Label(layer, (words,), place, TAG, ANDIKA, color, _TAG_LEADING, "center")


def tag_size(words: str) -> tuple[float, float]:
    """Width and height of a tag with these words."""
    return metrics(ANDIKA).width(words) * TAG + 2 * _PAD, _TAG_LEADING * TAG


def _free_corner(region: Rect, frame: Rect, words: str, covered: Sequence[Rect]) -> Rect:
    """A place for a tag inside the region: low and left before high and right."""
    width, height = tag_size(words)
    left = min(region.x + 3, frame.right - width)
    right = max(left, region.right - width - 3)
    top, low = region.y + 3, region.bottom - height - 3
    middle = region.centre().y - height / 2
    places = [Rect(x, y, width, height) for y in (low, top, middle) for x in (left, right)]
    return min(places, key=lambda place: sum(place.covered(other) for other in covered))


def crossed(frame: Rect, color: str) -> LineShape:
    """The two diagonals of a frame."""
    corners = (
        ((frame.x, frame.y), (frame.right, frame.bottom)),
        ((frame.right, frame.y), (frame.x, frame.bottom)),
    )
    return LineShape("art", polylines(corners), Ink(None, color, 0.8), frame)
