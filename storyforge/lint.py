"""What a schema cannot see: names that lead nowhere, regions that collide, words that are missing.

Works on the tree as written, so that a file with mistakes in its form is told about these as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from storyforge.errors import Mark, Report
from storyforge.layout import Layout, RegionShape, closest
from storyforge.yamlmarks import Node, shortened

GROUPS: Final = {"characters": "character", "objects": "object", "scenes": "scene"}
"""The keys under which a story lists its concepts, and the kind each holds."""

PICTURES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Endings of the files that are looked at as pictures of a concept."""

LONGEST_PROMPT: Final = 60
"""Words; text encoders of the CLIP family read 75 tokens, and a word is often more than one."""

_COARSEST: Final = {"pocket": 4}
_COARSEST_ELSEWHERE: Final = 8
"""Cells along a side of the coarsest attention map, by base: in less than one nothing can stand."""

_MOST_REGIONS: Final = 32
"""Regions of one panel; the schema refuses more."""

_ROUNDING: Final = 1e-6
"""Slack for fractions such as 0.85 - 0.6."""

_SHAPE: Final = ("box", "at", "mask", "z", "weight")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a story can refer to: its folder, and the layouts by name, None for unreadable ones."""

    folder: Path
    layouts: Mapping[str, Layout | None]
    layout_names: tuple[str, ...]


def located(node: Node, folder: Path, what: str, report: Report) -> Path | None:
    """The path written at `node`, seen from `folder`; None for an address on the network."""
    written = node.text or ""
    if "://" in written:
        message = f"`{shortened(written)}` is not on this machine; download it and name the {what}"
        report.error(node.mark, "SF307", message)
        return None
    if os.path.isabs(written):
        message = f"`{shortened(written)}` leads out of the project; the story runs only here"
        report.warning(node.mark, "SF407", message)
    return Path(os.path.normpath(folder / written))


def check_pictures(folder: Path, mark: Mark, report: Report) -> None:
    """Report a folder that is missing or holds no picture."""
    try:
        with os.scandir(folder) as files:
            found = any(file.name.lower().endswith(PICTURES) for file in files)
    except (OSError, ValueError):
        report.error(mark, "SF303", f"no picture folder at `{folder}`")
        return
    if not found:
        message = f"no pictures in `{folder}`; put some {', '.join(PICTURES[:3])} files there"
        report.error(mark, "SF303", message)


def check_story(root: Node, around: Surroundings, report: Report) -> None:
    """Report what the parts of a story get wrong about each other."""
    cast = _cast(root, report)
    panels = [panel for page in root.each("pages") for panel in page.each("panels")]
    coarsest = _COARSEST.get(root.text_at("base") or "pocket", _COARSEST_ELSEWHERE)
    for panel in panels:
        if report.full:
            break
        _check_scene(panel, cast, report)
        _check_regions(panel, cast, around, report)
        _check_room(panel, around, coarsest, report)
        _check_speakers(panel, cast, report)
        _check_alt(panel, report)
    _check_ids(root, panels, report)
    _check_unused(root, panels, report)
    for node in (root, *panels, *(region for panel in panels for _, region in _regions(panel))):
        _check_length(node, report)
    _check_languages(root, panels, report)


def _regions(panel: Node) -> list[tuple[str, Node]]:
    return list(panel.named("regions").items())


def _cast(root: Node, report: Report) -> dict[str, str]:
    """The group of every concept's name; a name stands in one group only."""
    cast: dict[str, str] = {}
    for group in GROUPS:
        listed = root.get(group)
        for name in root.named(group):
            if name in cast and listed is not None:
                message = f"`{shortened(name)}` is listed under `{cast[name]}` as well; rename one"
                report.error(listed.mark_of(name), "SF308", message)
            cast.setdefault(name, group)
    return cast


def _no_such(what: str, name: str, known: Iterable[str]) -> str:
    guess = closest(name, known)
    remedy = f"; did you mean `{guess}`?" if guess else ""
    return f"no {what} named `{shortened(name)}`{remedy}"


def _check_scene(panel: Node, cast: Mapping[str, str], report: Report) -> None:
    scene = panel.get("scene")
    if scene is None or scene.text is None or cast.get(scene.text) == "scenes":
        return
    group = cast.get(scene.text)
    if group is not None:
        message = f"`{scene.text}` is listed under `{group}`, not `scenes`; name it in a region"
    else:
        message = _no_such("scene", scene.text, [name for name in cast if cast[name] == "scenes"])
    report.error(scene.mark, "SF300", message)


def _check_regions(
    panel: Node, cast: Mapping[str, str], around: Surroundings, report: Report
) -> None:
    """Whether every region has a place and shows a concept that exists."""
    layout = panel.get("layout")
    name = None if layout is None else layout.text
    if layout is not None and name is not None and name not in around.layouts:
        report.error(layout.mark, "SF301", _no_such("layout", name, around.layout_names))
    known = around.layouts.get(name) if name is not None else None
    blind = name is not None and known is None
    for region, node in _regions(panel)[:_MOST_REGIONS]:
        _check_concept(node, cast, report)
        _check_mask(node, around.folder, report)
        if blind or any(node.get(key) is not None for key in ("box", "at", "mask")):
            continue
        mark = _regions_mark(panel, region)
        if known is not None and region not in known.regions:
            message = _no_such(f"region in layout `{name}`", region, known.regions)
            report.error(mark, "SF302", message)
        elif known is None:
            message = f"region `{shortened(region)}` has no place; give the panel a `layout`, or"
            report.error(mark, "SF302", f"{message} the region `at`, `box` or `mask`")
    if known is not None and layout is not None:
        for region in known.regions:
            if region not in panel.named("regions"):
                message = f"nothing is shown in region `{region}` of layout `{name}`"
                report.warning(layout.mark, "SF405", message)


def _regions_mark(panel: Node, region: str) -> Mark:
    regions = panel.get("regions")
    return panel.mark if regions is None else regions.mark_of(region)


def _check_concept(region: Node, cast: Mapping[str, str], report: Report) -> None:
    concept = region.get("concept")
    if concept is not None and concept.text is not None and concept.text not in cast:
        report.error(concept.mark, "SF300", _no_such("concept", concept.text, cast))


def _check_mask(region: Node, folder: Path, report: Report) -> None:
    mask = region.get("mask")
    if mask is None or mask.text is None:
        return
    path = located(mask, folder, "file", report)
    if path is not None and not os.path.isfile(path):
        report.error(mask.mark, "SF303", f"no mask at `{path}`")


def _check_room(panel: Node, around: Surroundings, coarsest: int, report: Report) -> None:
    """Whether every region is large enough to be drawn, and none hides another."""
    layout = around.layouts.get(panel.text_at("layout") or "")
    shapes: dict[str, RegionShape] = {}
    for name, node in _regions(panel)[:_MOST_REGIONS]:
        shape = _shape(node, None if layout is None else layout.regions.get(name))
        if shape is not None:
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
        if above.mask is None and above.z >= below.z and above.bounds().contains(below.bounds()):
            if above.z == below.z and front > back and below.bounds() == above.bounds():
                continue
            message = f"region `{shortened(back)}` lies wholly within `{shortened(front)}`"
            report.warning(
                _regions_mark(panel, back), "SF403", f"{message}; give it a larger `z`, or move it"
            )


def _shape(region: Node, base: RegionShape | None) -> RegionShape | None:
    """The region's shape; None if it has no place, or if the schema complains about it anyway."""
    written = {key: node.plain() for key, node in (region.entries or {}).items() if key in _SHAPE}
    try:
        shape = RegionShape.model_validate(written).over(base)
    except ValidationError:
        return None
    return shape if shape.placed() else None


def _check_speakers(panel: Node, cast: Mapping[str, str], report: Report) -> None:
    shown = {region.text_at("concept") for _, region in _regions(panel)} - {None}
    misnamed = not shown <= cast.keys()
    for speech in panel.each("say"):
        who = speech.get("who")
        if who is None or who.text is None or who.text in shown:
            continue
        if who.text not in cast:
            report.error(who.mark, "SF300", _no_such("concept", who.text, cast))
        elif not misnamed:
            message = f"`{who.text}` speaks but is in no region of this panel"
            remedy = "put it in a region, or leave `who` out for the narrator"
            report.error(who.mark, "SF305", f"{message}; {remedy}")


def _check_alt(panel: Node, report: Report) -> None:
    alt = panel.get("alt")
    if (alt is None or alt.empty or alt.text == "") and not _is_on(panel.text_at("decorative")):
        name = panel.text_at("id")
        about = f"panel `{shortened(name)}`" if name else "this panel"
        message = f"{about} has no `alt`; say in words what it shows, or mark it `decorative: true`"
        report.warning(panel.mark, "SF400", message)


def _is_on(text: str | None) -> bool:
    return (text or "").lower() in {"true", "yes", "on", "1", "t", "y"}


def _check_ids(root: Node, panels: Iterable[Node], report: Report) -> None:
    """Whether every panel's id is its own, and the cover shows one of them."""
    lines: dict[str, int] = {}
    for panel in panels:
        node = panel.get("id")
        if node is None or node.text is None:
            continue
        if node.text in lines:
            first = f"the first is on line {lines[node.text]}"
            message = f"two panels have the id `{shortened(node.text)}`; {first}"
            report.error(node.mark, "SF306", message)
        lines.setdefault(node.text, node.mark.line)
    cover = (root.get("book") or root).get("cover")
    shown = None if cover is None else cover.get("panel")
    if shown is not None and shown.text is not None and shown.text not in lines:
        report.error(shown.mark, "SF310", _no_such("panel", shown.text, lines))


def _check_unused(root: Node, panels: Iterable[Node], report: Report) -> None:
    used = {
        name
        for panel in panels
        for name in (
            panel.text_at("scene"),
            *(region.text_at("concept") for _, region in _regions(panel)),
        )
    }
    for group, kind in GROUPS.items():
        listed = root.get(group)
        for name in root.named(group):
            if name not in used and listed is not None:
                message = f"{kind} `{shortened(name)}` is listed and never shown"
                report.warning(listed.mark_of(name), "SF401", message)


def _check_length(node: Node, report: Report) -> None:
    for key in ("prompt", "style", "negative"):
        words = len((node.text_at(key) or "").split())
        if words > LONGEST_PROMPT:
            message = (
                f"`{key}` has {words} words; after about {LONGEST_PROMPT} the model stops reading"
            )
            report.warning(node.mark_of(key), "SF404", message)


def _check_languages(root: Node, panels: Iterable[Node], report: Report) -> None:
    """Whether every text that is a map of languages has the story's own."""
    language = root.text_at("language") or "en"
    for text in _texts(root, panels):
        if text is not None and text.entries and language not in text.entries:
            message = f"this text has no `{language}`, the story's language"
            report.warning(text.mark, "SF406", message)


def _texts(root: Node, panels: Iterable[Node]) -> Iterator[Node | None]:
    yield from (root.get("title"), root.get("author"))
    book = root.get("book")
    if book is not None:
        cover = book.get("cover")
        yield from (book.get("dedication"), None if cover is None else cover.get("subtitle"))
    yield from (page.get("text") for page in root.each("pages"))
    for panel in panels:
        yield panel.get("alt")
        yield from (speech.get("text") for speech in panel.each("say"))
