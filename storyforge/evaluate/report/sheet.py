"""One picture of many: the same panels in columns, whoever drew them in rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

_CELL: Final = 168
_MARGIN: Final = 8
_NAMES: Final = 210
_LINE: Final = 18
_FONT_SIZE: Final = 13
"""Pixels."""

_PAPER: Final = "#fbf7ef"
_INK: Final = "#2f3a56"


def write_sheet(
    columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Image.Image]]], path: Path
) -> Path:
    """Write rows of pictures under their columns' titles as one PNG, each row's name before it."""
    across, down = _CELL + _MARGIN, _CELL + _MARGIN
    top = 3 * _LINE + _MARGIN
    size = (_NAMES + len(columns) * across + _MARGIN, top + len(rows) * down)
    sheet = Image.new("RGB", size, _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    for index, title in enumerate(columns):
        for line, words in enumerate(_wrapped(title, _CELL, font)[:3]):
            place = (_NAMES + index * across, _MARGIN + line * _LINE)
            pen.text(place, words, _INK, font)
    for number, (name, pictures) in enumerate(rows):
        height = top + number * down
        pen.text((_MARGIN, height + _CELL // 2), name, _INK, font)
        for index, picture in enumerate(pictures):
            scaled = picture.convert("RGB")
            scaled.thumbnail((_CELL, _CELL), Image.Resampling.LANCZOS)
            sheet.paste(scaled, (_NAMES + index * across, height))
    sheet.save(path, "PNG")
    return path


def _wrapped(
    words: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont
) -> list[str]:
    """The words in lines that are no wider, broken after hyphens."""
    lines = [""]
    for part in words.replace("-", "-\0").split("\0"):
        if lines[-1] and font.getlength(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return lines
