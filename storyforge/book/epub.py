"""A composed book as an EPUB 3 of fixed layout: every page as it is printed, every word real text.

Pages keep their design on any screen; letters that grow on a phone are the HTML book's.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from storyforge.book import picture
from storyforge.book.archive import MADE_ON, write_archive
from storyforge.book.cbz import page_pictures
from storyforge.book.colophon import spoken_in
from storyforge.book.leaf import Balloon, Book, Face, Leaf, Picture, Rect, TextBlock
from storyforge.book.markup import number, paragraphs, shapes, tag, xml
from storyforge.book.picture import Tones
from storyforge.book.trims import POINTS_PER_INCH
from storyforge.errors import StoryForgeError
from storyforge.provenance import DIGITAL_SOURCE

_PIXELS: Final = 2
"""CSS pixels a point: reading systems that scale a page as a bitmap keep it sharp."""

_ROUND: Final = 12
"""Radius of a picture's corners, in points."""

_PLATE_ROUND: Final = 16
"""Radius of a plate's corners, in points."""

_PLATE_COVERS: Final = 0.93
"""Opacity of a plate under the story's words."""

_HALO: Final = 0.085
"""Reach of the outline round display type, in ems. Shadows draw it: strokes eat the letters."""

_HALO_STEPS: Final = 24
_INK: Final = "#2a2320"

_MIME: Final = {
    ".jpg": "image/jpeg",
    ".otf": "font/otf",
    ".ttf": "font/ttf",
    ".txt": "text/plain",
    ".woff2": "font/woff2",
}
_TYPES: Final = {"cover": "cover", "title": "titlepage", "colophon": "colophon"}

_PAGES: Final = {"en": "Pages", "fr": "Pages", "de": "Seiten", "es": "Páginas"}

_ACCESSIBILITY: Final = {
    "en": "Pages have a fixed layout. Pictures are described in words, and all words, those in "
    "balloons too, are real text in the order of reading.",
    "fr": "Les pages ont une mise en page fixe. Les images sont décrites, et tous les mots, même "
    "dans les bulles, sont du vrai texte dans l’ordre de lecture.",
    "de": "Die Seiten haben ein festes Layout. Bilder sind in Worten beschrieben, und alle Worte, "
    "auch die in Sprechblasen, sind echter Text in Lesereihenfolge.",
    "es": "Las páginas tienen un diseño fijo. Las imágenes se describen con palabras, y todas las "
    "palabras, también las de los globos, son texto real en orden de lectura.",
}


def write_epub(book: Book, path: Path) -> Path:
    """Write the book to `path`, whole or not at all; the same book, the same bytes.

    Raises StoryForgeError if a picture cannot be read, a text holds a control character, or the
    book has no title.
    """
    if not book.title.strip():
        raise StoryForgeError("an EPUB needs a title", hint="write one as `title`")
    files = _Files()
    faces = [files.face(face) for face in book.faces]
    page = _Page(book, files)
    leaves = [_entry(book, leaf) for leaf in book.leaves]
    pages = {
        str(entry["file"]): xml("epub/page.xhtml", page.values(leaf), leaf.label)
        for entry, leaf in zip(leaves, book.leaves, strict=True)
    }
    style = {**page.size, "corner": number(_PIXELS * _ROUND), "faces": faces}
    said_in = spoken_in(book.language)
    navigation = {
        "book": book,
        "leaves": leaves,
        "contents": _contents(book),
        "pages": _PAGES[said_in],
    }
    (cover,) = page_pictures(book, book.leaves[:1])
    inside = {
        "nav.xhtml": xml("epub/nav.xhtml", navigation, "table of contents"),
        "style.css": xml("epub/style.css", style, "style sheet"),
        **pages,
        "cover.jpg": cover.content,
        **files.contents,
    }
    package = xml("epub/package.opf", _package(book, leaves, files), "metadata")
    return write_archive(
        path,
        {
            "mimetype": b"application/epub+zip",
            "META-INF/container.xml": xml("epub/container.xml", {}, "container"),
            "EPUB/package.opf": package,
            **{f"EPUB/{name}": content for name, content in inside.items()},
        },
    )


def _package(book: Book, leaves: list[dict[str, str | bool]], files: _Files) -> dict[str, object]:
    """What the package document says of the book and lists."""
    named = json.dumps([book.title, book.author, book.language])
    said_in = spoken_in(book.language)
    return {
        "book": book,
        "identifier": uuid.uuid5(uuid.NAMESPACE_URL, f"storyforge:{named}").urn,
        "modified": f"{MADE_ON:%Y-%m-%dT%H:%M:%SZ}",
        "source": DIGITAL_SOURCE,
        "said_in": said_in,
        "accessibility": _ACCESSIBILITY[said_in],
        "leaves": leaves,
        "resources": [
            {"id": Path(name).stem, "file": name, "mime": _MIME[Path(name).suffix]}
            for name in files.contents
        ],
    }


def _file(leaf: Leaf) -> str:
    return f"page-{leaf.number:03d}.xhtml"


def _entry(book: Book, leaf: Leaf) -> dict[str, str | bool]:
    """A leaf as manifest, spine and page list know it."""
    right = (leaf.number % 2 == 1) != (book.direction == "rtl")
    balloons = any(said.outlines for item in leaf.pictures for said in item.balloons)
    return {
        "id": f"page-{leaf.number:03d}",
        "file": _file(leaf),
        "label": leaf.label,
        "side": "right" if right else "left",
        "drawn": balloons or leaf.ground == "deep",
    }


def _contents(book: Book) -> list[dict[str, str]]:
    """Where a reader may want to go: the cover, the title page, the story, the colophon."""
    places: list[dict[str, str]] = []
    for leaf in book.leaves:
        begins = leaf.kind == "story" and all(place["type"] != "bodymatter" for place in places)
        kind = "bodymatter" if begins else _TYPES.get(leaf.kind)
        if kind is not None:
            label = book.title if begins else leaf.label
            places.append({"type": kind, "file": _file(leaf), "label": label})
    return places


@dataclass(slots=True)
class _Files:
    """Pictures and fonts on their way into the book, each once, by name."""

    contents: dict[str, bytes] = field(default_factory=dict)
    names: dict[tuple[Path, int], str] = field(default_factory=dict)

    def face(self, face: Face) -> dict[str, str | int]:
        """Take in a font and its licence; what the style sheet says of it."""
        count = sum(name.startswith("face-") for name in self.contents)
        name = f"face-{count}"
        file = name + face.web.suffix.lower()
        self.contents[file] = face.web.read_bytes()
        licence = face.path.with_name(f"{face.path.stem.partition('-')[0]}-OFL.txt")
        if licence.is_file() and (licence, 0) not in self.names:
            self.names[licence, 0] = f"licence-{count}.txt"
            self.contents[f"licence-{count}.txt"] = licence.read_bytes()
        return {"name": name, "weight": face.weight, "file": file}

    def picture(self, item: Picture) -> str:
        """Take in a picture, large enough for its place; the name it has in the book."""
        key = (item.art.path, picture.enlargement(item))
        if key not in self.names:
            count = sum(name.startswith("picture-") for name in self.contents)
            self.names[key] = f"picture-{count:03d}.jpg"
            self.contents[self.names[key]] = picture.jpeg(item.art, key[1])
        return self.names[key]


@dataclass(frozen=True, slots=True)
class _Page:
    """Turns points of the page into what the template shows: pixels, paths and file names."""

    book: Book
    files: _Files

    @property
    def size(self) -> dict[str, int | str]:
        """The viewport in pixels, and the same page in points for drawings."""
        width, height = self._points()
        return {
            "width": round(_PIXELS * width),
            "height": round(_PIXELS * height),
            "view": f"0 0 {number(width)} {number(height)}",
        }

    def _points(self) -> tuple[float, float]:
        trim = self.book.trim
        return trim.width * POINTS_PER_INCH, trim.height * POINTS_PER_INCH

    def values(self, leaf: Leaf) -> dict[str, object]:
        """Everything that the template shows of one leaf."""
        tones = picture.tones(leaf.tone)
        deep = leaf.ground == "deep"
        shown = {
            "label": leaf.label,
            "type": _TYPES.get(leaf.kind),
            "ground": tones.deep if deep else tones.paper,
            "motif": tones.motif if deep else None,
            "parts": [
                self.picture(part) if isinstance(part, Picture) else self.words(part, leaf, tones)
                for part in in_reading_order(leaf, rtl=self.book.direction == "rtl")
            ],
        }
        return {"book": self.book, "leaf": shown, "halo_points": _halo(), **self.size}

    def picture(self, item: Picture) -> dict[str, object]:
        """What the template shows of one picture and its balloons."""
        frame, crop = item.frame, item.crop
        width, height = frame.width / crop.width, frame.height / crop.height
        return {
            "is_picture": True,
            "file": self.files.picture(item),
            "alt": item.alt or "",
            "corner": item.corner,
            "frame": _place(frame),
            "whole": _place(Rect(-crop.x * width, -crop.y * height, width, height)),
            "shapes": shapes(item.balloons),
            "balloons": [
                {
                    "kind": said.kind,
                    "speaker": said.speaker,
                    "lines": said.lines,
                    "style": f"{_place(said.text)};{self.type(said)}{_tilted(said)}",
                }
                for said in item.balloons
            ],
        }

    def words(self, item: TextBlock, leaf: Leaf, tones: Tones) -> dict[str, object]:
        """What the template shows of one block of words."""
        on_art = leaf.kind == "cover"
        display = item.role in {"title", "heading"}
        color = "#ffffff" if leaf.ground == "deep" else tones.deep if display else _INK
        rtl = self.book.writing == "rtl" and item.language is None
        align = "center" if item.align == "center" else "right" if rtl else "left"
        style = f"{_place(item.rect)};{self.type(item)};text-align:{align};color:{color}"
        return {
            "is_picture": False,
            "role": item.role,
            "tag": tag(item, leaf),
            "language": item.language,
            "lines": item.lines,
            "paragraphs": _spaced(item),
            "style": style,
            "halo": tones.deep if on_art and item.role != "author" else None,
            "plate": _plate(item, tones),
        }

    def type(self, item: TextBlock | Balloon) -> str:
        """The style of letters and lines."""
        face = self.book.faces.index(item.face)
        return (
            f"font-family:face-{face}, sans-serif;font-weight:{item.face.weight};"
            f"font-size:{number(_PIXELS * item.size)}px;line-height:{number(item.leading)}"
        )


def in_reading_order(leaf: Leaf, *, rtl: bool) -> list[Picture | TextBlock]:
    """Pictures and words as the eye meets them: words above or before the pictures come first."""
    if not leaf.pictures:
        return list(leaf.texts)
    left = min(item.frame.x for item in leaf.pictures)
    right = max(item.frame.right for item in leaf.pictures)
    top = min(item.frame.y for item in leaf.pictures)
    bottom = max(item.frame.bottom for item in leaf.pictures)
    middle = Rect(left, top, right - left, bottom - top).centre()

    def leads(text: TextBlock) -> bool:
        if text.rect.right <= left or text.rect.x >= right:
            return (text.rect.centre().x > middle.x) == rtl
        return text.rect.centre().y < middle.y

    first = [text for text in leaf.texts if leads(text)]
    return [*first, *leaf.pictures, *(text for text in leaf.texts if text not in first)]


def _tilted(item: Balloon) -> str:
    return f";transform:rotate({number(item.tilt)}deg)" if item.tilt else ""


def _spaced(item: TextBlock) -> list[dict[str, str | Sequence[str]]]:
    """The paragraphs with words in them, and the empty lines above each as space in ems."""
    spaced: list[dict[str, str | Sequence[str]]] = []
    empty = 0
    for lines in paragraphs(item):
        if any(lines):
            space = number(empty * item.leading) if empty else ""
            spaced.append({"lines": lines, "space": space})
            empty = 0
        else:
            empty += 1
    return spaced


def _plate(item: TextBlock, tones: Tones) -> str | None:
    """The style of the ground under words on a picture; None where there is none."""
    if item.plate is None:
        return None
    if item.role == "author":
        color, opacity, corner = tones.deep, 1.0, item.plate.height / 2
    else:
        color, opacity, corner = tones.paper, _PLATE_COVERS, _PLATE_ROUND
    radius = number(_PIXELS * corner)
    return f"{_place(item.plate)};background:{color};opacity:{opacity:g};border-radius:{radius}px"


def _place(rect: Rect) -> str:
    """A rectangle, given in points, as a style in pixels."""
    left, top = number(_PIXELS * rect.x), number(_PIXELS * rect.y)
    width, height = number(_PIXELS * rect.width), number(_PIXELS * rect.height)
    return f"left:{left}px;top:{top}px;width:{width}px;height:{height}px"


def _halo() -> list[tuple[str, str]]:
    """Where the shadows fall that outline display type, in ems."""
    turns = (2 * math.pi * step / _HALO_STEPS for step in range(_HALO_STEPS))
    return [(number(_HALO * math.cos(turn)), number(_HALO * math.sin(turn))) for turn in turns]
