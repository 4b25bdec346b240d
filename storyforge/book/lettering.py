"""Where balloons stand in a picture: off the faces, near their speakers, in reading order.

The drawn figures are not looked for: a region says where its figure was asked to be, and its face
is taken to be in the upper middle of its body.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from storyforge.book import balloon
from storyforge.book.leaf import Balloon, BalloonKind, Face, Point, Rect
from storyforge.book.typeface import metrics, set_lines

PAGE_SIZES: Final = (20.0, 18.5, 17.0, 15.5, 14.0, 13.0, 12.0, 11.0, 10.0)
"""Letter sizes to try on a printed page, in points."""

SMALL: Final = 300.0
"""Width in points at which pictures are lettered for a small screen: a phone held upright."""

SMALL_SIZES: Final = (15.5, 14.5, 13.5, 12.5, 11.5)

_LEADING: Final = 1.16
_SCALES: Final = {"sound": 2.2, "shout": 1.2, "caption": 0.95}
"""Letters of some kinds against those of plain speech."""

_SHORTEST_TAIL: Final = 1.7
"""In letter sizes; a shorter one is not seen."""

_MEASURES: Final = (4.0, 5.0, 6.0, 7.0, 8.0, 9.5, 11.0, 13.0, 16.0, 20.0)
"""Line widths to try, in ems."""

_SHORT: Final = 12
_FLAT: Final = 3.4
"""So many characters are broken rather than set in a balloon so much wider than high."""

_STEPS: Final = 16
_HIDDEN: Final = 0.07
"""A face may lose this share to balloons before smaller letters are tried."""

_FACELESS: Final = 0.6
"""Hiding more than this of anybody is no room at all."""

_BELOW: Final = 6.0
"""What it costs to stand below the speaker's mouth: about a tenth of a face hidden."""

_BODY: Final = 0.6
"""How much hiding a body counts against hiding a face."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Somebody or something in a picture, in points.

    region  where it was asked to be
    body    where in its region it probably is
    alive   whether it has a face
    """

    name: str | None
    region: Rect
    body: Rect
    alive: bool

    @property
    def face(self) -> Rect:
        """The upper middle of the body."""
        body = self.body
        return Rect(
            body.x + 0.18 * body.width,
            body.y + 0.06 * body.height,
            0.64 * body.width,
            0.46 * body.height,
        )

    @property
    def mouth(self) -> Point:
        """Where a tail points."""
        return Point(self.face.centre().x, self.face.y + 0.7 * self.face.height)


@dataclass(frozen=True, slots=True)
class Said:
    """One utterance before it has a place; `at` is where the author wants it."""

    kind: BalloonKind
    who: str | None
    speaker: str | None
    text: str
    face: Face
    at: Rect | None


@dataclass(frozen=True, slots=True)
class Stage:
    """A picture as the letterer sees it, in points.

    area     where letters may stand
    taken    what must stay free, such as the page's text
    """

    area: Rect
    figures: tuple[Figure, ...]
    taken: tuple[Rect, ...]
    rtl: bool


def letter(
    says: Sequence[Said], stage: Stage, sizes: Sequence[float]
) -> tuple[Balloon, ...] | None:
    """Place all utterances at the largest size that leaves faces free.

    None if they do not fit, or only over a face.
    """
    least_bad: tuple[float, tuple[Balloon, ...]] | None = None
    for size in sizes:
        placed = _all_placed(says, stage, size)
        if placed is None:
            continue
        hidden = _hidden(placed, stage.figures)
        if hidden <= _HIDDEN:
            return placed
        if least_bad is None or hidden < least_bad[0] - 0.02:
            least_bad = (hidden, placed)
    return least_bad[1] if least_bad and least_bad[0] <= _FACELESS else None


def _hidden(placed: Sequence[Balloon], figures: Sequence[Figure]) -> float:
    """How much of anybody the balloons cover, 0 to 1; a body counts less than a face."""
    shares = [
        max(figure.face.covered(_extent(item)), _BODY * figure.body.covered(_extent(item)))
        for item in placed
        for figure in figures
        if figure.alive
    ]
    return max(shares, default=0.0)


def _extent(placed: Balloon) -> Rect:
    return balloon.padded(placed.text, placed.size, placed.kind)


def _all_placed(says: Sequence[Said], stage: Stage, size: float) -> tuple[Balloon, ...] | None:
    placed: list[Balloon] = []
    for said in says:
        choices = [
            (_cost(said, candidate, stage, placed), index, candidate)
            for index, candidate in enumerate(_candidates(said, stage, size))
        ]
        best = min(choices, default=(math.inf, 0, None), key=lambda choice: choice[:2])
        if best[2] is None or math.isinf(best[0]):
            return None
        placed.append(_drawn(said, best[2], stage))
    return tuple(placed)


@dataclass(frozen=True, slots=True)
class _Candidate:
    lines: tuple[str, ...]
    text: Rect
    body: Rect
    size: float


def _candidates(said: Said, stage: Stage, size: float) -> Iterator[_Candidate]:
    size *= _SCALES.get(said.kind, 1.0)
    seen: set[tuple[str, ...]] = set()
    area = stage.area if said.at is None else said.at.common(stage.area)
    if area is None:
        return
    for measure in _MEASURES:
        lines = set_lines(said.text, said.face, measure)
        if lines is None or lines in seen:
            continue
        seen.add(lines)
        width = max(metrics(said.face).width(line) for line in lines) * size
        height = len(lines) * _LEADING * size
        body = balloon.padded(Rect(0, 0, width, height), size, said.kind)
        if said.kind != "caption" and len(said.text) > _SHORT and body.width > _FLAT * body.height:
            continue
        for corner in _places(area, stage.area, body, free=said.at is None):
            text = Rect(corner.x - body.x, corner.y - body.y, width, height)
            yield _Candidate(lines, text, Rect(*corner, body.width, body.height), size)


def _places(area: Rect, whole: Rect, body: Rect, *, free: bool) -> Iterator[Point]:
    """Top left corners to try: all over the area, or the middle of a place that was asked for."""
    if not free:
        x, y = area.centre().x - body.width / 2, area.centre().y - body.height / 2
        if body.width <= whole.width and body.height <= whole.height:
            x = min(max(x, whole.x), whole.right - body.width)
            y = min(max(y, whole.y), whole.bottom - body.height)
            yield Point(x, y)
        return
    across, down = area.width - body.width, area.height - body.height
    if across < 0 or down < 0:
        return
    for row in range(_STEPS + 1):
        for column in range(_STEPS + 1):
            yield Point(area.x + across * column / _STEPS, area.y + down * row / _STEPS)


def _cost(said: Said, candidate: _Candidate, stage: Stage, placed: Sequence[Balloon]) -> float:
    """How bad a place is; infinite where words would lie on words."""
    body, gap = candidate.body, -0.4 * candidate.size
    others = [_extent(other) for other in placed]
    if any(body.inset(gap).common(other) for other in [*others, *stage.taken]):
        return math.inf
    cost = 0.0
    for figure in stage.figures:
        hides = figure.face.covered(body) * 60 if figure.alive else 0.0
        cost += hides + figure.body.covered(body) * 14
    cost += _order_cost(body, others, stage)
    aspect = body.width / body.height
    wanted = 3.2 if said.kind == "caption" else 1.75
    cost += 1.1 * abs(math.log(aspect / wanted))
    if said.kind == "sound":
        return cost
    if said.kind == "caption" or said.who is None:
        return cost + _corner_cost(body, stage)
    return cost + _speaker_cost(said, candidate, stage, others)


def _order_cost(body: Rect, others: Sequence[Rect], stage: Stage) -> float:
    """What is said later stands lower, or further along the line."""
    cost = 0.0
    for other in others:
        lower = (body.centre().y - other.centre().y) / stage.area.height
        further = (body.centre().x - other.centre().x) / stage.area.width
        further = -further if stage.rtl else further
        if lower < -0.02 or (lower < 0.08 and further < 0):
            cost += 5 + 10 * max(0.0, -lower)
    return cost


def _corner_cost(body: Rect, stage: Stage) -> float:
    area = stage.area
    side = area.right - body.right if stage.rtl else body.x - area.x
    top, bottom = body.y - area.y, area.bottom - body.bottom
    return 3 * side / area.width + 3 * min(top, 0.15 * area.height + bottom) / area.height


def _speaker_cost(said: Said, candidate: _Candidate, stage: Stage, others: Sequence[Rect]) -> float:
    speaker = _speaker(said, stage)
    mouth, body, area = speaker.mouth, candidate.body, stage.area
    tip = _tip(body, speaker, candidate.size)
    edge = balloon.edge_towards(body, mouth)
    cost = 3.0 * abs(body.centre().x - mouth.x) / area.width
    cost += 4.0 * abs(math.dist(edge, tip) - 2.2 * candidate.size) / area.width
    cost += _BELOW * (body.centre().y > mouth.y)
    cost += 0.8 * (body.y - area.y) / area.height
    if body.holds(mouth):
        cost += 20
    in_the_way = [(other, 4.0) for other in others]
    in_the_way += [(other.face, 1.5) for other in stage.figures if other.alive and other != speaker]
    for step in range(1, 9):
        along = Point(edge.x + (tip.x - edge.x) * step / 8, edge.y + (tip.y - edge.y) * step / 8)
        cost += sum(weight for rect, weight in in_the_way if rect.holds(along))
    return cost


def _speaker(said: Said, stage: Stage) -> Figure:
    """Who speaks; a speaker with no region of its own is taken to be in the middle."""
    named = [figure for figure in stage.figures if figure.name == said.who]
    middle = stage.area.inset(0.2 * stage.area.width, 0.2 * stage.area.height)
    return named[0] if named else Figure(said.who, middle, middle, True)


def _tip(body: Rect, speaker: Figure, size: float) -> Point:
    """Where the tail ends: on the way to the mouth, inside the region and short of the face."""
    mouth, face = speaker.mouth, speaker.face
    edge = balloon.edge_towards(body, mouth)
    best = mouth
    for step in range(1, 25):
        along = step / 24
        point = Point(mouth.x + (edge.x - mouth.x) * along, mouth.y + (edge.y - mouth.y) * along)
        if not speaker.region.holds(point) or math.dist(point, edge) < _SHORTEST_TAIL * size:
            break
        best = point
        if not face.holds(point):
            break
    return best


def _drawn(said: Said, candidate: _Candidate, stage: Stage) -> Balloon:
    tip = None
    if said.who is not None and said.kind not in {"caption", "sound"}:
        tip = _tip(candidate.body, _speaker(said, stage), candidate.size)
    return Balloon(
        kind=said.kind,
        speaker=said.speaker,
        lines=candidate.lines,
        text=candidate.text,
        size=candidate.size,
        leading=_LEADING,
        face=said.face,
        outlines=balloon.outline(candidate.body, candidate.size, said.kind, tip),
        tip=tip,
    )
