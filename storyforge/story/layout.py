"""Regions with their places, as a panel or a layout file writes them, and where layouts lie.

Reading layout files, with the positions of their mistakes, is `story.story`'s work.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from storyforge.geometry.box import FRAME, GRID_PLACE, PLACES, Box, Corners, place
from storyforge.geometry.pose import Facing, Pose

_STRICT: Final = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


AUTO: Final = "auto"
"""The place of a region that is found while its picture begins."""

_PLACES_FOR_EDITORS: Final[JsonDict] = {
    "examples": [*PLACES, "A1:B3", AUTO],
    "pattern": f"^({'|'.join(PLACES)}|{AUTO}|{re.sub(r'[?]P<[a-z]+>', '', GRID_PLACE.pattern)})$",
}


class RegionShape(BaseModel):
    """One region: its place, how it stands against its neighbours, and who stands in it how."""

    model_config = _STRICT

    box: Box | None = None
    """left, top, right, bottom in fractions of the picture"""
    at: str | None = Field(default=None, json_schema_extra=_PLACES_FOR_EDITORS)
    """a named place, or cells of a 3x3 grid such as `A1:B3`; `auto` finds the place while the
    picture begins"""
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
        if at not in {None, AUTO}:
            place(str(at))
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

    @property
    def auto(self) -> bool:
        """Whether its place is found while the picture begins."""
        return self.at == AUTO

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
        """The box the region lies in; a mask, or what is to be found, may lie anywhere."""
        if self.box is not None:
            return self.box
        if outline := self._outline():
            x0, y0, x1, y1 = outline
            return Box(x0=x0, y0=y0, x1=x1, y1=y1)
        return FRAME if self.at is None or self.auto else place(self.at)


def _with_a_place(shape: RegionShape) -> RegionShape:
    if not shape.placed() or shape.auto:
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
    package = Path(__file__).parents[1]
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
