"""Clothes and states that stay on, a scene's hour, and words that say otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from pinning import edit

from storyforge.plan.plan import base_of, draw_up
from storyforge.story.continuity import worn_in
from storyforge.story.schema import schema
from storyforge.story.story import Story, check, read

STORY = """\
storyforge: 1
title: The Raincoat
characters: {pip: concepts/pip, pip-in-armour: concepts/pip-in-armour}
scenes: {pond: concepts/pond}
outfits:
  pip:
    raincoat: in a yellow raincoat
    armour: {prompt: in shining armour, concept: pip-in-armour}
views:
  pond: {reeds: seen from the reeds}
pages:
  - panels:
      - {id: dry, scene: pond, time: at night, regions: {one: {concept: pip, at: left}}, alt: A.}
  - panels:
      - id: rain
        scene: pond
        weather: in the rain
        view: reeds
        regions: {one: {concept: pip, at: left, outfit: raincoat, state: wet}}
        alt: B.
  - panels:
      - {id: after, scene: pond, regions: {one: {concept: pip, at: left, prompt: sits}}, alt: C.}
  - panels:
      - {id: off, regions: {one: {concept: pip, at: left, outfit: usual, state: ""}}, alt: D.}
  - panels:
      - {id: knight, regions: {one: {concept: pip, at: left, outfit: armour}}, alt: E.}
"""


def written(folder: Path) -> Path:
    for name, kind in (("pip", "character"), ("pip-in-armour", "character"), ("pond", "scene")):
        concept = folder / "concepts" / name
        concept.mkdir(parents=True)
        (concept / "concept.yaml").write_text(f"kind: {kind}\nclass: {name.split('-')[0]}\n")
        Image.new("RGB", (8, 8)).save(concept / "1.png")
    path = folder / "story.yaml"
    path.write_text(STORY)
    return path


def prompts(story: Story) -> dict[str, str]:
    """What each panel's only region asks for."""
    plan = draw_up(story, base=base_of(story))
    return {task.panel: task.regions[0].prompt for task in plan.panels}


def test_clothes_stay_on_until_they_are_changed(tmp_path: Path) -> None:
    asked = prompts(read(written(tmp_path)))
    assert "raincoat" not in asked["dry"]
    assert "in a yellow raincoat, wet" in asked["rain"]
    assert "in a yellow raincoat, wet, sits" in asked["after"]
    assert "raincoat" not in asked["off"]
    assert "wet" not in asked["off"]


def test_an_outfit_with_pictures_is_drawn_as_a_concept_of_its_own(tmp_path: Path) -> None:
    story = read(written(tmp_path))
    plan = draw_up(story, base=base_of(story))
    shown = {task.panel: task.regions[0].concept for task in plan.panels}
    assert (shown["rain"], shown["knight"]) == ("pip", "pip-in-armour")
    assert "<pip-in-armour> in shining armour" in prompts(story)["knight"]
    assert plan.fuse is not None
    assert "pip-in-armour" in dict(plan.fuse.concepts)


def test_a_scene_keeps_its_hour_and_weather(tmp_path: Path) -> None:
    asked = prompts(read(written(tmp_path)))
    assert "in <pond>, at night" in asked["dry"]
    assert "in <pond>, seen from the reeds, at night, in the rain" in asked["rain"]
    assert "in <pond>, at night, in the rain" in asked["after"]
    assert "night" not in asked["off"]


def test_a_later_panel_says_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    story = read(written(tmp_path))
    first = story.pages[0].panels[0]
    assert [worn.outfit for worn in worn_in(story, first).values()] == [None]


@pytest.mark.parametrize(
    ("old", "new", "codes"),
    [
        ("outfit: raincoat", "outfit: raincot", ["SF329"]),
        ("view: reeds", "view: hill", ["SF329"]),
        ("  pip:\n", "  pipp:\n", ["SF300", "SF329", "SF329"]),
        ("concept: pip-in-armour}", "concept: pip-in-amour}", ["SF300"]),
        ("raincoat: in a", "raincoat: {promt: x}\n    hat: in a", ["SF200"]),
        (
            "  - panels:\n      - {id: off",
            "  - text: His raincoat.\n    panels:\n      - {id: off",
            ["SF436"],
        ),
        (
            "  - panels:\n      - id: rain",
            "  - text: His raincoat.\n    panels:\n      - id: rain",
            [],
        ),
        ("prompt: sits", "prompt: wearing a hat", ["SF437"]),
    ],
)
def test_check_hears_where_words_and_looks_disagree(
    tmp_path: Path, old: str, new: str, codes: list[str]
) -> None:
    story = written(tmp_path)
    if codes == ["SF437"]:
        edit(story, 'outfit: usual, state: ""', "prompt: waving")
    edit(story, old, new)
    assert [found.code for found in check(story)] == codes


def test_editors_are_told_that_words_alone_will_do() -> None:
    outfits = schema()["properties"]["outfits"]  # type: ignore[index]
    assert "Variant" in str(outfits)
    assert {"type": "string"} in schema()["$defs"]["Variant"]["anyOf"]  # type: ignore[index]
