"""What a schema cannot see: names that lead nowhere, regions that collide, words that are missing.

Works on the tree as written, so that a file with mistakes in its form is told about these as well.
What each code means and how it is mended is `story.codes`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from storyforge.errors import Report
from storyforge.modelref import is_embedded, picture_size
from storyforge.pictures import PICTURES, beside
from storyforge.story.lint.cast import (
    GROUPS,
    PLACEHOLDER,
    cast_of,
    check_fusion,
    check_placeholders,
    check_scene,
    check_shown,
    check_speakers,
    check_unused,
    check_variants,
    no_such,
    regions_of,
)
from storyforge.story.lint.continuity import check_continuity
from storyforge.story.lint.control import check_control, check_loras
from storyforge.story.lint.models import check_models
from storyforge.story.lint.pages import (
    check_alt,
    check_base,
    check_book,
    check_decode,
    check_ids,
    check_length,
    check_page,
    check_panel,
    check_sides,
    check_size,
    check_syntax,
    check_typed,
    check_uncut,
    first_page,
)
from storyforge.story.lint.paths import (
    check_narration,
    check_own_picture,
    check_pictures,
    located,
    shape_of_own,
)
from storyforge.story.lint.regions import (
    Surroundings,
    check_fold,
    check_mask_shapes,
    check_regions,
    check_room,
)
from storyforge.story.trims import TRIMS, USUAL_TRIM, length_in
from storyforge.story.yaml import Node

__all__ = [
    "CONSEQUENCES",
    "GROUPS",
    "PICTURES",
    "PLACEHOLDER",
    "Surroundings",
    "check_pictures",
    "check_story",
    "located",
    "no_such",
]

CONSEQUENCES: Final = ("SF401", "SF405", "SF406", "SF408", "SF413", "SF414", "SF422")
"""Warnings of something missing: beside a misspelt key they say the same mistake again."""


def _page_shape(trim: Node | None) -> float | None:
    """Width over height of the cut page; None for a size that is not known."""
    if trim is not None and trim.entries is not None:
        width, height = (length_in(trim.text_at(side) or "") for side in ("width", "height"))
        return width / height if width and height else None
    named = TRIMS.get(USUAL_TRIM if trim is None else trim.text or "")
    return named.width / named.height if named else None


def check_story(root: Node, around: Surroundings, report: Report) -> None:
    """Report what the parts of a story get wrong about each other."""
    cast = cast_of(root, report)
    pages = list(root.each("pages"))
    panels = [panel for page in pages for panel in page.each("panels")]
    size = picture_size(_base(root, around.folder))
    cell = check_decode(root, size, report)
    shape = _page_shape((root.get("book") or root).get("trim"))
    for page in pages:
        check_page(page, report)
        check_narration(page, around.folder, report)
        if page.text_at("kind") == "spread" and shape is not None:
            for panel in page.each("panels"):
                check_fold(panel, cast, 2 * shape, around, report)
    check_sides(pages, first_page(root), report)
    check_uncut(root, pages, report)
    for panel in panels:
        if report.full:
            break
        check_scene(panel, cast, report)
        check_shown(panel, cast, report)
        check_regions(panel, around, report)
        asked = _aspect(panel) or _aspect(root) or 1.0
        check_mask_shapes(panel, shape_of_own(panel, around.folder) or asked, around.folder, report)
        check_own_picture(panel, around.folder, report)
        if panel.get("picture") is None:
            check_room(panel, around, size.coarsest, report)
            check_control(panel, around.folder, report)
        check_speakers(panel, cast, report)
        check_panel(panel, cell, report)
    check_alt(panels, report)
    check_ids(root, panels, report)
    check_placeholders(root, panels, cast, report)
    check_unused(root, panels, report)
    check_variants(root, panels, cast, report)
    check_continuity(root, pages, report)
    check_fusion(root, cast, report)
    check_size(root, cell, report)
    check_book(root, around.folder, report)
    check_typed(root, pages, report)
    check_base(root, around.folder, report)
    check_loras(root, around.folder, report)
    check_models(root, around.folder, report)
    for node in (root, *panels, *(region for panel in panels for _, region in regions_of(panel))):
        check_length(node, report)
        check_syntax(node, report)


def _aspect(node: Node) -> float | None:
    """Width over height of the pictures' `size`; None if it says none."""
    sides = [side.text or "" for side in node.each("size")]
    if len(sides) != 2 or not all(side.isdecimal() and int(side[:9]) > 0 for side in sides):
        return None
    return int(sides[0][:9]) / int(sides[1][:9])


def _base(root: Node, folder: Path) -> str:
    """How to find the story's base from here."""
    base = root.text_at("base") or (root.get("base") or root).text_at("model") or "pocket"
    return base if is_embedded(base) else str(beside(folder, base))
