"""Page sizes that printers take, as data with a source and the day it was looked up.

A paper says how thick the spine of so many pages is; where a printer publishes no such number, its
cover template has it, and the story says it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from storyforge.errors import StoryForgeError, closest

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

USUAL_TRIM: Final = "square-8.5"
"""Of books that name none."""
PRINTED: Final = ("kdp-", "ingram-")
"""How the names of page sizes begin that are a printer's, who wants a cover around the inside."""
PAPERED: Final = "kdp-"
"""And those of printers whose papers are known."""

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


_KDP_SPINE: Final = "https://kdpprintcover.com/blog/how-to-calculate-kdp-spine-width"


@dataclass(frozen=True, slots=True)
class Paper:
    """A printer's paper, and what it means for the spine.

    caliper      thickness of one page (one side of a leaf) in inches
    worded_from  the fewest pages with which the spine may bear words
    verified_on  the day (ISO 8601) on which `source` was last read
    """

    name: str
    caliper: float
    worded_from: int
    source: str
    verified_on: str


PAPERS: Final[dict[str, Paper]] = {
    name: Paper(name, caliper, 79, _KDP_SPINE, "2026-11-21")
    for name, caliper in (
        ("kdp-premium-color", 0.002347),
        ("kdp-standard-color", 0.002252),
        ("kdp-white", 0.002252),
        ("kdp-cream", 0.0025),
    )
}
"""Papers by name; the first is the usual one for pictures."""

WORDED_FROM: Final = 80
"""Pages from which a spine bears words where no printer says otherwise: the strictest we know of is
KDP's, and 80 is the next even count."""


@dataclass(frozen=True, slots=True)
class Spine:
    """The spine of a book; `width` in inches, `worded` whether it may bear words."""

    width: float
    worded: bool


def spine_of(trim: Trim, paper: str | None, caliper: float | None, pages: int) -> Spine:
    """The spine of so many pages; `caliper`, in inches a page, speaks before the paper.

    Raises StoryForgeError for an unknown paper, or if nothing says how thick a page is.
    """
    if paper is not None and paper not in PAPERS:
        near = closest(paper, PAPERS)
        meant = f"; did you mean `{near}`?" if near else ""
        known = ", ".join(f"`{known}`" for known in PAPERS)
        raise StoryForgeError(
            f"no paper named `{paper}`{meant}",
            hint=f"`book.print.paper` is {known}; else write `book.print.caliper`",
        )
    if paper is None and trim.name.startswith(PAPERED):
        paper = next(iter(PAPERS))
    if caliper is not None:
        worded = PAPERS[paper].worded_from if paper else WORDED_FROM
        return Spine(pages * caliper, pages >= worded)
    if paper is None:
        raise StoryForgeError(
            f"how thick a page is, and with it the spine, is not known for `{trim.name}`",
            hint="take it from your printer's cover template, and write it, in inches a page, as "
            "`book.print.caliper`",
        )
    return Spine(pages * PAPERS[paper].caliper, pages >= PAPERS[paper].worded_from)


_LENGTH: Final = re.compile(r"(?P<number>[0-9]{1,4}(\.[0-9]{1,4})?) ?(?P<unit>mm|cm|in|pt)")
_UNITS: Final = {"mm": _MM, "cm": 10 * _MM, "in": 1.0, "pt": 1 / POINTS_PER_INCH}


def length_in(text: str) -> float | None:
    """A length such as `200mm` in inches; None if it is none."""
    found = _LENGTH.fullmatch(text.strip())
    return float(found["number"]) * _UNITS[found["unit"]] if found else None


_OWN: Final = "as the story says"
_BOUNDS: Final = (2.0, 30.0)
"""Inches of the shortest and the longest side of a page."""


def trim_of_size(width: str, height: str, bleed: str, safe: str) -> Trim:
    """A page size in lengths; StoryForgeError for one that no book has."""
    sides = [length_in(each) or 0.0 for each in (width, height, bleed, safe)]
    if min(sides[:2]) < _BOUNDS[0] or max(sides[:2]) > _BOUNDS[1] or sides[2] > 1:
        raise StoryForgeError(
            f"a page of {width} x {height} with {bleed} of bleed is no book's",
            hint="`book.trim` is from 2 to 30 inches wide and high, its bleed at most one",
        )
    if 2 * sides[3] > 0.5 * min(sides[:2]):
        message = f"words {safe} from every edge of a page of {width} x {height} have no room"
        raise StoryForgeError(message, hint="make `book.trim.safe` smaller")
    name = f"{width}x{height}".replace(" ", "")
    return Trim(name, sides[0], sides[1], sides[2], sides[2], sides[3], _OWN, "")


def trim_named(name: str) -> Trim:
    """The trim called `name`; StoryForgeError, with the nearest name, if there is none."""
    if name in TRIMS:
        return TRIMS[name]
    near = closest(name, TRIMS)
    meant = f"; did you mean `{near}`?" if near else ""
    known = ", ".join(f"`{known}`" for known in TRIMS)
    raise StoryForgeError(f"no page size named `{name}`{meant}", hint=f"`book.trim` is {known}")
