"""What the typesetter leaves out of a PDF: the BleedBox, and that a model made the pictures.

Done on the document's objects (pikepdf), so that its cross-references are written anew and whole.
"""

from __future__ import annotations

import io

from storyforge.provenance.xmp import mark_pdf


def finished(pdf: bytes) -> bytes:
    """The PDF/A, complete; the same PDF, the same bytes.

    Raises ValueError for a PDF without metadata.
    """
    import pikepdf

    made = io.BytesIO()
    with pikepdf.open(io.BytesIO(pdf)) as opened:
        for page in opened.pages:
            if "/TrimBox" in page:
                page.BleedBox = page.MediaBox
        mark_pdf(opened)
        opened.save(made, deterministic_id=True, preserve_pdfa=True)
    return made.getvalue()
