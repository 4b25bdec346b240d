"""From a composed book to a file of any format."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from storyforge.book.animatic import write_film
from storyforge.book.booklet import write_booklet
from storyforge.book.cbz import write_cbz
from storyforge.book.epub import write_epub
from storyforge.book.html import write_html, write_web
from storyforge.book.leaf import Book
from storyforge.book.pdf import write_pages, write_pdf
from storyforge.book.reflow import write_reflow
from storyforge.settings import Format

_WRITERS: Final = {
    "pdf": write_pdf,
    "cover": write_pdf,
    "inside": write_pdf,
    "booklet": write_booklet,
    "mp4": write_film,
    "html": write_html,
    "web": write_web,
    "epub": write_epub,
    "epub-reflow": write_reflow,
    "cbz": write_cbz,
}


def write_book(book: Book, form: Format, path: Path, ppi: int) -> Path:
    """Write the book to `path`, a folder for `web` and `png`; `ppi` is for `png` alone.

    Raises StoryForgeError if a picture cannot be read, a text cannot stand in the format, or the
    typesetter refuses.
    """
    if form == "png":
        return write_pages(book, path, ppi)
    return _WRITERS[form](book, path)
