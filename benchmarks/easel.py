"""A picture, and drawings of it by the illustrator: how far they are apart.

A drawing is put together from a scene and from layers that are kept, so that one thing after the
other may be tried. Not covered: what to try.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from storyforge.pocket import world
from storyforge.pocket.world import brush
from storyforge.pocket.world.brush import Brush
from storyforge.pocket.world.picture import Picture, Subject

SIZE: Final = 128
"""Pixels a side in which pictures are compared."""
MOST: Final = 0.3
"""How far apart two pixels may be at most, of 1: what is not found yet is not to count for all."""
KEPT: Final = 512
"""Layers that are remembered."""

Pixels = NDArray[np.float32]

STILL: Final = SIZE // 2, 9 * SIZE // 10
"""Column and row where those stand who are remembered."""
BEYOND: Final = SIZE // 2
"""Pixels around the picture that they may reach into."""


class Layer(NamedTuple):
    """Somebody with a shadow, before nothing.

    rows, columns  of the picture that are drawn on, or beyond it before it is moved there
    colours        (3, h, w) times opacity
    clear          (h, w) 1 less opacity
    """

    rows: slice
    columns: slice
    colours: Pixels
    clear: Pixels


class Easel:
    """A picture, and drawings of it that come nearer and nearer."""

    def __init__(self, picture: NDArray[np.uint8]) -> None:
        """Of any size."""
        small = Image.fromarray(picture).resize((SIZE, SIZE), Image.Resampling.BOX)
        self.wanted = _planes(np.asarray(small))
        self.layers: dict[Subject, Layer] = {}
        self.scenes: dict[Picture, Pixels] = {}
        self.falling: dict[str, Pixels] = {}

    def apart(self, picture: Picture) -> float:
        """How far it is from a drawing, 0 to `MOST`."""
        red, green, blue = np.abs(self.drawn(picture) - self.wanted)
        return float(np.minimum(red + green + blue, 3 * MOST).mean()) / 3

    def drawn(self, picture: Picture) -> Pixels:
        """(3, h, w) in [0, 1]."""
        made = self._scene(picture).copy()
        for subject in picture.subjects:
            rows, columns, colours, clear = self._layer(subject)
            there = made[:, rows, columns]
            there *= clear
            there += colours
        if picture.weather != "clear":
            falling = self._falling(picture.weather)
            made += falling[3:] * (falling[:3] - made)
        return made

    def _falling(self, weather: str) -> Pixels:
        if weather not in self.falling:
            self.falling[weather] = _planes(world.falling(weather, SIZE))
        return self.falling[weather]

    def _scene(self, picture: Picture) -> Pixels:
        key = replace(picture, subjects=())
        if key not in self.scenes:
            self.scenes[key] = _planes(world.ground(key, SIZE))
        return self.scenes[key]

    def _layer(self, subject: Subject) -> Layer:
        """Somebody, on whole pixels: who only moves need not be drawn anew."""
        if subject.size > 1:
            return self._kept(subject)
        column, row = round(subject.x * SIZE), round(subject.ground * SIZE)
        still = self._kept(replace(subject, x=STILL[0] / SIZE, ground=STILL[1] / SIZE))
        return _moved(still, column - STILL[0], row - STILL[1])

    def _kept(self, subject: Subject) -> Layer:
        if subject not in self.layers:
            if len(self.layers) > KEPT:
                self.layers.clear()
            self.layers[subject] = _layer_of(subject)
        return self.layers[subject]

    def best(self, now: Picture, others: Iterable[Picture], margin: float = 0.0) -> Picture:
        """The nearest of them; what is now, unless another is nearer by so much."""
        least = self.apart(now) - margin
        for other in others:
            far = self.apart(other)
            if far < least:
                now, least = other, far
        return now


def _planes(picture: NDArray[np.uint8]) -> Pixels:
    """(h, w, c) to (c, h, w) in [0, 1]."""
    made: Pixels = np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32) / np.float32(255)
    return made


def _layer_of(subject: Subject) -> Layer:
    """Somebody with a shadow, before nothing; who is no larger than the picture whole, wherever
    that is."""
    beyond = 0 if subject.size > 1 else BEYOND
    side = SIZE + 2 * beyond
    made = brush.surface(side)
    made.getCanvas().translate(beyond, beyond)
    made.getCanvas().scale(SIZE, SIZE)
    world.put(Brush(made.getCanvas(), world.ink_width(subject.size) / subject.size), subject)
    *colours, opacity = _planes(brush.pixels(made))
    _, (wide, high), ink, much = world.shadow()
    at = (np.arange(side, dtype=np.float32) - beyond + 0.5) / SIZE
    across = (at - subject.x) / (wide * subject.size / 2)
    down = (at - subject.ground) / (high * subject.size / 2)
    shade = much * (down[:, None] ** 2 + across**2 < 1) * (1 - opacity)
    clear = 1 - opacity - shade
    rows, columns = (np.flatnonzero((clear < 1).any(axis)) for axis in (1, 0))
    if not len(rows):
        rows = columns = np.zeros(1, int)
    here = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    planes = np.empty((3, *clear[here].shape), np.float32)
    for plane, colour, dye in zip(planes, colours, ink, strict=True):
        plane[:] = (opacity * colour + shade * ((dye + 1) / 2))[here]
    drawn_on, across_them = (slice(each.start - beyond, each.stop - beyond) for each in here)
    return Layer(drawn_on, across_them, planes, clear[here].astype(np.float32))


def _moved(layer: Layer, right: int, down: int) -> Layer:
    """As much of it as is in the picture, so many pixels further."""
    rows, high = _within(layer.rows, down)
    columns, wide = _within(layer.columns, right)
    return Layer(rows, columns, layer.colours[:, high, wide], layer.clear[high, wide])


def _within(at: slice, by: int) -> tuple[slice, slice]:
    """Where what lies `at` lies so much further, as far as that is in the picture; and which part
    of it that is."""
    first = min(max(at.start + by, 0), SIZE)
    last = min(max(at.stop + by, first), SIZE)
    return slice(first, last), slice(first - by - at.start, last - by - at.start)


def rgb(colour: str) -> Pixels:
    """(3,) in [0, 1], of `#rrggbb`."""
    made: Pixels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.float32)
    return made / np.float32(255)
