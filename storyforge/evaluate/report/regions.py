"""Subjects beside each other for the eye: a page with heat maps of who leaks into whom, and panels.

Also the table for a terminal. Figures come as the plain JSON that `evaluate regions` prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from storyforge.evaluate.report.page import rendered

_COLUMNS: Final = (
    ("told apart", "apart"),
    ("all apart", "apart_complete"),
    ("found", "found"),
    ("all found", "complete"),
    ("missing", "missing"),
    ("likeness", "likeness"),
    ("margin", "margin"),
    ("text", "text"),
    ("seconds", "seconds"),
    ("× regions", "seconds_ratio"),
)
"""Heading and figure."""


@dataclass(frozen=True, slots=True)
class RegionsRow:
    """One panel: way -> file, relative to the page."""

    panel: str
    caption: str
    sources: Mapping[str, str]


def regions_page(content: Mapping[str, object], rows: Sequence[RegionsRow]) -> str:
    """The page; pictures stay files beside it."""
    heats = _heats(content)
    return rendered("regions.html", content=content, columns=_COLUMNS, rows=rows, heats=heats)


def _heats(content: Mapping[str, object]) -> dict[str, tuple[list[str], dict[str, list[Heat]]]]:
    """Way -> its leakage as columns and rows of cells, coloured from the least to the most."""
    methods = content["methods"]
    assert isinstance(methods, dict)
    every = [
        value
        for told in methods.values()
        for row in told["leakage"].values()
        for value in row.values()
    ]
    low, high = min(every, default=0.0), max(every, default=1.0)
    span = max(high - low, 1e-6)
    return {
        method: (
            list(next(iter(told["leakage"].values()), {})),
            {
                name: [
                    Heat(value, round(100 * (value - low) / span), name == other)
                    for other, value in row.items()
                ]
                for name, row in told["leakage"].items()
            },
        )
        for method, told in methods.items()
    }


@dataclass(frozen=True, slots=True)
class Heat:
    """One cell of a heat map; `percent` between the least and the most of all maps."""

    value: float
    percent: int
    own: bool


def regions_table(content: Mapping[str, object]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heading and rows for a terminal: the figures of every way."""
    methods = content["methods"]
    assert isinstance(methods, dict)
    rows = [
        (method, *(_short(told[figure]) for _, figure in _COLUMNS))
        for method, told in methods.items()
    ]
    return ("method", *(title for title, _ in _COLUMNS)), rows


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
