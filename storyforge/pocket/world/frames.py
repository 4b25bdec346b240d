"""Where heads, bodies and objects lie alike: the frames in which the embedded model draws them.

A head is lifted by a pose, leaned by another, and made larger by a build, and so is a body; where
that is undone, all heads lie on each other, and all bodies do.
"""

import math
from typing import Any, Final

import numpy as np

from storyforge.pocket.world.looks import BUILDS, POSES
from storyforge.pocket.world.meaning import MEANINGS, PLACE_OF, Vector, code, landmark_groups
from storyforge.pocket.world.proportions import BUILD_SHAPES, LEAN, LIFT

HEAD, BODY, OBJECT = (0.5, 0.5, -0.15), (0.56, 0.44, -0.31), (0.575, 0.575, -0.5)
"""Half the width and half the height of each frame, and the height of its middle, in units of a
creature; y is down."""

FACE: Final = (-0.275, -0.25, 0.275, 0.235)
"""Left, top, right and bottom of a skull, in units of a head around its middle; y is down."""

ATLASES: Final[tuple[tuple[int, int, tuple[str, ...]], ...]] = (
    (48, 20, ("species", "accessory", "crown", "marks")),
    (
        40,
        16,
        (
            "species",
            "garment",
            "accessory",
            "pose",
            "pattern",
            "marks",
            "held",
            "wings",
            "glow",
        ),
    ),
    (40, 12, ("things", "pattern", "glow")),
    (32, 12, ("places", "arrangement", "pose", "pattern")),
)
"""Of heads, bodies, objects and places: nodes a side, features, and the landmarks with a plane."""


def atlases() -> tuple[dict[str, Any], ...]:
    """`ATLASES` as the autoencoder reads them."""
    known = landmark_groups()
    return tuple(
        {"side": side, "width": width, "groups": [list(known[name]) for name in names]}
        for side, width, names in ATLASES
    )


def face_frame() -> tuple[tuple[int, int], int, tuple[float, float, float, float]]:
    """Landmarks of those that have a face (the first, and how many), the frame of heads, and where
    in it a face lies: left, top, right and bottom."""
    wide, high, middle = HEAD
    left, top, right, bottom = FACE
    box = (left / wide, (top - middle) / high, right / wide, (bottom - middle) / high)
    return landmark_groups()["species"], 0, box


def frames() -> tuple[Vector, Vector, Vector]:
    """Points among the numbers told, how much each of those counts, and maps of spots from there.

    Returns:
      (f, `MEANINGS`), the same, and (f, 3, 2, 3): to heads, bodies and objects
    """
    points, maps = [], []
    for pose in ("", *POSES):
        for build in BUILDS:
            point = np.zeros(MEANINGS, np.float32)
            point[PLACE_OF["pose"]] = code("pose", pose)
            point[PLACE_OF["build"]] = code("build", build)
            points.append(point)
            maps.append(_maps(pose, build))
    minding = np.zeros(MEANINGS, np.float32)
    minding[PLACE_OF["pose"]] = minding[PLACE_OF["build"]] = 1.0
    return np.stack(points), np.tile(minding, (len(points), 1)), np.array(maps, np.float32)


def _maps(pose: str, build: str) -> list[Vector]:
    """Of spots to each frame, (2, 3)."""
    shape, turn = BUILD_SHAPES[build], math.radians(LEAN if pose == "running" else 0.0)
    cos, sin = math.cos(turn), math.sin(turn)
    # Spots to units of the creature, feet at the origin, then upright.
    units = _affine(0.5, 0.5, -0.5)
    upright = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) @ _affine(
        0.5, 0.5, -0.5 - LIFT.get(pose, 0.0)
    )
    head = _affine(1 / shape.head, 1 / shape.head, shape.neck / shape.head)
    body = _affine(1 / shape.wide, 1 / shape.tall, 0.0)
    found = _fitted(HEAD) @ head @ upright, _fitted(BODY) @ body @ upright, _fitted(OBJECT) @ units
    return [each[:2].astype(np.float32) for each in found]


def _affine(across: float, down: float, further: float) -> Vector:
    """(3, 3) what makes wider and higher, then moves down."""
    return np.array([[across, 0, 0], [0, down, further], [0, 0, 1]])


def _fitted(frame: tuple[float, float, float]) -> Vector:
    """Units of a creature to [−1, 1]² in a frame."""
    wide, high, middle = frame
    return _affine(1 / wide, 1 / high, -middle / high)
