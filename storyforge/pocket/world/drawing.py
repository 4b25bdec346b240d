"""Painting a picture of the world at any size, and where its faces are."""

from dataclasses import dataclass

import numpy as np
import skia

from storyforge.pocket.world import brush as paint
from storyforge.pocket.world.brush import INK, Brush, Point
from storyforge.pocket.world.creatures import draw_creature
from storyforge.pocket.world.looks import COLOURS, DYES, Look
from storyforge.pocket.world.picture import Picture, Subject
from storyforge.pocket.world.places import draw_place, fall
from storyforge.pocket.world.proportions import Box, eyes_box, head_box
from storyforge.pocket.world.things import draw_thing, glow

INK_WIDTH = 0.0095  # of a subject's lines, in fractions of the picture
CLOSE = 0.8
"""Size from which lines grow with the subject, as if one had come nearer."""

SHADE = (0.24, 0.035)
"""Half the width and height of what a subject darkens on the ground, in its own size."""
SHADE_OPACITY = 0.25

WARM = "#ffe9a0"
"""The light of objects that glow."""


def draw(picture: Picture, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Paint it.

    Returns:
      (size, size, 3)  uint8, RGB
      (n, size, size)  uint8, the visible coverage 0..255 of each subject, in the order given
    """
    base = _place(picture, size)
    canvas = base.getCanvas()
    masks: list[np.ndarray] = []
    for subject in picture.subjects:
        _shadow(Brush(canvas, 0.008), subject)
        made = _layer(subject, size)
        alpha = paint.pixels(made)[..., 3]
        masks = [np.minimum(mask, 255 - alpha) for mask in masks] + [alpha]
        canvas.save()
        canvas.resetMatrix()
        canvas.drawImage(made.makeImageSnapshot(), 0, 0)
        canvas.restore()
    fall(Brush(canvas, 0.008), picture.weather)
    return paint.pixels(base)[..., :3].copy(), np.array(masks).reshape(-1, size, size)


def ground(picture: Picture, size: int) -> np.ndarray:
    """(size, size, 3) uint8, the place before anybody stands there and anything falls."""
    return paint.pixels(_place(picture, size))[..., :3].copy()


def falling(weather: str, size: int) -> np.ndarray:
    """(size, size, 4) uint8, what falls before everybody: its colours, and how opaque it is."""
    made = paint.surface(size)
    made.getCanvas().scale(size, size)
    fall(Brush(made.getCanvas(), 0.008), weather)
    return paint.pixels(made)


def _place(picture: Picture, size: int) -> skia.Surface:
    made = paint.surface(size)
    made.getCanvas().scale(size, size)
    draw_place(
        Brush(made.getCanvas(), 0.008),
        picture.place,
        picture.time,
        picture.weather,
        np.random.default_rng(picture.seed),
        sky=picture.sky,
        tint=picture.tint,
    )
    return made


def layer(subject: Subject, size: int) -> np.ndarray:
    """(size, size, 4) uint8, a subject before nothing: its colours, and how opaque it is."""
    return paint.pixels(_layer(subject, size))


def _layer(subject: Subject, size: int) -> skia.Surface:
    made = paint.surface(size)
    made.getCanvas().scale(size, size)
    put(Brush(made.getCanvas(), ink_width(subject.size) / subject.size), subject)
    return made


def ink_width(size: float) -> float:
    """Of the lines of a subject of this size, in fractions of the picture."""
    return INK_WIDTH * max(1.0, size / CLOSE)


def _shadow(b: Brush, subject: Subject) -> None:
    wide, high = (subject.size * each for each in SHADE)
    b.oval(subject.x, subject.ground, wide, high, INK, line=False, alpha=SHADE_OPACITY)


def shadow() -> tuple[Point, Point, tuple[float, float, float], float]:
    """Middle and half sizes of an ellipse on the ground as spots are told, its colour in [−1, 1]
    and its opacity."""
    red, green, blue = (int(INK[i : i + 2], 16) / 127.5 - 1 for i in (1, 3, 5))
    return (0.0, 1.0), (2 * SHADE[0], 2 * SHADE[1]), (red, green, blue), SHADE_OPACITY


def put(b: Brush, subject: Subject) -> None:
    """Draw a subject in its place; the brush is as wide as its lines are in the subject's size."""
    what = subject.what
    with b.at(subject.x, subject.ground, scale=subject.size):
        if isinstance(what, Look):
            draw_creature(b, what)
            return
        if what.glow:
            glow(b, 0, -0.45, 0.75, WARM)
        draw_thing(b, what.name, COLOURS[what.colour], what.pattern, DYES[what.pattern_colour])


@dataclass(frozen=True, slots=True)
class Face:
    """Boxes around a creature's head and its eyes: left, top, right, bottom in fractions."""

    head: Box
    eyes: Box


def faces(picture: Picture) -> tuple[Face | None, ...]:
    """Where each subject's face is, in the order of the subjects; objects have none.

    A box is cut at the picture's edges. Who stands in front may hide what is in it.
    """
    found: list[Face | None] = []
    for subject in picture.subjects:
        look = subject.what
        if isinstance(look, Look):
            found.append(Face(_placed(head_box(look), subject), _placed(eyes_box(look), subject)))
        else:
            found.append(None)
    return tuple(found)


def _placed(box: Box, subject: Subject) -> Box:
    left, top, right, bottom = (subject.size * value for value in box)
    return (
        min(1.0, max(0.0, subject.x + left)),
        min(1.0, max(0.0, subject.ground + top)),
        min(1.0, max(0.0, subject.x + right)),
        min(1.0, max(0.0, subject.ground + bottom)),
    )


def sheet(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    """Tile equally sized (h, w, 3) pictures row by row."""
    blank = np.full_like(pictures[0], 255)
    rows = [
        np.concatenate((pictures[i : i + columns] + [blank] * columns)[:columns], axis=1)
        for i in range(0, len(pictures), columns)
    ]
    return np.concatenate(rows, axis=0)
