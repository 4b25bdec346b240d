"""What HTML, EPUB and ComicInfo are written with: templates, numbers, outlines, paragraphs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from storyforge.book.inline import MARKS, SOFT_HYPHEN, divided, runs, unmarked
from storyforge.book.leaf import Balloon, Face, Leaf, Role, TextBlock
from storyforge.book.typeface import FALLBACKS, styled
from storyforge.errors import StoryForgeError

TEMPLATES: Final = Path(__file__).parent / "templates"

_TAGS: Final[dict[Role, str]] = {"title": "h1", "heading": "h2"}

_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML 1.0 document may hold, not even escaped."""


def rendered(template: str, values: Mapping[str, object]) -> str:
    """The template of this name, filled in; whatever an author wrote stays text."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    """One for all pages: a template is compiled once."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def xml(template: str, values: Mapping[str, object], where: str) -> bytes:
    """The same as an XML document.

    Raises StoryForgeError, naming `where`, for a character that XML has no way to write.
    """
    text = rendered(template, values)
    strange = _NOT_XML.search(text)
    if strange:
        raise StoryForgeError(
            f"{where}: the control character U+{ord(strange.group()):04X} cannot stand in a book",
            hint="take it out of the text",
        )
    return text.encode("utf-8")


def number(value: float) -> str:
    """A length as a style sheet writes it, without a minus before nought."""
    return f"{round(value, 3) + 0:g}"


def shapes(balloons: Iterable[Balloon]) -> list[dict[str, str]]:
    """The outlines of balloons as SVG paths, each with the kind of its balloon."""
    return [
        {"kind": said.kind, "path": "".join(f"{verb}{_points(points)}" for verb, points in outline)}
        for said in balloons
        for outline in said.outlines
    ]


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{round(x, 1):g} {round(y, 1):g}" for x, y in points)


def paragraphs(item: TextBlock) -> list[tuple[str, ...]]:
    """The block's lines by the author's paragraphs; an empty one is an empty line."""
    found: list[tuple[str, ...]] = []
    rest = list(item.lines)
    for written in item.text.strip().splitlines():
        wanted, lines = drawn(written), [rest.pop(0)]
        while sum(map(drawn, lines)) < wanted:
            lines.append(rest.pop(0))
        found.append(tuple(lines))
    return found


def drawn(text: str) -> int:
    """How many characters are seen, the hyphens of divided words left out."""
    return sum(
        not character.isspace() and character not in MARKS and character != SOFT_HYPHEN
        for character in text
    )


def joined(lines: Sequence[str]) -> str:
    """The lines as running text; no space between characters of scripts that use none."""
    text = ""
    for line in filter(None, lines):
        close = (
            not text or divided(text) or (_wide(unmarked(text)[-1]) and _wide(unmarked(line)[0]))
        )
        text = text.removesuffix(SOFT_HYPHEN) + (line if close else f" {line}")
    return text


@dataclass(frozen=True, slots=True)
class Piece:
    """Words of one style, the element that says so (None for plain ones), and how they look."""

    text: str
    tag: str | None
    style: str


_EMPHASIS: Final = {"italic": "em", "bold": "strong", "bold-italic": "strong"}


def pieces(line: str, face: Face, faces: Sequence[Face]) -> list[Piece]:
    """A line's words by style; an emphasis that the fonts do not have is left to the browser."""
    made = []
    for text, style in runs(line):
        own = styled(face, style)
        look = ""
        if style != "plain" and own != face:
            look = (
                f"font-family:{font_family(own, faces)};font-weight:{own.weight};font-style:normal"
            )
        made.append(Piece(text, _EMPHASIS.get(style), look))
    return made


def font_family(face: Face, faces: Sequence[Face]) -> str:
    """The CSS name of one of the book's faces, and of those that draw what it lacks."""
    others = [each for each in faces if each in FALLBACKS and each != face]
    return ", ".join(f"face-{faces.index(each)}" for each in (face, *others))


def _wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def tag(item: TextBlock, leaf: Leaf) -> str:
    """The element that says what a block of words is; the book has one `h1`, on its cover."""
    name = _TAGS.get(item.role, "p")
    return "p" if leaf.kind == "title" and name == "h1" else name
