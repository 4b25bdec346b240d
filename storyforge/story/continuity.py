"""What stays as it was: somebody's clothes and state until they change, a scene's hour and weather.

Panels are walked in the order of reading. What the words for it do in a prompt is `prompts`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from storyforge.story.story import Panel, Story, Variant

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


def worn_in(story: Story, panel: Panel) -> dict[str, Worn]:
    """How everybody looks in the panel, by the name of the region."""
    kept: dict[str, Worn] = {}
    for _, each in story.panels():
        found = {}
        for name, region in each.regions.items():
            if region.concept is None:
                continue
            before = kept.get(region.concept, Worn())
            outfit = before.outfit if region.outfit is None else region.outfit
            state = before.state if region.state is None else region.state
            found[name] = Worn(None if outfit == USUAL else outfit, state or None)
            kept[region.concept] = found[name]
        if each.id == panel.id:
            return found
    return {}


def hour_of(story: Story, panel: Panel) -> Hour:
    """The panel's hour and weather: its own, or its scene's as panels before it said."""
    kept: dict[str, Hour] = {}
    for _, each in story.panels():
        before = kept.get(each.scene or "", Hour())
        hour = Hour(each.time or before.time, each.weather or before.weather)
        if each.scene:
            kept[each.scene] = hour
        if each.id == panel.id:
            return hour
    return Hour()


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
