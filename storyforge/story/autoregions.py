"""`regions: auto` written out: a region for everybody whom the panel's prompt names.

Where they stand is found while the picture begins, which is `sample.finding`'s.
"""

from __future__ import annotations

from dataclasses import replace

from storyforge.errors import Report
from storyforge.story.layout import AUTO
from storyforge.story.lint.cast import MOST_REGIONS, PLACEHOLDER
from storyforge.story.yaml import Node


def with_auto_regions(root: Node, report: Report) -> Node:
    """The story's tree with regions in the place of every `auto`; the tree given stays as it is."""
    pages = root.get("pages")
    if pages is None or pages.items is None:
        return root
    known = {*root.named("characters"), *root.named("objects")}
    items = [_page(page, known, report) for page in pages.items]
    if all(new is old for new, old in zip(items, pages.items, strict=True)):
        return root
    return _with(root, "pages", replace(pages, items=items))


def _page(page: Node, known: set[str], report: Report) -> Node:
    panels = page.get("panels")
    if panels is None or panels.items is None:
        return page
    items = [_panel(panel, known, report) for panel in panels.items]
    if all(new is old for new, old in zip(items, panels.items, strict=True)):
        return page
    return _with(page, "panels", replace(panels, items=items))


def _panel(panel: Node, known: set[str], report: Report) -> Node:
    regions = panel.get("regions")
    if regions is None or regions.text != AUTO:
        return panel
    named = PLACEHOLDER.findall(panel.text_at("prompt") or "")
    names = [name for name in dict.fromkeys(named) if name in known][:MOST_REGIONS]
    if not names and panel.get("picture") is None:
        message = "`regions: auto` finds whom the prompt names, and it names nobody"
        report.error(regions.mark, "SF338", f"{message}; write such as `<{_some(known)}>` in it")
    entries = {name: _region(name, regions) for name in names}
    made = replace(regions, text=None, entries=entries, keys=dict.fromkeys(names, regions.mark))
    return _with(panel, "regions", made)


def _region(name: str, word: Node) -> Node:
    """A region of this concept, all of which stands where the word does."""
    said = {"concept": replace(word, text=name, lead=None), "at": replace(word, lead=None)}
    return replace(word, text=None, entries=said, keys=dict.fromkeys(said, word.mark), lead=None)


def _some(known: set[str]) -> str:
    return min(known, default="pip")


def _with(node: Node, key: str, value: Node) -> Node:
    return replace(node, entries={**(node.entries or {}), key: value})
