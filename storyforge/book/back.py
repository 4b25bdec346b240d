"""The back cover: the blurb, and the ISBN with its barcode where printers leave room for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from storyforge.book.barcode import MODULES, QUIET
from storyforge.book.binding import Binding
from storyforge.book.compose import (
    RunningText,
    block,
    crop_to,
    figures_in,
    hiding,
    moved,
    widest,
)
from storyforge.book.leaf import Barcode, Picture, Rect, TextBlock
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

_PLATE: Final = (20.0, 12.0)
"""Round the blurb, where it stands on a picture."""

_INK: Final = "#2a2320"
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
    if settings.back is None:
        return [moved(made, room.x + at, y)]
    width, height = widest(made) + 2 * _PLATE[0], made.rect.height + 2 * _PLATE[1]
    (shown,) = picture(binding, 2)
    panel = next(each for _, each in binding.story.panels() if each.id == settings.back)
    figures = figures_in(shown.frame, shown.crop, binding.subject(panel).figures)
    high = Rect(room.centre().x - width / 2, room.y, width, height)
    places = [replace(high, y=room.y + (room.height - height) * step / 8) for step in range(9)]
    plate = min(places, key=lambda place: round(hiding(figures, place), 2))
    placed = moved(made, room.x + at, plate.y + _PLATE[1])
    return [replace(placed, plate=replace(plate, x=plate.x + at), color=_INK)]


def picture(binding: Binding, number: int) -> tuple[Picture, ...]:
    """The picture over the whole back; none if the story asks for none."""
    settings = binding.story.book.cover
    if settings is None or settings.back is None:
        return ()
    panel = next(each for _, each in binding.story.panels() if each.id == settings.back)
    frame, subject = binding.sheet(number).bled, binding.subject(panel)
    art = binding.art[panel.id]
    return (Picture(art, frame, crop_to(frame, subject), "square", binding.alt(panel)),)


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
