"""A split manuscript as a `story.yaml`, with whom it shows where a folder of concepts has them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storyforge.errors import StoryForgeError
from storyforge.story.concept import ConceptSpec, read_concept
from storyforge.story.edit import quoted
from storyforge.story.layout import find
from storyforge.story.story import read_layout
from storyforge.write.manuscript import DraftPage, DraftPanel, DraftSpeech, Manuscript

_LAYOUTS: Final = ("whole-scene", "one-centre", "two-side-by-side", "three-in-a-row")
"""By how many are shown; whoever else speaks is heard from outside the picture."""

_GROUPS: Final = {"character": "characters", "object": "objects", "scene": "scenes"}

_HEADER: Final = """\
# yaml-language-server: $schema=story.schema.json
# A draft, made from words: look at it with `storyforge desk`, and change whatever you like.
storyforge: 1
"""


@dataclass(frozen=True, slots=True)
class Cast:
    """The concepts that there are, by their names in small letters, and how a story writes each."""

    specs: Mapping[str, ConceptSpec]
    places: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path | None, story: Path) -> Cast:
        """Every concept in a folder of concepts; nobody without one.

        Raises StoryForgeError if the folder has none.
        """
        if folder is None:
            return cls({}, {})
        found = [read_concept(path.parent) for path in sorted(folder.glob("*/concept.yaml"))]
        if not found:
            raise StoryForgeError(f"no concept in `{folder}`", hint="name a folder of concepts")
        specs = {spec.name: spec for spec in found}
        home = story.parent.absolute()
        places = {
            name: Path(os.path.relpath(spec.folder.absolute(), home)).as_posix()
            for name, spec in specs.items()
        }
        return cls(specs, places)

    def named(self, words: str, kinds: tuple[str, ...]) -> list[str]:
        """The concepts of these kinds that a text names, in its order."""
        told = [word.lower() for word in re.findall(r"[\w'’-]+", words)]
        known = {name.lower(): name for name, spec in self.specs.items() if spec.kind in kinds}
        return list(dict.fromkeys(known[word] for word in told if word in known))


def drafted(manuscript: Manuscript, cast: Cast) -> str:
    """The story's text."""
    return _HEADER + "".join(_lines(manuscript, cast))


def _lines(manuscript: Manuscript, cast: Cast) -> Iterator[str]:
    yield f"title: {quoted(manuscript.title)}\n"
    body = "".join(_page(n, page, cast) for n, page in enumerate(manuscript.pages, start=1))
    used = {name for name in cast.specs if re.search(rf"(?:concept|who|scene): {name}\b", body)}
    for kind, group in _GROUPS.items():
        members = [name for name in sorted(used) if cast.specs[name].kind == kind]
        if members:
            yield f"{group}:\n" + "".join(f"  {n}: {quoted(cast.places[n])}\n" for n in members)
    missing = [who for who in manuscript.speakers if not cast.named(who, ("character", "object"))]
    if missing:
        yield "# Take these in once each folder holds pictures and a concept.yaml:\n# characters:\n"
        yield "".join(f"#   {_name(who)}: concepts/{_name(who)}\n" for who in missing)
    yield f"pages:\n{body}"


def _name(who: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", who.lower()).strip("-") or "somebody"


def _page(number: int, page: DraftPage, cast: Cast) -> str:
    panels = page.panels or [DraftPanel(prompt=page.text)]
    first = f"  - text: {quoted(page.text)}\n    panels:\n" if page.text else "  - panels:\n"
    one = len(panels) == 1
    return first + "".join(
        "".join(_panel(f"p{number}" if one else f"p{number}-{n}", page, panel, cast))
        for n, panel in enumerate(panels, start=1)
    )


def _panel(name: str, page: DraftPage, panel: DraftPanel, cast: Cast) -> Iterator[str]:
    words = panel.prompt or page.text
    told = f"{words} {page.text if len(page.panels) < 2 else ''}"
    speakers = [s.who for s in panel.says if s.who]
    solid = ("character", "object")
    shown = [cast.named(who, solid)[0] if cast.named(who, solid) else who for who in speakers]
    shown = list(dict.fromkeys([*shown, *cast.named(told, solid)]))
    regions = _regions(len(shown))
    shown = shown[: len(regions)]
    scene = next(iter(cast.named(told, ("scene",))), None)
    yield f"      - id: {name}\n"
    if scene:
        yield f"        scene: {scene}\n"
    yield f"        layout: {_LAYOUTS[len(shown)]}\n"
    if words:
        # What stands in the page's text may be cut; nothing else repeats a panel's own words.
        yield f"        prompt: {quoted(panel.prompt or _short(words))}\n"
    if shown:
        yield "        regions:\n"
    for region, who in zip(regions, shown, strict=False):
        key = f"concept: {who}" if who in cast.specs else f"prompt: {quoted(who.title())}"
        yield f"          {region}: {{{key}}}\n"
    yield f"        alt: {quoted(_alt(words, shown))}\n"
    if panel.says:
        yield "        say:\n"
    for said in panel.says:
        yield _speech(said, shown, cast)


def _regions(count: int) -> list[str]:
    """The names of the regions of a layout for so many, as far as there is one."""
    path = find(_LAYOUTS[min(count, len(_LAYOUTS) - 1)])
    return list(read_layout(path).regions) if path is not None and count else []


def _speech(said: DraftSpeech, shown: list[str], cast: Cast) -> str:
    names = cast.named(said.who or "", ("character", "object"))
    who = f"who: {names[0]}, " if names and names[0] in shown else ""
    kind = f", kind: {said.kind}" if said.kind != "speech" else ""
    called = said.who if said.who and not (who and said.who.lower() == names[0].lower()) else ""
    told = ", ".join(filter(None, [(called or "").title(), said.how]))
    note = f"  # {told}" if told else ""
    return f"          - {{{who}text: {quoted(said.text or '…')}{kind}}}{note}\n"


def _short(words: str, most: int = 200) -> str:
    return words if len(words) <= most else words[:most].rpartition(" ")[0]


def _alt(words: str, shown: list[str]) -> str:
    names = " and ".join(who.replace("-", " ").title() for who in shown)
    text = _short(words, 120).rstrip(".")
    return f"{names}: {text}." if names and text else f"{names or text or 'A picture'}."
