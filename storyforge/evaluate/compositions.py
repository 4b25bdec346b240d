"""Panels that put concepts beside each other, drawn up from a cast and from nothing else.

Half of them show two subjects, the rest three and four. Every pair of subjects comes as often as
any other, as far as that goes, except for subjects of one class: they are what is hardest to keep
apart, and one panel in four begins with two of them. Regions do not overlap, so that what is cut
out of a picture belongs to one region.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from random import Random
from typing import Final

from storyforge.errors import StoryForgeError
from storyforge.pictures import with_article
from storyforge.story.concept import ConceptSpec
from storyforge.story.layout import Layout, find
from storyforge.story.prompts import side_of
from storyforge.story.story import Panel, Story, read_layout

SHARES: Final = {2: 0.5, 3: 0.3, 4: 0.2}
"""Number of subjects -> part of the panels."""

LAYOUTS: Final = {
    2: ("two-side-by-side", "two-close", "near-and-far"),
    3: ("three-in-a-row",),
    4: ("four-in-a-row",),
}
"""Number of subjects -> layouts that are taken in turns."""

WITH_OBJECT: Final = {2: "character-and-object", 3: "object-between", 4: "four-in-a-row"}
"""Number of subjects -> the layout if one of them is an object."""

PLACES: Final = ("in a meadow", "in a forest", "on a beach", "in the snow") + (
    "in a town",
    "in the mountains",
    "in a desert",
    "in a library",
)
POSES: Final = ("standing", "waving", "sitting", "running")
TWINS_EVERY: Final = 4
"""One panel in so many shows two of a class, and another of them a scene that was learnt."""

_TRIES: Final = 60
"""Casts among which the one is chosen whose pairs have come least."""


@dataclass(frozen=True, slots=True)
class _Turns:
    """Who has stood beside whom so far."""

    generator: Random
    pairs: dict[frozenset[str], int] = field(default_factory=dict)

    def next(self, subjects: Sequence[ConceptSpec], count: int, *, twins: bool) -> list[str]:
        """`count` names that have met least, in any order; at most one of them an object."""
        known = {spec.name: spec for spec in subjects}
        alike = [
            (a.name, b.name)
            for a, b in combinations(subjects, 2)
            if a.class_ == b.class_ and "object" not in (a.kind, b.kind)
        ]
        best: tuple[tuple[int, int], list[str]] | None = None
        for _ in range(_TRIES):
            chosen = list(self.generator.choice(alike)) if twins and alike else []
            rest = [name for name in known if name not in chosen]
            chosen += self.generator.sample(rest, count - len(chosen))
            if sum(known[name].kind == "object" for name in chosen) > 1:
                continue
            met = [self.pairs.get(frozenset(pair), 0) for pair in combinations(chosen, 2)]
            if best is None or (sum(met), max(met)) < best[0]:
                best = (sum(met), max(met)), chosen
        if best is None:
            raise StoryForgeError(f"there are too few characters for {count} in a picture")
        for pair in combinations(best[1], 2):
            self.pairs[frozenset(pair)] = self.pairs.get(frozenset(pair), 0) + 1
        self.generator.shuffle(best[1])
        return best[1]


def composed(members: Sequence[ConceptSpec], panels: int, steps: int | None) -> Story:
    """A story of so many panels, from the smallest crowd to the largest.

    members  what is shown; scenes are where it stands

    Raises StoryForgeError for fewer than two subjects.
    """
    subjects = [spec for spec in members if spec.kind != "scene"]
    scenes = [spec.name for spec in members if spec.kind == "scene"]
    most = sum(spec.kind == "character" for spec in subjects) + any(
        spec.kind == "object" for spec in subjects
    )
    if most < 2:
        message = "nobody can stand beside another: there are too few characters and objects"
        raise StoryForgeError(message, hint="two characters, or a character and an object, do")
    counts = [count for count in _counts(panels) if count <= most]
    counts += [2] * (panels - len(counts))
    made = list(_panels(sorted(counts), subjects, scenes))
    layouts = {name: _layout(name) for name in sorted({str(panel["layout"]) for panel in made})}
    kinds = {"character": "characters", "object": "objects", "scene": "scenes"}
    groups: dict[str, dict[str, str]] = {group: {} for group in kinds.values()}
    for spec in members:
        groups[kinds[spec.kind]][spec.name] = str(spec.folder)
    return Story.model_validate(
        {
            "storyforge": 1,
            "title": "Beside each other",
            **groups,
            "sampling": {} if steps is None else {"steps": steps},
            "pages": [{"panels": [panel]} for panel in made],
            "path": members[0].folder.parent / "regions.yaml",
            "concepts": {spec.name: spec for spec in members},
            "layouts": layouts,
        }
    )


def _counts(panels: int) -> list[int]:
    """How many subjects each panel has; whole panels of the shares, the rest to pairs."""
    more = [count for count, share in SHARES.items() for _ in range(int(panels * share))]
    return [2] * (panels - len(more)) + more


def _layout(name: str) -> Layout:
    path = find(name)
    assert path is not None
    return read_layout(path)


def _panels(
    counts: Sequence[int], subjects: Sequence[ConceptSpec], scenes: Sequence[str]
) -> Iterator[dict[str, object]]:
    turns = _Turns(Random("beside each other"))
    kinds = {spec.name: spec.kind for spec in subjects}
    for number, count in enumerate(counts):
        names = turns.next(subjects, count, twins=number % TWINS_EVERY == 0)
        things = [name for name in names if kinds[name] == "object"]
        layout = WITH_OBJECT[count] if things else LAYOUTS[count][number % len(LAYOUTS[count])]
        regions = list(_layout(layout).regions)
        if things and "object" in regions:
            place = regions.index("object")
            names = [name for name in names if name not in things]
            names.insert(place, things[0])
        scene = scenes[number // TWINS_EVERY % len(scenes)] if scenes else None
        scene = scene if number % TWINS_EVERY == TWINS_EVERY - 1 else None
        yield {
            "id": f"{number + 1:02}-{'-'.join(names)}",
            "layout": layout,
            "scene": scene,
            "prompt": "" if scene else PLACES[number % len(PLACES)],
            "regions": {
                region: {
                    "concept": name,
                    **({} if name in things else {"pose": POSES[(number + turn) % len(POSES)]}),
                }
                for turn, (region, name) in enumerate(zip(regions, names, strict=True))
            },
        }


def caption(story: Story, panel: Panel, *, named: bool) -> str:
    """The whole panel in one sentence, everyone with a side.

    named  everybody by their concept's words; else by their class, as a stranger would tell it
    """
    boxes = story.region_boxes(panel)
    said = []
    for name, region in panel.regions.items():
        assert region.concept is not None
        who = _called(story, region.concept, named=named)
        said.append(" ".join(word for word in (who, region.pose, side_of(boxes[name])) if word))
    where = f"in {_called(story, panel.scene, named=named)}" if panel.scene else panel.prompt
    return ", ".join([", ".join(said[:-1]) + f" and {said[-1]}", where])


def _called(story: Story, name: str, *, named: bool) -> str:
    spec = story.concepts[name]
    assert isinstance(spec, ConceptSpec)
    if not named:
        return with_article(spec.class_)
    return f"<{name}>" if spec.kind == "scene" else f"a <{name}>"
