"""Words that count more or less: as AUTOMATIC1111 reads them, `(word:1.3)`, `((word))`, `[word]`,
and as compel does, `word++`, `word-`, `(two words)+`, `(two words)0.8`.

Every bracket multiplies by 1.1 or divides by it; every `+` at a word's or bracket's end multiplies
by 1.1, every `-` by 0.9; a number replaces all that. `\\(` is a bracket. What a weight does to the
features is `weighting`'s.
Not covered: `BREAK`, prompts that change between steps, alternatives and wildcards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

STEP: Final = 1.1
"""What a pair of brackets without a number multiplies by."""

WeightedPiece = tuple[str, float]
"""A part of a prompt and its weight."""

LESS: Final = 0.9
"""What a `-` of compel's multiplies by."""

_MOST_SIGNS: Final = 99
"""More would overflow a float; a line drawn in signs may have thousands."""

_MARKS: Final = re.compile(
    r"\\[()\[\]\\]"  # a bracket that is one
    r"|\(|\["
    r"|:\s*(?P<number>[+-]?[.\d]+)\s*\)"
    r"|\)(?P<after>\++(?=[\s,.;!?)]|$)|-+(?=[\s,.;!?)]|$)|\d*\.?\d+(?![\w.]))?"
    r"|\]|[^\\()\[\]:]+|.",
    re.S,
)
_SIGNED: Final = re.compile(r"(?<!\S)(\S*[\w>])(\++|-+)(?=[\s,.;!?]|$)")
"""A word that ends in compel's signs."""


def pieces_of(prompt: str) -> tuple[WeightedPiece, ...]:
    """The parts of a prompt, in order, neighbours of one weight as one."""
    texts: list[str] = []
    weights: list[float] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def weigh(start: int, factor: float) -> None:
        """Let all from a piece on count more or less."""
        weights[start:] = [weight * factor for weight in weights[start:]]

    for match in _MARKS.finditer(prompt):
        mark = match[0]
        if mark in opened:
            opened[mark].append(len(texts))
        elif match["number"] and opened["("] and _number(match["number"]) is not None:
            weigh(opened["("].pop(), float(match["number"]))
        elif mark.startswith(")") and opened["("]:
            after = _factor(match["after"] or "")
            weigh(opened["("].pop(), STEP if after is None else after)
        elif mark == "]" and opened["["]:
            weigh(opened["["].pop(), 1 / STEP)
        else:
            escaped = len(mark) == 2 and mark[0] == "\\"
            for text, factor in _signed(mark[1] if escaped else mark):
                texts.append(text)
                weights.append(factor)
    # What was never closed reaches to the end.
    for start in opened["("]:
        weigh(start, STEP)
    for start in opened["["]:
        weigh(start, 1 / STEP)
    return tuple(_joined(zip(texts, weights, strict=True)))


def _factor(signs: str) -> float | None:
    """What compel's signs or number after a word multiply by; None for neither."""
    if signs and not signs.strip("+-"):
        count = min(len(signs), _MOST_SIGNS)
        return STEP**count if signs[0] == "+" else LESS**count
    return _number(signs)


def _signed(text: str) -> Iterator[WeightedPiece]:
    """A text without brackets, with the words that compel's signs weigh."""
    start = 0
    for match in _SIGNED.finditer(text):
        yield text[start : match.start()], 1.0
        factor = _factor(match[2])
        yield match[1], 1.0 if factor is None else factor
        start = match.end()
    if start < len(text):
        yield text[start:], 1.0


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _joined(pieces: Iterator[WeightedPiece]) -> Iterator[WeightedPiece]:
    whole, last = "", 1.0
    for text, weight in pieces:
        if whole and weight != last:
            yield whole, last
            whole = ""
        whole, last = whole + text, weight
    if whole:
        yield whole, last
