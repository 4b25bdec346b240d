"""A composed book as an EPUB 3 of fixed layout: every page as it is printed, every word real text.

Pages keep their design on any screen; letters that grow on a phone are in `reflow`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storyforge.book import picture
from storyforge.book.inline import divided
from storyforge.book.leaf import Balloon, Book, Face, Leaf, Picture, Rect, TextBlock
from storyforge.book.markup import font_family, number, paragraphs, pieces, shapes, tag, xml
from storyforge.book.package import TYPES, Content, Document, Files, NavigationLink, write_package
from storyforge.book.picture import Tones
from storyforge.story.trims import POINTS_PER_INCH

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


def write_epub(book: Book, path: Path) -> Path:
    """Write the book to `path`, whole or not at all; the same book, the same bytes.

    Raises StoryForgeError if a picture cannot be read, a text holds a control character, or the
    book has no title.
    """
    files = Files()
    faces = [files.face(face) for face in book.faces]
    page = _EpubPage(book, files)
    documents = tuple(
        Document(
            name=_name(leaf),
            content=xml("epub/page.xhtml", page.values(leaf), leaf.label),
            drawn=_is_drawn(leaf),
            side=_side(book, leaf),
            spoken=(leaf.narration, files.recording(leaf.narration)) if leaf.narration else None,
        )
        for leaf in book.leaves
    )
    style = {**page.size, "corner": number(_PIXELS * _ROUND), "faces": faces}
    content = Content(
        layout="fixed",
        documents=documents,
        pages=tuple(NavigationLink(f"{_name(leaf)}.xhtml", leaf.label) for leaf in book.leaves),
        places=_places(book),
        style=xml("epub/style.css", style, "style sheet"),
        files=files,
        regions=_regions(book),
    )
    return write_package(book, content, path)


def _regions(book: Book) -> tuple[str, ...]:
    """The panels of pages that have several, and all other pages whole; none in a book of these."""
    if not any(leaf.guided for leaf in book.leaves):
        return ()
    width, height = (side * POINTS_PER_INCH for side in (book.trim.width, book.trim.height))
    page = Rect(0, 0, width, height)
    parts = []
    for leaf in book.leaves:
        frames = [item.frame.common(page) or page for item in leaf.pictures]
        for part in frames if leaf.guided else [page]:
            x, y = round(100 * part.x / width), round(100 * part.y / height)
            wide, high = round(100 * part.width / width), round(100 * part.height / height)
            parts.append(f"{_name(leaf)}.xhtml#xywh=percent:{x},{y},{wide},{high}")
    return tuple(parts)


def _name(leaf: Leaf) -> str:
    return f"page-{leaf.number:03d}"


def _side(book: Book, leaf: Leaf) -> str:
    right = (leaf.number % 2 == 1) != (book.direction == "rtl")
    return "right" if right else "left"


def _is_drawn(leaf: Leaf) -> bool:
    balloons = any(said.outlines for item in leaf.pictures for said in item.balloons)
    return balloons or (leaf.ground == "deep" and leaf.kind != "cover")


def _places(book: Book) -> tuple[NavigationLink, ...]:
    """Where a reader may want to go: the cover, the title page, the story, the colophon."""
    places: list[NavigationLink] = []
    for leaf in book.leaves:
        begins = leaf.kind == "story" and all(place.type != "bodymatter" for place in places)
        kind = "bodymatter" if begins else TYPES.get(leaf.kind)
        if kind is not None and all(place.type != kind for place in places):
            label = book.title if begins else leaf.label
            places.append(NavigationLink(f"{_name(leaf)}.xhtml", label, kind))
    return tuple(places)


@dataclass(frozen=True, slots=True)
class _EpubPage:
    """Turns points of the page into what the template shows: pixels, paths and file names."""

    book: Book
    files: Files

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
            "type": TYPES.get(leaf.kind),
            "ground": tones.deep if deep else tones.paper,
            "motif": tones.motif if deep and leaf.kind != "cover" else None,
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
            "border": item.border,
            "frame": _place(frame),
            "whole": _place(Rect(-crop.x * width, -crop.y * height, width, height)),
            "shapes": shapes(item.balloons),
            "balloons": [
                {
                    "kind": said.kind,
                    "speaker": said.speaker,
                    "lines": self.lines(said.lines, said.face),
                    "style": f"{_place(said.text)};{self.type(said)}{_tilted(said)}",
                }
                for said in item.balloons
            ],
        }

    def words(self, item: TextBlock, leaf: Leaf, tones: Tones) -> dict[str, object]:
        """What the template shows of one block of words."""
        display = item.role in {"title", "heading"}
        color = item.color or (
            "#ffffff" if leaf.ground == "deep" else tones.deep if display else _INK
        )
        rtl = self.book.writing == "rtl" and item.language is None
        align = "center" if item.align == "center" else "right" if rtl else "left"
        style = f"{_place(item.rect)};{self.type(item)};text-align:{align};color:{color}"
        return {
            "is_picture": False,
            "role": item.role,
            "tag": tag(item, leaf),
            "language": item.language,
            "lines": self.lines(item.lines, item.face),
            "paragraphs": [
                {"lines": self.lines(lines, item.face), "space": space}
                for lines, space in _spaced(item)
            ],
            "style": style,
            "halo": _halo_color(item, tones),
            "initial": self.initial(item),
            "plate": _plate(item, tones),
        }

    def initial(self, item: TextBlock) -> dict[str, str] | None:
        """The letter that is as high as two lines, and its style."""
        if item.initial is None:
            return None
        letter, size, width = item.initial
        # Readers of EPUB do not all know `inline-start`.
        side = "right" if self.book.writing == "rtl" else "left"
        style = (
            f"float:{side};font-size:{number(_PIXELS * size)}px;width:{number(_PIXELS * width)}px;"
            f"height:{number(2 * _PIXELS * item.leading * item.size - 1)}px;line-height:"
            f"{number(_PIXELS * (2 * item.leading * item.size))}px"
        )
        return {"letter": letter, "style": style}

    def type(self, item: TextBlock | Balloon) -> str:
        """The style of letters and lines."""
        family = font_family(item.face, self.book.faces)
        return (
            f"font-family:{family}, sans-serif;font-weight:{item.face.weight};"
            f"font-size:{number(_PIXELS * item.size)}px;line-height:{number(item.leading)}"
        )

    def lines(self, lines: Sequence[str], face: Face) -> list[dict[str, object]]:
        """Each line's words by style, and whether its last word goes on in the next."""
        return [
            {"pieces": pieces(line, face, self.book.faces), "divided": divided(line)}
            for line in lines
        ]


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
        """Whether a text is read before the picture."""
        if text.rect.right <= left or text.rect.x >= right:
            return (text.rect.centre().x > middle.x) == rtl
        return text.rect.centre().y < middle.y

    first = [text for text in leaf.texts if leads(text)]
    return [*first, *leaf.pictures, *(text for text in leaf.texts if text not in first)]


def _tilted(item: Balloon) -> str:
    return f";transform:rotate({number(item.tilt)}deg)" if item.tilt else ""


def _spaced(item: TextBlock) -> list[tuple[Sequence[str], str]]:
    """The paragraphs with words in them, and the empty lines above each as space in ems."""
    spaced: list[tuple[Sequence[str], str]] = []
    empty = 0
    for lines in paragraphs(item):
        if any(lines):
            space = number(empty * item.leading) if empty else ""
            spaced.append((lines, space))
            empty = 0
        else:
            empty += 1
    return spaced


def _plate(item: TextBlock, tones: Tones) -> str | None:
    """The style of the ground under words on a picture; None where there is none."""
    if item.plate is None or (item.ground == "none" and item.role != "author"):
        return None
    if item.role == "author":
        color, opacity, corner = tones.deep, 1.0, item.plate.height / 2
    else:
        color, opacity, corner = tones.paper, _PLATE_COVERS, _PLATE_ROUND
    if item.ground == "soft" and item.role != "author":
        fade = f"linear-gradient(transparent, {color} 22%, {color} 78%, transparent)"
        return f"{_place(item.plate)};background:{fade};opacity:{opacity:g}"
    radius = number(_PIXELS * (0 if item.ground == "band" else corner))
    return f"{_place(item.plate)};background:{color};opacity:{opacity:g};border-radius:{radius}px"


def _place(rect: Rect) -> str:
    """A rectangle, given in points, as a style in pixels."""
    left, top = number(_PIXELS * rect.x), number(_PIXELS * rect.y)
    width, height = number(_PIXELS * rect.width), number(_PIXELS * rect.height)
    return f"left:{left}px;top:{top}px;width:{width}px;height:{height}px"


def _halo_color(item: TextBlock, tones: Tones) -> str | None:
    """What outlines the letters, where they stand on a picture without a ground."""
    if item.halo:
        return tones.deep
    return tones.paper if item.plate is not None and item.ground == "none" else None


def _halo() -> list[tuple[str, str]]:
    """Where the shadows fall that outline display type, in ems."""
    turns = (2 * math.pi * step / _HALO_STEPS for step in range(_HALO_STEPS))
    return [(number(_HALO * math.cos(turn)), number(_HALO * math.sin(turn))) for turn in turns]
