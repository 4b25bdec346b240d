"""Who and what a story shows: concepts that are named where there are none, or never shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from storyforge.errors import Report, closest, shortened
from storyforge.story.yaml import Node

GROUPS: Final = {"characters": "character", "objects": "object", "scenes": "scene"}
"""The keys under which a story lists its concepts, and the kind each holds."""

PLACEHOLDER: Final = re.compile(r"<([\w-]+)>")
"""How a prompt names a concept."""

MOST_REGIONS: Final = 32
"""Regions of one panel; the schema refuses more."""

_MOST_MISSPELT: Final = 50
"""Names that are none; of so many it is asked which concept they meant."""

_PROMPTS: Final = ("style", "prompt", "negative", "state", "time", "weather")
"""Keys of a story, a panel or a region whose texts the model reads."""


def cast_of(root: Node, report: Report) -> dict[str, str]:
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


def regions_of(panel: Node) -> list[tuple[str, Node]]:
    """The regions of a panel by name, as written; those that the schema refuses are left out."""
    return list(panel.named("regions").items())[:MOST_REGIONS]


def no_such(what: str, name: str, known: Iterable[str]) -> str:
    """That there is none of that name, and which was probably meant."""
    guess = closest(name, known)
    remedy = f"; did you mean `{guess}`?" if guess else ""
    return f"no {what} named `{shortened(name)}`{remedy}"


def check_scene(panel: Node, cast: Mapping[str, str], report: Report) -> None:
    """Whether the panel's scene is one of the story's scenes."""
    scene = panel.get("scene")
    if scene is None or scene.text is None or cast.get(scene.text) == "scenes":
        return
    group = cast.get(scene.text)
    if group is not None:
        message = f"`{scene.text}` is listed under `{group}`, not `scenes`; name it in a region"
    else:
        message = no_such("scene", scene.text, [name for name in cast if cast[name] == "scenes"])
    report.error(scene.mark, "SF300", message)


def check_fusion(root: Node, cast: Mapping[str, str], report: Report) -> None:
    """Whether the concepts that count more or less when fused exist."""
    fuse = root.get("fuse") or root
    for key in ("weights", "strengths"):
        listed = fuse.get(key)
        for name in fuse.named(key):
            if listed is not None and name not in cast:
                report.error(listed.mark_of(name), "SF300", no_such("concept", name, cast))


def check_variants(
    root: Node, panels: Iterable[Node], cast: Mapping[str, str], report: Report
) -> None:
    """Whether outfits and views belong to somebody, and those that panels name exist."""
    known: dict[str, dict[str, list[str]]] = {"outfits": {}, "views": {}}
    for group, owner in (("outfits", "characters"), ("views", "scenes")):
        listed = root.get(group)
        for name, node in root.named(group).items():
            if listed is not None and cast.get(name) != owner:
                owners = [each for each in cast if cast[each] == owner]
                report.error(listed.mark_of(name), "SF300", no_such(owner[:-1], name, owners))
            known[group][name] = list((node.entries or {}).keys())
            if group == "outfits" and _USUAL in known[group][name]:
                message = f"`{_USUAL}` is what the concept's own pictures show; call it otherwise"
                report.error(node.mark_of(_USUAL), "SF329", message)
            for variant in (node.entries or {}).values():
                other = variant.get("concept")
                if other is not None and other.text is not None and other.text not in cast:
                    report.error(other.mark, "SF300", no_such("concept", other.text, cast))
    for panel in panels:
        _check_variant(panel.get("view"), panel.text_at("scene"), known["views"], report)
        for _, region in regions_of(panel):
            outfit = region.get("outfit")
            if outfit is not None and outfit.text != _USUAL:
                _check_variant(outfit, region.text_at("concept"), known["outfits"], report)


_USUAL: Final = "usual"


def _check_variant(
    named: Node | None, owner: str | None, known: Mapping[str, list[str]], report: Report
) -> None:
    if named is None or named.text is None or named.text in known.get(owner or "", ()):
        return
    whose = f" of `{shortened(owner)}`" if owner else ""
    message = no_such(f"outfit or view{whose}", named.text, known.get(owner or "", ()))
    report.error(named.mark, "SF329", message)


def check_shown(panel: Node, cast: Mapping[str, str], report: Report) -> None:
    """Whether every region shows a character or object that exists, and each is shown once."""
    seen: set[str] = set()
    for _, region in regions_of(panel):
        concept = region.get("concept")
        if concept is None or concept.text is None:
            continue
        name = concept.text
        if name not in cast:
            report.error(concept.mark, "SF300", no_such("concept", name, cast))
        elif cast[name] == "scenes":
            message = f"`{name}` is a scene; name it as the panel's `scene`"
            report.warning(concept.mark, "SF412", message)
        elif name in seen:
            message = f"`{name}` is in two regions of this panel, and will be drawn twice"
            report.warning(concept.mark, "SF411", message)
        seen.add(name)


def check_speakers(panel: Node, cast: Mapping[str, str], report: Report) -> None:
    """Whether everyone who speaks is in the picture, or is said to speak from elsewhere."""
    shown = {region.text_at("concept") for _, region in regions_of(panel)} - {None}
    misnamed = not shown <= cast.keys()
    for speech in panel.each("say"):
        who = speech.get("who")
        if who is None or who.text is None or who.text in shown:
            continue
        if speech.get("from") is not None or speech.get("tail") is not None:
            continue
        if who.text not in cast:
            report.error(who.mark, "SF300", no_such("concept", who.text, cast))
        elif not misnamed:
            message = f"`{who.text}` speaks but is in no region of this panel"
            remedy = "put it in a region, say `from: left`, or leave `who` out for the narrator"
            report.error(who.mark, "SF305", f"{message}; {remedy}")


def check_placeholders(
    root: Node, panels: Iterable[Node], cast: Iterable[str], report: Report
) -> None:
    """Whether the concepts that prompts name in angle brackets exist."""
    for text in _prompts(root, panels):
        for found in PLACEHOLDER.finditer(text.text or ""):
            if found[1] not in cast and not report.full:
                mark = text.mark_within(found.start())
                report.error(mark, "SF311", no_such("concept", found[1], cast))


def check_unused(root: Node, panels: Iterable[Node], report: Report) -> None:
    """Whether every concept that the story lists is shown or named by a panel."""
    panels = list(panels)
    used = {
        name for text in _prompts(root, panels) for name in PLACEHOLDER.findall(text.text or "")
    }
    for panel in panels:
        used |= {panel.text_at("scene") or ""}
        used |= {region.text_at("concept") or "" for _, region in regions_of(panel)}
    for group in ("outfits", "views"):
        for owner in root.named(group).values():
            used |= {each.text_at("concept") or "" for each in (owner.entries or {}).values()}
    known = [name for group in GROUPS for name in root.named(group)]
    meant = {closest(name, known) for name in [*used][:_MOST_MISSPELT] if name not in known}
    for group, kind in GROUPS.items():
        listed = root.get(group)
        for name in root.named(group):
            if name not in used | meant and listed is not None:
                message = f"{kind} `{shortened(name)}` is listed and never shown"
                report.warning(listed.mark_of(name), "SF401", message)


def _prompts(root: Node, panels: Iterable[Node]) -> Iterator[Node]:
    """Every text that the model reads."""
    for panel in panels:
        for node in (panel, *(region for _, region in regions_of(panel))):
            yield from (found for key in _PROMPTS if (found := node.get(key)) is not None)
    yield from (found for key in _PROMPTS if (found := root.get(key)) is not None)
    for group in ("outfits", "views"):
        for owner in root.named(group).values():
            yield from (each.get("prompt") or each for each in (owner.entries or {}).values())
