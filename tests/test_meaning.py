"""What the cells of a picture of the world tell, in numbers."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("skia")

from storyforge.model.canonical import Named, settled
from storyforge.pocket import world
from storyforge.pocket.world.frames import HEAD, frames
from storyforge.pocket.world.looks import BUILDS, POSES, SPECIES, Look
from storyforge.pocket.world.meaning import (
    _CODES,
    FIELDS,
    KINDS,
    PLACE_OF,
    _of_creature,
    kinds,
    landmark_groups,
    landmarks,
    meanings,
    recoloured,
)
from storyforge.pocket.world.picture import Picture, Subject, Thing
from storyforge.pocket.world.places import ARRANGEMENTS, PLACES
from storyforge.pocket.world.proportions import head_middle
from storyforge.pocket.world.things import THINGS

FOX = Subject(Look("fox", "orange", "coat", "blue", extras=(("stripes", "gold"),)), 0.25, 0.9, 0.5)
BALL = Subject(Thing("ball", "red"), 0.75, 0.9, 0.3)
WHO = np.full((4, 4), -1, np.int8)
WHO[1:, :2], WHO[2:, 3] = 0, 1
COVER = np.where(WHO >= 0, 255, 0).astype(np.uint8)
FAR = np.zeros((4, 4), bool)
"""Cells without a neighbour that is covered."""
FAR[0, 3] = True
PICTURE = Picture("meadow", "night", "rain", (FOX, BALL), 0)


PARTS_OF_KINDS = ("species", "things", "places")


def told(picture: Picture = PICTURE) -> NDArray[np.float32]:
    return meanings(picture, WHO, COVER)


def changed(**look: object) -> Picture:
    fox = replace(FOX, what=replace(FOX.what, **look))
    return replace(PICTURE, subjects=(fox, BALL))


def different(one: NDArray[np.float32], other: NDArray[np.float32]) -> set[str]:
    return {name for name, at in PLACE_OF.items() if not np.array_equal(one[at], other[at])}


def test_the_kind_of_every_cell_is_found_again() -> None:
    found = np.array(KINDS)[kinds(told()[None])[0]]
    assert (found[WHO == 0] == "fox").all()
    assert (found[WHO == 1] == "ball").all()
    assert (found[FAR] == "meadow").all()


def test_every_kind_and_place_has_a_code_that_differs_in_two_signs_at_least() -> None:
    codes, one = [], np.zeros((1, 1), np.int8)
    for name in (*SPECIES, *THINGS):
        what = Look(name, "light" if name in ("girl", "boy") else "brown")
        subject = replace(FOX, what=what if name in SPECIES else Thing(name, "red"))
        codes.append(meanings(replace(PICTURE, subjects=(subject,)), one, one.astype(np.uint8)))
    for place in world.PLACES:
        codes.append(meanings(replace(PICTURE, place=place), one - 1, one.astype(np.uint8)))
    rows = np.stack(codes)[:, PLACE_OF["kind"], 0, 0]
    apart = np.abs(rows[:, None] - rows[None]).sum(-1) / 2 + 99 * np.eye(len(rows))
    assert apart.min() >= 2
    assert apart[: len(SPECIES), : len(SPECIES)].min() >= 4


def test_the_codes_are_those_that_the_weights_have_learnt() -> None:
    said = b"".join(_CODES[name][key].tobytes() for name in sorted(_CODES) for key in _CODES[name])
    assert hashlib.sha256(said).hexdigest()[:16] == "60e64ba69986497d"


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"garment_colour": "red"}, {"garment colour"}),
        ({"pose": "running"}, {"pose"}),
        ({"mirror": True}, {"mirror"}),
        ({"accessory": "hat"}, {"accessory", "accessory colour"}),
        ({"fur": "#123456"}, {"colour"}),
        ({"extras": ()}, {"pattern", "pattern colour"}),
        ({"extras": (("stripes", "gold"), ("horn", "gold"))}, {"crown", "crown colour"}),
        ({"extras": (("stripes", "gold"), ("patch", "black"))}, {"marks", "other colour"}),
        ({"extras": (("stripes", "gold"), ("glow", "gold"))}, {"glow", "shine colour"}),
        ({"build": "tall"}, {"build"}),
        ({"pose": "holding", "holding": "star"}, {"pose", "held", "held colour"}),
    ],
)
def test_what_changes_is_told_and_nothing_else(change: dict[str, object], fields: set[str]) -> None:
    other = told(changed(**change))
    assert different(told(), other) == fields
    elsewhere = FAR | (WHO == 1)
    assert np.array_equal(told()[:, elsewhere], other[:, elsewhere])


def test_cells_beside_a_subject_tell_of_it_and_how_much_of_them_it_covers() -> None:
    cover = COVER.copy()
    cover[0, 0] = 51
    made = meanings(PICTURE, WHO, cover)
    assert KINDS[kinds(made[None])[0, 0, 0]] == "fox"
    assert made[PLACE_OF["covered"]][0][0, 0] == pytest.approx(-0.6)
    assert made[PLACE_OF["covered"]][0][1, 0] == 1
    down = made[PLACE_OF["spot"]][1]
    assert down[1, 0] - down[0, 0] == pytest.approx(down[2, 0] - down[1, 0])


def test_a_cell_between_two_tells_of_the_one_that_covers_its_neighbour_more() -> None:
    who = np.array([[0, -1, 1]], np.int8)
    for cover, name in (([200, 0, 90], "fox"), ([90, 0, 200], "ball")):
        made = meanings(PICTURE, who, np.array([cover], np.uint8))
        assert KINDS[kinds(made[None])[0, 0, 1]] == name


def test_cells_know_where_in_their_subject_they_are() -> None:
    across, down = told()[PLACE_OF["spot"]]
    assert across[1, 0] == pytest.approx(2 * (0.125 - 0.25) / 0.5)
    assert down[3, 0] == pytest.approx(2 * (0.875 - 0.9) / 0.5 + 1)
    assert (across[FAR], down[FAR]) == (0.75, -0.75)


def test_a_place_tells_its_ground_and_which_of_its_arrangements_it_has() -> None:
    tinted = replace(PICTURE, place="grove", tint="violet")
    assert different(told(replace(PICTURE, place="grove")), told(tinted)) == {"colour"}
    codes = {
        told(replace(PICTURE, seed=n))[PLACE_OF["accessory"]][:, FAR].tobytes()
        for n in range(ARRANGEMENTS)
    }
    assert len(codes) == ARRANGEMENTS
    assert not told(replace(PICTURE, seed=2**20))[PLACE_OF["accessory"]][:, FAR].any()


def test_the_numbers_lie_around_nought_and_are_not_large() -> None:
    assert sum(FIELDS.values()) == world.MEANINGS == len(told())
    assert np.abs(told()).max() <= 2.5


def test_exchanged_colours_are_told_as_they_are_seen() -> None:
    order = np.array([2, 0, 1])
    found = recoloured(told(), order)
    names = {"colour", "garment colour", "pattern colour"}
    assert different(told(), found) == names
    for name in names:
        at = PLACE_OF[name]
        assert np.array_equal(found[at], told()[at][order])


def test_of_landmarks_those_are_near_that_are_told_and_no_other_of_their_kind() -> None:
    points, minding = landmarks()
    said = told()[:, 2, 0]
    near = np.exp(-(minding * (said - points) ** 2).sum(1))
    names = ("kind", "garment", "pose", "pattern")
    for name in names:
        place = PLACE_OF[name]
        alone = (minding[:, place] > 0).all(1) & (minding.astype(bool).sum(1) == FIELDS[name])
        found = near[alone]
        assert (found > 0.99).sum() == 1
        assert np.sort(found)[-2] < 0.2


def test_landmarks_lie_where_their_groups_say() -> None:
    points, minding = landmarks()
    groups = landmark_groups()
    assert sum(groups[name][1] for name in groups if name not in PARTS_OF_KINDS) == len(points)
    first, count = groups["places"]
    assert KINDS[first : first + count] == (*PLACES,)
    for name in (name for name in groups if name in FIELDS):
        rows = slice(groups[name][0], sum(groups[name]))
        assert (minding[rows, PLACE_OF[name]] > 0).all()
    near = np.exp(-(minding * (told()[:, 3, 0] - points) ** 2).sum(1))
    assert KINDS[near[: len(KINDS)].argmax()] == "fox"


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("mirror", [False, True])
def test_every_head_lies_in_the_middle_of_its_frame(pose: str, build: str, mirror: bool) -> None:
    look = Look("fox", "orange", pose=pose, build=build, mirror=mirror)
    points, _, maps = frames()
    said = _of_creature(look)
    apart = [
        np.abs(point[PLACE_OF["pose"]] - said["pose"]).sum()
        + np.abs(point[PLACE_OF["build"]] - said.get("build", 0.0)).sum()
        for point in points
    ]
    (x, y), side = head_middle(look), -1 if mirror else 1
    spot = np.array([side * 2 * x, 2 * y + 1, 1])
    wide, high, middle = HEAD
    found = maps[int(np.argmin(apart)), 0] @ spot * (wide, high) + (0, middle)
    np.testing.assert_allclose(found, 0, atol=1e-5)


def test_all_that_drawings_tell_is_among_what_has_a_name() -> None:
    figures, places = ([Named(*each) for each in listed] for listed in world.named())
    for seed in range(200):
        *subjects, place = world.told_of(world.imagine(np.random.default_rng(seed)))
        for told, names in [*((subject, figures) for subject in subjects), (place, places)]:
            one = torch.from_numpy(told).reshape(1, -1, 1, 1)
            assert torch.equal(settled(one, names), one)
