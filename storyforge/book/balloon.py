"""The shapes of balloons: outlines of lines and cubic curves round words, with a tail to a point.

Pure geometry; where a balloon stands and what its tail points at is decided in `lettering`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from storyforge.book.leaf import Balloon, Outline, Point, Rect, Stroke

_ROUNDNESS: Final = 2.6
"""Exponent of the superellipse: 2 is an ellipse, more is squarer and wastes less room."""

_INTO: Final = 0.12
"""A tail may reach this far into a face from its edge, as a share of it: faces are guessed."""

_TAIL_STEPS: Final = 24
_SAMPLES: Final = 64
_CIRCLE: Final = 0.5523
"""Handle length of the cubic that comes nearest to a quarter of a circle."""

BOXES: Final = frozenset({"caption", "narration"})
"""Kinds that stand in a box and have no tail."""

_SPIKE: Final = (0.9, 0.55, 1.0, 0.45, 0.8, 0.6)
"""Lengths of a shout's spikes, in letter sizes: uneven, so that it looks drawn."""


def turned(rect: Rect, degrees: float) -> Rect:
    """The upright rectangle round another one that is turned about its middle."""
    angle = math.radians(abs(degrees))
    width = rect.width * math.cos(angle) + rect.height * math.sin(angle)
    height = rect.width * math.sin(angle) + rect.height * math.cos(angle)
    return rect.inset((rect.width - width) / 2, (rect.height - height) / 2)


def padded(text: Rect, size: float, kind: str, tilt: float = 0.0) -> Rect:
    """The rectangle that a balloon of this kind takes round `text`, without its tail."""
    if kind == "sound":
        return turned(text.inset(-0.1 * size), tilt)
    if kind in BOXES:
        return text.inset(-0.7 * size, -0.45 * size)
    across = 0.06 * text.width + (1.25 if kind in {"shout", "thought"} else 0.75) * size
    down = 0.10 * text.height + (1.05 if kind in {"shout", "thought"} else 0.6) * size
    return text.inset(-across, -down)


def body_of(said: Balloon) -> Rect:
    """The rectangle that a lettered balloon takes, without its tail."""
    return padded(said.text, said.size, said.kind, said.tilt)


def balloon_outline(body: Rect, size: float, kind: str, tip: Point | None) -> tuple[Outline, ...]:
    """The closed outlines of a balloon that fills `body`, its tail ending at `tip`."""
    if kind == "sound":
        return ()
    if kind in BOXES:
        return (_rounded(body, (0.35 if kind == "caption" else 0.06) * size),)
    if kind == "thought":
        return (_cloud(body.inset(0.3 * size), size), *_bubbles(body, size, tip))
    if kind == "shout":
        return (_burst(body, size, tip),)
    return chain((body,), size, 0, tip) or ()


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


def pierces(body: Rect, tip: Point, face: Rect) -> bool:
    """Whether the tail of a balloon runs into a face, further than its edge may be wrong."""
    inner = face.inset(_INTO * face.width, _INTO * face.height)
    edge = edge_towards(body, tip)
    return any(
        inner.holds(Point(edge.x + (tip.x - edge.x) * s, edge.y + (tip.y - edge.y) * s))
        for s in (step / _TAIL_STEPS for step in range(_TAIL_STEPS + 1))
    )


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


def chain(
    bodies: Sequence[Rect], size: float, tail: int, tip: Point | None
) -> tuple[Outline, ...] | None:
    """One outline round balloons that are joined each to the next; body `tail` has the tail.

    None where a neck and another, or the tail, would meet.
    """
    strokes = _Chain(bodies, size, tail, tip).body(0)
    return None if strokes is None else ((*strokes, Stroke("Z", ())),)


def _facing(ring: Sequence[Point], centre: Point, target: Point, width: float) -> frozenset[int]:
    """Which points of the ring lie in the part, `width` wide, that faces `target`."""
    length = math.dist(centre, target) or 1.0
    across, down = (target.x - centre.x) / length, (target.y - centre.y) / length

    def in_gap(point: Point) -> bool:
        """Whether a point of the outline lies where the tail leaves."""
        x, y = point.x - centre.x, point.y - centre.y
        return x * across + y * down > 0 and abs(x * down - y * across) < width / 2

    gap = frozenset(index for index, point in enumerate(ring) if in_gap(point))
    nearest = min(range(len(ring)), key=lambda index: math.dist(ring[index], target))
    return gap or frozenset({nearest})


@dataclass(frozen=True, slots=True)
class _Chain:
    """Walks round a chain of balloons: out along each neck, and back on its other side."""

    bodies: Sequence[Rect]
    size: float
    tail: int
    tip: Point | None

    def gaps(self, index: int, ring: Sequence[Point]) -> dict[str, frozenset[int]]:
        """The parts of a ring that are open: to the balloons before and after, and to the tail."""
        body = self.bodies[index]
        centre = body.centre()
        neck = min(1.1 * self.size, 0.3 * body.width)
        gaps = {}
        if index:
            gaps["before"] = _facing(ring, centre, self.bodies[index - 1].centre(), neck)
        if index + 1 < len(self.bodies):
            gaps["after"] = _facing(ring, centre, self.bodies[index + 1].centre(), neck)
        if index == self.tail and self.tip is not None:
            width = min(1.5 * self.size, 0.4 * body.width)
            gaps["tail"] = _facing(ring, centre, self.tip, width)
        return gaps

    def body(self, index: int) -> list[Stroke] | None:
        """Strokes from where the ring begins round all that hangs on it; None if gaps meet."""
        ring = _ring(self.bodies[index], _SAMPLES)
        gaps = self.gaps(index, ring)
        if not gaps:
            return [Stroke("M", (ring[0],)), *_smooth([*ring, ring[0]], closed=True)]
        open_at = {point: name for name, gap in gaps.items() for point in gap}
        if len(open_at) < sum(len(gap) for gap in gaps.values()):
            return None
        home = "before" if index else next(iter(gaps))
        first = next(
            i
            for i in range(len(ring))
            if open_at.get(i - 1 if i else len(ring) - 1) == home and i not in open_at
        )
        turned_ring = [*ring[first:], *ring[:first]]
        names = [open_at.get((first + step) % len(ring)) for step in range(len(ring))]
        strokes = [Stroke("L" if index else "M", (turned_ring[0],))]
        start = 0
        while start < len(ring):
            end = next((i for i in range(start, len(ring)) if names[i]), len(ring))
            strokes += _smooth(turned_ring[start:end], closed=False)
            name = names[end] if end < len(ring) else None
            start = next((i for i in range(end, len(ring)) if names[i] != name), len(ring))
            out = self.excursion(index, name, turned_ring[end - 1], turned_ring[start % len(ring)])
            if out is None:
                return None
            strokes += out
        return strokes

    def excursion(
        self, index: int, gap: str | None, start: Point, end: Point
    ) -> list[Stroke] | None:
        """What leads from one side of a gap to the other; None if gaps further on meet."""
        centre = self.bodies[index].centre()
        if gap == "tail" and self.tip is not None:
            return [_tail_side(start, self.tip, centre), _tail_side(self.tip, end, centre)]
        if gap != "after":
            return []
        inner = self.body(index + 1)
        return None if inner is None else [*inner, Stroke("L", (end,))]


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
