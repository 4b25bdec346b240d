"""What stays as it was: somebody's clothes and state until they change, a scene's hour and weather.

Panels are walked in the order of reading. What the words for it do in a prompt is `prompts`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from storyforge.story.story import Page, Panel, Story, Variant

USUAL: Final = "usual"
"""The outfit of someone who wears what the concept's pictures show."""


@dataclass(frozen=True, slots=True)
class Worn:
    """How somebody looks in one panel; None for as usual."""

    outfit: str | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True)
class Hour:
    """When a scene is seen, and in what weather; None where nobody has said."""

    time: str | None = None
    weather: str | None = None


class _Walk:
    """A story's pages as they are: who asks again for the same ones need not walk them again."""

    __slots__ = ("pages",)

    def __init__(self, pages: tuple[Page, ...]) -> None:
        self.pages = pages

    def __hash__(self) -> int:
        return id(self.pages)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Walk) and other.pages is self.pages

    def panels(self) -> Iterator[Panel]:
        """Every panel in the order of reading."""
        return (panel for page in self.pages for panel in page.panels)


def worn_in(story: Story, panel: Panel) -> Mapping[str, Worn]:
    """How everybody looks in the panel, by the name of the region."""
    return _worn(_Walk(story.pages)).get(panel.id, {})


def hour_of(story: Story, panel: Panel) -> Hour:
    """The panel's hour and weather: its own, or its scene's as panels before it said."""
    return _hours(_Walk(story.pages)).get(panel.id, Hour())


# Asked of every region of every panel: walking all pages each time takes minutes in long books.
@lru_cache(maxsize=4)
def _worn(walk: _Walk) -> Mapping[str, Mapping[str, Worn]]:
    """How everybody looks, by panel and region."""
    kept: dict[str, Worn] = {}
    looks: dict[str, Mapping[str, Worn]] = {}
    for panel in walk.panels():
        found = {}
        for name, region in panel.regions.items():
            if region.concept is None:
                continue
            before = kept.get(region.concept, Worn())
            outfit = before.outfit if region.outfit is None else region.outfit
            state = before.state if region.state is None else region.state
            found[name] = Worn(None if outfit == USUAL else outfit, state or None)
            kept[region.concept] = found[name]
        looks.setdefault(panel.id, found)
    return looks


@lru_cache(maxsize=4)
def _hours(walk: _Walk) -> Mapping[str, Hour]:
    """The hour and weather of every panel."""
    kept: dict[str, Hour] = {}
    hours: dict[str, Hour] = {}
    for panel in walk.panels():
        before = kept.get(panel.scene or "", Hour())
        time = before.time if panel.time is None else panel.time
        weather = before.weather if panel.weather is None else panel.weather
        hour = Hour(time or None, weather or None)
        if panel.scene:
            kept[panel.scene] = hour
        hours.setdefault(panel.id, hour)
    return hours


def outfit_of(story: Story, panel: Panel, region: str) -> Variant | None:
    """What the one in a region wears, if it is not the usual."""
    concept = panel.regions[region].concept
    worn = worn_in(story, panel).get(region, Worn())
    return story.outfits.get(concept or "", {}).get(worn.outfit or "")


def view_of(story: Story, panel: Panel) -> Variant | None:
    """From where the panel's scene is seen, if it says so."""
    return story.views.get(panel.scene or "", {}).get(panel.view or "")


def drawn_as(story: Story, panel: Panel, region: str) -> str | None:
    """The concept that a region is drawn with: its own, or that of the outfit."""
    outfit, own = outfit_of(story, panel, region), panel.regions[region].concept
    return own if outfit is None else outfit.concept or own


def scene_of(story: Story, panel: Panel) -> str | None:
    """The concept that the panel's scene is drawn with: its own, or that of the view."""
    view = view_of(story, panel)
    return panel.scene if view is None else view.concept or panel.scene


def drawn_cast(story: Story, panel: Panel) -> tuple[str, ...]:
    """The concepts that the panel is drawn with, the scene first, each once."""
    shown = [scene_of(story, panel), *(drawn_as(story, panel, name) for name in panel.regions)]
    return tuple(dict.fromkeys(name for name in shown if name))
