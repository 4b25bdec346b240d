"""Poses: keypoints in their places, mirrored, and as pictures of any size."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from storyforge.geometry.box import Box
from storyforge.geometry.pose import (
    COLOURS,
    KEYPOINTS,
    LIMBS,
    POSES,
    WIDTH,
    Pose,
    Stand,
    keypoint_picture,
    skeleton,
    sketch_picture,
)
from storyforge.pocket.world.looks import POSES as DRAWN

LEFT = Box(x0=0, y0=0.1, x1=0.5, y1=1)
RIGHT = Box(x0=0.5, y0=0.1, x1=1, y1=1)


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def test_the_poses_are_those_that_the_embedded_model_knows() -> None:
    assert set(POSES) == set(get_args(Pose)) == set(DRAWN)


def test_eighteen_keypoints_are_joined_by_seventeen_sticks_into_one_body() -> None:
    assert len(KEYPOINTS) == len(COLOURS) == 18
    reached = {1}
    for _ in LIMBS:
        reached |= {b for a, b in LIMBS if a in reached}
    assert len(LIMBS) == 17
    assert reached == set(range(18))


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("facing", [None, "left", "right"])
def test_every_pose_stays_in_its_room(pose: Pose, facing) -> None:
    body = skeleton(pose, facing)
    joints = [joint for joint in body.joints if joint is not None]
    assert all(0 <= joint.x <= WIDTH and 0 <= joint.y <= 1 for joint in joints)
    assert body.head.y - body.radius >= 0
    assert math.dist(body.head, body.joints[0]) < body.radius, "the nose is in the face"


@pytest.mark.parametrize(("one", "other"), [*itertools.combinations(POSES, 2)])
def test_no_two_poses_look_alike(one: Pose, other: Pose) -> None:
    first, second = skeleton(one).joints, skeleton(other).joints
    moved = [math.dist(a, b) for a, b in zip(first, second, strict=True) if a and b]
    assert max(moved) > 0.1


@pytest.mark.parametrize("pose", POSES)
def test_limbs_are_as_long_on_both_sides_of_a_body_that_faces_us(pose: Pose) -> None:
    joints = dict(zip(KEYPOINTS, skeleton(pose).joints, strict=True))
    for upper, lower in (("shoulder", "elbow"), ("elbow", "wrist"), ("knee", "ankle")):
        right = math.dist(joints[f"right_{upper}"], joints[f"right_{lower}"])
        left = math.dist(joints[f"left_{upper}"], joints[f"left_{lower}"])
        assert right == pytest.approx(left, abs=0.08)


def test_facing_left_is_the_mirror_of_facing_right_and_hands_keep_their_side() -> None:
    right, left = skeleton("waving", "right"), skeleton("waving", "left")
    wrist, other = KEYPOINTS.index("left_wrist"), KEYPOINTS.index("right_wrist")
    hand, twin = right.joints[wrist], left.joints[other]
    assert twin == pytest.approx((WIDTH - hand.x, hand.y))
    for joint, again in zip(right.joints, left.mirrored().joints, strict=True):
        assert joint == again or joint == pytest.approx(again)
    pictures = [
        pixels(keypoint_picture([Stand(box, "running", facing)], 96, 64))
        for box, facing in ((LEFT, "right"), (RIGHT, "left"))
    ]
    assert (pictures[0].sum(2) > 0).sum() > 50
    lit = [picture.sum(2) > 90 for picture in pictures]
    assert (lit[0] != lit[1][:, ::-1]).mean() < 0.01


def test_a_figure_is_as_large_as_its_box_allows_and_stands_on_its_floor() -> None:
    tall = skeleton("standing").placed(10, 20, 35, 100)
    assert max(joint.y for joint in tall.joints) == pytest.approx(120 - 0.04 * 50)
    assert tall.head.x == pytest.approx(10 + 35 / 2)
    wide = skeleton("standing").placed(0, 0, 300, 100)
    assert wide.radius == pytest.approx(2 * tall.radius)


@pytest.mark.parametrize("draw", [keypoint_picture, sketch_picture])
@pytest.mark.parametrize("size", [(64, 64), (96, 64), (40, 120)])
def test_pictures_have_the_size_asked_for_and_light_only_where_somebody_stands(draw, size) -> None:
    picture = draw([Stand(LEFT, "sitting")], *size)
    assert picture.size == size
    light = pixels(picture).reshape(size[1], size[0], -1).sum(2)
    assert light[:, : size[0] // 2].max() > 100
    assert light[:, size[0] // 2 + 1 :].max() == 0
    assert light[0, 0] == 0


def test_joints_have_the_colours_of_openpose() -> None:
    stand = Stand(Box(x0=0, y0=0, x1=1, y1=1), "standing")
    picture = keypoint_picture([stand], 512, 512)
    body = stand.skeleton(512, 512)
    for name in ("neck", "left_wrist", "right_ankle", "nose"):
        index = KEYPOINTS.index(name)
        joint = body.joints[index]
        assert picture.getpixel((round(joint.x), round(joint.y))) == COLOURS[index]


def test_who_stands_in_front_hides_who_is_behind() -> None:
    behind = Stand(Box(x0=0.2, y0=0, x1=0.8, y1=1), "standing")
    thing = Stand(Box(x0=0.3, y0=0.4, x1=0.7, y1=0.7), None)
    inside = (slice(60, 75), slice(45, 83))
    assert pixels(sketch_picture([behind], 128, 128))[inside].max() > 100
    assert pixels(sketch_picture([behind, thing], 128, 128))[inside].max() == 0
    assert pixels(sketch_picture([thing, behind], 128, 128))[inside].max() > 100


def test_what_is_no_body_has_an_outline_and_no_keypoints() -> None:
    thing = Stand(LEFT, None)
    assert thing.skeleton(64, 64) is None
    assert not pixels(keypoint_picture([thing], 64, 64)).any()
    assert pixels(sketch_picture([thing], 64, 64)).any()
