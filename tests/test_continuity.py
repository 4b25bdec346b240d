"""Clothes and states that stay on, a scene's hour, and words that say otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from clothing import STORY, written
from PIL import Image
from pinning import edit

from storyforge.plan.plan import base_of, draw_up
from storyforge.story.continuity import worn_in
from storyforge.story.schema import schema
from storyforge.story.story import Story, check, read


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
        ("armour: {prompt", "usual: plain\n    armour: {prompt", ["SF329"]),
    ],
)
def test_check_hears_where_words_and_looks_disagree(
    tmp_path: Path, old: str, new: str, codes: list[str]
) -> None:
    story = written(tmp_path)
    edit(story, old, new)
    assert [found.code for found in check(story)] == codes


@pytest.mark.parametrize(
    ("first", "then", "codes"),
    [
        ("prompt: wearing a hat", "prompt: waving", ["SF437"]),
        ("prompt: wearing a hat", "prompt: wearing a hat", []),
        ("prompt: wearing a hat", 'outfit: usual, state: ""', []),
        ("prompt: not wearing a hat", "prompt: waving", []),
        ("prompt: no longer wearing a hat", "prompt: waving", []),
        ("prompt: not yet wearing a hat", "prompt: waving", []),
        ("prompt: stops wearing a hat", "prompt: waving", []),
        ("prompt: isn't wearing a hat", "prompt: waving", []),
        ("prompt: wearing no hat", "prompt: waving", []),
        ("prompt: not wearing a hat but wearing a cap", "prompt: waving", ["SF437"]),
        ("prompt: wearing a yellow raincoat and singing", "prompt: waving", []),
        ("prompt: wearing a hat, state: wearing a hat", "prompt: waving", []),
    ],
)
def test_clothes_vanish_where_nothing_keeps_them_on(
    tmp_path: Path, first: str, then: str, codes: list[str]
) -> None:
    story = written(tmp_path)
    edit(story, "prompt: sits", first)
    edit(story, 'outfit: usual, state: ""', then)
    assert [found.code for found in check(story)] == codes


def test_what_was_taken_off_vanishes_no_more(tmp_path: Path) -> None:
    story = written(tmp_path)
    edit(story, "outfit: raincoat, state: wet", "prompt: wearing a hat")
    edit(story, "prompt: sits", 'state: ""')
    edit(story, 'outfit: usual, state: ""', "prompt: waving")
    assert [found.code for found in check(story)] == []


def test_a_picture_of_ones_own_shows_clothes_that_nobody_wrote(tmp_path: Path) -> None:
    story = written(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "own.png")
    edit(story, "prompt: sits", "prompt: wearing a hat")
    edit(story, "{id: off,", "{id: off, picture: own.png,")
    edit(story, 'outfit: usual, state: ""', "prompt: waving")
    edit(story, "outfit: armour", "prompt: wearing a hat")
    assert [found.code for found in check(story)] == []


TWO = STORY.replace("outfits:\n  pip:", "outfits:\n  owl: {raincoat: in a coat}\n  pip:").replace(
    "characters: {", "characters: {owl: concepts/pip, "
)


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("His raincoat was wet.", []),
        ("The armour shone.", ["SF436"]),
        ("He left without a word. The armour shone.", ["SF436"]),
        ("He left without his armour.", []),
        ("He wore no armour.", []),
        ("He isn't wearing his armour.", []),
        ("He was not yet wearing the armour.", []),
        ("He stopped wearing armour.", []),
        ("He never wore armour.", []),
        ("He was not sad. He wore armour.", ["SF436"]),
    ],
)
def test_a_text_may_name_what_one_of_them_wears(
    tmp_path: Path, text: str, codes: list[str]
) -> None:
    story = written(tmp_path)
    both = "regions: {two: {concept: owl, at: right}, one: {concept: pip, at: left, prompt: sits}}"
    said = TWO.replace("regions: {one: {concept: pip, at: left, prompt: sits}}", both)
    story.write_text(
        said.replace(
            "  - panels:\n      - {id: after", f"  - text: {text}\n    panels:\n      - {{id: after"
        )
    )
    assert [found.code for found in check(story)] == codes


def test_an_outfit_of_one_panel_may_be_named_though_the_next_changes_it(tmp_path: Path) -> None:
    story = written(tmp_path)
    edit(story, "  - panels:\n      - {id: off", "      - {id: off")
    edit(
        story,
        "  - panels:\n      - {id: after",
        "  - text: A raincoat.\n    panels:\n      - {id: after",
    )
    assert [found.code for found in check(story)] == []


def test_an_empty_text_ends_the_night_and_the_rain(tmp_path: Path) -> None:
    story = written(tmp_path)
    edit(story, "{id: after, scene: pond,", '{id: after, scene: pond, time: "", weather: "",')
    asked = prompts(read(story))
    assert "at night" in asked["rain"]
    assert "night" not in asked["after"]
    assert "rain," not in asked["after"]


def test_editors_are_told_that_words_alone_will_do() -> None:
    outfits = schema()["properties"]["outfits"]  # type: ignore[index]
    assert "Variant" in str(outfits)
    assert {"type": "string"} in schema()["$defs"]["Variant"]["anyOf"]  # type: ignore[index]
