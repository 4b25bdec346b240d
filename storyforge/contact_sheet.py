"""Contact sheets: rows of pictures with words above and below them, as one PNG for the eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from storyforge.errors import StoryForgeError
from storyforge.store import write_whole

MARGIN: Final = 12
LINE: Final = 24
SIDE: Final = 176
FONT_SIZE: Final = 14
_FRAME: Final = 3
_NARROWEST: Final = 400
"""Pixels; the last is what titles need."""

PAPER: Final = "#fbf7ef"
INK: Final = "#2f3a56"
FAINT: Final = "#d8d2c4"
_PALE: Final = "#6b7185"
_WARN: Final = "#b3261e"
_CHOSEN: Final = "#c2571a"

FONT_FILE: Final = Path(__file__).parent / "book" / "fonts" / "Andika-Regular.ttf"
"""Of the books' fonts the one with the most alphabets: authors name things in theirs."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One picture and what is written below it.

    picture  an image or its file; None leaves the place empty
    note     paler words on a line of their own
    bad      whether the words are red
    chosen   whether the picture has a frame
    """

    picture: Image.Image | Path | None
    words: str = ""
    note: str = ""
    bad: bool = False
    chosen: bool = False


Row = tuple[str, Sequence[Cell]]
"""What stands above the pictures, and they; a row without a title belongs to the one before."""


def write_contact_sheet(rows: Sequence[Row], path: Path, side: int | None = SIDE) -> Path:
    """Write rows below each other as one PNG, whole or not at all.

    Every picture keeps its shape and fills a square of `side` pixels; None for as large as each
    is, pixel by pixel.

    Raises StoryForgeError for a picture that cannot be read.
    """
    return saved(contact_sheet(rows, side), path)


def contact_sheet(rows: Sequence[Row], side: int | None = SIDE) -> Image.Image:
    """The sheet as an image; see `write_contact_sheet`."""
    if not any(cells for _, cells in rows):
        raise ValueError("a contact sheet needs a picture")
    pictures = [[_opened(cell.picture, side) for cell in cells] for _, cells in rows]
    sides = [max(picture.size) for row in pictures for picture in row if picture is not None]
    side = side or max(sides, default=1)
    heights = [_height(row, side) for row in rows]
    widest = max(len(cells) for _, cells in rows)
    width = max(_NARROWEST, MARGIN + widest * (side + MARGIN))
    size = width, MARGIN + sum(heights)
    sheet = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(sheet), font_of(FONT_SIZE)
    top = MARGIN
    for (title, cells), row, height in zip(rows, pictures, heights, strict=True):
        below = top
        if title:
            pen.text((MARGIN, top), _cut(title, size[0] - 2 * MARGIN, font), INK, font)
            below += LINE
        for index, (cell, picture) in enumerate(zip(cells, row, strict=True)):
            if picture is not None:
                left = MARGIN + index * (side + MARGIN)
                middle = (side - picture.width) // 2, (side - picture.height) // 2
                sheet.paste(picture, (left + middle[0], below + middle[1]))
                _label(pen, cell, (left, below), side)
        top += height
    return sheet


def saved(picture: Image.Image, path: Path) -> Path:
    """Write a picture as PNG, whole or not at all."""
    data = BytesIO()
    picture.save(data, "PNG")
    write_whole(path, data.getvalue())
    return path


def font_of(size: int) -> ImageFont.FreeTypeFont:
    """The font of all sheets, `size` pixels high."""
    return ImageFont.truetype(FONT_FILE, size)


def _height(row: Row, side: int) -> int:
    title, cells = row
    lines = bool(title) + any(cell.words for cell in cells) + any(cell.note for cell in cells)
    return side + LINE * lines + MARGIN


def _label(pen: ImageDraw.ImageDraw, cell: Cell, corner: tuple[int, int], side: int) -> None:
    """A picture's frame, words and note."""
    left, top = corner
    if cell.chosen:
        box = (left - _FRAME, top - _FRAME, left + side + _FRAME - 1, top + side + _FRAME - 1)
        pen.rectangle(box, outline=_CHOSEN, width=_FRAME)
    font, ink = font_of(FONT_SIZE), _WARN if cell.bad else _CHOSEN if cell.chosen else INK
    pen.text((left, top + side + 2), _cut(cell.words, side, font), ink, font)
    pen.text((left, top + side + 2 + LINE), _cut(cell.note, side, font), _PALE, font)


def _cut(words: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The words, shortened to `width` pixels."""
    if font.getlength(words) <= width:
        return words
    while words and font.getlength(words + "…") > width:
        words = words[:-1]
    return words + "…"


def _opened(picture: Image.Image | Path | None, side: int | None) -> Image.Image | None:
    """A picture on paper, which shows through; its longer side as asked, None for as it is."""
    if picture is None:
        return None
    try:
        if isinstance(picture, Path):
            with Image.open(picture) as file:
                opened = file.convert("RGBA")
        else:
            opened = picture.convert("RGBA")
    except (UnidentifiedImageError, OSError) as exc:
        raise StoryForgeError(f"cannot read the picture `{picture}`") from exc
    paper = Image.new("RGBA", opened.size, PAPER)
    shown = Image.alpha_composite(paper, opened).convert("RGB")
    factor = (side or max(shown.size)) / max(shown.size)
    size = max(1, round(shown.width * factor)), max(1, round(shown.height * factor))
    return shown if size == shown.size else shown.resize(size, Image.Resampling.LANCZOS)
