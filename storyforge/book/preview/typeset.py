"""Drawings as a PDF or as PNGs, by Typst; and PNGs of a book on contact sheets.

Proofs are for the desk: they carry no tags and no alt texts, which the book itself does.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

import typst
from PIL import Image

from storyforge.book.archive import MADE_ON
from storyforge.book.leaf import Rect
from storyforge.book.pdf import Data, Value, named_faces
from storyforge.book.picture import as_png
from storyforge.book.preview.drawing import (
    Drawing,
    DrawnShape,
    Ink,
    Label,
    LineShape,
    Photo,
    Proof,
    RectShape,
)
from storyforge.book.typeface import faces_in
from storyforge.errors import StoryForgeError

_TEMPLATE: Final = Path(__file__).parent / "templates" / "proof.typ"

PAGE_PPI: Final = 96.0
_SHEET_PAGE: Final = 420
_SHEET_GAP: Final = 14
"""Pixels: the longer side of a page on the contact sheet, and what lies between spreads."""

_SHEET_ROW: Final = 2
"""Spreads beside each other on the contact sheet."""

SHEET_SPREADS: Final = 24
"""Spreads on one contact sheet; a long book has several, and is laid out a sheet at a time."""

_PALETTE: Final = 96
"""Colours that a drawing of few needs, with those at the edges of its lines."""

_DESK: Final = "#c9ced6"


def pdf(proof: Proof) -> bytes:
    """The proof, one sheet a page; the same proof, the same bytes.

    Raises StoryForgeError if a picture cannot be read.
    """
    with _typesetter(proof.title, proof.drawings) as typesetter:
        made = typesetter.compile(format="pdf", timestamp=MADE_ON)
    if not isinstance(made, bytes):
        raise TypeError("typst gave pages where one document was asked for")
    return made


def pngs(drawings: Sequence[Drawing], ppi: float = PAGE_PPI) -> list[bytes]:
    """Every drawing as a PNG with `ppi` pixels an inch.

    Raises StoryForgeError if a picture cannot be read.
    """
    with _typesetter("", drawings) as typesetter:
        made = typesetter.compile(format="png", ppi=ppi)
    return made if isinstance(made, list) else [made] if isinstance(made, bytes) else []


def flat(png: bytes) -> bytes:
    """The same picture with a palette, a third of its size; for drawings without photos."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        few = picture.convert("RGB").quantize(_PALETTE, dither=Image.Dither.NONE)
    few.save(out, "PNG", optimize=True)
    return out.getvalue()


def contact_sheet(spreads: Sequence[Sequence[bytes]]) -> bytes:
    """Pages small on one PNG, those that lie open together side by side, from left to right."""
    small = [[_thumbnail(page) for page in spread] for spread in spreads]
    width, height = (max(page.size[side] for each in small for page in each) for side in (0, 1))
    across, down = 2 * width + _SHEET_GAP, height + _SHEET_GAP
    rows = -(-len(small) // _SHEET_ROW)
    columns = min(_SHEET_ROW, len(small))
    sheet = Image.new("RGB", (columns * across + _SHEET_GAP, rows * down + _SHEET_GAP), _DESK)
    for index, spread in enumerate(small):
        x = _SHEET_GAP + index % _SHEET_ROW * across
        y = _SHEET_GAP + index // _SHEET_ROW * down
        x += (2 - len(spread)) * width // 2
        for place, page in enumerate(spread):
            sheet.paste(page, (x + place * width, y))
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()


def _thumbnail(page: bytes) -> Image.Image:
    with Image.open(io.BytesIO(page)) as opened:
        small = opened.convert("RGB")
    small.thumbnail((_SHEET_PAGE, _SHEET_PAGE), Image.Resampling.LANCZOS)
    return small


@contextmanager
def _typesetter(title: str, drawings: Sequence[Drawing]) -> Iterator[typst.Compiler]:
    """Typst with the drawings before it, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="storyforge-proof-") as made:
        folder = Path(made)
        shutil.copyfile(_TEMPLATE, folder / "proof.typ")
        labels = [mark for each in drawings for mark in each.marks if isinstance(mark, Label)]
        used = {face: None for label in labels for face in faces_in(label.lines, label.face)}
        content: Data = {
            "title": title,
            "faces": named_faces(tuple(used), folder),
            "pages": [_drawing(each, folder) for each in drawings],
        }
        (folder / "proof.json").write_text(json.dumps(content, ensure_ascii=False), "utf-8")
        try:
            yield typst.Compiler(
                folder / "proof.typ",
                root=folder,
                font_paths=[folder],
                ignore_system_fonts=True,
            )
        except typst.TypstError as exc:
            raise StoryForgeError(f"the typesetter refused the proof: {exc.message}") from exc


def _drawing(drawing: Drawing, folder: Path) -> Data:
    return {
        "width": drawing.width,
        "height": drawing.height,
        "marks": [_mark(mark, folder) for mark in drawing.marks],
    }


def _mark(mark: DrawnShape, folder: Path) -> Data:
    """One mark as plain data; a picture is copied into `folder`."""
    if isinstance(mark, RectShape):
        return {"is": "box", **_rect(mark.rect), **_ink(mark.ink), "radius": mark.radius}
    if isinstance(mark, LineShape):
        steps: list[Value] = [
            {"verb": verb, "points": [[round(x, 3), round(y, 3)] for x, y in points]}
            for verb, points in mark.outline
        ]
        clip = _rect(mark.clip) if mark.clip else None
        return {"is": "line", "steps": steps, **_ink(mark.ink), "clip": clip}
    if isinstance(mark, Photo):
        # Two pictures may have one name, in two folders.
        name = f"photo-{sha256(str(mark.path).encode()).hexdigest()[:16]}.png"
        (folder / name).write_bytes(as_png(mark.path))
        return {
            "is": "photo",
            "file": name,
            **_rect(mark.frame),
            "crop": _rect(mark.crop),
            "radius": mark.radius,
        }
    return {
        "is": "label",
        **_rect(mark.rect),
        "lines": list(mark.lines),
        "size": mark.size,
        "leading": mark.leading,
        "faces": [str(face.path) for face in faces_in(mark.lines, mark.face)],
        "color": mark.color,
        "align": mark.align,
        "halo": mark.halo,
        "rtl": mark.rtl,
        "tilt": mark.tilt,
    }


def _ink(ink: Ink) -> Data:
    return {"fill": ink.fill, "line": ink.line, "pen": ink.width, "dashed": ink.dashed}


def _rect(rect: Rect) -> Data:
    return {
        "x": round(rect.x, 3),
        "y": round(rect.y, 3),
        "width": round(rect.width, 3),
        "height": round(rect.height, 3),
    }
