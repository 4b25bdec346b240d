"""Curves over the steps of a run, drawn without a plotting library: the loss, and alignments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from storyforge.contact_sheet import FAINT, FONT_SIZE, INK, PAPER, saved

_SIZE: Final = (900, 460)
"""Width and height in pixels."""

_LEFT, _TOP = 64, 44
_RIGHT, _BOTTOM = _SIZE[0] - 24, _SIZE[1] - 44
"""The corners of the axes in pixels."""

_RAW: Final = "#b9c2d6"
_INKS: Final = (INK, "#b3261e", "#2a9d9a")

_SMOOTH: Final = 25
"""Steps that the smooth line averages."""


def smoothed(values: Sequence[float]) -> list[float]:
    """The mean of each value and the up to 24 before it."""
    means = []
    for index in range(len(values)):
        window = values[max(0, index + 1 - _SMOOTH) : index + 1]
        means.append(sum(window) / len(window))
    return means


def write_curve(losses: Sequence[float], title: str, path: Path) -> Path:
    """Write the loss of every step, thin, and its running mean, thick, as a PNG."""
    known = [value for value in losses if math.isfinite(value)]
    chart = _Chart(title, max(1, len(losses)), max(known, default=1.0) or 1.0)
    chart.line(list(enumerate(losses, start=1)), _RAW, 1)
    chart.line(list(enumerate(smoothed(losses), start=1)), INK, 3)
    return saved(chart.sheet, path)


def write_curves(
    curves: Mapping[str, Sequence[tuple[int, float]]], title: str, chosen: int, path: Path
) -> Path:
    """Write several named curves as a PNG, with an upright line at the chosen step.

    curves  points (step, value) of each; values below 0 are drawn at 0
    """
    points = [point for curve in curves.values() for point in curve]
    most = max((value for _, value in points if math.isfinite(value)), default=0.0)
    chart = _Chart(title, max([1, *(step for step, _ in points)]), most if most > 0 else 1.0)
    chart.upright(chosen)
    for row, ((name, curve), ink) in enumerate(zip(curves.items(), _INKS, strict=False)):
        chart.line(curve, ink, 3)
        chart.name(row, name, ink)
    return saved(chart.sheet, path)


@dataclass(slots=True)
class _Chart:
    """Axes from 0 to `most` over steps from 0 to `last`, with a title."""

    title: str
    last: int
    most: float
    sheet: Image.Image = field(init=False)
    pen: ImageDraw.ImageDraw = field(init=False)
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont = field(init=False)

    def __post_init__(self) -> None:
        """Draw title, grid and numbers."""
        self.sheet = Image.new("RGB", _SIZE, PAPER)
        self.pen, self.font = ImageDraw.Draw(self.sheet), ImageFont.load_default(FONT_SIZE)
        tick = _tick(self.most)
        self.most = tick * math.ceil(self.most / tick)
        self.pen.text((_LEFT, 14), self.title, INK, self.font)
        for index in range(round(self.most / tick) + 1):
            _, y = self.place(0, index * tick)
            self.pen.line([(_LEFT, y), (_RIGHT, y)], FAINT)
            self.pen.text((_LEFT - 8, y), f"{index * tick:.3g}", INK, self.font, anchor="rm")
        for part in range(5):
            x, _ = self.place(self.last * part / 4, 0)
            told = str(round(self.last * part / 4))
            self.pen.text((x, _BOTTOM + 8), told, INK, self.font, anchor="ma")
        middle = ((_LEFT + _RIGHT) / 2, _SIZE[1] - 18)
        self.pen.text(middle, "step", INK, self.font, anchor="ma")

    def place(self, step: float, value: float) -> tuple[float, float]:
        """Where a point lies, in pixels."""
        x = _LEFT + (_RIGHT - _LEFT) * step / self.last
        return x, _BOTTOM - (_BOTTOM - _TOP) * max(0.0, value) / self.most

    def line(self, points: Sequence[tuple[int, float]], ink: str, thick: int) -> None:
        """Join the points, those that are numbers."""
        places = [self.place(*point) for point in points if math.isfinite(point[1])]
        for one, other in pairwise(places):
            self.pen.line([one, other], ink, thick)

    def upright(self, step: int) -> None:
        """Mark a step."""
        x, _ = self.place(step, 0)
        self.pen.line([(x, _TOP), (x, _BOTTOM)], _RAW, 2)

    def name(self, row: int, words: str, ink: str) -> None:
        """Say which line is which, below the title, one after the other."""
        self.pen.text((_LEFT + 220 * row, 28), words, ink, self.font)


def _tick(most: float) -> float:
    """A round distance that divides [0, most] into four to ten."""
    rough = most / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(step for step in (1.0, 2.0, 5.0, 10.0) if step * power >= rough * 0.99)
