"""Where words and looks disagree: a text names what nobody wears, or clothes vanish between panels.

Words are compared as they are written, in the story's own language; a lint cannot tell that
somebody takes a coat off, and only warns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from storyforge.errors import Report, shortened
from storyforge.story.lint.cast import regions_of
from storyforge.story.yaml import Node

_USUAL: Final = "usual"
_WEARING: Final = re.compile(r"\bwearing (?:an? |the |his |her |their )?(?P<what>[^,.;]+)")
_ENDED: Final = ("takes off", "took off", "taken off", "without", "no longer", "zieht", "ohne")
"""With one of these, a text may well name what is not to be seen any more."""


@dataclass(slots=True)
class _Looks:
    """What is known of everybody on the way through the pages.

    outfits  who wears what by now
    worn     what a prompt said last that somebody wears, and in which panel
    """

    outfits: dict[str, str] = field(default_factory=dict)
    worn: dict[str, tuple[str, str]] = field(default_factory=dict)


def check_continuity(root: Node, pages: Sequence[Node], report: Report) -> None:
    """Report outfits that a page's text names and nobody on it wears, and clothes that vanish."""
    names = {who: set(node.entries or {}) for who, node in root.named("outfits").items()}
    looks = _Looks()
    language = root.text_at("language") or "en"
    for page in pages:
        shown: set[str] = set()
        for panel in page.each("panels"):
            for _, region in regions_of(panel):
                who = region.text_at("concept")
                if who is not None:
                    shown.add(who)
                    _see(looks, who, region, panel, report)
        for text in _texts(page, language):
            _compare(text, shown, names, looks, report)


def _see(looks: _Looks, who: str, region: Node, panel: Node, report: Report) -> None:
    """Take in how somebody looks in a panel; clothes that a prompt forgot are told."""
    outfit = region.text_at("outfit")
    if outfit is not None:
        looks.outfits[who] = outfit
    found = _WEARING.search(region.text_at("prompt") or "")
    where = panel.text_at("id") or ""
    if found is not None:
        looks.worn[who] = (found["what"].strip(), where)
    elif who in looks.worn and outfit is None and region.text_at("state") is None:
        what, before = looks.worn.pop(who)
        message = (
            f"`{shortened(who)}` wears `{shortened(what)}` in panel `{shortened(before)}` and not "
            f"here; `state: wearing …` or an outfit stays on until it is changed"
        )
        report.warning(region.mark, "SF437", message)


def _texts(page: Node, language: str) -> Iterator[Node]:
    """What a page says in the story's own language."""
    said = [speech.get("text") for panel in page.each("panels") for speech in panel.each("say")]
    for text in filter(None, [page.get("text"), *said]):
        own = text.entries.get(language) if text.entries is not None else text
        if own is not None and own.text:
            yield own


def _compare(
    text: Node, shown: set[str], names: dict[str, set[str]], looks: _Looks, report: Report
) -> None:
    words = (text.text or "").casefold()
    if any(end in words for end in _ENDED):
        return
    for who in sorted(shown & names.keys()):
        for outfit in sorted(names[who]):
            said = re.search(rf"\b{re.escape(outfit.casefold())}\b", words)
            if said is not None and looks.outfits.get(who, _USUAL) != outfit:
                message = f"the text says `{outfit}`, and `{who}` does not wear it here"
                remedy = f"write `outfit: {outfit}` in the region, or say it elsewhere"
                report.warning(text.mark_within(said.start()), "SF436", f"{message}; {remedy}")
