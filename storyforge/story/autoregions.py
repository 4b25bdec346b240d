"""`regions: auto` written out: a region for everybody whom the panel's prompt names.

Where they stand is found while the picture begins, which is `sample.finding`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from storyforge.errors import Report
from storyforge.story.layout import AUTO
from storyforge.story.lint.cast import MOST_REGIONS, PLACEHOLDER
from storyforge.story.yaml import Node


def with_auto_regions(root: Node, report: Report) -> Node:
    """The story's tree with regions in the place of every `auto`; the tree given stays as it is."""
    known = {*root.named("characters"), *root.named("objects")}

    def in_page(page: Node) -> Node:
        """A page with regions in its panels."""
        return _each(page, "panels", lambda panel: _panel(panel, known, report))

    return _each(root, "pages", in_page)


def _each(node: Node, key: str, change: Callable[[Node], Node]) -> Node:
    """With every item of a list changed; the node itself where that changes none."""
    listed = node.get(key)
    if listed is None or listed.items is None:
        return node
    items = [change(item) for item in listed.items]
    if all(new is old for new, old in zip(items, listed.items, strict=True)):
        return node
    return _with(node, key, replace(listed, items=items))


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
