"""What a proof shows: boxes, lines and labels in points, without any output format.

Points run from the top left corner of the drawing. What is drawn first lies beneath.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from storyforge.book.leaf import Face, Outline, Point, Rect, Stroke

Layer = Literal["page", "art", "regions", "figures", "words", "balloons", "guides", "notes"]

ASCENT: Final = 0.8
"""From the top of a line's box to its baseline, in letter sizes; the PDF's is the same."""

_CIRCLE: Final = 0.5523
"""Handle length of the cubic that comes nearest to a quarter of a circle."""


@dataclass(frozen=True, slots=True)
class Ink:
    """How a shape is painted; colours are `#rrggbb` or `#rrggbbaa`, lengths points."""

    fill: str | None = None
    line: str | None = None
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class RectShape:
    """A rectangle, its corners rounded by `radius`."""

    layer: Layer
    rect: Rect
    ink: Ink
    radius: float = 0.0


@dataclass(frozen=True, slots=True)
class LineShape:
    """An outline, open or closed; what lies outside `clip` is not seen."""

    layer: Layer
    outline: Outline
    ink: Ink
    clip: Rect | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """Words that are broken into lines already.

    rect     where the lines stand
    size     of the letters
    leading  from one baseline to the next, as a multiple of `size`
    halo     the colour round the letters; None for none
    rtl      whether the words are written from right to left
    tilt     degrees by which they are turned about the middle of `rect`, clockwise
    """

    layer: Layer
    lines: tuple[str, ...]
    rect: Rect
    size: float
    face: Face
    color: str
    leading: float = 1.2
    align: Literal["start", "center"] = "start"
    halo: str | None = None
    rtl: bool = False
    tilt: float = 0.0


@dataclass(frozen=True, slots=True)
class Photo:
    """A picture from a file; `crop` is the part, in fractions, that fills `frame`."""

    layer: Layer
    path: Path
    frame: Rect
    crop: Rect
    radius: float = 0.0


DrawnShape = RectShape | LineShape | Label | Photo


@dataclass(frozen=True, slots=True)
class PlacedPanel:
    """Where a panel's picture stands on its sheet; `crop` is the part, in fractions, that shows."""

    panel: str
    frame: Rect
    crop: Rect


@dataclass(frozen=True, slots=True)
class Drawing:
    """One sheet; `name` is fit for a file, `title` for people."""

    name: str
    title: str
    width: float
    height: float
    marks: tuple[DrawnShape, ...]
    panels: tuple[PlacedPanel, ...] = ()


@dataclass(frozen=True, slots=True)
class Proof:
    """All sheets of a book, in order; `rtl` says that its pages turn from right to left."""

    title: str
    language: str
    rtl: bool
    drawings: tuple[Drawing, ...]

    def faces(self) -> tuple[Face, ...]:
        """Every face that a label is set in, each once."""
        marks = (mark for drawing in self.drawings for mark in drawing.marks)
        return tuple(dict.fromkeys(mark.face for mark in marks if isinstance(mark, Label)))

    def spreads(self) -> tuple[tuple[int, ...], ...]:
        """The places of the sheets that lie open together, from left to right."""
        inner = range(1, len(self.drawings))
        pairs = [tuple(inner[start : start + 2]) for start in range(0, len(inner), 2)]
        return ((0,), *(pair[::-1] if self.rtl else pair for pair in pairs))


def polyline(points: Sequence[tuple[float, float]]) -> Outline:
    """Straight lines from point to point."""
    first, *rest = (Point(*point) for point in points)
    return (Stroke("M", (first,)), *(Stroke("L", (point,)) for point in rest))


def polylines(pieces: Iterable[Sequence[tuple[float, float]]]) -> Outline:
    """Several pieces of straight lines as one outline."""
    return tuple(stroke for piece in pieces for stroke in polyline(piece))


def ellipse(rect: Rect) -> Outline:
    """The ellipse that fills a rectangle."""
    centre = rect.centre()
    a, b = rect.width / 2, rect.height / 2
    corners = ((1, 0), (0, 1), (-1, 0), (0, -1), (1, 0))

    def at(x: float, y: float) -> Point:
        """A point of the shape, scaled about its centre."""
        return Point(centre.x + a * x, centre.y + b * y)

    strokes = [Stroke("M", (at(1, 0),))]
    for (x, y), (next_x, next_y) in zip(corners, corners[1:], strict=False):
        first = at(x + _CIRCLE * next_x, y + _CIRCLE * next_y)
        second = at(next_x + _CIRCLE * x, next_y + _CIRCLE * y)
        strokes.append(Stroke("C", (first, second, at(next_x, next_y))))
    return (*strokes, Stroke("Z", ()))
