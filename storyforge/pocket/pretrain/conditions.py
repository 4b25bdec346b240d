"""What the illustrator gives for free to learn control from: sketches and stick figures.

Stick figures are drawn by `storyforge.pose`, as a layout's are: a named pose in its room, which
stands where the creature stands and is as high. Sketches are white lines on black, of three kinds:
all lines of the subjects, their edges alone, and the outlines that a layout draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from storyforge.geometry.box import Box
from storyforge.geometry.pose import (
    POSES,
    WIDTH,
    Facing,
    Joint,
    Skeleton,
    Stand,
    skeleton,
    sketch_picture,
    stick_figures,
)
from storyforge.pocket import world
from storyforge.pocket.world import pencil
from storyforge.pocket.world.looks import Look
from storyforge.pocket.world.proportions import stature

SIDE: Final = 256
UNSTEADY: Final = 0.012
"""How far a joint may stand off, in heights of the figure: nobody's proportions are alike."""

KINDS: Final = (0.6, 0.2, 0.2)
"""Shares of the three kinds of sketches."""


def stand_of(subject: world.Subject) -> Stand:
    """Where a subject stands and what its body does; no pose for what is no creature."""
    tall = _stature(subject)
    half = tall * WIDTH / 2
    box = Box(
        x0=max(0.0, subject.x - half),
        y0=max(0.0, subject.ground - tall),
        x1=min(1.0, subject.x + half),
        y1=min(1.0, subject.ground),
    )
    if not isinstance(subject.what, Look):
        return Stand(box, None)
    facing: Facing = "left" if subject.what.mirror else "right"
    return Stand(box, next(pose for pose in POSES if pose == subject.what.pose), facing)


def _stature(subject: world.Subject) -> float:
    """How tall it stands, in fractions of the picture."""
    return subject.size * (stature(subject.what) if isinstance(subject.what, Look) else 1.0)


def figure_of(subject: world.Subject, generator: np.random.Generator, size: int) -> Skeleton | None:
    """A creature's skeleton in pixels: half of them look at us, half to where they turn."""
    stand = stand_of(subject)
    if stand.pose is None:
        return None
    body = skeleton(stand.pose, stand.facing)
    if generator.random() < 0.5:
        body = skeleton(stand.pose)
        body = body.mirrored() if stand.facing == "left" else body
    body = _unsteady(body, generator)
    high = _stature(subject) * float(generator.uniform(0.92, 1.08))
    left = subject.x - high * WIDTH / 2 + float(generator.uniform(-0.02, 0.02))
    top = subject.ground - high + float(generator.uniform(-0.02, 0.02))
    return body.placed(left * size, top * size, high * WIDTH * size, high * size)


def _unsteady(body: Skeleton, generator: np.random.Generator) -> Skeleton:
    offsets = generator.normal(0, UNSTEADY, (len(body.joints), 2))
    joints = tuple(
        joint and Joint(joint.x + float(dx), joint.y + float(dy))
        for joint, (dx, dy) in zip(body.joints, offsets, strict=True)
    )
    return Skeleton(joints, body.head, body.radius)


def keypose(
    picture: world.Picture, generator: np.random.Generator, size: int = SIDE
) -> Image.Image:
    """RGB: a stick figure for each creature, those in front over those behind."""
    bodies = [figure_of(subject, generator, size) for subject in picture.subjects]
    return stick_figures([body for body in bodies if body is not None], size, size)


def sketch(picture: world.Picture, generator: np.random.Generator, size: int = SIDE) -> Image.Image:
    """Greyscale: white lines on black, of a kind that the generator choose."""
    kind = int(generator.choice(len(KINDS), p=KINDS))
    if kind == 0:
        return Image.fromarray(pencil.sketch(picture, size))
    if kind == 1 or any(subject.view != "whole" for subject in picture.subjects):
        return _edges(picture, size)
    return sketch_picture([stand_of(subject) for subject in picture.subjects], size, size)


def _edges(picture: world.Picture, size: int) -> Image.Image:
    """Edges of what is seen of each subject, nothing inside."""
    lines = Image.new("L", (size, size))
    for mask in world.draw(picture, size)[1]:
        seen = Image.fromarray(mask)
        wide, narrow = seen.filter(ImageFilter.MaxFilter(3)), seen.filter(ImageFilter.MinFilter(3))
        lines = ImageChops.lighter(lines, ImageChops.subtract(wide, narrow))
    return lines


CONDITIONS: Final[dict[str, Callable[..., Image.Image]]] = {
    "keypose": keypose,
    "sketch": sketch,
}
"""By what an adapter reads: of a picture, a generator and pixels a side."""
