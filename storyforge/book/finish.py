"""What the typesetter leaves out of a PDF: the BleedBox, and who made the pictures.

Done on the document's objects (pikepdf), so that its cross-references are written anew and whole.
"""

from __future__ import annotations

import io

from storyforge.provenance.xmp import mark_pdf
from storyforge.settings import Made


def finished(pdf: bytes, made: Made = "model") -> bytes:
    """The PDF/A, complete; the same PDF, the same bytes.

    Raises ValueError for a PDF without metadata.
    """
    import pikepdf

    written = io.BytesIO()
    with pikepdf.open(io.BytesIO(pdf)) as opened:
        for page in opened.pages:
            if "/TrimBox" in page:
                page.BleedBox = page.MediaBox
        mark_pdf(opened, made)
        opened.save(written, deterministic_id=True, preserve_pdfa=True)
    return written.getvalue()
