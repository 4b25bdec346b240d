"""Drop capitals: a page's first letter as high as two lines, the lines beside it shorter.

Only for words on paper, in one paragraph of three lines or more; elsewhere a large letter would
stand alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from storyforge.book.inline import MARKS, carried, divided, unmarked
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
    letter, measure = words[:1], text.rect.width / text.size
    size = text.size * (_CAPITAL + text.leading) / _CAPITAL
    width = metrics(text.face).width(letter) * size + _GAP * text.size
    beside = set_lines(words[1:], text.face, measure - width / text.size, language)
    if beside is None or len(beside) <= _BESIDE or any(map(divided, beside[:_BESIDE])):
        return None
    tokens = words[1:].split(" ")
    used = sum(len(unmarked(line).split()) for line in beside[:_BESIDE])
    _, rest = carried([" ".join(tokens[:used]), " ".join(tokens[used:])])
    below = set_lines(rest, text.face, measure, language)
    if below is None:
        return None
    lines = (letter + beside[0], *beside[1:_BESIDE], *below)
    rect = replace(text.rect, height=len(lines) * text.leading * text.size)
    if rect.bottom > room.bottom + 0.01:
        return None
    return replace(
        text, lines=lines, rect=rect, align="start", initial=Initial(letter, size, width)
    )
