"""What a story asks of a base that is a transformer, and such a base does not do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from storyforge.errors import Report
from storyforge.headers.joint import not_there
from storyforge.story.yaml import Node

_SAID: Final = (
    # where it stands, the key, what is written there (None for anything), what it is called
    ("", "compose", "training-free", "compose: training-free"),
    ("sampling", "regions", "exact", "regions: exact"),
    ("sampling", "enhancement", "true", "enhancement"),
    ("sampling", "isolation", "true", "isolation"),
    ("sampling", "reinitialisation", "true", "reinitialisation"),
    ("sampling", "scheduler", None, "scheduler"),
    ("fuse", "area", "subject", "area: subject"),
    ("fuse", "solver", "custom-diffusion", "solver: custom-diffusion"),
)


def check_joint(root: Node, family: str, report: Report) -> None:
    """Report what a transformer cannot be asked for, where it is asked."""
    for node, called in _asked(root):
        report.error(node.mark, "SF333", f"{not_there(family, called)}; leave it out")


def _asked(root: Node) -> Iterator[tuple[Node, str]]:
    for group, key, value, called in _SAID:
        holder = root.get(group) if group else root
        node = holder.get(key) if holder is not None else None
        if node is not None and value in {None, node.text}:
            yield node, called
    for page in root.each("pages"):
        for panel in page.each("panels"):
            for control in panel.each("control"):
                yield control, "control"
