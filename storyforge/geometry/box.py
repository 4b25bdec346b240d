"""Upright rectangles in fractions of a frame, and the words and cells that name them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from storyforge.errors import closest

_STRICT: Final = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


Fraction = Annotated[float, Field(allow_inf_nan=False)]


Coordinate = Annotated[float, Field(ge=0, le=1)]


Corners = tuple[tuple[Coordinate, Coordinate], ...]


class Box(BaseModel):
    """An upright rectangle inside the frame, in fractions of it; written `[x0, y0, x1, y1]`."""

    model_config = _STRICT

    x0: Fraction
    y0: Fraction
    x1: Fraction
    y1: Fraction

    @model_validator(mode="before")
    @classmethod
    def _from_four_numbers(cls, value: object) -> object:
        if not isinstance(value, Sequence) or isinstance(value, str):
            return value
        if len(value) != 4:
            message = "a box is four numbers, `[x0, y0, x1, y1]`; here are {count}"
            raise PydanticCustomError("box_shape", message, {"count": len(value)})
        return dict(zip(("x0", "y0", "x1", "y1"), value, strict=True))

    @model_validator(mode="after")
    def _inside_the_frame(self) -> Self:
        written = {"box": f"[{self.x0:g}, {self.y0:g}, {self.x1:g}, {self.y1:g}]"}
        if min(self.sides()) < 0 or max(self.sides()) > 1:
            message = (
                "box `{box}` reaches outside the frame; fractions run from 0 (left, top) to 1 "
                "(right, bottom)"
            )
            raise PydanticCustomError("outside_frame", message, written)
        if self.x0 >= self.x1 or self.y0 >= self.y1:
            message = "box `{box}` is empty; write `[x0, y0, x1, y1]` with x0 < x1 and y0 < y1"
            raise PydanticCustomError("box_empty", message, written)
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe the box as authors write it, as a list of four numbers."""
        number = {"type": "number", "minimum": 0, "maximum": 1}
        return {
            "description": "left, top, right, bottom in fractions of the picture",
            "type": "array",
            "items": number,
            "minItems": 4,
            "maxItems": 4,
        }

    def sides(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom, as a box is written."""
        return self.x0, self.y0, self.x1, self.y1

    @property
    def width(self) -> float:
        """Width as a fraction of the frame."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """Height as a fraction of the frame."""
        return self.y1 - self.y0

    def area(self) -> float:
        """Area as a fraction of the frame."""
        return self.width * self.height

    def centre(self) -> tuple[float, float]:
        """The point (x, y) in the middle."""
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def intersection(self, other: Box) -> Box | None:
        """The part that both boxes cover; None where they only touch or stand apart."""
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        x1, y1 = min(self.x1, other.x1), min(self.y1, other.y1)
        return Box(x0=x0, y0=y0, x1=x1, y1=y1) if x0 < x1 and y0 < y1 else None

    def contains(self, other: Box) -> bool:
        """Whether no part of `other` stands outside this box."""
        return self.intersection(other) == other

    def cells(self, rows: int, columns: int) -> tuple[int, int, int, int]:
        """The cells (y0, y1, x0, x1) of a grid, ends exclusive: whole cells, at least one.

        Edges go to the nearest cell border, so that boxes which meet here meet there.
        """
        y0, y1 = _whole_cells(self.y0, self.y1, rows)
        x0, x1 = _whole_cells(self.x0, self.x1, columns)
        return y0, y1, x0, x1


FRAME: Final = Box(x0=0, y0=0, x1=1, y1=1)


def _whole_cells(start: float, end: float, count: int) -> tuple[int, int]:
    first, last = math.floor(start * count + 0.5), math.floor(end * count + 0.5)
    if first < last:
        return first, last
    nearest = min(math.floor((start + end) / 2 * count), count - 1)
    return nearest, nearest + 1


_THIRD: Final = 1 / 3


_PLACES: Final[dict[str, tuple[float, float, float, float]]] = {
    "whole": (0, 0, 1, 1),
    "left": (0, 0, 0.5, 1),
    "right": (0.5, 0, 1, 1),
    "top": (0, 0, 1, 0.5),
    "bottom": (0, 0.5, 1, 1),
    "centre": (0.25, 0.25, 0.75, 0.75),
    "center": (0.25, 0.25, 0.75, 0.75),
    "middle": (0.25, 0, 0.75, 1),
    "left-third": (0, 0, _THIRD, 1),
    "middle-third": (_THIRD, 0, 2 * _THIRD, 1),
    "right-third": (2 * _THIRD, 0, 1, 1),
    "top-third": (0, 0, 1, _THIRD),
    "bottom-third": (0, 2 * _THIRD, 1, 1),
    "top-left": (0, 0, 0.5, 0.5),
    "top-right": (0.5, 0, 1, 0.5),
    "bottom-left": (0, 0.5, 0.5, 1),
    "bottom-right": (0.5, 0.5, 1, 1),
}


PLACES: Final = tuple(_PLACES)
"""The words that `at` understands."""


GRID_PLACE: Final = re.compile(
    r"(?P<from>[A-Z][0-9]{1,2})(:(?P<to>[A-Z][0-9]{1,2}))?"
    r"(/(?P<rows>[0-9]{1,2})x(?P<columns>[0-9]{1,2}))?"
)


def place(at: str) -> Box:
    """The box of a named place (`left`, `top-right`, `middle-third`, …) or of grid cells.

    Grid cells are written as in a spreadsheet, columns by letter and rows by number: `B2`, `A1:B3`.
    The grid has 3 rows and 3 columns unless another is named, rows first: `A1:D2/2x4`.
    Raises ValueError, with the remedy in its message, for anything else.
    """
    if at in _PLACES:
        x0, y0, x1, y1 = _PLACES[at]
        return Box(x0=x0, y0=y0, x1=x1, y1=y1)
    cells = GRID_PLACE.fullmatch(at)
    if cells is None:
        near = closest(at, _PLACES)
        remedy = f"did you mean `{near}`?" if near else "say `left`, `right`, `centre` or `A1:B3`"
        message = "no place named `{at}`; {remedy}"
        raise PydanticCustomError("unknown_place", message, {"at": at, "remedy": remedy})
    rows, columns = int(cells["rows"] or 3), int(cells["columns"] or 3)
    (column_a, row_a), (column_b, row_b) = _cell(cells["from"]), _cell(cells["to"] or cells["from"])
    left, right = min(column_a, column_b), max(column_a, column_b)
    top, bottom = min(row_a, row_b), max(row_a, row_b)
    if top < 0 or bottom >= rows or right >= columns:
        message = "place `{at}` reaches outside the grid of {rows} rows and {columns} columns"
        context = {"at": at, "rows": rows, "columns": columns}
        raise PydanticCustomError("outside_frame", message, context)
    return Box(x0=left / columns, y0=top / rows, x1=(right + 1) / columns, y1=(bottom + 1) / rows)


def _cell(name: str) -> tuple[int, int]:
    return ord(name[0]) - ord("A"), int(name[1:]) - 1
