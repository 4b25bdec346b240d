"""Where long words may be divided, language by language (the patterns of LibreOffice, by pyphen).

Languages without patterns, and short words, are left whole.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import pyphen

from storyforge.book.inline import SOFT_HYPHEN

_SHORTEST: Final = 6
"""Letters of a word that may be divided."""

_LEAST: Final = 3
"""Letters before and after a hyphen."""

_WORD: Final = re.compile(rf"[^\W\d_{SOFT_HYPHEN}]{{{_SHORTEST},}}")


@lru_cache(maxsize=256)
def hyphenated(text: str, language: str) -> str:
    """The text with soft hyphens where its long words may be divided.

    A word in which the author wrote soft hyphens is divided there alone.
    """
    patterns = _patterns(language)
    if patterns is None:
        return text

    def with_hyphens(found: re.Match[str]) -> str:
        """A word with the places where it may be divided."""
        near = text[max(0, found.start() - 1) : found.end() + 1]
        if SOFT_HYPHEN in near:
            return found.group()
        word: str = patterns.inserted(found.group(), SOFT_HYPHEN)
        return word

    return _WORD.sub(with_hyphens, text)


@lru_cache(maxsize=16)
def _patterns(language: str) -> pyphen.Pyphen | None:
    name = pyphen.language_fallback(language.replace("-", "_"))
    return pyphen.Pyphen(lang=name, left=_LEAST, right=_LEAST) if name else None
