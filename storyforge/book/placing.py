"""What makes one place for words in a picture better than another, and which places there are.

Where figures stand the picture says, or `sighting` sees; a face of which nothing is known is taken
to be in the upper middle of its body.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from storyforge.book import balloon
from storyforge.book.leaf import Face, Point, Rect
from storyforge.book.typeface import metrics, set_lines
from storyforge.settings import Edge
from storyforge.story.book_settings import BalloonKind

LEADING: Final = 1.16
_SCALES: Final = {"sound": (4.2, 3.6, 3.0, 2.5, 2.1), "shout": (1.2,), "caption": (0.95,)}
"""Letters of some kinds against those of plain speech, the best first."""

_TILTS: Final = (-9.0, 7.0, -5.0, 10.0)
"""Degrees by which one sound after the other is turned."""

_SHORTEST_TAIL: Final = 1.0
"""In letter sizes; a shorter one is not seen."""

_SHORT_OF: Final = 0.2
"""Letter sizes between the end of a tail and the face that it points to."""

_TAIL_STEPS: Final = 48

_MEASURES: Final = (4.0, 5.0, 6.0, 7.0, 8.0, 9.5, 11.0, 13.0, 16.0, 20.0)
"""Line widths to try, in ems."""

_SHORT: Final = 12
_FLAT: Final = 3.4
"""So many characters are broken, if they can be, rather than set so much wider than high."""

_TOO_FLAT: Final = 8.0
"""What it costs to be flatter: about an eighth of a face hidden."""

_STEPS: Final = 14
_BELOW: Final = 6.0
"""What it costs to stand below the speaker's mouth: about a tenth of a face hidden."""

_LOUD: Final = 5.0
"""What it costs a sound to be half as large as it could be."""

_UNQUIET: Final = 9.0
"""What it costs to stand where the author did not ask for quiet, if anywhere was asked for."""

_PIERCED: Final = 10.0
"""What it costs a tail to end in the face that it points to."""

_CROSSED: Final = 12.0
"""What it costs a tail to cross another one."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Somebody or something in a picture, in points.

    region   where it was asked to be
    body     where it stands in the picture, or where in its region it probably does
    alive    whether it has a face
    seen     whether the body was made out in the drawn picture
    head     where that is known
    planned  whether of the head is known only where it was asked to be
    """

    name: str | None
    region: Rect
    body: Rect
    alive: bool
    seen: bool = False
    head: Rect | None = None
    planned: bool = False

    @property
    def face(self) -> Rect:
        """The head; else the body's upper middle, all of its upper half if its outline is known."""
        if self.head is not None:
            return self.head
        body = self.body
        if self.seen:
            return Rect(body.x, body.y, body.width, 0.55 * body.height)
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
class Utterance:
    """One utterance before it has a place.

    at        where the author wants it
    off       the side of the picture from which it is said, where nobody in it speaks
    pointed   where its tail points, if the author says so
    language  as which its words may be divided, if they must; None if they may not
    """

    kind: BalloonKind
    who: str | None
    speaker: str | None
    text: str
    face: Face
    at: Rect | None
    language: str | None = None
    off: Edge | None = None
    pointed: Point | None = None

    @property
    def tailed(self) -> bool:
        """Whether a tail leads to somebody."""
        led = self.who is not None or self.off is not None or self.pointed is not None
        return led and self.kind not in {*balloon.BOXES, "sound"}


@dataclass(frozen=True, slots=True)
class LetteringSpace:
    """A picture as the letterer sees it, in points.

    area     where letters may stand
    taken    what must stay free, such as the page's text
    quiet    where letters should stand
    frame    the picture, whose edges those speak from who are not in it; None for `area`
    """

    area: Rect
    figures: tuple[Figure, ...]
    taken: tuple[Rect, ...]
    rtl: bool
    quiet: tuple[Rect, ...] = ()
    frame: Rect | None = None

    def speaker(self, said: Utterance, body: Rect) -> Figure:
        """Who speaks; a speaker with no region of its own is taken to be in the middle.

        body   of the balloon: what is said from off the picture comes from the edge beside it
        """
        if said.pointed is not None:
            return _mark(said, said.pointed)
        if said.off is not None:
            return _mark(said, _beside(body, said.off, self.frame or self.area))
        named = [figure for figure in self.figures if figure.name == said.who]
        middle = self.area.inset(0.2 * self.area.width, 0.2 * self.area.height)
        return named[0] if named else Figure(said.who, middle, middle, True)


def _mark(said: Utterance, point: Point) -> Figure:
    """A speaker of whom nothing is known but where the tail ends."""
    spot = Rect(point.x - 1, point.y - 1, 2, 2)
    return Figure(said.who, spot, spot, alive=False)


def _beside(body: Rect, edge: Edge, frame: Rect) -> Point:
    """The point of the picture's edge to which a balloon's tail leads, a little lower than it."""
    middle = body.centre()
    if edge in {"left", "right"}:
        y = min(body.bottom, frame.bottom)
        return Point(frame.x if edge == "left" else frame.right, y)
    x = min(max(middle.x, frame.x), frame.right)
    return Point(x, frame.y if edge == "above" else frame.bottom)


@dataclass(frozen=True, slots=True)
class Place:
    """One way to set an utterance: its lines, and where they and their balloon stand."""

    said: Utterance
    lines: tuple[str, ...]
    text: Rect
    body: Rect
    size: float
    tilt: float = 0.0


def places(
    said: Utterance, stage: LetteringSpace, size: float, number: int, *, divide: bool = False
) -> Iterator[Place]:
    """All places to try for the utterance with this number, from 0, in its panel.

    divide  whether words too long for a line may be divided
    """
    area = stage.area if said.at is None else said.at.common(stage.area)
    if area is None:
        return
    tilt = _TILTS[number % len(_TILTS)] if said.kind == "sound" else 0.0
    tilt = -tilt if stage.rtl else tilt
    seen: set[tuple[tuple[str, ...], float]] = set()
    for scale in _SCALES.get(said.kind, (1.0,)):
        letters = size * scale
        for measure in _MEASURES:
            lines = set_lines(said.text, said.face, measure, said.language if divide else None)
            if not lines or (lines, scale) in seen:
                continue
            seen.add((lines, scale))
            width = max(metrics(said.face).width(line) for line in lines) * letters
            height = len(lines) * LEADING * letters
            body = balloon.padded(Rect(0, 0, width, height), letters, said.kind, tilt)
            for corner in _corners(area, stage, body, free=said.at is None):
                text = Rect(corner.x - body.x, corner.y - body.y, width, height)
                place = Rect(*corner, body.width, body.height)
                yield Place(said, lines, text, place, letters, tilt)


def _corners(area: Rect, stage: LetteringSpace, body: Rect, *, free: bool) -> Iterator[Point]:
    """Top left corners to try: all over the area, or the middle of a place that was asked for."""
    whole = stage.area
    if not free:
        x, y = area.centre().x - body.width / 2, area.centre().y - body.height / 2
        if body.width <= whole.width and body.height <= whole.height:
            x = min(max(x, whole.x), whole.right - body.width)
            y = min(max(y, whole.y), whole.bottom - body.height)
            yield Point(x, y)
        return
    yield from _all_over(area, body, _STEPS)
    for quiet in stage.quiet:
        calm = quiet.common(whole)
        if calm is not None:
            yield from _all_over(calm, body, 4)


def _all_over(area: Rect, body: Rect, steps: int) -> Iterator[Point]:
    across, down = area.width - body.width, area.height - body.height
    if across < 0 or down < 0:
        return
    for row in range(steps + 1):
        for column in range(steps + 1):
            yield Point(area.x + across * column / steps, area.y + down * row / steps)


def own_cost(place: Place, stage: LetteringSpace, loudest: float) -> float:
    """How bad a place is by itself, whatever else is said."""
    said, body = place.said, place.body
    cost = 0.0
    for figure in stage.figures:
        cost += figure.face.covered(body) * 60 if figure.alive else 0.0
        cost += figure.body.covered(body) * (5 if said.kind == "sound" else 14)
    if stage.quiet:
        cost += _UNQUIET * (1 - max(body.covered(quiet) for quiet in stage.quiet))
    if said.kind == "sound":
        return cost + 2 * _LOUD * (1 - place.size / loudest) + 0.4 * (len(place.lines) - 1)
    boxed = said.kind in balloon.BOXES
    cost += 1.1 * abs(math.log(body.width / body.height / (3.2 if boxed else 1.75)))
    flat = body.width / body.height / _FLAT
    if not boxed and len(said.text) > _SHORT and flat > 1:
        cost += _TOO_FLAT * flat
    if boxed or not said.tailed:
        return cost + _corner_cost(body, stage)
    mouth, area = stage.speaker(said, body).mouth, stage.area
    cost += 3.0 * abs(body.centre().x - mouth.x) / area.width
    cost += _BELOW * (body.centre().y > mouth.y and said.off != "above")
    cost += 0.8 * (body.y - area.y) / area.height
    return cost + (20 if body.holds(mouth) else 0)


def _corner_cost(body: Rect, stage: LetteringSpace) -> float:
    area = stage.area
    side = area.right - body.right if stage.rtl else body.x - area.x
    top, bottom = body.y - area.y, area.bottom - body.bottom
    return 3 * side / area.width + 3 * min(top, 0.15 * area.height + bottom) / area.height


def allowed(place: Place, stage: LetteringSpace, before: Sequence[Place]) -> bool:
    """Whether words lie on nothing that is taken, and are read after all that comes before."""
    roomy = place.body.inset(-0.4 * place.size)
    if any(roomy.common(taken) for taken in stage.taken):
        return False
    if any(roomy.common(other.body) for other in before):
        return False
    free = place.said.at is None
    return not free or not any(
        _read_before(place.body, other.body, rtl=stage.rtl)
        for other in before
        if other.said.at is None
    )


def _read_before(later: Rect, earlier: Rect, *, rtl: bool) -> bool:
    """Whether the eye meets `later` first: it stands higher, or in the same row further back."""
    common = min(later.bottom, earlier.bottom) - max(later.y, earlier.y)
    if common > 0.4 * min(later.height, earlier.height):
        return (later.centre().x > earlier.centre().x) == rtl
    return later.centre().y < earlier.centre().y


def joins(said: Utterance, before: Sequence[Utterance]) -> bool:
    """Whether this is said on the breath of the one before: then their balloons are joined."""
    if not before or said.kind not in {"speech", "whisper"} or said.who is None:
        return False
    last = before[-1]
    return (last.who, last.kind) == (said.who, said.kind) and said.at is None and last.at is None


def join_cost(place: Place, last: Place) -> float:
    """A joined balloon stands close to the one before, and a little to one side."""
    body, other = place.body, last.body
    across = max(body.x - other.right, other.x - body.right, 0.0)
    down = max(body.y - other.bottom, other.y - body.bottom, 0.0)
    return 2.5 * abs(math.hypot(across, down) - 0.6 * place.size) / place.size


def tail_cost(
    place: Place,
    stage: LetteringSpace,
    before: Sequence[Place],
    tails: Sequence[tuple[Point, Point]],
) -> float:
    """How bad the way to the speaker's mouth is: its length, and what lies in it."""
    speaker = stage.speaker(place.said, place.body)
    tip = tail_tip(place.body, speaker, place.size)
    edge = balloon.edge_towards(place.body, speaker.mouth)
    cost = 4.0 * abs(math.dist(edge, tip) - 2.2 * place.size) / stage.area.width
    cost += _PIERCED * (speaker.alive and speaker.face.holds(tip))
    in_the_way = [(other.body, 8.0) for other in before]
    in_the_way += [(taken, 2.0) for taken in stage.taken]
    in_the_way += [(other.face, 5.0) for other in stage.figures if other.alive and other != speaker]
    for step in range(1, 9):
        along = Point(edge.x + (tip.x - edge.x) * step / 8, edge.y + (tip.y - edge.y) * step / 8)
        cost += sum(weight for rect, weight in in_the_way if rect.holds(along))
    return cost + _CROSSED * sum(_cross((edge, tip), tail) for tail in tails)


def _cross(one: tuple[Point, Point], other: tuple[Point, Point]) -> bool:
    """Whether two lines cross."""

    def side(line: tuple[Point, Point], point: Point) -> float:
        """On which side of a line a point lies, by its sign."""
        (a, b) = line
        return (b.x - a.x) * (point.y - a.y) - (b.y - a.y) * (point.x - a.x)

    apart = side(one, other[0]) * side(one, other[1])
    return apart < 0 and side(other, one[0]) * side(other, one[1]) < 0


def tail_of(place: Place, stage: LetteringSpace) -> tuple[Point, Point]:
    """The line of a tail, from its balloon to its tip."""
    speaker = stage.speaker(place.said, place.body)
    return (
        balloon.edge_towards(place.body, speaker.mouth),
        tail_tip(place.body, speaker, place.size),
    )


def tail_tip(body: Rect, speaker: Figure, size: float) -> Point:
    """Where the tail ends: on the way to the mouth, short of the face.

    A balloon that stands closer than a tail is long has its tail in the face all the same.
    """
    mouth = speaker.mouth
    edge = balloon.edge_towards(body, mouth)
    way = math.dist(mouth, edge) or 1.0
    kept_off = speaker.face.inset(-_SHORT_OF * size) if speaker.alive else speaker.face
    tip = mouth
    for step in range(_TAIL_STEPS + 1):
        along = step / _TAIL_STEPS
        tip = Point(mouth.x + (edge.x - mouth.x) * along, mouth.y + (edge.y - mouth.y) * along)
        if not kept_off.holds(tip):
            break
    if math.dist(tip, edge) >= _SHORTEST_TAIL * size:
        return tip
    along = min(1.0, _SHORTEST_TAIL * size / way)
    return Point(edge.x + (mouth.x - edge.x) * along, edge.y + (mouth.y - edge.y) * along)
