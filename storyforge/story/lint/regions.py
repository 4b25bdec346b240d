"""Where regions stand: a place for each, large enough to be drawn, and none behind another."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Final

from PIL import Image, ImageChops, ImageDraw
from pydantic import ValidationError

from storyforge.errors import Mark, Report, StoryForgeError, shortened
from storyforge.pictures import beside, open_picture, picture_size
from storyforge.story.layout import AUTO, Layout, RegionShape
from storyforge.story.lint.cast import no_such, regions_of
from storyforge.story.lint.paths import check_picture, located
from storyforge.story.wording import bare, standing, starts
from storyforge.story.yaml import Node

_ROUNDING: Final = 1e-6
"""Slack for fractions such as 0.85 - 0.6."""

_SHAPE: Final = ("box", "at", "mask", "polygon", "soft", "z", "weight", "pose", "facing")

_STRETCHED: Final = 0.05
"""By how much, as a logarithm, a mask's shape may differ from the picture's."""

_CROPPED: Final = 0.82
"""The smallest share of a picture's width that a spread shows."""

_CORE: Final = 0.1
"""The share of a figure's width, on either side, that may reach into the fold."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a story can refer to: its folder, and the layouts by name, None for unreadable ones."""

    folder: Path
    layouts: Mapping[str, Layout | None]
    layout_names: tuple[str, ...]


def _check_found(panel: Node, report: Report) -> None:
    """Whether everybody whose place is to be found can be: nobody is told from another who is
    called the same, and a picture that is begun with is no place to look in."""
    refine, called = panel.get("refine"), dict[str, str]()
    for name, node in regions_of(panel):
        at = node.get("at")
        if at is None or at.text != AUTO:
            continue
        if refine is not None and refine.get("picture") is not None:
            message = (
                "places are found in what begins as noise, and `refine.picture` begins otherwise"
            )
            report.error(at.mark, "SF338", f"{message}; give the regions places")
            return
        concept = node.text_at("concept")
        words = f"<{concept}>" if concept else bare(node.text_at("prompt") or "").lower()
        if words in called:
            both = f"`{shortened(called[words])}` and `{shortened(name)}`"
            message = f"{both} are looked for by the same words, which tell neither from the other"
            report.error(at.mark, "SF338", f"{message}; give one of them a place")
        called.setdefault(words, name)
    _check_within(panel, called, report)


def _check_within(panel: Node, called: Mapping[str, str], report: Report) -> None:
    """Whether nobody's words stand in the prompt only as a part of another's."""
    text = bare(panel.text_at("prompt") or "")
    for words, name in called.items():
        others = [other for other in called if other != words]
        if not starts(text, words) or standing(text, words, others):
            continue
        holder = next((called[each] for each in others if starts(each, words)), name)
        message = f"`{shortened(name)}` is looked for by words that only `{shortened(holder)}` has"
        for region, node in regions_of(panel):
            if region == name:
                hint = "name it in the prompt, or give one of them a place"
                report.error(node.mark_of("at"), "SF338", f"{message}; {hint}")


def check_regions(panel: Node, around: Surroundings, report: Report) -> None:
    """Whether every region has a place."""
    _check_found(panel, report)
    layout = panel.get("layout")
    name = None if layout is None else layout.text
    if layout is not None and name is not None and name not in around.layouts:
        report.error(layout.mark, "SF301", no_such("layout", name, around.layout_names))
    known = around.layouts.get(name) if name is not None else None
    blind = name is not None and known is None
    misnamed = False
    for region, node in regions_of(panel):
        _check_mask(panel, region, known.regions.get(region) if known else None, around, report)
        if blind or any(node.get(key) is not None for key in ("box", "at", "mask", "polygon")):
            continue
        mark = _regions_mark(panel, region)
        if known is not None and region not in known.regions:
            message = no_such(f"region in layout `{name}`", region, known.regions)
            report.error(mark, "SF302", message)
            misnamed = True
        elif known is None:
            message = f"region `{shortened(region)}` has no place; give the panel a `layout`, or"
            report.error(mark, "SF302", f"{message} the region `at`, `box` or `mask`")
    if known is not None and layout is not None and not misnamed:
        for region in known.regions:
            if region not in panel.named("regions"):
                message = f"nothing is shown in region `{region}` of layout `{name}`"
                report.warning(layout.mark, "SF405", message)


def _regions_mark(panel: Node, region: str) -> Mark:
    regions = panel.get("regions")
    return panel.mark if regions is None else regions.mark_of(region)


def _check_mask(
    panel: Node, name: str, base: RegionShape | None, around: Surroundings, report: Report
) -> None:
    """Whether a region's mask, or its layout's, is a picture that leaves something of it."""
    region = panel.named("regions")[name]
    written, shape = region.get("mask"), _shape(region, base)
    said = written.text if written is not None else shape and shape.mask
    if not said:
        return
    mark = _regions_mark(panel, name) if written is None else written.mark
    folder = around.folder
    path = beside(folder, said) if written is None else located(written, folder, "file", report)
    if path is None:
        return
    check_picture(mark, path, "mask", report)
    white = _white(path)
    if white is None:
        return
    if not white.getbbox():
        message = f"the mask `{shortened(said)}` is black all over: the region is empty"
        report.error(mark, "SF202", f"{message}; paint it white where the region is")
    elif shape is not None and not _shown(white, shape):
        message = f"the mask `{shortened(said)}` is black where its region's box or polygon is"
        report.error(mark, "SF202", f"{message}; leave those out, or paint it white there")


def check_mask_shapes(panel: Node, aspect: float, folder: Path, report: Report) -> None:
    """Whether masks are of the picture's shape, width over height; others are stretched."""
    for _, region in regions_of(panel):
        mask = region.get("mask")
        if mask is None or not mask.text:
            continue
        path = beside(folder, mask.text)
        if not os.path.isfile(path):
            continue
        try:
            width, height = picture_size(path)
        except StoryForgeError:
            continue  # which is told elsewhere
        if abs(math.log(width / height / aspect)) > _STRETCHED:
            message = f"the mask `{shortened(mask.text or '')}` is {width} x {height} and the"
            shape = f"picture {aspect:.2f} times as wide as high: it will be stretched"
            report.warning(mask.mark, "SF438", f"{message} {shape}; draw it in the picture's shape")


def _white(path: Path) -> Image.Image | None:
    """Where a mask shows something; None for one that cannot be read, which is told by itself."""
    try:
        return open_picture(path).convert("L")
    except StoryForgeError:
        return None


def _shown(white: Image.Image, shape: RegionShape) -> bool:
    """Whether the mask leaves anything of the region's other shapes."""
    box, corners = shape.bounds(), shape.polygon
    inside = Image.new("L", white.size)
    draw = ImageDraw.Draw(inside)
    if corners is None:
        corners = ((box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1))
    draw.polygon([(x * white.width, y * white.height) for x, y in corners], fill=255)
    return ImageChops.multiply(white, inside).getbbox() is not None


def check_room(panel: Node, around: Surroundings, coarsest: int, report: Report) -> None:
    """Whether every region is large enough to be drawn, and none hides another."""
    layout = around.layouts.get(panel.text_at("layout") or "")
    shapes: dict[str, RegionShape] = {}
    for name, node in regions_of(panel):
        shape = _shape(node, None if layout is None else layout.regions.get(name))
        if shape is not None and not shape.auto:
            shapes[name] = shape
    for name, shape in shapes.items():
        box = shape.bounds()
        if min(box.width, box.height) * coarsest < 1 - _ROUNDING:
            message = (
                f"region `{shortened(name)}` is {box.width:.2f} x {box.height:.2f} of the picture;"
                f" this base cannot draw less than {1 / coarsest:g}"
            )
            report.warning(_regions_mark(panel, name), "SF402", message)
    for (front, above), (back, below) in permutations(shapes.items(), 2):
        shaped = above.mask is not None or above.polygon is not None
        if not shaped and above.z >= below.z and above.bounds().contains(below.bounds()):
            if above.z == below.z and front > back and below.bounds() == above.bounds():
                continue
            message = f"region `{shortened(back)}` lies wholly within `{shortened(front)}`"
            report.warning(
                _regions_mark(panel, back), "SF403", f"{message}; give it a larger `z`, or move it"
            )


def check_fold(
    panel: Node, cast: Mapping[str, str], shape: float, around: Surroundings, report: Report
) -> None:
    """Whether somebody lies in the fold of a spread wherever its picture is cropped.

    shape  width over height of the two open pages; a wider picture leaves room to move it
    """
    written = [side.text or "" for side in panel.each("size")]
    sides = [int(side[:9]) for side in written if side.isdecimal()]
    aspect = sides[0] / sides[1] if len(sides) == 2 and sides[1] else shape
    shown = min(1.0, shape / aspect) * _CROPPED if aspect else _CROPPED
    layout = around.layouts.get(panel.text_at("layout") or "")
    for name, node in regions_of(panel):
        placed = _shape(node, None if layout is None else layout.regions.get(name))
        known = cast.get(node.text_at("concept") or "")
        if placed is None or placed.auto or known != "characters":
            continue
        box = placed.bounds()
        left, right = box.x0 + _CORE * box.width, box.x1 - _CORE * box.width
        if left < shown / 2 and right > 1 - shown / 2:
            message = f"region `{shortened(name)}` lies in the fold of the spread"
            remedy = "put it on one side of the middle, or choose another `kind` of page"
            report.error(_regions_mark(panel, name), "SF322", f"{message}; {remedy}")


def _shape(region: Node, base: RegionShape | None) -> RegionShape | None:
    """The region's shape; None if it has no place, or if the schema complains about it anyway."""
    written = {key: node.plain() for key, node in (region.entries or {}).items() if key in _SHAPE}
    try:
        shape = RegionShape.model_validate(written).over(base)
    except ValidationError:
        return None
    return shape if shape.placed() else None
