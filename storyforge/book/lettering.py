"""Where balloons stand in a picture: off the faces, near their speakers, in reading order.

Several places are kept for every utterance until the last one has found its own, so that an early
balloon does not take the room of a later one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from storyforge.book import balloon
from storyforge.book.leaf import Balloon, Outline, Point, Rect
from storyforge.book.placing import (
    LEADING,
    Figure,
    LetteringSpace,
    Place,
    Utterance,
    allowed,
    join_cost,
    joins,
    own_cost,
    places,
    tail_cost,
    tail_of,
)

__all__ = ["PAGE_SIZES", "SMALL", "SMALL_SIZES", "Figure", "LetteringSpace", "Utterance", "letter"]

PAGE_SIZES: Final = (20.0, 18.5, 17.0, 15.5, 14.0, 13.0, 12.0, 11.0, 10.0)
"""Letter sizes to try on a printed page, in points."""

SMALL: Final = 300.0
"""Width in points at which pictures are lettered for a small screen: a phone held upright."""

SMALL_SIZES: Final = (15.5, 14.5, 13.5, 12.5, 11.5)

_HIDDEN: Final = 0.07
"""A face may lose this share to balloons before smaller letters are tried."""

_STILL_LARGE: Final = 0.7
"""Letters of this share of the largest are tried where a tail would run into a face; smaller ones
are worse than that."""

_FACELESS: Final = 0.6
"""Hiding more than this of anybody is no room at all."""

_BODY: Final = 0.6
"""How much hiding a body counts against hiding a face."""

_KEPT: Final = 4
"""So many ways to place what was said so far are followed."""

_ZONES: Final = 3
"""Kept ways must differ: their last balloons stand in different cells of a grid this wide."""


def letter(
    says: Sequence[Utterance], stage: LetteringSpace, sizes: Sequence[float]
) -> tuple[Balloon, ...] | None:
    """Place all utterances at the largest size that leaves faces free, words whole if they fit.

    None if they do not fit in the order of reading, or only over a face.
    """
    return _lettered(says, stage, sizes, divide=False) or _lettered(says, stage, sizes, divide=True)


def _lettered(
    says: Sequence[Utterance], stage: LetteringSpace, sizes: Sequence[float], *, divide: bool
) -> tuple[Balloon, ...] | None:
    least_bad: tuple[float, tuple[Balloon, ...]] | None = None
    pierced: tuple[Balloon, ...] | None = None
    for size in sizes:
        if pierced and size < _STILL_LARGE * sizes[0]:
            break
        placed = _all_placed(says, stage, size, divide=divide)
        if placed is None:
            continue
        hidden, balloons = _hidden(placed, stage.figures), _drawn(placed, stage)
        if hidden <= _HIDDEN and not _pierce(balloons, stage.figures):
            return balloons
        if hidden <= _HIDDEN:
            pierced = pierced or balloons
        elif least_bad is None or hidden < least_bad[0] - 0.02:
            least_bad = (hidden, balloons)
    if pierced is not None:
        return pierced
    return least_bad[1] if least_bad and least_bad[0] <= _FACELESS else None


def _pierce(balloons: Sequence[Balloon], figures: Sequence[Figure]) -> bool:
    """Whether a tail runs into anybody's face."""
    faces = [figure.face for figure in figures if figure.alive]
    return any(
        balloon.pierces(balloon.body_of(said), said.tip, face)
        for said in balloons
        for face in faces
        if said.tip is not None
    )


def _hidden(placed: Sequence[Place], figures: Sequence[Figure]) -> float:
    """How much of anybody the balloons cover, 0 to 1; a body counts less than a face."""
    shares = [
        max(figure.face.covered(item.body), _BODY * figure.body.covered(item.body))
        for item in placed
        for figure in figures
        if figure.alive and item.said.kind != "sound"
    ]
    return max(shares, default=0.0)


@dataclass(frozen=True, slots=True)
class _Way:
    """A way to place what was said so far, what it costs, and the tails it has."""

    cost: float = 0.0
    placed: tuple[Place, ...] = ()
    tails: tuple[tuple[Point, Point], ...] = ()


def _all_placed(
    says: Sequence[Utterance], stage: LetteringSpace, size: float, *, divide: bool
) -> list[Place] | None:
    ways = [_Way()]
    for number, said in enumerate(says):
        found = list(places(said, stage, size, number, divide=divide))
        loudest = max((place.size for place in found), default=1.0)
        ranked = sorted(
            ((own_cost(place, stage, loudest), index) for index, place in enumerate(found)),
        )
        choices = [(cost, found[index]) for cost, index in ranked]
        joined = joins(said, says[:number])
        last = number == len(says) - 1
        grown = [
            longer for way in ways for longer in _longer(way, choices, stage, joined, last=last)
        ]
        ways = sorted(grown, key=lambda way: way.cost)[:_KEPT]
    return list(ways[0].placed) if ways else None


def _longer(
    way: _Way,
    choices: Sequence[tuple[float, Place]],
    stage: LetteringSpace,
    joined: bool,
    *,
    last: bool,
) -> Iterator[_Way]:
    """The way with one more balloon: the best place of all, or the best of every zone.

    `choices` are sorted by what they cost alone; more is only added, so the search can end early.
    """
    best: dict[tuple[int, int], tuple[float, Place]] = {}
    for alone, place in choices:
        zone = (0, 0) if last else _zone(place.body, stage.area)
        if zone in best and alone >= best[zone][0]:
            continue
        if not allowed(place, stage, way.placed):
            continue
        cost = alone
        if joined:
            cost += join_cost(place, way.placed[-1])
        if place.said.tailed and not joined:
            cost += tail_cost(place, stage, way.placed, way.tails)
        if zone not in best or cost < best[zone][0]:
            best[zone] = (cost, place)
    for cost, place in best.values():
        tails = way.tails
        if place.said.tailed and not joined:
            tails = (*tails, tail_of(place, stage))
        yield _Way(way.cost + cost, (*way.placed, place), tails)


def _zone(body: Rect, area: Rect) -> tuple[int, int]:
    middle = body.centre()
    column = int(_ZONES * (middle.x - area.x) / area.width)
    return column, int(_ZONES * (middle.y - area.y) / area.height)


def _drawn(placed: Sequence[Place], stage: LetteringSpace) -> tuple[Balloon, ...]:
    """The balloons with their shapes; those joined share the outline of the first."""
    drawn: list[Balloon] = []
    start = 0
    for end in range(1, len(placed) + 1):
        says = [place.said for place in placed]
        if end < len(placed) and joins(says[end], says[start:end]):
            continue
        drawn += _joined(placed[start:end], stage) or [
            _balloon(place, stage) for place in placed[start:end]
        ]
        start = end
    return tuple(drawn)


def _joined(chain: Sequence[Place], stage: LetteringSpace) -> list[Balloon] | None:
    """Balloons of one breath in one outline; None for one alone, or if they cannot be joined."""
    if len(chain) < 2:
        return None
    bodies = [place.body for place in chain]
    size = chain[0].size
    tails = [tail_of(place, stage) for place in chain]
    clear = [
        index
        for index, tail in enumerate(tails)
        if not any(_meets(tail, body) for other, body in enumerate(bodies) if other != index)
    ]
    mouth = stage.speaker(chain[0].said, chain[0].body).mouth
    for index in sorted(clear, key=lambda index: _away(tails[index][0], mouth)):
        outlines = balloon.chain(bodies, size, index, tails[index][1])
        if outlines is not None:
            first = replace(_bare(chain[0]), outlines=outlines, tip=tails[index][1])
            return [first, *(_bare(place) for place in chain[1:])]
    return None


def _away(point: Point, mouth: Point) -> float:
    return (point.x - mouth.x) ** 2 + (point.y - mouth.y) ** 2


def _meets(line: tuple[Point, Point], body: Rect) -> bool:
    """Whether a line runs over a balloon."""
    (start, end) = line
    steps = (step / 12 for step in range(1, 13))
    return any(
        body.holds(Point(start.x + (end.x - start.x) * s, start.y + (end.y - start.y) * s))
        for s in steps
    )


def _bare(place: Place) -> Balloon:
    """The words in their place, as yet without a shape."""
    return Balloon(
        kind=place.said.kind,
        speaker=place.said.speaker,
        lines=place.lines,
        text=place.text,
        size=place.size,
        leading=LEADING,
        face=place.said.face,
        outlines=(),
        tip=None,
        tilt=place.tilt,
    )


def _balloon(place: Place, stage: LetteringSpace) -> Balloon:
    tip = tail_of(place, stage)[1] if place.said.tailed else None
    outlines: tuple[Outline, ...] = balloon.balloon_outline(
        place.body, place.size, place.said.kind, tip
    )
    return replace(_bare(place), outlines=outlines, tip=tip)
