"""Where things stand in a picture and on a page: pure geometry, fractions in, cells out.

A box is written in fractions of the picture, from the top left corner; only `Box.cells` knows about
a grid. Reading layout files, with the positions of their mistakes, is `story`'s work.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

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
        if (
            min(self.x0, self.y0, self.x1, self.y1) < 0
            or max(self.x0, self.y0, self.x1, self.y1) > 1
        ):
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

_GRID_PLACE: Final = re.compile(
    r"(?P<from>[A-Z][0-9]{1,2})(:(?P<to>[A-Z][0-9]{1,2}))?"
    r"(/(?P<rows>[0-9]{1,2})x(?P<columns>[0-9]{1,2}))?"
)


_PLACES_FOR_EDITORS: Final[JsonDict] = {
    "examples": [*PLACES, "A1:B3"],
    "pattern": f"^({'|'.join(PLACES)}|{re.sub(r'[?]P<[a-z]+>', '', _GRID_PLACE.pattern)})$",
}


def place(at: str) -> Box:
    """The box of a named place (`left`, `top-right`, `middle-third`, …) or of grid cells.

    Grid cells are written as in a spreadsheet, columns by letter and rows by number: `B2`, `A1:B3`.
    The grid has 3 rows and 3 columns unless another is named, rows first: `A1:D2/2x4`.
    Raises ValueError, with the remedy in its message, for anything else.
    """
    if at in _PLACES:
        x0, y0, x1, y1 = _PLACES[at]
        return Box(x0=x0, y0=y0, x1=x1, y1=y1)
    cells = _GRID_PLACE.fullmatch(at)
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


_MOST_COMPARED: Final = 300
"""Known words; comparing with more would be felt in a file full of mistakes."""


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be, or None."""
    folded = {each.casefold(): each for each in islice(known, _MOST_COMPARED)}
    near = difflib.get_close_matches(word.casefold()[:80], folded, n=1, cutoff=0.65)
    return folded[near[0]] if near else None


Pose = Literal["standing", "waving", "sitting", "jumping", "running", "holding"]
Facing = Literal["left", "right"]


class RegionShape(BaseModel):
    """One region: its place, how it stands against its neighbours, and who stands in it how."""

    model_config = _STRICT

    box: Box | None = None
    """left, top, right, bottom in fractions of the picture"""
    at: str | None = Field(default=None, json_schema_extra=_PLACES_FOR_EDITORS)
    """a named place, or cells of a 3x3 grid such as `A1:B3`"""
    mask: str | None = None
    """a black and white picture, white where the region is; its path is relative to the story's"""
    polygon: Corners | None = Field(default=None, min_length=3, max_length=64)
    """the corners `[x, y]` of the region, in fractions of the picture"""
    soft: float = Field(default=0.0, ge=0, le=0.5)
    """how wide the region's edge fades, as a fraction of the picture's shorter side"""
    z: int = 0
    """which region is in front where two overlap: the larger number"""
    weight: float = Field(default=1.0, gt=0, le=10)
    """how strongly the region's prompt speaks"""
    pose: Pose | None = None
    """what the body does; its word goes into the region's prompt"""
    facing: Facing | None = None
    """to which side of the picture the pose turns"""

    @field_validator("at")
    @classmethod
    def _a_place(cls, at: str | None) -> str | None:
        if at is not None:
            place(at)
        return at

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        said = [key for key in ("box", "at", "polygon") if getattr(self, key) is not None]
        if len(said) > 1:
            message = "`{one}` and `{other}` both say where the region is; keep one"
            raise PydanticCustomError("two_places", message, {"one": said[0], "other": said[1]})
        if self.polygon is not None and not self._outline():
            message = "this polygon is a line; give it three corners that are not in a row"
            raise PydanticCustomError("flat_polygon", message)
        return self

    def _outline(self) -> tuple[float, float, float, float] | None:
        """The sides x0, y0, x1, y1 of the box round the polygon; None if nothing is in it."""
        corners = self.polygon or ((0.0, 0.0),)
        (ax, ay), (xs, ys) = corners[0], zip(*corners, strict=True)
        turns = [
            (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
            for bx, by in corners
            for cx, cy in corners
        ]
        return (min(xs), min(ys), max(xs), max(ys)) if any(turns) else None

    def placed(self) -> bool:
        """Whether the region says where it is."""
        places = (self.box, self.at, self.mask, self.polygon)
        return any(place is not None for place in places)

    def over(self, base: RegionShape | None) -> RegionShape:
        """This shape, with what it leaves out taken from `base`."""
        if base is None:
            return self
        place_of = self if self.placed() else base
        return RegionShape(
            box=place_of.box,
            at=place_of.at,
            mask=place_of.mask,
            polygon=place_of.polygon,
            soft=self.soft if "soft" in self.model_fields_set else base.soft,
            z=self.z if "z" in self.model_fields_set else base.z,
            weight=self.weight if "weight" in self.model_fields_set else base.weight,
            pose=self.pose or base.pose,
            facing=self.facing or base.facing,
        )

    def bounds(self) -> Box:
        """The box the region lies in; a mask alone may lie anywhere in the frame."""
        if self.box is not None:
            return self.box
        if outline := self._outline():
            x0, y0, x1, y1 = outline
            return Box(x0=x0, y0=y0, x1=x1, y1=y1)
        return FRAME if self.at is None else place(self.at)


def _with_a_place(shape: RegionShape) -> RegionShape:
    if not shape.placed():
        message = "this region has no place; give it `at`, `box` or `mask`"
        raise PydanticCustomError("no_place", message)
    return shape


class Layout(BaseModel):
    """Named regions that panels can share, as a file `layouts/NAME.yaml` lists them.

    `name` is the file's, filled in by the reader.
    """

    model_config = _STRICT

    name: str
    description: str
    """what the layout is good for, in one sentence"""
    regions: dict[str, Annotated[RegionShape, AfterValidator(_with_a_place)]] = Field(
        default_factory=dict, max_length=32
    )
    """the regions by name, in reading order"""
    aspect: float = Field(default=1.0, ge=0.25, le=4)
    """width over height of the pictures that the layout is meant for"""


def shipped(kind: Literal["layouts", "stories", "concepts"]) -> Path:
    """The folder of examples that comes with storyforge, installed or run from its repository."""
    package = Path(__file__).parent
    installed = package / "data" / kind
    return installed if installed.is_dir() else package.parent / kind


def find(name: str, folders: Iterable[Path] = ()) -> Path | None:
    """The file of the layout `name`: from the first of `folders` that has it, else the shipped one.

    None if there is no such layout, or if `name` is not a plain name.
    """
    if not re.fullmatch(r"[\w][\w.-]*", name):
        return None
    candidates = (folder / f"{name}.yaml" for folder in (*folders, shipped("layouts")))
    return next((path for path in candidates if os.path.isfile(path)), None)


def names(folders: Iterable[Path] = ()) -> tuple[str, ...]:
    """The names of all layouts in `folders` and of the shipped ones, in alphabetical order."""
    return tuple(
        sorted(
            {
                path.stem
                for folder in (*folders, shipped("layouts"))
                for path in folder.glob("*.yaml")
            }
        )
    )


def page_grid(
    rows: int,
    columns: int,
    gutter: float = 0.02,
    margin: float = 0.0,
    aspect: float = 1.0,
) -> list[Box]:
    """The boxes of a page cut into equal panels, in reading order.

    gutter  between panels, as a fraction of the page's width
    margin  round the page, as a fraction of the page's width
    aspect  the page's width over its height, so that gutters are as wide as they are high

    Raises ValueError if nothing is left for the panels.
    """
    if rows < 1 or columns < 1:
        raise ValueError("a page grid needs at least one row and one column")
    across = _tracks(columns, gutter, margin)
    down = _tracks(rows, gutter * aspect, margin * aspect)
    return [Box(x0=x0, y0=y0, x1=x1, y1=y1) for y0, y1 in down for x0, x1 in across]


def _tracks(count: int, gutter: float, margin: float) -> list[tuple[float, float]]:
    size = (1 - 2 * margin - (count - 1) * gutter) / count
    if size <= 0 or gutter < 0 or margin < 0:
        raise ValueError("gutters and margins leave no room for panels")
    starts = [margin + index * (size + gutter) for index in range(count)]
    return [(start, min(start + size, 1.0)) for start in starts]
