"""Fonts and the setting of lines: how wide words are, what a font lacks, where lines break.

Widths are sums of advances without kerning, a little wider than what is printed, so that a line
which fits here fits on the page. Vertical writing and hyphenation are not covered.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from fontTools.ttLib import TTFont, TTLibError

from storyforge.book.leaf import Face
from storyforge.errors import EnvironmentProblem, StoryForgeError

_BREAKING_SPACE: Final = re.compile(r"[ \t\r\n\f\v\u1680\u2000-\u2006\u2008-\u200a\u205f\u3000]+")
"""Unlike `str.split`, which takes no-break spaces, too: French sets one before `?` and `!`."""

_FONTS: Final = Path(__file__).parent / "fonts"
_OPEN_FONT: Final = "SIL Open Font License 1.1"

_LICENCE: Final = 13
"""The number of the name in which a font says under which licence it is."""

_LONGEST: Final = 60
"""Letters; what is longer is a licence's text, not its name."""


def _bundled(family: str, style: str, weight: int, suffix: str) -> Face:
    stem = f"{family.replace(' ', '')}-{style}"
    return Face(family, weight, _FONTS / f"{stem}{suffix}", _FONTS / f"{stem}.woff2", _OPEN_FONT)


ANDIKA: Final = _bundled("Andika", "Regular", 400, ".ttf")
COMIC_NEUE: Final = _bundled("Comic Neue", "Regular", 400, ".otf")
COMIC_NEUE_BOLD: Final = _bundled("Comic Neue", "Bold", 700, ".otf")

EB_GARAMOND: Final = _bundled("EB Garamond", "Regular", 400, ".otf")

TEXT_FACES: Final = {face.family.casefold(): face for face in (ANDIKA, COMIC_NEUE, EB_GARAMOND)}


def text_face(name: str | None, folder: Path) -> Face:
    """The face for running text: Andika, a bundled family by name, or a font file in `folder`.

    Raises EnvironmentProblem if there is no such font or it cannot be read.
    """
    if name is None:
        return ANDIKA
    if name.casefold() in TEXT_FACES:
        return TEXT_FACES[name.casefold()]
    path = folder / name
    if path.suffix.lower() not in {".ttf", ".otf"} or not path.is_file():
        known = ", ".join(f"`{face.family}`" for face in TEXT_FACES.values())
        hint = f"`book.font` is {known}, or a .ttf or .otf file beside the story"
        raise EnvironmentProblem(f"no font `{name}`", hint=hint)
    return _face_of_file(path)


def _face_of_file(path: Path) -> Face:
    try:
        with TTFont(path, lazy=True) as font:
            family = font["name"].getBestFamilyName()
            weight = int(font["OS/2"].usWeightClass)
            licence = _licence_of(font["name"].getDebugName(_LICENCE) or "")
    except (TTLibError, KeyError, OSError) as exc:
        raise EnvironmentProblem(f"cannot read the font `{path}`: {exc}") from exc
    return Face(family or path.stem, weight, path, path, licence)


def _licence_of(stated: str) -> str:
    """A licence's name from what a font says of it, which may be a whole page."""
    if "SIL Open Font License" in stated:
        return _OPEN_FONT
    short = " ".join(stated.split())
    return short if 0 < len(short) <= _LONGEST else "as its maker says"


@dataclass(frozen=True, slots=True)
class Metrics:
    """A font's widths: `advances` in ems by code point, 0 for what is not drawn."""

    advances: dict[int, float]

    def width(self, text: str) -> float:
        """The width of one line in ems."""
        return sum(self.advances.get(ord(character), 0.0) for character in text)

    def missing(self, text: str) -> str:
        """The characters of `text` that the font cannot draw, each once, in order."""
        # a letter and its accent are drawn as one where the font has them as one
        seen = dict.fromkeys(unicodedata.normalize("NFC", text))
        return "".join(
            character
            for character in seen
            if ord(character) not in self.advances and not _undrawn(character)
        )


def _undrawn(character: str) -> bool:
    """Whether nothing is drawn for a character: it steers the text, or picks another's form."""
    selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return selector or (unicodedata.category(character) in {"Cc", "Cf"} and character != "\u00ad")


@lru_cache(maxsize=16)
def metrics(face: Face) -> Metrics:
    """The widths of a face, read from its file once."""
    with TTFont(face.path, lazy=True) as font:
        em = font["head"].unitsPerEm
        widths = font["hmtx"].metrics
        glyphs = font.getBestCmap()
    return Metrics({code: widths[glyph][0] / em for code, glyph in glyphs.items()})


def face_for(text: str, preferred: Face, otherwise: Face, where: str) -> Face:
    """The first of the two faces that can draw all of `text`.

    Raises StoryForgeError, naming `where` and the first missing character, if neither can.
    """
    if not metrics(preferred).missing(text):
        return preferred
    lacking = metrics(otherwise).missing(text)
    if not lacking:
        return otherwise
    character = lacking[0]
    name = unicodedata.name(character, "unnamed")
    raise StoryForgeError(
        f"{where}: the font `{otherwise.family}` has no `{character}` (U+{ord(character):04X}, "
        f"{name.lower()})",
        hint="name a font file that has it as `book.font`, or change the text",
    )


def set_lines(text: str, face: Face, measure: float) -> tuple[str, ...] | None:
    """Break `text` into as few lines as `measure` (in ems) allows, as even as can be.

    Line ends that the author wrote stay; an empty line stays empty. None if a word is too wide.
    """
    lines: list[str] = []
    for paragraph in text.strip().splitlines():
        atoms = _atoms(" ".join(paragraph.split(" ")).strip())
        broken = _even_lines(atoms, metrics(face), measure)
        if broken is None:
            return None
        lines += broken
    return tuple(lines)


def _atoms(paragraph: str) -> list[str]:
    """What must stay on one line: words with the space before them, single CJK characters.

    No line begins with what closes, or ends with what opens (UAX 14, JIS X 4051).
    """
    atoms: list[str] = []
    for word in _BREAKING_SPACE.split(paragraph.strip()):
        start = " " if atoms else ""
        for character in word:
            if start or not atoms or _may_break(atoms[-1][-1], character):
                atoms.append(start + character)
            else:
                atoms[-1] += character
            start = ""
    return atoms


_NEVER_FIRST: Final = frozenset(
    "ーゝゞヽヾ々〻ぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶ～〜"
)
"""Wide characters that belong to the one before."""


def _may_break(before: str, after: str) -> bool:
    """Whether a line may end between two characters without a space."""
    if after in _NEVER_FIRST or unicodedata.category(after) in {"Pe", "Po", "Pf", "Mn", "Mc"}:
        return False
    if unicodedata.category(before) in {"Ps", "Pi"}:
        return False
    return any(unicodedata.east_asian_width(each) in "WF" for each in (before, after))


def _even_lines(atoms: Sequence[str], font: Metrics, measure: float) -> list[str] | None:
    """Fewest lines first, then the least sum of squared slack (Knuth and Plass, without glue)."""
    if not atoms:
        return [""]
    count = len(atoms)
    best: list[tuple[int, float, int]] = [(0, 0.0, count)] * (count + 1)
    for start in range(count - 1, -1, -1):
        choices: list[tuple[int, float, int]] = []
        for end in range(start + 1, count + 1):
            width = font.width("".join(atoms[start:end]).strip())
            if width > measure:
                break
            lines, slack, _ = best[end]
            if lines >= 0:
                choices.append((lines + 1, slack + (measure - width) ** 2, end))
        best[start] = min(choices) if choices else (-1, 0.0, count)
    if best[0][0] < 0:
        return None
    lines_out: list[str] = []
    start = 0
    while start < count:
        end = best[start][2]
        lines_out.append("".join(atoms[start:end]).strip())
        start = end
    return lines_out
