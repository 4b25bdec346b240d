"""A composed book as a PDF for print and screen: bleed, tags, embedded fonts (PDF/UA-1, PDF/A-2a).

Typst sets it from one data file, in RGB; what a printing press wants is `press`'s.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import typst

from storyforge.book import picture
from storyforge.book.archive import MADE_ON
from storyforge.book.barcode import QUIET, modules
from storyforge.book.compose import Sheet
from storyforge.book.finish import boxed, finished
from storyforge.book.inline import divided, runs
from storyforge.book.leaf import Balloon, Barcode, Book, Face, Leaf, Picture, Rect, TextBlock
from storyforge.book.press import pressed
from storyforge.book.typeface import FALLBACKS, styled
from storyforge.errors import StoryForgeError
from storyforge.provenance.xmp import marked_png
from storyforge.story.trims import POINTS_PER_INCH

_TEMPLATE: Final = Path(__file__).parent / "templates" / "book.typ"

Data = dict[str, "Value"]
Value = str | int | float | bool | None | list["Value"] | Data


def write_pdf(book: Book, path: Path) -> Path:
    """Set the book and write it to `path`, whole or not at all; the same book, the same bytes.

    Raises StoryForgeError if a picture cannot be read or the typesetter refuses.
    """
    press = book.press
    to_press = press is not None and press.profile is not None
    with _typesetter(book) as typesetter:
        # One file cannot name two output intents: for a press, PDF/A's claims are left out.
        pdf = (
            typesetter.compile(format="pdf", pdf_standards=["1.6"], timestamp=MADE_ON)
            if to_press
            else typesetter.compile(format="pdf", pdf_standards=["a-2a", "ua-1"], timestamp=MADE_ON)
        )
    if not isinstance(pdf, bytes):
        raise TypeError("typst gave pages where one document was asked for")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    done = boxed(pdf) if to_press else finished(pdf, book.made)
    partial.write_bytes(done if press is None else pressed(done, press, book.title, book.made))
    os.replace(partial, path)
    return path


def write_pages(book: Book, path: Path, ppi: float) -> Path:
    """Write every page as it is cut to the folder `path`: `page-001.png` and so on.

    Raises StoryForgeError if a picture cannot be read or the typesetter refuses.
    """
    pages = page_images(book, ppi)
    digits = max(3, len(str(len(pages))))
    path.mkdir(parents=True)
    for number, page in enumerate(pages, start=1):
        (path / f"page-{number:0{digits}d}.png").write_bytes(marked_png(page, book.made))
    return path


def page_images(book: Book, ppi: float) -> list[bytes]:
    """Every leaf as it is cut, as a PNG with `ppi` pixels an inch; what bleeds is left out.

    Raises StoryForgeError if a picture cannot be read or the typesetter refuses.
    """
    with _typesetter(book) as typesetter:
        pages = typesetter.compile(format="png", ppi=ppi)
    return pages if isinstance(pages, list) else [pages] if isinstance(pages, bytes) else []


@contextmanager
def _typesetter(book: Book) -> Iterator[typst.Compiler]:
    """Typst with the book before it, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="storyforge-book-") as made:
        folder = Path(made)
        shutil.copyfile(_TEMPLATE, folder / "book.typ")
        faces = named_faces(book.faces, folder)
        others = [str(face.path) for face in book.faces if face in FALLBACKS]
        data = {**_book(book, folder), "faces": faces, "fallbacks": list(others)}
        data["numerals"] = str(book.faces[0].path) if book.faces else None
        content = json.dumps(data, ensure_ascii=False)
        (folder / "book.json").write_text(content, encoding="utf-8")
        try:
            yield typst.Compiler(
                folder / "book.typ",
                root=folder,
                font_paths=[folder],
                ignore_system_fonts=True,
            )
        except typst.TypstError as exc:
            raise StoryForgeError(f"the typesetter refused the book: {exc.message}") from exc


def named_faces(used: Sequence[Face], folder: Path) -> Data:
    """What the typesetter calls every face, by the face's path; their files go into `folder`.

    Raises StoryForgeError for a font that it cannot read.
    """
    copies = {}
    for index, face in enumerate(used):
        copies[folder / f"face-{index}{face.path.suffix.lower()}"] = face
        shutil.copyfile(face.path, folder / f"face-{index}{face.path.suffix.lower()}")
    known = typst.Fonts(
        include_system_fonts=False, include_embedded_fonts=False, font_paths=[folder]
    )
    called = {Path(font.path): font for font in known.fonts() if font.path}
    faces: Data = {}
    for path, face in copies.items():
        if path not in called:
            raise StoryForgeError(
                f"the typesetter cannot read the font `{face.path.name}`",
                hint="name another .ttf or .otf file as `book.font`",
            )
        font = called[path]
        faces[str(face.path)] = {
            "family": font.family,
            "weight": font.weight,
            "style": font.style,
            "stretch": font.stretch,
        }
    return faces


def _book(book: Book, folder: Path) -> Data:
    """The book as plain data, its pictures written into `folder`."""
    language, _, region = book.language.partition("-")
    files: dict[tuple[Path, int], str] = {}
    return {
        "title": book.title,
        "author": book.author,
        "language": language,
        "region": region if len(region) == 2 else None,
        "direction": book.direction,
        "writing": book.writing,
        "about": book.about,
        "keywords": list(book.keywords),
        "width": book.trim.width * POINTS_PER_INCH,
        "height": book.trim.height * POINTS_PER_INCH,
        "bleed": book.trim.bleed * POINTS_PER_INCH,
        "inner_bleed": book.trim.inner_bleed * POINTS_PER_INCH,
        "leaves": [_leaf(book, leaf, folder, files) for leaf in book.leaves],
    }


def _leaf(book: Book, leaf: Leaf, folder: Path, files: dict[tuple[Path, int], str]) -> Data:
    tones = picture.tones(leaf.tone)
    outer_right = (leaf.number % 2 == 1) != (book.direction == "rtl")
    return {
        "kind": leaf.kind,
        "ground": leaf.ground,
        "paper": tones.paper,
        "deep": tones.deep,
        "motif": tones.motif,
        "bled": _rect(Sheet(book.trim, outer_right).bled),
        "pictures": [_picture(item, folder, files) for item in leaf.pictures],
        "texts": [_text(item) for item in leaf.texts],
        "codes": [_code(code) for code in leaf.codes],
    }


def _picture(item: Picture, folder: Path, files: dict[tuple[Path, int], str]) -> Data:
    times = picture.enlargement(item)
    key = (item.art.path, times)
    if key not in files:
        files[key] = f"picture-{len(files):03d}.jpg"
        (folder / files[key]).write_bytes(picture.jpeg(item.art, times))
    return {
        "file": files[key],
        "frame": _rect(item.frame),
        "crop": _rect(item.crop),
        "corner": item.corner,
        "border": item.border,
        "alt": item.alt,
        "balloons": [_balloon(said) for said in item.balloons],
    }


def _text(item: TextBlock) -> Data:
    return {
        **_lines(item.lines, item.rect, item.size, item.leading, item.face),
        "role": item.role,
        "align": item.align,
        "plate": _rect(item.plate) if item.plate else None,
        "ground": item.ground,
        "halo": item.halo,
        "language": item.language,
        "color": item.color,
        "initial": item.initial._asdict() if item.initial else None,
        "tilt": item.tilt,
    }


def _code(code: Barcode) -> Data:
    """A barcode as the bars' places and widths, in modules from its first one."""
    bars: list[Value] = [
        {"at": found.start(), "width": len(found.group())}
        for found in re.finditer("1+", modules(code.digits))
    ]
    return {
        "digits": code.digits,
        "rect": _rect(code.rect),
        "module": code.module,
        "size": code.size,
        "quiet": QUIET[0],
        "bars": bars,
    }


def _balloon(item: Balloon) -> Data:
    outlines: list[Value] = [
        [
            {"verb": verb, "points": [[round(x, 3), round(y, 3)] for x, y in points]}
            for verb, points in outline
        ]
        for outline in item.outlines
    ]
    return {
        **_lines(item.lines, item.text, item.size, item.leading, item.face),
        "kind": item.kind,
        "align": "center",
        "tilt": item.tilt,
        "outlines": outlines,
    }


def _lines(lines: tuple[str, ...], rect: Rect, size: float, leading: float, face: Face) -> Data:
    return {
        "lines": [_runs(line, face) for line in lines],
        "rect": _rect(rect),
        "size": size,
        "leading": leading,
        "face": str(face.path),
    }


def _runs(line: str, face: Face) -> list[Value]:
    """A line's words by face, with the hyphen of a divided word."""
    made: list[Data] = [
        {"text": text, "face": str(styled(face, style).path)} for text, style in runs(line)
    ]
    if divided(line):
        made[-1]["text"] = f"{made[-1]['text']}-"
    return list(made)


def _rect(rect: Rect) -> Data:
    return {
        "x": round(rect.x, 4),
        "y": round(rect.y, 4),
        "width": round(rect.width, 4),
        "height": round(rect.height, 4),
    }
