"""What a typist leaves to the printer: quotation marks, dashes and dots, as each language has them.

Only what is typed is changed; a text with the right marks stays as it is. Emphasis is `inline`'s.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class QuoteMarks(NamedTuple):
    """A language's quotation marks, the outer and the inner ones."""

    opening: str
    closing: str
    inner_opening: str
    inner_closing: str


_ENGLISH: Final = QuoteMarks("“", "”", "‘", "’")
_MARKS: Final = {
    "cs": QuoteMarks("„", "“", "‚", "‘"),
    "da": QuoteMarks("»", "«", "›", "‹"),
    "de": QuoteMarks("„", "“", "‚", "‘"),
    "es": QuoteMarks("«", "»", "“", "”"),
    "fi": QuoteMarks("”", "”", "’", "’"),
    "fr": QuoteMarks("«\u00a0", "\u00a0»", "“", "”"),
    "it": QuoteMarks("«", "»", "“", "”"),
    "nb": QuoteMarks("«", "»", "‘", "’"),
    "nl": QuoteMarks("“", "”", "‘", "’"),
    "pl": QuoteMarks("„", "”", "«", "»"),
    "pt": QuoteMarks("“", "”", "‘", "’"),
    "ru": QuoteMarks("«", "»", "„", "“"),
    "sv": QuoteMarks("”", "”", "’", "’"),
    "uk": QuoteMarks("«", "»", "„", "“"),
}
_LEFT_ALONE: Final = frozenset({"ar", "fa", "he", "ja", "ko", "ur", "yi", "zh"})
"""Where a straight mark may be a letter's own, or other marks are usual."""

_SWISS: Final = QuoteMarks("«", "»", "‹", "›")
_BEFORE_OPENING: Final = frozenset(" \t\n\u00a0([{«“„‚‘–—-/*")
_CUT: Final = frozenset({"bout", "cause", "em", "n", "neath", "round", "s", "tis", "twas", "til"})
"""English words that begin with an apostrophe when they are cut short."""

_WORD: Final = re.compile(r"[^\W_]+")
_FRENCH_SPACE: Final = re.compile(r"(?<=\S) ?(?=[;:!?](?:\s|$|[»”*]))")


def typographic(text: str, language: str) -> str:
    """The text with its straight quotes, hyphens and dots as the language prints them."""
    base = language.split("-")[0]
    if base in _LEFT_ALONE:
        return _dashed(text, base)
    marks = _SWISS if language in {"de-CH", "de-LI"} else _MARKS.get(base, _ENGLISH)
    made = _quoted(_dashed(text, base), marks)
    return _french(made) if base == "fr" else made


def _dashed(text: str, language: str) -> str:
    """`...` as one sign; `--` as a dash, `---` as a long one."""
    text = re.sub(r"(?<!\.)\.\.\.(?!\.)", "…", text)
    text = re.sub(r"(?<!-)---(?!-)", "—", text)
    text = re.sub(r"(?<=\s)--(?=\s)", "–", text)
    unspaced = "—" if language == "en" else "–"
    return re.sub(r"(?<=\w)--(?=\w)", lambda found: _between(found, unspaced), text)


def _between(found: re.Match[str], dash: str) -> str:
    """A range of numbers has the short dash."""
    text = found.string
    numbers = text[found.start() - 1].isdecimal() and text[found.end()].isdecimal()
    return "–" if numbers else dash


def _quoted(text: str, marks: QuoteMarks) -> str:
    """Straight quotes turned by what stands before them; the others are apostrophes."""
    made: list[str] = []
    inner = 0
    for index, character in enumerate(text):
        before = text[index - 1] if index else " "
        before = made[-1][-1] if made and before in "\"'" else before
        opens = before in _BEFORE_OPENING and text[index + 1 : index + 2].strip() != ""
        if character == '"':
            made.append(marks.opening if opens else marks.closing)
        elif character == "'" and opens and not _cut_short(text, index):
            inner += 1
            made.append(marks.inner_opening)
        elif character == "'":
            within = before.isalnum() and text[index + 1 : index + 2].isalnum()
            closes = inner > 0 and not within
            inner -= closes
            made.append(marks.inner_closing if closes else "’")
        else:
            made.append(character)
    return "".join(made)


def _cut_short(text: str, index: int) -> bool:
    """Whether a quote before a word is its apostrophe: 'tis, '90s."""
    word = _WORD.match(text, index + 1)
    if word is None:
        return False
    return word.group().casefold() in _CUT or word.group()[0].isdecimal()


def _french(text: str) -> str:
    """A space that does not break before what French sets apart."""
    return _FRENCH_SPACE.sub("\u00a0", text).replace("\u00a0 ", "\u00a0")
