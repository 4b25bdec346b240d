"""Which words a prompt has, as text encoders read them.

What words count (`(word:1.3)`, `word++`) is read by whoever draws; here it is only left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_WEIGHTS: Final = re.compile(
    r":\s*[+-]?[.\d]+\s*\)|(?<=[\w>)])(?:\++|-+)(?=[\s,.;!?)]|$)|(?<=\))\d*\.?\d+(?![\w.])"
    r"|[()\[\]\\]"
)
"""What says how much words count."""


def bare(text: str) -> str:
    """The words alone, one space between."""
    return " ".join(_WEIGHTS.sub("", text).split())


def says(prompt: str, words: str) -> bool:
    """Whether a prompt has these words, whole and in this order, whatever they count in it."""
    return not bare(words) or bool(starts(bare(prompt), bare(words)))


def starts(text: str, words: str) -> tuple[int, ...]:
    """Where these words begin in a text, both of them bare.

    Of words as a whole: a woman is no man. Capitals are small letters, but in a concept's name.
    """
    if not words:
        return ()
    before = r"(?<!\w)" if words[0].isalnum() else ""
    behind = r"(?!\w)" if words[-1].isalnum() else ""
    case = re.NOFLAG if "<" in words else re.IGNORECASE
    found = re.finditer(f"{before}(?={re.escape(words)}{behind})", text, case)
    return tuple(match.start() for match in found)


def standing(text: str, words: str, others: Iterable[str]) -> tuple[int, ...]:
    """Which of the times, from 0, that words stand in a text are not within longer ones: none of
    `a fox` is in `a fox in a hat`, if that is another.
    """
    longer = [other for other in others if len(other) > len(words)]
    within = [(at, at + len(other)) for other in longer for at in starts(text, other)]
    every = enumerate(starts(text, words))
    return tuple(
        number
        for number, at in every
        if not any(first <= at and at + len(words) <= end for first, end in within)
    )
