"""Layouts as pictures: their regions by name, those in front over the others, with figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from storyforge.book.leaf import Rect
from storyforge.book.preview.drawing import Drawing, DrawnShape, Ink, Label, RectShape
from storyforge.book.preview.scene import COLORS, Standing, regions, tags
from storyforge.book.typeface import ANDIKA, metrics, set_lines
from storyforge.story.layout import Layout, RegionShape

_HEIGHT: Final = 190.0
"""Of a layout's picture, in points; its width follows from the layout's shape."""

_GAP: Final = 18.0
_NAME: Final = 13.0
_WORDS: Final = 9.5
_BELOW: Final = 54.0
"""Room for a layout's name and description."""

_ROW: Final = 1060.0
"""A row of the sheet of all layouts is no wider."""

_FIELD: Final = "#eef2f5"
_INK: Final = "#2a2320"
_GREY: Final = "#5c6370"


def layout_drawing(layout: Layout) -> Drawing:
    """One layout by itself, large."""
    return _sheet(layout.name, [layout], 1.8)


def layouts_drawing(layouts: Sequence[Layout]) -> Drawing:
    """All layouts on one sheet: wide ones last, then by how many they are for."""
    if not layouts:
        raise ValueError("a sheet of layouts needs a layout")

    def order(layout: Layout) -> tuple[float, int, str]:
        """By shape, then from few regions to many."""
        return layout.aspect, len(layout.regions), layout.name

    return _sheet("layouts", sorted(layouts, key=order), 1.0)


def _sheet(name: str, layouts: Sequence[Layout], scale: float) -> Drawing:
    height = _HEIGHT * scale
    marks: list[DrawnShape] = []
    x, y, widest = _GAP, _GAP, 0.0
    for layout in layouts:
        width = height * layout.aspect
        if x > _GAP and x + width + _GAP > _ROW:
            x, y = _GAP, y + height + _BELOW
        marks += _layout(layout, Rect(x, y, width, height))
        x += width + _GAP
        widest = max(widest, x)
    size = Rect(0, 0, widest, y + height + _BELOW)
    ground = RectShape("page", size, Ink("#ffffff"))
    return Drawing(name, name, size.width, size.height, (ground, *marks))


def _layout(layout: Layout, frame: Rect) -> list[DrawnShape]:
    """A layout in its frame, its name and what it is good for below."""
    standing = [
        _standing(name, shape, index, frame)
        for index, (name, shape) in enumerate(layout.regions.items())
    ]
    line = Rect(frame.x, frame.bottom + 3, frame.width, 1.2 * _NAME)
    return [
        RectShape("art", frame, Ink(_FIELD, "#9aa3ad", 0.8), 4),
        *regions(standing, frame),
        *tags(standing, frame, ()),
        Label("notes", (layout.name,), line, _NAME, ANDIKA, _INK),
        *_described(layout.description, replace(line, y=line.bottom + 1)),
    ]


def _standing(name: str, shape: RegionShape, index: int, frame: Rect) -> Standing:
    box = shape.bounds()
    region = Rect(
        frame.x + box.x0 * frame.width,
        frame.y + box.y0 * frame.height,
        box.width * frame.width,
        box.height * frame.height,
    )
    thing = name == "object"
    words = name if shape.pose is None else f"{name} {shape.pose}"
    return Standing(
        words=words + (f", z {shape.z}" if shape.z else ""),
        color=COLORS[index % len(COLORS)],
        z=shape.z,
        region=region,
        body=region.inset(4, 4),
        pose=None if thing else shape.pose or "standing",
        facing=shape.facing,
    )


def _described(words: str, line: Rect) -> list[DrawnShape]:
    """Two lines of words at most, under a name."""
    lines = set_lines(words, ANDIKA, line.width / _WORDS) or (words,)
    while len(lines) > 2 or metrics(ANDIKA).width(max(lines, key=len)) * _WORDS > line.width + 1:
        words = words.rpartition(" ")[0]
        lines = set_lines(f"{words} …", ANDIKA, line.width / _WORDS) or ()
    rect = replace(line, height=len(lines) * 1.2 * _WORDS)
    return [Label("notes", lines, rect, _WORDS, ANDIKA, _GREY)]
