"""Titled pictures side by side on one sheet, for the eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

SIDE: Final = 192
LINE: Final = 22
MARGIN: Final = 12
FONT_SIZE: Final = 14
"""Pixels."""


def write_grid(rows: Sequence[tuple[str, Mapping[str, Path]]], path: Path) -> None:
    """Lay titled pictures beside each other as one PNG, each row under what it shows."""
    wide, tall = SIDE + MARGIN, SIDE + 2 * LINE + MARGIN
    size = (MARGIN + wide * max(len(row) for _, row in rows), MARGIN + tall * len(rows))
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    for down, (words, row) in enumerate(rows):
        top = MARGIN + down * tall
        pen.text((MARGIN, top), words, "black", font)
        for across, (title, file) in enumerate(row.items()):
            left = MARGIN + across * wide
            pen.text((left, top + LINE), title, "black", font)
            with Image.open(file) as opened:
                small = opened.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(small, (left, top + 2 * LINE))
    sheet.save(path, "PNG")
