"""Fonts and the setting of lines: how wide words are, what a font lacks, where lines break.

Widths are sums of advances without kerning, a little wider than what is printed, so that a line
which fits here fits on the page. Words are divided only where they are wider than the line.
Vertical writing is not covered.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from fontTools.ttLib import TTFont, TTLibError

from storyforge.book.hyphens import hyphenated
from storyforge.book.inline import MARKS, SOFT_HYPHEN, Style, carried, runs, unmarked
from storyforge.book.leaf import Face
from storyforge.book.unsettable import StoryPlace, Unprintable
from storyforge.errors import EnvironmentProblem
from storyforge.pictures import beside

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
_ANDIKA_ITALIC: Final = _bundled("Andika", "Italic", 400, ".ttf")
_ANDIKA_BOLD: Final = _bundled("Andika", "Bold", 700, ".ttf")
COMIC_NEUE: Final = _bundled("Comic Neue", "Regular", 400, ".otf")
COMIC_NEUE_BOLD: Final = _bundled("Comic Neue", "Bold", 700, ".otf")
_COMIC_NEUE_ITALIC: Final = _bundled("Comic Neue", "Italic", 400, ".otf")
_COMIC_NEUE_BOLD_ITALIC: Final = _bundled("Comic Neue", "BoldItalic", 700, ".otf")
EB_GARAMOND: Final = _bundled("EB Garamond", "Regular", 400, ".otf")
_EB_GARAMOND_ITALIC: Final = _bundled("EB Garamond", "Italic", 400, ".otf")
_EB_GARAMOND_BOLD: Final = _bundled("EB Garamond", "Bold", 700, ".otf")

TEXT_FACES: Final = {face.family.casefold(): face for face in (ANDIKA, COMIC_NEUE, EB_GARAMOND)}

_STYLED: Final[Mapping[Face, Mapping[Style, Face]]] = {
    ANDIKA: {"italic": _ANDIKA_ITALIC, "bold": _ANDIKA_BOLD, "bold-italic": _ANDIKA_BOLD},
    COMIC_NEUE: {
        "italic": _COMIC_NEUE_ITALIC,
        "bold": COMIC_NEUE_BOLD,
        "bold-italic": _COMIC_NEUE_BOLD_ITALIC,
    },
    COMIC_NEUE_BOLD: dict.fromkeys(("italic", "bold", "bold-italic"), _COMIC_NEUE_BOLD_ITALIC),
    EB_GARAMOND: {
        "italic": _EB_GARAMOND_ITALIC,
        "bold": _EB_GARAMOND_BOLD,
        "bold-italic": _EB_GARAMOND_BOLD,
    },
}
"""What emphasis looks like in the families that come with storyforge."""

FALLBACKS: Final = (
    Face("Noto Sans", 400, _FONTS / "Noto-Greek.ttf", _FONTS / "Noto-Greek.woff2", _OPEN_FONT),
    *(
        Face(family, 400, _FONTS / f"{stem}.ttf", _FONTS / f"{stem}.woff2", _OPEN_FONT)
        for family, stem in (
            ("Noto Sans Symbols2", "Noto-Symbols2"),
            ("Noto Sans Symbols", "Noto-Symbols"),
            ("Noto Sans Math", "Noto-Arrows"),
            ("Noto Emoji", "Noto-Emoji"),
        )
    ),
)
"""Where Greek, arrows, stars, notes, hearts and emoji come from if the book's own font has none."""

_FILE_STYLES: Final[Mapping[Style, tuple[str, ...]]] = {
    "italic": ("Italic", "Oblique"),
    "bold": ("Bold", "SemiBold"),
    "bold-italic": ("BoldItalic", "Bold", "Italic"),
}
"""How makers call the files of a font's styles, beside `Name-Regular.ttf`."""


def styled(face: Face, style: Style) -> Face:
    """The face in which emphasis is set; the face itself where its family has none."""
    if style == "plain":
        return face
    if face in _STYLED:
        return _STYLED[face][style]
    return _face_beside(face.path, style) or face


@lru_cache(maxsize=64)
def _face_beside(path: Path, style: Style) -> Face | None:
    """The style's file in the folder of an author's font, called as its maker would call it."""
    stem = path.stem.removesuffix("Regular").rstrip("-")
    for name in _FILE_STYLES[style]:
        beside = path.with_name(f"{stem}-{name}{path.suffix}")
        if beside != path and beside.is_file():
            return _face_of_file(beside)
    return None


def faces_in(lines: Iterable[str], face: Face) -> tuple[Face, ...]:
    """Every face that lines need: the styles of `face`, and what draws the signs it lacks."""
    used: dict[Face, None] = {face: None}
    for line in lines:
        for text, style in runs(line):
            own = styled(face, style)
            used[own] = None
            for character in metrics(own).missing(text):
                used |= dict.fromkeys(_fallback_of(character))
    return tuple(used)


def _fallback_of(character: str) -> tuple[Face, ...]:
    """The first of the fallbacks that draws a character; none if none does."""
    able = (face for face in FALLBACKS if ord(character) in metrics(face).advances)
    return tuple(able)[:1]


def text_face(name: str | None, folder: Path) -> Face:
    """The face for running text: Andika, a bundled family by name, or a font file in `folder`.

    Raises EnvironmentProblem if there is no such font or it cannot be read.
    """
    if name is None:
        return ANDIKA
    if name.casefold() in TEXT_FACES:
        return TEXT_FACES[name.casefold()]
    path = beside(folder, name)
    if path.suffix.lower() not in {".ttf", ".otf"} or not os.path.isfile(path):
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

    face: Face
    advances: Mapping[int, float]

    def width(self, text: str) -> float:
        """The width of one line in ems, its emphasis and a hyphen at its end counted."""
        hyphen = self.advances.get(ord("-"), 0.0) if text.endswith(SOFT_HYPHEN) else 0.0
        if text.isascii():
            return sum(self.advances.get(ord(character), 0.0) for character in text)
        total, current = hyphen, self
        for character in text:
            if character in MARKS:
                current = metrics(styled(self.face, MARKS[character]))
            elif character != SOFT_HYPHEN:
                total += current.advance(character)
        return total

    def advance(self, character: str) -> float:
        """The width of one character, from a fallback if the font has none."""
        own = self.advances.get(ord(character))
        if own is not None:
            return own
        if _undrawn(character):
            return 0.0
        return next(
            (metrics(face).advances[ord(character)] for face in _fallback_of(character)), 0.0
        )

    def missing(self, text: str) -> str:
        """The characters of `text` that the font cannot draw, each once, in order."""
        # a letter and its accent are drawn as one where the font has them as one
        seen = dict.fromkeys(unicodedata.normalize("NFC", unmarked(text)))
        return "".join(
            character
            for character in seen
            if ord(character) not in self.advances and not _undrawn(character)
        )


def _undrawn(character: str) -> bool:
    """Whether nothing is drawn for a character: it steers the text, or picks another's form."""
    selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return selector or unicodedata.category(character) in {"Cc", "Cf"}


@lru_cache(maxsize=64)
def metrics(face: Face) -> Metrics:
    """The widths of a face, read from its file once."""
    with TTFont(face.path, lazy=True) as font:
        em = font["head"].unitsPerEm
        widths = font["hmtx"].metrics
        glyphs = font.getBestCmap()
    return Metrics(face, {code: widths[glyph][0] / em for code, glyph in glyphs.items()})


def face_for(text: str, preferred: Face, otherwise: Face, where: str, place: StoryPlace) -> Face:
    """The first of the two faces that can draw all of `text`, if need be with the fallbacks' help.

    Raises Unprintable, naming `where` and the missing characters, if neither can.
    """
    for face in (preferred, otherwise):
        if not metrics(face).missing(text):
            return face
    for face in (preferred, otherwise):
        if not _undrawable(text, face):
            return face
    lacking = _undrawable(text, otherwise)
    named = ", ".join(
        f"`{character}` (U+{ord(character):04X}, {unicodedata.name(character, 'unnamed').lower()})"
        for character in lacking[:_NAMED]
    )
    more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
    raise Unprintable(
        f"{where}: the font `{otherwise.family}` has no {named}{more}",
        place=place,
        hint="name a font file that has it as `book.font`, or change the text",
    )


_NAMED: Final = 6
"""Missing characters that a message names."""


def _undrawable(text: str, face: Face) -> str:
    """What neither the face nor any fallback draws."""
    return "".join(sign for sign in metrics(face).missing(text) if not _fallback_of(sign))


def set_lines(
    text: str, face: Face, measure: float, divide: str | None = None
) -> tuple[str, ...] | None:
    """Break `text` into as few lines as `measure` (in ems) allows, as even as can be.

    Line ends that the author wrote stay; an empty line stays empty. With `divide`, a language,
    words wider than a line are divided as it does, or where a soft hyphen allows it; such a line
    ends with one. None if a word is too wide.
    """
    lines: list[str] = []
    for paragraph in text.strip().splitlines():
        words = " ".join(paragraph.split(" ")).strip()
        broken = _even_lines(_atoms(words.replace(SOFT_HYPHEN, "")), metrics(face), measure)
        if broken is None and divide is not None:
            broken = _even_lines(_atoms(hyphenated(words, divide)), metrics(face), measure)
        if broken is None:
            return None
        lines += broken
    return tuple(carried(lines))


def _atoms(paragraph: str) -> list[str]:
    """What must stay on one line: words with the space before them, single CJK characters.

    No line begins with what closes, or ends with what opens (UAX 14, JIS X 4051). A word may end
    after a soft hyphen.
    """
    atoms: list[str] = []
    for word in _BREAKING_SPACE.split(paragraph.strip()):
        start = " " if atoms else ""
        before = ""
        for character in word:
            if start or not atoms or _may_break(before, character):
                atoms.append(start + character)
            else:
                atoms[-1] += character
            start = ""
            before = character if character not in MARKS else before
    return atoms


_NEVER_FIRST: Final = frozenset(
    "ーゝゞヽヾ々〻ぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶ～〜"
)
"""Wide characters that belong to the one before."""


def _may_break(before: str, after: str) -> bool:
    """Whether a line may end between two characters without a space."""
    if not before or after in MARKS:
        return False
    if before == SOFT_HYPHEN:
        return True
    if after in _NEVER_FIRST or unicodedata.category(after) in {"Pe", "Po", "Pf", "Mn", "Mc"}:
        return False
    if unicodedata.category(before) in {"Ps", "Pi"}:
        return False
    return any(unicodedata.east_asian_width(each) in "WF" for each in (before, after))


def _even_lines(atoms: Sequence[str], font: Metrics, measure: float) -> list[str] | None:
    """Fewest hyphens, then fewest lines, then the least sum of squared slack (Knuth and Plass)."""
    if not atoms:
        return [""]
    count = len(atoms)
    best: list[tuple[int, int, float, int] | None] = [None] * count + [(0, 0, 0.0, count)]
    for start in range(count - 1, -1, -1):
        choices: list[tuple[int, int, float, int]] = []
        for end in range(start + 1, count + 1):
            width = font.width("".join(atoms[start:end]).strip())
            if width > measure:
                # a hyphen that is only there at a line's end may make the shorter line the wider
                if atoms[end - 1].endswith(SOFT_HYPHEN):
                    continue
                break
            rest = best[end]
            if rest is not None:
                hyphens = rest[0] + (end < count and atoms[end - 1].endswith(SOFT_HYPHEN))
                choices.append((hyphens, rest[1] + 1, rest[2] + (measure - width) ** 2, end))
        best[start] = min(choices) if choices else None
    if best[0] is None:
        return None
    lines_out: list[str] = []
    start = 0
    while start < count:
        choice = best[start]
        end = choice[3] if choice else count
        lines_out.append(_as_printed("".join(atoms[start:end]).strip()))
        start = end
    return lines_out


def _as_printed(line: str) -> str:
    """The line without the soft hyphens at which it was not divided."""
    end = SOFT_HYPHEN if line.endswith(SOFT_HYPHEN) else ""
    return line.replace(SOFT_HYPHEN, "") + end
