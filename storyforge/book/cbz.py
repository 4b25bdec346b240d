"""A composed book as a CBZ: each page as it is printed and cut, a picture, and a ComicInfo.xml.

Words are part of the pictures here; for readers who cannot see them there are EPUB and HTML.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from PIL import Image

from storyforge.book import picture
from storyforge.book.archive import write_archive
from storyforge.book.leaf import Book, Leaf
from storyforge.book.markup import xml
from storyforge.book.pdf import page_images

_PPI: Final = 200
"""Pixels an inch: a square page is 1700 wide, about what tablets show."""

_TYPES: Final = {
    "cover": "FrontCover",
    "endpaper": "InnerCover",
    "title": "Other",
    "imprint": "Editorial",
    "story": "Story",
    "lives": "Editorial",
    "colophon": "Editorial",
    "back": "BackCover",
}


@dataclass(frozen=True, slots=True)
class PagePicture:
    """One page as a JPEG marked with who made it, and its size in pixels."""

    content: bytes
    width: int
    height: int


def write_cbz(book: Book, path: Path) -> Path:
    """Write the book to `path`, whole or not at all; the same book, the same bytes.

    Raises StoryForgeError if a picture cannot be read, a text holds a control character, or the
    typesetter refuses.
    """
    pictures = page_pictures(book, book.leaves)
    pages = [
        {
            "type": _TYPES[leaf.kind],
            "bookmark": None if leaf.kind in {"story", "endpaper"} else leaf.label,
            "bytes": len(page.content),
            "width": page.width,
            "height": page.height,
        }
        for leaf, page in zip(book.leaves, pictures, strict=True)
    ]
    date = [int(part) for part in (book.published.date or "").split("-") if part]
    about = xml("ComicInfo.xml", {"book": book, "pages": pages, "date": date}, "title and author")
    digits = max(3, len(str(len(pages))))
    named = {
        f"page-{number:0{digits}d}.jpg": page.content
        for number, page in enumerate(pictures, start=1)
    }
    return write_archive(path, {"ComicInfo.xml": about, **named})


def page_pictures(book: Book, leaves: Sequence[Leaf]) -> list[PagePicture]:
    """Some of the book's pages, set as the PDF sets them and cut.

    Raises StoryForgeError if a picture cannot be read or the typesetter refuses.
    """
    drawn = []
    for content in page_images(replace(book, leaves=tuple(leaves)), _PPI):
        with Image.open(io.BytesIO(content)) as page:
            marked = picture.marked(page.convert("RGB"), book.made)
            drawn.append(PagePicture(marked, page.width, page.height))
    return drawn
