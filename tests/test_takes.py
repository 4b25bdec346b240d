"""Which take to look at first: who has eyes, is alike and does as told."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from storyforge.evaluate.takes import EYES, TakeScore, ranking
from storyforge.metrics.eyes import eyes_seen
from storyforge.pocket.world import Picture, Subject, draw
from storyforge.pocket.world.drawing import faces
from storyforge.pocket.world.looks import PEOPLE, SKINS, SPECIES, Look


def head(*spots: tuple[int, int, int], ink: str = "#222", face: str = "#e8a060") -> Image.Image:
    """A round head on blue with spots of (x, y, radius)."""
    picture = Image.new("RGB", (96, 96), "#88bbee")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((4, 4, 92, 92), fill=face, outline="#333", width=3)
    for x, y, radius in spots:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    return picture


EYES_AT = (34, 40, 5), (62, 40, 5)


@pytest.mark.parametrize("size", [40, 96, 300])
def test_two_spots_side_by_side_are_eyes_however_large_the_head_is(size: int) -> None:
    assert eyes_seen(head(*EYES_AT).resize((size, size))) > 2 * EYES


def test_light_eyes_in_a_dark_face_are_eyes() -> None:
    assert eyes_seen(head(*EYES_AT, ink="#eee", face="#201830")) > 2 * EYES


@pytest.mark.parametrize(
    "spots",
    [(), EYES_AT[:1], ((48, 30, 5), (48, 60, 5)), ((34, 86, 4), (62, 86, 4))],
    ids=["none", "one", "one below the other", "below the chin"],
)
def test_these_are_no_eyes(spots: tuple[tuple[int, int, int], ...]) -> None:
    assert eyes_seen(head(*spots)) < EYES


def test_eyes_that_ran_are_none() -> None:
    assert eyes_seen(head(*EYES_AT).filter(ImageFilter.GaussianBlur(9))) < EYES


@pytest.mark.parametrize("species", SPECIES)
def test_everybody_the_illustrator_draws_has_eyes(species: str) -> None:
    skin = next(iter(SKINS)) if species in PEOPLE else "orange"
    look = Look(species, skin, "coat", "red", pose="standing")
    picture = Picture("meadow", "day", "clear", (Subject(look, 0.5, 0.95, 0.8),), 1)
    pixels, _ = draw(picture, 256)
    (face,) = faces(picture)
    assert face is not None
    shown = Image.fromarray(np.asarray(pixels)).crop([round(256 * side) for side in face.head])
    assert eyes_seen(shown) >= EYES


def test_whoever_has_no_eyes_comes_last_however_alike() -> None:
    scores = {0: TakeScore(0.9, 0.9, EYES / 2), 1: TakeScore(0.5, 0.5, 2 * EYES)}
    assert ranking(scores) == [1, 0]


def test_likeness_and_obedience_count_the_same_whatever_their_scales() -> None:
    scores = {
        0: TakeScore(0.80, 1.20, EYES),
        1: TakeScore(0.81, 0.60, EYES),
        2: TakeScore(0.70, 1.21, EYES),
    }
    assert ranking(scores) == [0, 1, 2]


def test_of_takes_that_weigh_the_same_the_more_alike_is_first() -> None:
    assert ranking({0: TakeScore(0.5, 0.7, EYES), 1: TakeScore(0.7, 0.5, EYES)}) == [1, 0]


def test_takes_that_nobody_could_judge_stay_in_their_order() -> None:
    assert ranking({number: TakeScore() for number in range(3)}) == [0, 1, 2]
    assert str(TakeScore()) == ""
