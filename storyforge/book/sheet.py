"""A contact sheet: every picture beside the pictures that its concepts were learnt from.

For the eye, to see whether everyone looks like themselves; measuring that is `metrics`' work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from storyforge.book.typeface import ANDIKA
from storyforge.errors import StoryForgeError

_PICTURE: Final = 256
_REFERENCE: Final = 112
_MARGIN: Final = 16
_LABEL: Final = 26
_FONT_SIZE: Final = 16
"""Pixels."""

_PAPER: Final = "#fbf7ef"
_INK: Final = "#2f3a56"


@dataclass(frozen=True, slots=True)
class Reference:
    """A concept's name, and some of the pictures it was learnt from."""

    name: str
    pictures: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One panel: its title, its picture, and the concepts that it shows."""

    title: str
    picture: Path
    references: tuple[Reference, ...]


def write_sheet(rows: Sequence[SheetRow], path: Path) -> Path:
    """Write the rows below each other as one PNG; StoryForgeError for an unreadable picture."""
    if not rows:
        raise ValueError("a contact sheet needs a row")
    heights = [_height(row) for row in rows]
    size = (max(_width(row) for row in rows), sum(heights) + _MARGIN)
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(ANDIKA.path, _FONT_SIZE)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        _draw_row(sheet, pen, font, row, top)
        top += height
    sheet.save(path, "PNG")
    return path


def _height(row: SheetRow) -> int:
    return _MARGIN + _LABEL + max(_PICTURE, len(row.references) * (_LABEL + _REFERENCE))


def _width(row: SheetRow) -> int:
    count = max((len(reference.pictures) for reference in row.references), default=0)
    return _MARGIN + _PICTURE + _MARGIN + count * (_REFERENCE + _MARGIN)


def _draw_row(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont,
    row: SheetRow,
    top: int,
) -> None:
    """Draw one panel at the left, its concepts below each other at the right."""
    pen.text((_MARGIN, top + _MARGIN), row.title, _INK, font)
    y = top + _MARGIN + _LABEL
    sheet.paste(_fitted(row.picture, _PICTURE), (_MARGIN, y))
    left = _MARGIN + _PICTURE + _MARGIN
    for reference in row.references:
        pen.text((left, y), reference.name, _INK, font)
        for index, picture in enumerate(reference.pictures):
            place = (left + index * (_REFERENCE + _MARGIN), y + _LABEL)
            sheet.paste(_fitted(picture, _REFERENCE), place)
        y += _LABEL + _REFERENCE


def _fitted(path: Path, side: int) -> Image.Image:
    """The picture within a square of `side` pixels, its shape kept, transparency on paper."""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGBA")
    except (UnidentifiedImageError, OSError) as exc:
        raise StoryForgeError(f"cannot read the picture `{path}`") from exc
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (side, side), _PAPER)
    corner = ((side - picture.width) // 2, (side - picture.height) // 2)
    square.paste(picture, corner, picture)
    return square
