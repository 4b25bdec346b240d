"""Page sizes that printers take, as data with a source and the day it was looked up.

Interior pages only: a printer's wrap cover, with its spine, depends on paper and page count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from storyforge.errors import StoryForgeError
from storyforge.layout import closest

POINTS_PER_INCH: Final = 72.0
_MM: Final = 1 / 25.4

_KDP: Final = "https://kdp.amazon.com/en_US/help/topic/GVBQ3CMEQW3W2VL6"
_INGRAM: Final = "https://www.ingramspark.com/blog/file-requirements-for-print-books"


@dataclass(frozen=True, slots=True)
class Trim:
    """A cut page and what a printer wants around it; all lengths in inches.

    bleed        how far pictures run over the top, bottom and outer edge
    inner_bleed  the same at the edge where the book is bound
    safe         text stays this far inside the cut
    verified_on  the day (ISO 8601) on which `source` was last read
    """

    name: str
    width: float
    height: float
    bleed: float
    inner_bleed: float
    safe: float
    source: str
    verified_on: str


def _kdp(name: str, width: float, height: float) -> Trim:
    return Trim(name, width, height, 0.125, 0.0, 0.375, _KDP, "2026-11-20")


def _ingram(name: str, width: float, height: float) -> Trim:
    return Trim(name, width, height, 0.125, 0.0, 0.5, _INGRAM, "2026-11-20")


def _own(name: str, width: float, height: float, source: str) -> Trim:
    bleed = 3 * _MM
    return Trim(name, width, height, bleed, bleed, 0.375, source, "2026-11-20")


_ISO: Final = "ISO 216 page size; 3 mm of bleed on all sides is printers' custom in Europe"
_SQUARE: Final = "picture book square; 3 mm of bleed on all sides is printers' custom in Europe"

TRIMS: Final[dict[str, Trim]] = {
    trim.name: trim
    for trim in (
        _own("square-8.5", 8.5, 8.5, _SQUARE),
        _own("square-210mm", 210 * _MM, 210 * _MM, _SQUARE),
        _own("a5", 148 * _MM, 210 * _MM, _ISO),
        _own("a4", 210 * _MM, 297 * _MM, _ISO),
        _own("a4-landscape", 297 * _MM, 210 * _MM, _ISO),
        _kdp("kdp-8.5x8.5", 8.5, 8.5),
        _kdp("kdp-8.25x8.25", 8.25, 8.25),
        _kdp("kdp-8x10", 8.0, 10.0),
        _kdp("kdp-8.5x11", 8.5, 11.0),
        _kdp("kdp-6x9", 6.0, 9.0),
        _ingram("ingram-8.5x8.5", 8.5, 8.5),
        _ingram("ingram-8x10", 8.0, 10.0),
    )
}


def trim_named(name: str) -> Trim:
    """The trim called `name`; StoryForgeError, with the nearest name, if there is none."""
    if name in TRIMS:
        return TRIMS[name]
    near = closest(name, TRIMS)
    meant = f"; did you mean `{near}`?" if near else ""
    known = ", ".join(f"`{known}`" for known in TRIMS)
    raise StoryForgeError(f"no page size named `{name}`{meant}", hint=f"`book.trim` is {known}")
