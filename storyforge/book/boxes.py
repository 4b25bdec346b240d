"""BleedBox for a PDF as the typesetter writes it: all of the page, the cut and what bleeds.

The typesetter writes the MediaBox and the TrimBox; some printers ask for all three.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate
from typing import Final

_BOXES: Final = re.compile(rb"/MediaBox(\[[^\]]*\])(?=/TrimBox\[)")
_TABLE: Final = re.compile(rb"\nxref\n0 (\d+)\n")
_START: Final = re.compile(rb"startxref\n(\d+)\n%%EOF\s*\Z")
_ENTRY: Final = 20
"""Bytes of one line of a table of cross-references (ISO 32000-1, 7.5.4)."""


def with_bleed_boxes(pdf: bytes) -> bytes:
    """The same PDF with a BleedBox on every page that has a TrimBox.

    Raises ValueError for a PDF without a plain table of cross-references.
    """
    found = list(_BOXES.finditer(pdf))
    start = _START.search(pdf)
    table = _TABLE.search(pdf, int(start[1]) - 1) if start else None
    if start is None or table is None or table.start() + 1 != int(start[1]):
        raise ValueError("a PDF without a plain table of cross-references gets no BleedBox")
    added = [b"/BleedBox" + each[1] for each in found]
    places = [each.end() for each in found]
    shifts = [0, *accumulate(map(len, added))]

    def moved(offset: int) -> int:
        return offset + shifts[bisect_right(places, offset)]

    parts: list[bytes] = []
    before = 0
    for place, box in zip(places, added, strict=True):
        parts += [pdf[before:place], box]
        before = place
    lines = pdf[table.end() : table.end() + _ENTRY * int(table[1])]
    parts.append(pdf[before : table.end()])
    for at in range(0, len(lines), _ENTRY):
        line = lines[at : at + _ENTRY]
        used = line[17:18] == b"n"
        parts.append(b"%010d" % moved(int(line[:10])) + line[10:] if used else line)
    parts.append(pdf[table.end() + len(lines) : start.start(1)])
    parts.append(b"%d" % moved(int(start[1])) + pdf[start.end(1) :])
    return b"".join(parts)
