"""Drop capitals: a page's first letter as high as two lines, the lines beside it shorter.

Only for words on paper, in one paragraph of three lines or more; elsewhere a large letter would
stand alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from storyforge.book.inline import MARKS, SOFT_HYPHEN, carried, divided
from storyforge.book.leaf import Initial, Rect, TextBlock
from storyforge.book.typeface import metrics, set_lines

_BESIDE: Final = 2
"""Lines that stand beside the letter."""

_CAPITAL: Final = 0.7
"""Height of a capital, in ems."""

_SHARES: Final = (1.0, 0.95, 0.9, 0.85)
"""Sizes that are tried: the letter takes room from the words, which may then need a line more."""

_GAP: Final = 0.14
"""Between the letter and the lines beside it, in sizes of theirs."""


def initialled(text: TextBlock, room: Rect, language: str | None) -> TextBlock:
    """The words with a drop capital, if they are of the kind that can have one.

    room  how far down they may reach
    """
    words = text.text.strip()
    if text.plate is not None or "\n" in words or len(text.lines) <= _BESIDE:
        return text
    if words[:1] in MARKS or not words[:1].isalpha():
        return text
    sizes = [text.size * share for share in _SHARES]
    made = (_at_size(replace(text, size=size), words, room, language) for size in sizes)
    return next(filter(None, made), text)


def _at_size(text: TextBlock, words: str, room: Rect, language: str | None) -> TextBlock | None:
    """The words in this size with a drop capital; None if they do not fit."""
    letter, space, others = _parted(words)
    font, measure = metrics(text.face), text.rect.width / text.size
    size = text.size * (_CAPITAL + text.leading) / _CAPITAL
    width = font.width(letter) * size + _GAP * text.size
    narrow = measure - width / text.size - font.width(space)
    beside = set_lines(others, text.face, narrow, language)
    if beside is None or len(beside) <= _BESIDE or any(map(divided, beside[:_BESIDE])):
        return None
    below = set_lines(_behind(others, beside[:_BESIDE]), text.face, measure, language)
    if below is None:
        return None
    lines = (letter + space + beside[0], *beside[1:_BESIDE], *below)
    rect = replace(text.rect, height=len(lines) * text.leading * text.size)
    if rect.bottom > room.bottom + 0.01:
        return None
    return replace(
        text, lines=lines, rect=rect, align="start", initial=Initial(letter, size, width)
    )


def _parted(words: str) -> tuple[str, str, str]:
    """The first letter with its marks, the space behind it if it is a word, and all else."""
    end = 1
    while end < len(words) and _belongs(words[end]):
        end += 1
    others = words[end:].lstrip()
    return words[:end], words[end : len(words) - len(others)][:1], others


def _belongs(sign: str) -> bool:
    """Whether a sign is set on or beside the letter before it: accents, signs of vowels."""
    return unicodedata.category(sign).startswith("M") or sign in "\u0e33\u0eb3"


def _behind(words: str, lines: Iterable[str]) -> str:
    """What of the words stands in none of the lines, in its style.

    Letters are counted, and nothing else: how lines part words is the language's affair.
    """
    given = sum(map(_is_printed, "".join(lines)))
    end = 0
    while given:
        given -= _is_printed(words[end])
        end += 1
    return carried([words[:end], words[end:]])[1]


def _is_printed(character: str) -> bool:
    """Whether a line keeps the character wherever it breaks."""
    return not character.isspace() and character not in MARKS and character != SOFT_HYPHEN
