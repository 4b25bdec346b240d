"""A contact sheet of takes: the same panel several times, to choose from.

Each is shown with its number, which is what `storyforge pick` wants to hear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from storyforge.book.typeface import ANDIKA
from storyforge.errors import StoryForgeError

_PICTURE: Final = 360
_MARGIN: Final = 24
_TITLE: Final = 56
_LABEL: Final = 60
_FRAME: Final = 4
"""Pixels."""

_PAPER: Final = "#fbf7ef"
_INK: Final = "#2f3a56"
_PALE: Final = "#6b7185"
_CHOSEN: Final = "#c2571a"


@dataclass(frozen=True, slots=True)
class Take:
    """One picture of the panel; `shown` if it is the one in the book.

    image_alignment  to whom it shows, at most 1; None if nobody judged
    """

    number: int
    seed: int
    picture: Path
    shown: bool
    image_alignment: float | None = None


def write_takes(panel: str, takes: Sequence[Take], path: Path) -> Path:
    """Write the takes in rows as one PNG; StoryForgeError for an unreadable picture."""
    if not takes:
        raise ValueError("a contact sheet needs a take")
    pictures = [_opened(take.picture) for take in takes]
    width, height = (max(picture.size[side] for picture in pictures) for side in (0, 1))
    columns = min(len(takes), max(2, ceil(sqrt(len(takes)))))
    rows = ceil(len(takes) / columns)
    across, down = width + _MARGIN, height + _LABEL + _MARGIN
    sheet = Image.new("RGB", (columns * across + _MARGIN, _TITLE + rows * down + _MARGIN), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN), panel, _INK, _font(24))
    for index, (take, picture) in enumerate(zip(takes, pictures, strict=True)):
        left, top = _MARGIN + index % columns * across, _TITLE + _MARGIN + index // columns * down
        sheet.paste(picture, (left, top))
        _label(pen, take, left, top, picture.size)
    sheet.save(path, "PNG")
    return path


def _label(
    pen: ImageDraw.ImageDraw, take: Take, left: int, top: int, size: tuple[int, int]
) -> None:
    """Number, seed and likeness under a picture; a frame around the one in the book."""
    width, height = size
    if take.shown:
        box = (left - _FRAME, top - _FRAME, left + width + _FRAME - 1, top + height + _FRAME - 1)
        pen.rectangle(box, outline=_CHOSEN, width=_FRAME)
    words = f"take {take.number}"
    font, below = _font(20), top + height + 10
    pen.text((left, below), words, _CHOSEN if take.shown else _INK, font)
    right = left + pen.textlength(f"{words}  ", font)
    note = f"seed {take.seed}" + (", in the book" if take.shown else "")
    pen.text((right, below + 4), note, _PALE, _font(15))
    if take.image_alignment is not None:
        pen.text((left, below + 25), f"likeness {take.image_alignment:.2f}", _PALE, _font(15))


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(ANDIKA.path, size)


def _opened(path: Path) -> Image.Image:
    """The picture with its longer side as long as all are."""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (UnidentifiedImageError, OSError) as exc:
        raise StoryForgeError(f"cannot read the picture `{path}`") from exc
    scale = _PICTURE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)
