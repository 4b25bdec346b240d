"""The price of fusing for the eye: a page with curves against the number of concepts, and pictures.

Also the table for a terminal. Figures come as the plain JSON that `evaluate fusion` prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Final

from storyforge.evaluate.report.page import rendered

WIDTH, HEIGHT = 420.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 12.0, 30.0
"""Of a chart and its margins, in pixels."""

_TICKS: Final = 6
"""Lines across a chart, at most."""

COLOURS: Final = ("#d9822b", "#4f86c6", "#b3409a", "#4c9a5b", "#8a6d3b", "#6a5acd", "#c0392b")

_CHARTS: Final = (
    ("Image-alignment, fused", "image_fused", ("image_lower", "image_upper")),
    ("Loss of image-alignment from alone to fused", "image_drop", ()),
    ("Text-alignment, fused", "text_fused", ()),
    ("Share of pictures identified, fused", "identified_fused", ("identified_lower",)),
)
"""Title, figure, bounds that are drawn dashed."""

_COLUMNS: Final = (
    ("image alone", "image_single"),
    ("fused", "image_fused"),
    ("drop", "image_drop"),
    ("text alone", "text_single"),
    ("fused", "text_fused"),
    ("identified", "identified_fused"),
)


@dataclass(frozen=True, slots=True)
class FusionRow:
    """Pictures of one prompt: condition -> file, relative to the page."""

    concept: str
    prompt: str
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart, in pixels of it; gaps where nothing was measured."""

    name: str
    colour: str
    dashed: bool
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves against the number of concepts.

    across, up  (place in pixels, what stands there)
    """

    title: str
    curves: tuple[Curve, ...]
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]


def fusion_page(content: Mapping[str, object], rows: Sequence[FusionRow]) -> str:
    """The page; pictures stay files beside it."""
    grouped: dict[str, list[FusionRow]] = {}
    for row in rows:
        grouped.setdefault(row.concept, []).append(row)
    size = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "bottom": HEIGHT - BOTTOM}
    return rendered(
        "fusion.html",
        content=content,
        charts=charts(content),
        columns=_COLUMNS,
        rows=grouped,
        size={**size, "right": WIDTH - RIGHT},
    )


def charts(content: Mapping[str, object]) -> list[Chart]:
    """One chart for each figure that has something to show."""
    prices, bounds = _by_count(content["n"]), content["bounds"]
    assert isinstance(bounds, dict)
    made = []
    for title, figure, limits in _CHARTS:
        lines: dict[str, dict[int, float | None]] = {}
        for count, by_method in prices.items():
            for method, figures in by_method.items():
                lines.setdefault(method, {})[count] = figures[figure]
        for limit in limits:
            lines[limit] = {int(count): each[limit] for count, each in bounds.items()}
        made.append(_chart(title, lines, frozenset(limits), list(prices)))
    return made


def _chart(
    title: str,
    lines: Mapping[str, Mapping[int, float | None]],
    dashed: frozenset[str],
    counts: Sequence[int],
) -> Chart:
    values = [value for line in lines.values() for value in line.values() if value is not None]
    low, high = min(values, default=0.0), max(values, default=1.0)
    spare = max(high - low, 0.01) * 0.08
    low, high = low - spare, high + spare
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    span = max(counts) - min(counts)

    def x(count: int) -> float:
        """Where a number of concepts stands, in pixels from the left."""
        return round(LEFT + wide * ((count - min(counts)) / span if span else 0.5), 1)

    def y(value: float) -> float:
        """Where a value stands, in pixels from the top."""
        return round(TOP + tall * (high - value) / (high - low), 1)

    curves = [
        Curve(
            name.replace("_", " "),
            "currentColor" if name in dashed else COLOURS[index % len(COLOURS)],
            name in dashed,
            tuple((x(count), y(value)) for count, value in line.items() if value is not None),
        )
        for index, (name, line) in enumerate(lines.items())
    ]
    return Chart(
        title,
        tuple(curves),
        tuple((x(count), str(count)) for count in counts),
        tuple((y(value), f"{value:g}") for value in _ticks(low, high)),
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two others: multiples of 1, 2 or 5 of a power of ten."""
    power = 10.0 ** floor(log10((high - low) / _TICKS))
    step = next(each * power for each in (1, 2, 5, 10) if (high - low) / (each * power) <= _TICKS)
    return [round(place * step, 6) for place in range(ceil(low / step), floor(high / step) + 1)]


def fusion_table(content: Mapping[str, object]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heading and rows for a terminal: each method's figures, for every number of concepts."""
    heading = ("concepts", "method", *(title for title, _ in _COLUMNS))
    rows = [
        (str(count), method, *(_short(figures[figure]) for _, figure in _COLUMNS))
        for count, by_method in _by_count(content["n"]).items()
        for method, figures in by_method.items()
    ]
    return heading, rows


def _by_count(figures: object) -> dict[int, dict[str, dict[str, float | None]]]:
    assert isinstance(figures, dict)
    return {int(count): each for count, each in figures.items()}


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
