"""Where words and looks disagree: a text names what nobody wears, or clothes vanish between panels.

Words are compared as they are written, in the story's own language; a lint cannot tell that
somebody takes a coat off, and only warns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from storyforge.errors import Report, shortened
from storyforge.story.lint.cast import regions_of
from storyforge.story.yaml import Node

_USUAL: Final = "usual"
_WEARING: Final = re.compile(
    r"(?P<not>(?:\b(?:not|never|without|no longer|stop(?:s|ped|ping)?)|n['’]t)(?: (?:yet|even))? )?"
    r"\bwearing (?P<none>no |nothing\b)?(?:an? |the |his |her |their )?(?P<what>[^,.;]+?)"
    r"(?=[,.;]|$| (?:and|but|with|while|as|in|on|at|by|under|beside|over) )"
)
_ENDED: Final = re.compile(
    r"\b(?:takes off|took off|taken off|without|no longer|zieht|zog|ohne|nicht mehr"
    r"|stop(?:s|ped) wearing|(?:not|never|\w+n['’]t)(?: yet)? (?:wear(?:s|ing)?|wore)"
    r"|(?:wears?|wore|wearing) no|(?:trägt|trug) kein\w*)\b"
)
"""With one of these, a sentence may well name what is not to be seen any more."""

_SENTENCE: Final = re.compile(r"[^.!?\u2026]+")


@dataclass(slots=True)
class _Looks:
    """What is known of everybody on the way through the pages.

    outfits  who wears what by now
    states   who is how by now
    worn     what a prompt said last that somebody wears, and in which panel
    here     who wears what in the panels of this page
    """

    outfits: dict[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    worn: dict[str, tuple[str, str]] = field(default_factory=dict)
    here: dict[str, set[str]] = field(default_factory=dict)


def check_continuity(root: Node, pages: Sequence[Node], report: Report) -> None:
    """Report outfits that a page's text names and nobody on it wears, and clothes that vanish."""
    outfits = {who: dict(node.entries or {}) for who, node in root.named("outfits").items()}
    looks = _Looks()
    language = root.text_at("language") or "en"
    for page in pages:
        looks.here.clear()
        for panel in page.each("panels"):
            for _, region in regions_of(panel):
                who = region.text_at("concept")
                if who is not None:
                    _see(looks, who, region, panel, outfits.get(who, {}), report)
        for text in _texts(page, language):
            _compare(text, outfits, looks, report)


def _see(
    looks: _Looks,
    who: str,
    region: Node,
    panel: Node,
    outfits: Mapping[str, Node],
    report: Report,
) -> None:
    """Take in how somebody looks in a panel; clothes that a prompt forgot are told."""
    outfit, state = region.text_at("outfit"), region.text_at("state")
    if outfit is not None:
        looks.outfits[who] = outfit
    if state is not None:
        looks.states[who] = state
    looks.here.setdefault(who, set()).add(looks.outfits.get(who, _USUAL))
    if panel.get("picture") is not None:
        return  # which shows what it shows, whatever prompts say
    said = _WEARING.finditer(region.text_at("prompt") or "")
    found = next((each for each in said if not (each["not"] or each["none"])), None)
    if found is not None:
        looks.worn[who] = (found["what"].strip(), panel.text_at("id") or "")
        return
    what, before = looks.worn.pop(who, ("", ""))
    if not what or outfit is not None or state is not None:
        return
    if what.casefold() in _kept(looks, who, outfits).casefold():
        return
    message = (
        f"`{shortened(who)}` wears `{shortened(what)}` in panel `{shortened(before)}` and not "
        f"here; `state: wearing …` or an outfit stays on until it is changed"
    )
    report.warning(region.mark, "SF437", message)


def _kept(looks: _Looks, who: str, outfits: Mapping[str, Node]) -> str:
    """The words that stay with somebody: those of the outfit by now, and of the state."""
    name = looks.outfits.get(who, _USUAL)
    node = outfits.get(name)
    words = "" if node is None else node.text_at("prompt") or node.text or ""
    return f"{name} {words} {looks.states.get(who, '')}"


def _texts(page: Node, language: str) -> Iterator[Node]:
    """What a page says in the story's own language."""
    said = [speech.get("text") for panel in page.each("panels") for speech in panel.each("say")]
    for text in filter(None, [page.get("text"), *said]):
        own = text.entries.get(language) if text.entries is not None else text
        if own is not None and own.text:
            yield own


def _compare(
    text: Node, outfits: Mapping[str, Mapping[str, Node]], looks: _Looks, report: Report
) -> None:
    """Tell of outfits that a text names and none of those has on who have one of that name."""
    owners: dict[str, list[str]] = {}
    for who in sorted(looks.here.keys() & outfits.keys()):
        for outfit in outfits[who]:
            owners.setdefault(outfit, []).append(who)
    words = (text.text or "").casefold()
    for outfit, named in sorted(owners.items()):
        said = _named_in(words, outfit)
        if said is None or any(outfit in looks.here[who] for who in named):
            continue
        who = " and ".join(f"`{shortened(each)}`" for each in named)
        message = f"the text says `{outfit}`, and {who} {_not_worn(named)} it here"
        remedy = f"write `outfit: {outfit}` in the region, or say it elsewhere"
        report.warning(text.mark_within(said), "SF436", f"{message}; {remedy}")


def _not_worn(named: Sequence[str]) -> str:
    return "does not wear" if len(named) == 1 else "do not wear"


def _named_in(words: str, outfit: str) -> int | None:
    """Where the words name the outfit as something to be seen; None if they do not."""
    pattern = re.compile(rf"\b{re.escape(outfit.casefold())}\b")
    for sentence in _SENTENCE.finditer(words):
        found = pattern.search(sentence[0])
        if found is not None and not _ENDED.search(sentence[0]):
            return sentence.start() + found.start()
    return None
