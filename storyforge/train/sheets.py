"""Contact sheets of what is learnt from and of what is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from storyforge.store import write_whole

_MARGIN: Final = 12
_LABEL: Final = 20
FONT_SIZE: Final = 14
_CELL: Final = 176
"""Pixels."""

PAPER: Final = "#fbf7ef"
INK: Final = "#2f3a56"
FAINT: Final = "#d8d2c4"
_WARN: Final = "#b3261e"


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture of a sheet and the words below it; `bad` words are red."""

    picture: Image.Image
    words: str
    bad: bool = False


def write_sheet(rows: Sequence[tuple[str, Sequence[Cell]]], path: Path) -> Path:
    """Write titled rows of pictures as one PNG; every picture keeps its shape in its square."""
    widest = max((len(cells) for _, cells in rows), default=0)
    width = _MARGIN + max(3, widest) * (_CELL + _MARGIN)
    height = _MARGIN + len(rows) * (_LABEL + _CELL + _LABEL + _MARGIN)
    sheet = Image.new("RGB", (width, height), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    top = _MARGIN
    for title, cells in rows:
        pen.text((_MARGIN, top), _cut(title, width - 2 * _MARGIN, font), INK, font)
        for index, cell in enumerate(cells):
            left = _MARGIN + index * (_CELL + _MARGIN)
            sheet.paste(_fitted(cell.picture), (left, top + _LABEL))
            ink = _WARN if cell.bad else INK
            pen.text((left, top + _LABEL + _CELL + 2), _cut(cell.words, _CELL, font), ink, font)
        top += _LABEL + _CELL + _LABEL + _MARGIN
    return saved(sheet, path)


def _cut(words: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """The words, shortened to `width` pixels."""
    if font.getlength(words) <= width:
        return words
    while words and font.getlength(words + "…") > width:
        words = words[:-1]
    return words + "…"


def _fitted(picture: Image.Image) -> Image.Image:
    scaled = picture.convert("RGB")
    factor = _CELL / max(scaled.size)
    size = max(1, round(scaled.width * factor)), max(1, round(scaled.height * factor))
    scaled = scaled.resize(size, Image.Resampling.LANCZOS)
    square = Image.new("RGB", (_CELL, _CELL), PAPER)
    square.paste(scaled, ((_CELL - scaled.width) // 2, (_CELL - scaled.height) // 2))
    return square


def saved(sheet: Image.Image, path: Path) -> Path:
    """Write a picture as PNG, whole or not at all."""
    data = BytesIO()
    sheet.save(data, "PNG")
    write_whole(path, data.getvalue())
    return path
