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
from storyforge.pocket.world.picture import Picture, Subject

SIZE: Final = 128
"""Pixels a side in which pictures are compared."""
MOST: Final = 0.3
"""How far apart two pixels may be at most, of 1: what is not found yet is not to count for all."""
KEPT: Final = 512
"""Layers that are remembered."""

Pixels = NDArray[np.float32]

_AT: Final = (np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5) / SIZE


class Layer(NamedTuple):
    """Somebody with a shadow, before nothing.

    rows, columns  of the picture that are drawn on
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
    """Somebody with a shadow, before nothing."""
    *colours, opacity = _planes(world.layer(subject, SIZE))
    _, (wide, high), ink, much = world.shadow()
    y, x = _AT
    across = (x - subject.x) / (wide * subject.size / 2)
    down = (y - subject.ground) / (high * subject.size / 2)
    shade = much * (across**2 + down**2 < 1) * (1 - opacity)
    clear = 1 - opacity - shade
    rows, columns = (np.flatnonzero((clear < 1).any(axis)) for axis in (1, 0))
    if not len(rows):
        rows = columns = np.zeros(1, int)
    here = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    made = [
        opacity * plane + shade * (dye + 1) / 2 for plane, dye in zip(colours, ink, strict=True)
    ]
    return Layer(*here, np.stack(made)[:, *here].astype(np.float32), clear[here].astype(np.float32))


def rgb(colour: str) -> Pixels:
    """(3,) in [0, 1], of `#rrggbb`."""
    made: Pixels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.float32)
    return made / np.float32(255)
