"""What printers refuse, as data with a source and the day it was looked up.

How a cut page is made up is `trims`' to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from storyforge.story.trims import Trim


@dataclass(frozen=True, slots=True)
class Printer:
    """One printer's limits for the inside of a book.

    pages     fewest and most; None for no most
    gutters   up to so many pages, so many inches from the fold for words
    smallest  letters, in points; None if the printer names none
    megabytes of the largest file; None if the printer names none
    """

    name: str
    pages: tuple[int, int | None]
    gutters: tuple[tuple[int, float], ...]
    smallest: float | None
    megabytes: int | None
    source: str
    verified_on: str

    def gutter(self, pages: int) -> float:
        """Inches from the fold in which no words may stand, in a book of so many pages."""
        wide = [inches for most, inches in self.gutters if pages <= most]
        return wide[0] if wide else max((inches for _, inches in self.gutters), default=0.0)


KDP: Final = Printer(
    name="KDP",
    pages=(24, 828),
    gutters=((150, 0.375), (300, 0.5), (500, 0.625), (700, 0.75), (828, 0.875)),
    smallest=7.0,
    megabytes=650,
    source="https://kdp.amazon.com/en_US/help/topic/G201857950",
    verified_on="2026-11-21",
)

INGRAM: Final = Printer(
    name="IngramSpark",
    pages=(18, None),
    gutters=(),
    smallest=None,
    megabytes=None,
    source="https://www.ingramspark.com/blog/file-requirements-for-print-books",
    verified_on="2026-11-20",
)

_PREFIXES: Final = {"kdp-": KDP, "ingram-": INGRAM}


def printer_of(trim: Trim) -> Printer | None:
    """The printer that the page size is made for; None for sizes of no printer in particular."""
    return next((made for start, made in _PREFIXES.items() if trim.name.startswith(start)), None)
