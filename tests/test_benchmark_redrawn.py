"""The judge that draws again names what was drawn, whatever it began with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import judge, redrawn
from benchmarks.misleading import misled
from storyforge.pocket import world
from storyforge.pocket.world import Look, Picture, Subject, Thing

FOX = Look(
    "fox",
    "mint",
    garment="shirt",
    garment_colour="yellow",
    accessory="scarf",
    accessory_colour="blue",
    pose="waving",
    extras=(("horn", "gold"), ("stripes", "red")),
)
LANTERN = Thing("lantern", "blue", "star", "orange", glow=True)
FAR = Picture(
    "beach",
    "sunset",
    "clear",
    (Subject(FOX, 0.25, 0.91, 0.58), Subject(LANTERN, 0.77, 0.88, 0.4)),
    3,
)
NEAR = Picture(
    "grove",
    "night",
    "clear",
    (
        Subject(
            Look("rabbit", "white", extras=(("antlers", "brown"),), build="small"), 0.5, 1.2, 1.2
        ),
    ),
    5,
    "big moon",
    "violet",
)
WRONG = Picture("town", "day", "rain", (), 0)


@pytest.mark.parametrize(
    ("shown", "begun"),
    [
        (FAR, replace(WRONG, subjects=(Subject(Look("cat", "grey"), 0.22, 0.9, 0.6),))),
        (NEAR, replace(WRONG, subjects=(Subject(Look("mouse", "grey"), 0.5, 0.9, 0.6),))),
    ],
)
def test_all_that_was_drawn_is_named(shown: Picture, begun: Picture) -> None:
    drawn = world.draw(shown, 512)[0]
    right, named = (judge.truth([each]) for each in (shown, redrawn.redrawn(drawn, begun)))
    asked = [name for name, value in right.items() if value[0] >= 0 and "view" not in name]
    assert {name: named[name][0] for name in asked} == {name: right[name][0] for name in asked}


@pytest.mark.parametrize("picture", [FAR, NEAR, replace(FAR, weather="fog")])
def test_a_drawing_is_nearest_to_what_it_is_of(picture: Picture) -> None:
    easel = redrawn.Easel(world.draw(picture, 512)[0])
    # Who is far away stands on whole pixels.
    assert easel.apart(picture) < 0.02
    first = picture.subjects[0]
    for other in (
        replace(picture, place="meadow"),
        replace(picture, subjects=picture.subjects[1:]),
        replace(picture, subjects=(replace(first, x=first.x + 0.03), *picture.subjects[1:])),
    ):
        assert easel.apart(other) > easel.apart(picture) + redrawn.MARGIN


def test_it_begins_with_what_the_learnt_judge_says() -> None:
    who = judge.open_judge()
    drawn = [world.draw(FAR, 512)[0], world.draw(NEAR, 256)[0]]
    said = judge.answers(who, judge.pixels(drawn))
    for index, guess in enumerate(redrawn.guesses(who, drawn)):
        again = judge.truth([guess])
        for side in judge.COLUMNS:
            assert again[f"{side}.kind"][0] == said[f"{side}.kind"][index]
        assert again["place"][0] == said["place"][index]


def test_a_judge_that_draws_again_is_asked_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redrawn, "redrawn", lambda picture, guess: FAR if picture.any() else NEAR)
    monkeypatch.setattr(redrawn, "guesses", lambda who, pictures: [WRONG for _ in pictures])
    judging = redrawn.judge_of(judge.Judge())
    black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    named, right = judging([white, black], ()), judge.truth([FAR, NEAR])
    assert all(np.array_equal(named[name], right[name]) for name in right)


def test_it_begins_with_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Picture] = []
    monkeypatch.setattr(redrawn, "redrawn", lambda _, guess: begun.append(guess) or guess)
    white = np.full((8, 8, 3), 255, np.uint8)
    redrawn.judge_of(judge.Judge())([white, white], [FAR, NEAR])
    assert begun == [FAR, NEAR]


@pytest.mark.parametrize("pose", ["sitting", "jumping", "holding"])
def test_who_is_told_to_stand_is_seen_to_do_otherwise(pose: str) -> None:
    cat = Look(
        "cat", "orange", "coat", "red", pose=pose, holding="gift" if pose == "holding" else None
    )
    shown = Picture("meadow", "day", "clear", (Subject(cat, 0.5, 0.92, 0.6),), 2)
    told = replace(
        shown,
        subjects=(replace(shown.subjects[0], what=replace(cat, pose="standing", holding=None)),),
    )
    (found,) = redrawn.redrawn(world.draw(shown, 512)[0], told).subjects
    assert isinstance(found.what, Look)
    assert found.what.pose == pose


def test_much_of_what_misleads_is_otherwise_and_all_of_it_can_be_drawn() -> None:
    rng = np.random.default_rng(0)
    shown = [judge.one_a_side(np.random.default_rng(seed)) for seed in range(200)]
    told = [misled(picture, rng) for picture in shown]
    for picture in told[:40]:
        assert world.draw(picture, 64)[0].shape == (64, 64, 3)
    right = judge.accuracy(judge.truth(told), judge.truth(shown))
    assert [len(each.subjects) for each in told] == [len(each.subjects) for each in shown]
    for name in ("place", "pose", "accessory", "fur", "colour"):
        assert 0.3 < right[name] < 0.95, name
