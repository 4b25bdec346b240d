"""Pictures large enough for print: how many pixels each place needs, and plain enlargement.

Lanczos enlarges without inventing detail; models that invent it are `sample.upscaler`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from storyforge.book.leaf import Art, Book, Leaf, Picture
from storyforge.errors import StoryForgeError
from storyforge.provenance.xmp import XMP_CHUNK, packet
from storyforge.settings import Made
from storyforge.story.trims import POINTS_PER_INCH

PRINT_PPI: Final = 300
"""Pixels an inch that printers ask for."""

_QUICK: Final = 1
"""A PNG's compression: these files are large, and read by nobody but the typesetter."""


def inches(item: Picture) -> float:
    """The width of the whole picture, cropped parts too, as it is placed."""
    return item.frame.width / item.crop.width / POINTS_PER_INCH


def widths(book: Book) -> dict[str, int]:
    """Pixels across that each panel's picture needs for print; those large enough are left out."""
    wanted: dict[str, int] = {}
    for leaf in book.leaves:
        for item in leaf.pictures:
            width = math.ceil(PRINT_PPI * inches(item))
            if width > item.art.width:
                wanted[item.art.panel] = max(width, wanted.get(item.art.panel, 0))
    return wanted


def with_art(book: Book, art: Mapping[str, Art]) -> Book:
    """The book with other files for some panels' pictures."""

    def drawn(leaf: Leaf) -> Leaf:
        """The leaf with the other files."""
        pictures = tuple(
            replace(item, art=art.get(item.art.panel, item.art)) for item in leaf.pictures
        )
        return replace(leaf, pictures=pictures)

    return replace(book, leaves=tuple(drawn(leaf) for leaf in book.leaves))


def opened(source: Path) -> Image.Image:
    """The picture in a file.

    Raises StoryForgeError if it is none.
    """
    try:
        with Image.open(source) as picture:
            return picture.convert("RGB")
    except OSError as exc:
        raise StoryForgeError(f"cannot read the picture `{source}`") from exc


def fitted(picture: Image.Image, width: int) -> Image.Image:
    """The picture `width` pixels across (Lanczos)."""
    size = (width, round(picture.height * width / picture.width))
    return picture.resize(size, Image.Resampling.LANCZOS)


def save(picture: Image.Image, path: Path, made: Made = "model") -> None:
    """Write an enlarged picture, marked with who made it."""
    notes = PngInfo()
    notes.add_itxt(XMP_CHUNK, packet(made))
    picture.save(path, "PNG", pnginfo=notes, compress_level=_QUICK)
