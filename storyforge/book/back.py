"""The back cover: the blurb, and the ISBN with its barcode where printers leave room for it."""

from __future__ import annotations

from typing import Final

from storyforge.book.barcode import MODULES, QUIET
from storyforge.book.binding import Binding
from storyforge.book.compose import RunningText, block, moved
from storyforge.book.leaf import Barcode, Rect, TextBlock
from storyforge.book.unsettable import Unsettable
from storyforge.story.trims import POINTS_PER_INCH

_ROOM: Final = (2.0, 1.2)
"""Inches that a printer takes for its own barcode, at the foot of the back towards the spine."""

_GAP: Final = 0.25
"""Inches between the barcode and the words above it."""

_BLURB_SIZES: Final = (18.0, 17.0, 16.0, 15.0, 14.0, 13.0, 12.0, 11.0, 10.0)

_MODULE: Final = 0.33 / 25.4 * POINTS_PER_INCH
_BARS: Final = 22.85 / 25.4 * POINTS_PER_INCH
"""The width of a module and the height of the bars at full size, in points (GS1)."""

_DIGITS: Final = 9.0
_PAD: Final = 5.0


def blurb(binding: Binding, at: float = 0.0) -> list[TextBlock]:
    """The words on the back, above the room for a barcode.

    Raises Unsettable where they do not fit.
    """
    settings = binding.story.book.cover
    if settings is None or settings.blurb is None:
        return []
    words = binding.set(settings.blurb)
    place = ("book", "cover", "blurb")
    face = binding.face_for(words, binding.text_face, "cover", place)
    safe = binding.sheet(1).safe
    free = (_ROOM[1] + _GAP) * POINTS_PER_INCH
    room = Rect(safe.x, safe.y, safe.width, safe.height - free).inset(0.06 * safe.width, 0)
    made = block(RunningText(words, face, binding.language), "blurb", room, _BLURB_SIZES)
    if made is None:
        raise Unsettable(
            "cover: the blurb does not fit above the barcode",
            place=place,
            hint="shorten `book.cover.blurb`",
        )
    y = room.y + (room.height - made.rect.height) * 0.42
    return [moved(made, room.x + at, y)]


def barcode(binding: Binding, at: float = 0.0) -> tuple[Barcode, ...]:
    """The printed book's ISBN at the foot of the back, towards the spine; none without one."""
    digits = binding.published.isbn
    if digits is None:
        return ()
    safe = binding.sheet(1).safe
    width = (MODULES + sum(QUIET)) * _MODULE
    height = _BARS + _DIGITS + 2 * _PAD
    x = safe.x if binding.rtl else safe.right - width
    return (Barcode(digits, Rect(x + at, safe.bottom - height, width, height), _MODULE, _DIGITS),)
