"""Pictures about training, drawn without a plotting library: contact sheets and the loss curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from storyforge.store import write_whole

_MARGIN: Final = 12
_LABEL: Final = 20
_FONT_SIZE: Final = 14
_CELL: Final = 176
"""Pixels."""

_PAPER: Final = "#fbf7ef"
_INK: Final = "#2f3a56"
_FAINT: Final = "#d8d2c4"
_RAW: Final = "#b9c2d6"
_WARN: Final = "#b3261e"

_CURVE: Final = (900, 460)
"""Width and height of the loss curve in pixels."""

_SMOOTH: Final = 25
"""Steps that the smooth line averages."""


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
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    top = _MARGIN
    for title, cells in rows:
        pen.text((_MARGIN, top), _cut(title, width - 2 * _MARGIN, font), _INK, font)
        for index, cell in enumerate(cells):
            left = _MARGIN + index * (_CELL + _MARGIN)
            sheet.paste(_fitted(cell.picture), (left, top + _LABEL))
            ink = _WARN if cell.bad else _INK
            pen.text((left, top + _LABEL + _CELL + 2), _cut(cell.words, _CELL, font), ink, font)
        top += _LABEL + _CELL + _LABEL + _MARGIN
    return _saved(sheet, path)


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
    square = Image.new("RGB", (_CELL, _CELL), _PAPER)
    square.paste(scaled, ((_CELL - scaled.width) // 2, (_CELL - scaled.height) // 2))
    return square


def smoothed(values: Sequence[float]) -> list[float]:
    """The mean of each value and the up to 24 before it."""
    means = []
    for index in range(len(values)):
        window = values[max(0, index + 1 - _SMOOTH) : index + 1]
        means.append(sum(window) / len(window))
    return means


def write_curve(losses: Sequence[float], title: str, path: Path) -> Path:
    """Write the loss of every step, thin, and its running mean, thick, as a PNG."""
    width, height = _CURVE
    sheet = Image.new("RGB", _CURVE, _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    left, top, right, bottom = 64, 44, width - 24, height - 44
    known = [value for value in losses if math.isfinite(value)]
    most = max(known, default=1.0) or 1.0
    tick = _tick(most)
    most = tick * math.ceil(most / tick)
    pen.text((left, 14), title, _INK, font)
    for index in range(round(most / tick) + 1):
        y = bottom - (bottom - top) * index * tick / most
        pen.line([(left, y), (right, y)], _FAINT)
        pen.text((left - 8, y), f"{index * tick:.3g}", _INK, font, anchor="rm")
    last = max(1, len(losses))
    for part in range(5):
        x = left + (right - left) * part / 4
        pen.text((x, bottom + 8), str(round(last * part / 4)), _INK, font, anchor="ma")
    pen.text(((left + right) / 2, height - 18), "step", _INK, font, anchor="ma")

    def draw(values: Sequence[float], ink: str, thick: int) -> None:
        places = [
            (left + (right - left) * step / last, bottom - (bottom - top) * value / most)
            for step, value in enumerate(values, start=1)
            if math.isfinite(value)
        ]
        for one, other in pairwise(places):
            pen.line([one, other], ink, thick)

    draw(losses, _RAW, 1)
    draw(smoothed(losses), _INK, 3)
    return _saved(sheet, path)


def _tick(most: float) -> float:
    """A round distance that divides [0, most] into four to ten."""
    rough = most / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(step for step in (1.0, 2.0, 5.0, 10.0) if step * power >= rough * 0.99)


def _saved(sheet: Image.Image, path: Path) -> Path:
    data = BytesIO()
    sheet.save(data, "PNG")
    write_whole(path, data.getvalue())
    return path
