"""What a story asks of a base that is a transformer, and such a base does not do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from storyforge.errors import Report
from storyforge.headers.joint import not_there
from storyforge.story.yaml import Node

_NO: Final = frozenset({"", "false", "f", "no", "n", "off", "0", "0.0", "null", "~"})
"""How an author writes that something is not wanted."""

_SAID: Final = (
    # where it stands, the key, what is written there (None for anything but `_NO`), its name
    ("", "compose", "training-free", "compose: training-free"),
    ("sampling", "regions", "exact", "regions: exact"),
    ("sampling", "enhancement", None, "enhancement"),
    ("sampling", "isolation", None, "isolation"),
    ("sampling", "reinitialisation", None, "reinitialisation"),
    ("sampling", "scheduler", None, "scheduler"),
    ("fuse", "area", "subject", "area: subject"),
    ("fuse", "solver", "custom-diffusion", "solver: custom-diffusion"),
)

_LEARNT: Final = (
    ("train", "method", "custom-diffusion", "method: custom-diffusion"),
    ("train", "method", "p-plus", "method: p-plus"),
    ("train", "layers", None, "layers"),
    ("train", "min_snr_gamma", None, "min_snr_gamma"),
    ("train", "attention_reg", None, "attention_reg"),
)


def check_joint(root: Node, family: str, report: Report) -> None:
    """Report what a transformer cannot be asked for, where a story asks it."""
    for node, called in _asked(root):
        report.error(node.mark, "SF333", f"{not_there(family, called)}; leave it out")


def check_learnt_jointly(root: Node, family: str, report: Report) -> None:
    """Report what a transformer cannot learn by, where a concept.yaml asks it."""
    for node, called in _said(root, _LEARNT):
        report.error(node.mark, "SF333", f"{not_there(family, called)}; leave it out")


def _said(
    root: Node, table: Iterable[tuple[str, str, str | None, str]]
) -> Iterator[tuple[Node, str]]:
    for group, key, value, called in table:
        holder = root.get(group) if group else root
        node = holder.get(key) if holder is not None else None
        if node is not None and not node.empty and _meant(node, value):
            yield node, called


def _meant(node: Node, value: str | None) -> bool:
    if value is not None:
        return node.text == value
    return node.text is None or node.text.strip().lower() not in _NO


def _asked(root: Node) -> Iterator[tuple[Node, str]]:
    yield from _said(root, _SAID)
    for page in root.each("pages"):
        for panel in page.each("panels"):
            for control in panel.each("control"):
                yield control, "control"
            for region in panel.named("regions").values():
                at = region.get("at")
                if at is not None and at.text == "auto":
                    yield at, "regions: auto"
