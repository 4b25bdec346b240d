"""What the typesetter leaves out of a PDF: boxes of its pages, and who made the pictures.

Done on the document's objects (pikepdf), so that its cross-references are written anew and whole.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from storyforge.provenance.xmp import mark_pdf
from storyforge.settings import Made

if TYPE_CHECKING:
    import pikepdf


def boxed(pdf: bytes) -> bytes:
    """The PDF with a TrimBox and a BleedBox on every page."""
    import pikepdf

    written = io.BytesIO()
    with pikepdf.open(io.BytesIO(pdf)) as opened:
        _box(opened)
        opened.save(written, deterministic_id=True)
    return written.getvalue()


def _box(pdf: pikepdf.Pdf) -> None:
    """Say of every page where it is cut; the typesetter says it of those that bleed."""
    for page in pdf.pages:
        if "/TrimBox" not in page:
            page.TrimBox = page.MediaBox
        page.BleedBox = page.MediaBox


def finished(pdf: bytes, made: Made = "model") -> bytes:
    """The PDF/A, complete; the same PDF, the same bytes.

    Raises ValueError for a PDF without metadata.
    """
    import pikepdf

    written = io.BytesIO()
    with pikepdf.open(io.BytesIO(pdf)) as opened:
        _box(opened)
        mark_pdf(opened, made)
        opened.save(written, deterministic_id=True, preserve_pdfa=True)
    return written.getvalue()
