"""A book for a home printer: pages two by two in the order in which folded sheets are stapled.

Printed on both sides (turned on the short edge), folded and stapled in the middle. Pages are shown
as they are cut: home printers do not bleed.
"""

from __future__ import annotations

import io
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from storyforge.book.leaf import Book, Leaf
from storyforge.book.pdf import write_pdf
from storyforge.provenance.xmp import describe_pdf

if TYPE_CHECKING:
    import pikepdf

_ON_A_SHEET: Final = 4
"""Pages on one sheet of paper, folded once."""


def write_booklet(book: Book, path: Path) -> Path:
    """Write the book's pages on sheets to be folded, whole or not at all.

    Raises StoryForgeError if a picture cannot be read or the typesetter refuses.
    """
    import pikepdf

    with tempfile.TemporaryDirectory(prefix="storyforge-booklet-") as folder:
        pages = write_pdf(filled(book), Path(folder) / "pages.pdf")
        made = io.BytesIO()
        with pikepdf.open(pages) as opened, pikepdf.new() as sheets:
            for left, right in order(len(opened.pages), rtl=book.direction == "rtl"):
                _lay(sheets, opened.pages[left], opened.pages[right])
            describe_pdf(sheets, book.title, book.made)
            sheets.save(made, deterministic_id=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(made.getvalue())
    os.replace(partial, path)
    return path


def filled(book: Book) -> Book:
    """The book with empty pages before its back cover, until whole sheets are full."""
    lacking = -len(book.leaves) % _ON_A_SHEET
    kept, back = list(book.leaves[:-1]), book.leaves[-1]
    for _ in range(lacking):
        kept.append(Leaf(len(kept) + 1, "endpaper", book.leaves[1].label, "paper", None))
    return replace(book, leaves=(*kept, replace(back, number=len(kept) + 1)))


def order(pages: int, *, rtl: bool = False) -> list[tuple[int, int]]:
    """Which pages, from 0, lie left and right on each side of the sheets, the outermost first."""
    if pages % _ON_A_SHEET:
        raise ValueError("folded sheets are full with a multiple of four pages")
    sides: list[tuple[int, int]] = []
    for sheet in range(pages // _ON_A_SHEET):
        first, last = 2 * sheet, pages - 1 - 2 * sheet
        sides += [(last, first), (first + 1, last - 1)]
    return [(right, left) for left, right in sides] if rtl else sides


def _lay(sheets: pikepdf.Pdf, left: pikepdf.Page, right: pikepdf.Page) -> None:
    """Add one side of a sheet with two pages beside each other."""
    import pikepdf

    x0, y0, x1, y1 = (float(edge) for edge in left.TrimBox)
    width, height = x1 - x0, y1 - y0
    sheets.add_blank_page(page_size=(2 * width, height))
    side = pikepdf.Page(sheets.pages[-1])
    for page, at, name in ((left, 0.0, "Left"), (right, width, "Right")):
        form = sheets.copy_foreign(page.as_form_xobject())
        side.add_resource(form, pikepdf.Name.XObject, pikepdf.Name(f"/{name}"))
        edge = [float(each) for each in page.TrimBox]
        content = f"q {at:.4f} 0 {width:.4f} {height:.4f} re W n 1 0 0 1 {at - edge[0]:.4f} "
        content += f"{-edge[1]:.4f} cm /{name} Do Q\n"
        side.contents_add(content.encode())
