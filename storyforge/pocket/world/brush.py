"""Ink and gouache on a skia canvas: the few strokes that everything in the world is made of.

Coordinates are those of the caller's current transform; colours are `#rrggbb` strings. Foxes and
forests are not known here.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import numpy as np
import skia

INK = "#33242b"
Point = tuple[float, float]


def colour(value: str, alpha: float = 1.0) -> int:
    """ARGB of `#rrggbb` with an opacity in [0, 1]."""
    red, green, blue = (int(value[i : i + 2], 16) for i in (1, 3, 5))
    return int(skia.ColorSetARGB(round(alpha * 255), red, green, blue))


def mix(first: str, second: str, share: float) -> str:
    """`first` moved towards `second` by `share` in [0, 1]."""
    pairs = [(int(first[i : i + 2], 16), int(second[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def distance(first: str, second: str) -> float:
    """How far apart two colours are, in steps of 256."""
    pairs = [(int(first[i : i + 2], 16), int(second[i : i + 2], 16)) for i in (1, 3, 5)]
    return math.sqrt(sum((a - b) ** 2 for a, b in pairs))


class Brush:
    """Filled, inked shapes on one canvas; `ink` is the outline's width in local units."""

    def __init__(self, canvas: skia.Canvas, ink: float) -> None:
        """Draw on `canvas`."""
        self.canvas = canvas
        self.ink = ink

    def within(self, scale: float) -> Self:
        """The same brush for what is drawn at `scale` inside: its lines stay as wide."""
        return type(self)(self.canvas, self.ink / scale)

    @contextmanager
    def at(
        self, x: float, y: float, *, scale: float = 1.0, turn: float = 0.0, mirror: bool = False
    ) -> Iterator[None]:
        """Move the origin to (x, y), turned by `turn` degrees clockwise, then scaled."""
        self.canvas.save()
        self.canvas.translate(x, y)
        self.canvas.rotate(turn)
        self.canvas.scale(-scale if mirror else scale, scale)
        yield
        self.canvas.restore()

    @contextmanager
    def stretched(self, wide: float, tall: float) -> Iterator[None]:
        """Everything wider and taller, lines a little thicker or thinner with it."""
        self.canvas.save()
        self.canvas.scale(wide, tall)
        yield
        self.canvas.restore()

    @contextmanager
    def inside(self, path: skia.Path) -> Iterator[None]:
        """Clip what is drawn to `path`."""
        self.canvas.save()
        self.canvas.clipPath(path, True)
        yield
        self.canvas.restore()

    def path(
        self, path: skia.Path, fill: str | None, *, line: bool = True, alpha: float = 1.0
    ) -> None:
        """Fill `path`, then ink its outline."""
        if fill is not None:
            self.canvas.drawPath(path, skia.Paint(AntiAlias=True, Color=colour(fill, alpha)))
        if line:
            self.canvas.drawPath(path, self._pen(INK, self.ink))

    def oval(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        fill: str | None,
        *,
        line: bool = True,
        alpha: float = 1.0,
    ) -> None:
        """An ellipse around (x, y)."""
        self.path(oval(x, y, rx, ry), fill, line=line, alpha=alpha)

    def polygon(
        self, points: Sequence[Point], fill: str | None, *, line: bool = True, alpha: float = 1.0
    ) -> None:
        """A closed polygon."""
        self.path(polygon(points), fill, line=line, alpha=alpha)

    def blob(self, points: Sequence[Point], fill: str | None, *, line: bool = True) -> None:
        """A closed smooth curve through the middles of the sides of `points`."""
        self.path(blob(points), fill, line=line)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str | None,
        *,
        radius: float = 0.0,
        line: bool = True,
        alpha: float = 1.0,
    ) -> None:
        """A rectangle with its top left corner at (x, y)."""
        path = skia.Path()
        path.addRoundRect(skia.Rect.MakeXYWH(x, y, width, height), radius, radius)
        self.path(path, fill, line=line, alpha=alpha)

    def stroke(
        self, points: Sequence[Point], fill: str, width: float, *, line: bool = True
    ) -> None:
        """A round-ended line, inked on both sides when `line`."""
        path = skia.Path()
        path.moveTo(*points[0])
        if len(points) == 3:
            path.quadTo(*points[1], *points[2])
        else:
            for point in points[1:]:
                path.lineTo(*point)
        if line:
            self.canvas.drawPath(path, self._pen(INK, width + 2 * self.ink))
        self.canvas.drawPath(path, self._pen(fill, width))

    def trace(self, path: skia.Path, fill: str, width: float) -> None:
        """A bare line along `path`."""
        self.canvas.drawPath(path, self._pen(fill, width))

    def gradient(self, box: tuple[float, float, float, float], top: str, bottom: str) -> None:
        """Fill (x0, y0, x1, y1) from `top` to `bottom`, without an outline."""
        x0, y0, x1, y1 = box
        shader = skia.GradientShader.MakeLinear(
            [skia.Point(0, y0), skia.Point(0, y1)], [colour(top), colour(bottom)]
        )
        self.canvas.drawRect(skia.Rect.MakeLTRB(x0, y0, x1, y1), skia.Paint(Shader=shader))

    def _pen(self, ink: str, width: float) -> skia.Paint:
        return skia.Paint(
            AntiAlias=True,
            Color=colour(ink),
            Style=skia.Paint.kStroke_Style,
            StrokeWidth=width,
            StrokeCap=skia.Paint.kRound_Cap,
            StrokeJoin=skia.Paint.kRound_Join,
        )


def oval(x: float, y: float, rx: float, ry: float) -> skia.Path:
    """The ellipse around (x, y)."""
    path = skia.Path()
    path.addOval(skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry))
    return path


def polygon(points: Sequence[Point]) -> skia.Path:
    """The closed polygon of `points`."""
    path = skia.Path()
    path.addPoly([skia.Point(*point) for point in points], True)
    return path


def blob(points: Sequence[Point]) -> skia.Path:
    """A smooth closed curve: each point is the control of a quadratic between side middles."""
    path = skia.Path()
    count = len(points)
    middles = [
        (
            (points[i][0] + points[(i + 1) % count][0]) / 2,
            (points[i][1] + points[(i + 1) % count][1]) / 2,
        )
        for i in range(count)
    ]
    path.moveTo(*middles[-1])
    for control, end in zip(points, middles, strict=True):
        path.quadTo(*control, *end)
    path.close()
    return path


def star(x: float, y: float, outer: float, inner: float, tips: int = 5) -> skia.Path:
    """A star standing on two tips."""
    radii = [outer, inner] * tips
    return polygon(
        [
            (x + r * math.sin(math.pi * i / tips), y - r * math.cos(math.pi * i / tips))
            for i, r in enumerate(radii)
        ]
    )


def arc(x: float, y: float, radius: float) -> skia.Path:
    """The upper half of the circle around (x, y), open."""
    path = skia.Path()
    path.addArc(skia.Rect.MakeLTRB(x - radius, y - radius, x + radius, y + radius), 180, 180)
    return path


def surface(size: int) -> skia.Surface:
    """A transparent square canvas of `size` pixels."""
    return skia.Surface.MakeRaster(skia.ImageInfo.MakeN32Premul(size, size))


def pixels(made: skia.Surface) -> np.ndarray:
    """(size, size, 4) uint8, RGBA, straight alpha."""
    return np.array(made.makeImageSnapshot().toarray(colorType=skia.kRGBA_8888_ColorType))
