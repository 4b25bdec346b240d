"""The shapes of balloons: outlines of lines and cubic curves round words, with a tail to a point.

Pure geometry; where a balloon stands and what its tail points at is decided in `lettering`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final

from storyforge.book.leaf import Outline, Point, Rect, Stroke

_ROUNDNESS: Final = 2.6
"""Exponent of the superellipse: 2 is an ellipse, more is squarer and wastes less room."""

_SAMPLES: Final = 64
_CIRCLE: Final = 0.5523
"""Handle length of the cubic that comes nearest to a quarter of a circle."""

_SPIKE: Final = (0.9, 0.55, 1.0, 0.45, 0.8, 0.6)
"""Lengths of a shout's spikes, in letter sizes: uneven, so that it looks drawn."""


def padded(text: Rect, size: float, kind: str) -> Rect:
    """The rectangle that a balloon of this kind takes round `text`, without its tail."""
    if kind == "sound":
        return text.inset(-0.1 * size)
    if kind == "caption":
        return text.inset(-0.7 * size, -0.45 * size)
    across = 0.06 * text.width + (1.25 if kind in {"shout", "thought"} else 0.75) * size
    down = 0.10 * text.height + (1.05 if kind in {"shout", "thought"} else 0.6) * size
    return text.inset(-across, -down)


def outline(body: Rect, size: float, kind: str, tip: Point | None) -> tuple[Outline, ...]:
    """The closed outlines of a balloon that fills `body`, its tail ending at `tip`."""
    if kind == "sound":
        return ()
    if kind == "caption":
        return (_rounded(body, 0.35 * size),)
    if kind == "thought":
        return (_cloud(body.inset(0.3 * size), size), *_bubbles(body, size, tip))
    if kind == "shout":
        return (_burst(body, size, tip),)
    return (_bubble(body, size, tip),)


def edge_towards(body: Rect, target: Point) -> Point:
    """Where the line from the middle of the balloon to `target` leaves it."""
    centre = body.centre()
    across, down = target.x - centre.x, target.y - centre.y
    reach = (
        abs(across / (body.width / 2)) ** _ROUNDNESS + abs(down / (body.height / 2)) ** _ROUNDNESS
    ) ** (1 / _ROUNDNESS)
    if reach == 0:
        return centre
    return Point(centre.x + across / reach, centre.y + down / reach)


def _ring(body: Rect, samples: int) -> list[Point]:
    """Points on the superellipse inside `body`, clockwise from the right, evenly apart."""
    fine = [_on_superellipse(body, 2 * math.pi * step / 720) for step in range(721)]
    lengths = [0.0]
    for before, after in itertools.pairwise(fine):
        lengths.append(lengths[-1] + math.dist(before, after))
    ring: list[Point] = []
    index = 0
    for step in range(samples):
        wanted = lengths[-1] * step / samples
        while lengths[index + 1] <= wanted:
            index += 1
        ring.append(fine[index])
    return ring


def _on_superellipse(body: Rect, angle: float) -> Point:
    centre, power = body.centre(), 2 / _ROUNDNESS
    across = math.copysign(abs(math.cos(angle)) ** power, math.cos(angle))
    down = math.copysign(abs(math.sin(angle)) ** power, math.sin(angle))
    return Point(centre.x + across * body.width / 2, centre.y + down * body.height / 2)


def _opened(ring: Sequence[Point], centre: Point, tip: Point, width: float) -> list[Point]:
    """The ring without the part, `width` wide, that faces `tip`; it begins after that gap."""
    length = math.dist(centre, tip) or 1.0
    across, down = (tip.x - centre.x) / length, (tip.y - centre.y) / length

    def in_gap(point: Point) -> bool:
        x, y = point.x - centre.x, point.y - centre.y
        return x * across + y * down > 0 and abs(x * down - y * across) < width / 2

    gap = [in_gap(point) for point in ring]
    if not any(gap):
        nearest = min(range(len(ring)), key=lambda index: math.dist(ring[index], tip))
        gap[nearest] = True
    first = next(i for i in range(len(ring)) if gap[i - 1] and not gap[i])
    turned = [*range(first, len(ring)), *range(first)]
    return [ring[index] for index in turned if not gap[index]]


def _bubble(body: Rect, size: float, tip: Point | None) -> Outline:
    ring = _ring(body, _SAMPLES)
    if tip is None:
        return (Stroke("M", (ring[0],)), *_smooth([*ring, ring[0]], closed=True), Stroke("Z", ()))
    centre = body.centre()
    open_ring = _opened(ring, centre, tip, min(1.5 * size, 0.4 * body.width))
    start, end = open_ring[0], open_ring[-1]
    return (
        Stroke("M", (start,)),
        *_smooth(open_ring, closed=False),
        _tail_side(end, tip, centre),
        _tail_side(tip, start, centre),
        Stroke("Z", ()),
    )


def _tail_side(start: Point, end: Point, centre: Point) -> Stroke:
    """One side of the tail, bent a little so that both sides lean the same way."""
    across, down = end.x - start.x, end.y - start.y
    lean = 0.10 if (start.x + end.x) / 2 >= centre.x else -0.10
    if math.dist(start, centre) > math.dist(end, centre):
        lean = -lean
    side = Point(-down * lean, across * lean)
    first = Point(start.x + across * 0.35 + side.x, start.y + down * 0.35 + side.y)
    second = Point(start.x + across * 0.7 + side.x, start.y + down * 0.7 + side.y)
    return Stroke("C", (first, second, end))


def _smooth(points: Sequence[Point], *, closed: bool) -> list[Stroke]:
    """Cubic curves through the points (Catmull and Rom)."""
    last = len(points) - 1
    strokes: list[Stroke] = []
    for index in range(last):
        a, b = points[index], points[index + 1]
        before = points[index - 1] if index else (points[-2] if closed else a)
        after = points[index + 2] if index + 2 <= last else (points[1] if closed else b)
        first = Point(a.x + (b.x - before.x) / 6, a.y + (b.y - before.y) / 6)
        second = Point(b.x - (after.x - a.x) / 6, b.y - (after.y - a.y) / 6)
        strokes.append(Stroke("C", (first, second, b)))
    return strokes


def _cloud(body: Rect, size: float) -> Outline:
    around = 2 * (body.width + body.height) * 0.86
    lobes = max(7, round(around / (2.1 * size)))
    ring = _ring(body, lobes)
    centre = body.centre()
    strokes = [Stroke("M", (ring[0],))]
    for a, b in zip(ring, [*ring[1:], ring[0]], strict=True):
        middle = Point((a.x + b.x) / 2, (a.y + b.y) / 2)
        out = math.dist(middle, centre) or 1.0
        bulge = 0.62 * math.dist(a, b)
        x, y = (middle.x - centre.x) / out * bulge, (middle.y - centre.y) / out * bulge
        strokes.append(Stroke("C", (Point(a.x + x, a.y + y), Point(b.x + x, b.y + y), b)))
    return (*strokes, Stroke("Z", ()))


def _bubbles(body: Rect, size: float, tip: Point | None) -> tuple[Outline, ...]:
    if tip is None:
        return ()
    start = edge_towards(body, tip)
    places = ((0.25, 0.42), (0.62, 0.30), (1.0, 0.19))
    return tuple(
        _circle(
            Point(start.x + (tip.x - start.x) * along, start.y + (tip.y - start.y) * along),
            radius * size,
        )
        for along, radius in places
    )


def _circle(centre: Point, radius: float) -> Outline:
    return _rounded(Rect(centre.x - radius, centre.y - radius, 2 * radius, 2 * radius), radius)


def _rounded(body: Rect, radius: float) -> Outline:
    x, y, right, bottom = body.x, body.y, body.right, body.bottom
    r, k = radius, radius * (1 - _CIRCLE)
    P = Point
    return (
        Stroke("M", (P(x + r, y),)),
        Stroke("L", (P(right - r, y),)),
        Stroke("C", (P(right - k, y), P(right, y + k), P(right, y + r))),
        Stroke("L", (P(right, bottom - r),)),
        Stroke("C", (P(right, bottom - k), P(right - k, bottom), P(right - r, bottom))),
        Stroke("L", (P(x + r, bottom),)),
        Stroke("C", (P(x + k, bottom), P(x, bottom - k), P(x, bottom - r))),
        Stroke("L", (P(x, y + r),)),
        Stroke("C", (P(x, y + k), P(x + k, y), P(x + r, y))),
        Stroke("Z", ()),
    )


def _burst(body: Rect, size: float, tip: Point | None) -> Outline:
    """A shout: valleys on the inner ring, spikes out to `body`, one of them drawn out to `tip`."""
    inner = body.inset(0.6 * size, 0.5 * size)
    valleys = max(9, round((inner.width + inner.height) / (1.25 * size)))
    ring = _ring(inner, 2 * valleys)
    centre = inner.centre()
    corners: list[Point] = []
    for index, point in enumerate(ring):
        if index % 2:
            out = math.dist(point, centre) or 1.0
            grow = 1 + _SPIKE[index // 2 % len(_SPIKE)] * size / out
            point = Point(
                centre.x + (point.x - centre.x) * grow, centre.y + (point.y - centre.y) * grow
            )
        corners.append(point)
    if tip is not None:
        spike = min(range(1, len(ring), 2), key=lambda index: math.dist(ring[index], tip))
        corners[spike] = tip
    lines = [Stroke("L", (corner,)) for corner in corners[1:]]
    return (Stroke("M", (corners[0],)), *lines, Stroke("Z", ()))
