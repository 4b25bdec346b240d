"""How panels share a page: `2x3` for equal frames, `AAB/CCB` for frames over several cells.

Rows are divided by strokes, each letter is a panel in the order of the alphabet, a point an empty
cell. How large frames become on a page is the book's to say.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_EQUAL: Final = re.compile(r"[1-9]x[1-9]")
_CELLS: Final = re.compile(r"[A-Z.]{1,9}(/[A-Z.]{1,9}){0,8}")


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells that one panel's frame covers, counted from 0; `right` and `bottom` are past it."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True)
class Pattern:
    """Frames over the cells of a page of `rows` and `columns`."""

    rows: int
    columns: int
    frames: tuple[Cells, ...]


def pattern_of(form: str) -> Pattern | None:
    """The frames of a grid such as `AAB/CCB`; None for one of equal frames.

    Raises ValueError, saying what is wrong with it.
    """
    if _EQUAL.fullmatch(form):
        return None
    rows = form.split("/")
    if len({len(row) for row in rows}) > 1:
        raise ValueError("its rows are not equally long")
    letters = sorted(set("".join(rows)) - {"."})
    wanted = list(string.ascii_uppercase[: len(letters)])
    if letters != wanted or not letters:
        raise ValueError("its panels are not A, B, C and so on, without a gap")
    frames = tuple(_rectangle(letter, rows) for letter in letters)
    return Pattern(len(rows), len(rows[0]), frames)


def _rectangle(letter: str, rows: list[str]) -> Cells:
    places = [(y, x) for y, row in enumerate(rows) for x, cell in enumerate(row) if cell == letter]
    top, left = min(y for y, _ in places), min(x for _, x in places)
    bottom, right = max(y for y, _ in places) + 1, max(x for _, x in places) + 1
    if len(places) != (bottom - top) * (right - left):
        raise ValueError(f"panel {letter} is no rectangle")
    return Cells(left, top, right, bottom)


def room_in(form: str) -> int:
    """How many panels a grid has room for."""
    pattern = pattern_of(form)
    if pattern is not None:
        return len(pattern.frames)
    rows, _, columns = form.partition("x")
    return int(rows) * int(columns)


def _checked(form: str) -> str:
    words = "a grid; write rows x columns, such as `2x2`, or panels by their cells, as `AAB/CCB`"
    if not _EQUAL.fullmatch(form) and not _CELLS.fullmatch(form):
        message = "`{form}` is not {words}"
        raise PydanticCustomError("written_as", message, {"form": form[:40], "words": words})
    try:
        pattern_of(form)
    except ValueError as exc:
        message = "the grid `{form}` cannot be laid out: {why}"
        raise PydanticCustomError("written_as", message, {"form": form, "why": str(exc)}) from exc
    return form


Grid = Annotated[
    str,
    AfterValidator(_checked),
    WithJsonSchema({"type": "string", "pattern": f"^({_EQUAL.pattern}|{_CELLS.pattern})$"}),
]
"""How panels share a page."""
