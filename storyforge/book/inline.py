"""Emphasis inside a text, and where its words may be divided, as marks that nobody can type.

A text for print is a string in which Unicode's noncharacters, kept for use inside programs, say
where italic and bold begin. What the marked words look like is `typeface`'s and each format's.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

Style = Literal["plain", "italic", "bold", "bold-italic"]

MARKS: Final[dict[str, Style]] = {
    "\ufdd0": "plain",
    "\ufdd1": "italic",
    "\ufdd2": "bold",
    "\ufdd3": "bold-italic",
}
"""From here on, until the next mark, the text is of this style."""

_MARK_OF: Final = {style: mark for mark, style in MARKS.items()}
_ALL_MARKS: Final = re.compile(f"[{''.join(MARKS)}]")

SOFT_HYPHEN: Final = "\u00ad"
"""Where a word may be divided; at a line's end, where it is."""

_EMPHASIS: Final = re.compile(
    r"(?<![\w\\*])(?P<stars>\*{1,3})(?=[^\s*])(?P<words>.+?)(?<=[^\s*\\])(?P=stars)(?![\w*])",
    re.DOTALL,
)
_STARRED: Final[dict[tuple[Style, int], Style]] = {
    ("plain", 1): "italic",
    ("plain", 2): "bold",
    ("plain", 3): "bold-italic",
    ("italic", 1): "plain",
    ("italic", 2): "bold-italic",
    ("bold", 1): "bold-italic",
    ("bold", 2): "plain",
}
"""What so many stars make of a style; emphasis within emphasis stands out by being plain."""


class Run(NamedTuple):
    """A piece of a line in one style."""

    text: str
    style: Style


def unmarked(text: str) -> str:
    """The text as it is read, without marks."""
    return _ALL_MARKS.sub("", text)


def emphasised(text: str, style: Style = "plain") -> str:
    r"""`*so*`, `**so**` and `***so***` as marks; a star after a backslash stays a star."""
    made, end = "", 0
    for found in _EMPHASIS.finditer(text):
        inner = _STARRED.get((style, len(found["stars"])), style)
        words = emphasised(found["words"], inner)
        made += text[end : found.start()] + _MARK_OF[inner] + words + _MARK_OF[style]
        end = found.end()
    made += text[end:]
    return made.replace("\\*", "*") if style == "plain" else made


def runs(line: str) -> tuple[Run, ...]:
    """The line's pieces by style; a soft hyphen at its end, where a word goes on, is left out."""
    pieces: list[Run] = []
    style: Style = "plain"
    text = ""
    for character in line.removesuffix(SOFT_HYPHEN):
        if character not in MARKS:
            text += character
            continue
        if text and MARKS[character] != style:
            pieces.append(Run(text, style))
            text = ""
        style = MARKS[character]
    return (*pieces, Run(text, style)) if text or not pieces else tuple(pieces)


def printed(line: str) -> str:
    """The line as it is seen, without marks, with the hyphen of a divided word."""
    return unmarked(line).replace(SOFT_HYPHEN, "") + ("-" if divided(line) else "")


def divided(line: str) -> bool:
    """Whether the last word of a line goes on in the next one."""
    return line.endswith(SOFT_HYPHEN)


def carried(lines: list[str]) -> list[str]:
    """The lines with each one's first style said at its beginning, so that each stands alone."""
    style: Style = "plain"
    made = []
    for line in lines:
        made.append(line if style == "plain" else _MARK_OF[style] + line)
        for character in line:
            style = MARKS.get(character, style)
    return made
