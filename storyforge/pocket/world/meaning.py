"""What each part of a picture shows, as a few numbers: what the embedded model's latents tell.

Numbers of a subject are the same all over it but for the place in it, so that noise hides them
last. Kinds and the like are corners of cubes, far from each other; colours are colours. What is
not there is 0. Not covered: how a picture is read for it.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from storyforge.pocket.world.looks import (
    ACCESSORIES,
    BUILDS,
    COLOURS,
    CROWNS,
    DYES,
    GARMENTS,
    HAIRS,
    MARKS,
    PATTERNS,
    PEOPLE,
    POSES,
    SPECIES,
    Look,
)
from storyforge.pocket.world.picture import Picture, Subject
from storyforge.pocket.world.places import (
    ARRANGEMENTS,
    PLACES,
    SKY_KINDS,
    TIMES,
    TINTS,
    WEATHERS,
)
from storyforge.pocket.world.things import THINGS

Vector = NDArray[np.float32]

FIELDS: Final = {
    "covered": 1,
    "spot": 2,
    "size": 1,
    "kind": 8,
    "colour": 3,
    "garment": 2,
    "garment colour": 3,
    "accessory": 4,
    "accessory colour": 3,
    "pose": 3,
    "mirror": 1,
    "pattern": 3,
    "pattern colour": 3,
    "crown": 2,
    "crown colour": 3,
    "marks": 2,
    "other colour": 3,
    "build": 2,
    "wings": 1,
    "glow": 1,
    "shine colour": 3,
    "held": 3,
    "held colour": 3,
}
"""Names of the numbers and how many they are. `colour` is that of fur, skin or object, `other
colour` that of marks or hair, `shine colour` that of wings, else of a glow. Where there is no
subject, `pose` tells the weather, `pattern` the sky, `garment` the time, `colour` the ground of a
tint, and `accessory` which of its arrangements the place has; the place is as large as the
picture, and its middle is that of the picture."""

SIZE_LAW: Final = (1.5, 1.3)
"""The number told of a size, in sides of the picture: so many times its logarithm, and so much."""

MEANINGS: Final = sum(FIELDS.values())
_starts = np.cumsum([0, *FIELDS.values()])
PLACE_OF: Final = {
    name: slice(int(start), int(start) + size)
    for (name, size), start in zip(FIELDS.items(), _starts, strict=False)
}

SPOT: Final = PLACE_OF["spot"].start
"""The first of the two numbers that tell where in its subject a part is."""


def code(field: str, name: str) -> Vector:
    """The numbers that tell `name`; those of what is not told are 0."""
    known = _CODES[field].get(name)
    return np.zeros(FIELDS[field], np.float32) if known is None else known


def _corners(size: int) -> Vector:
    """The corners of a cube around 0, those that differ most from the ones before first."""
    every = np.array(np.meshgrid(*[[1.0, -1.0]] * size, indexing="ij"), np.float32)
    left = every.reshape(size, -1).T
    found, near = [left[0]], np.full(len(left), np.inf)
    while len(found) < len(left):
        near = np.minimum(near, np.abs(left - found[-1]).sum(1))
        found.append(left[near.argmax()])
    return np.array(found, np.float32)


def _axes(size: int) -> Vector:
    """The tips of the axes: one way, then the other."""
    one = np.eye(size, dtype=np.float32)
    return np.concatenate([one, -one])


def _codes(names: Sequence[str], points: Vector, first: int = 0) -> dict[str, Vector]:
    return {name: points[first + index] for index, name in enumerate(names)}


_KINDS = _corners(FIELDS["kind"])
_CODES: Final[dict[str, dict[str, Vector]]] = {
    # Creatures get the first sixteen corners, of which no two share more than half their signs.
    "kind": _codes((*SPECIES,), _KINDS)
    | _codes((*THINGS,), _KINDS, 16)
    | _codes((*PLACES,), _KINDS, 64),
    "garment": _codes(GARMENTS, _corners(2)),
    "accessory": _codes(ACCESSORIES, _corners(4)),
    "pose": _codes(POSES, _axes(3)),
    "pattern": _codes(PATTERNS, _axes(3)),
    "crown": _codes(CROWNS, _axes(2)),
    "marks": _codes(MARKS, _axes(2)),
    "build": _codes(BUILDS[1:], _axes(2)),
    "held": _codes((*THINGS,), np.concatenate([_corners(3), _axes(3), 0.5 * _corners(3)])),
    "weather": _codes(WEATHERS, _axes(3)),
    "sky": _codes(SKY_KINDS[1:], np.concatenate([_axes(3), _corners(3)])),
    "time": _codes(TIMES, _corners(2)),
    "arrangement": _codes([*map(str, range(ARRANGEMENTS))], _corners(4)),
}


def landmarks() -> tuple[Vector, Vector]:
    """(m, `MEANINGS`) points that are told often, and how much each number counts for how near one
    is: where nothing else counts, the nearest other point of its kind is three to four away."""
    rows: list[tuple[dict[str, Vector], float]] = []
    for field, weight in _MINDED.items():
        rows += [({field: code}, weight) for code in _CODES[field].values()]
    rows += [({field: np.ones(1, np.float32)}, _SHOWN) for field in SHOWN]
    for name, field in OF_PLACES.items():
        for place in PLACES:
            known = {"kind": _CODES["kind"][place]}
            rows += [({**known, field: code}, _MINDED["kind"]) for code in _CODES[name].values()]
    points, minding = (np.zeros((len(rows), MEANINGS), np.float32) for _ in range(2))
    for index, (known, weight) in enumerate(rows):
        for field, code in known.items():
            points[index, PLACE_OF[field]] = code
            minding[index, PLACE_OF[field]] = weight
    return points, minding


_MINDED: Final = {
    "kind": 0.5,
    "garment": 1.0,
    "accessory": 0.5,
    "pose": 2.0,
    "pattern": 2.0,
    "crown": 2.0,
    "marks": 2.0,
    "build": 2.0,
    "held": 4.0,
}
"""How much fields count for how near landmarks are."""
SHOWN: Final = ("wings", "glow")
"""Fields of one number, that is 1 where they are to be seen."""
_SHOWN: Final = 2.0
OF_PLACES: Final = {"arrangement": "accessory", "time": "garment", "weather": "pose"}
"""What places have, each place its own, and the fields that tell it."""


def landmark_groups() -> dict[str, tuple[int, int]]:
    """The first of the landmarks of each name, and how many there are: of fields, of what places
    have, and of the three parts of the kinds."""
    counts = {field: len(_CODES[field]) for field in _MINDED} | dict.fromkeys(SHOWN, 1)
    counts |= {name: len(PLACES) * len(_CODES[name]) for name in OF_PLACES}
    first = np.cumsum([0, *counts.values()]).tolist()
    found = {name: (at, count) for at, (name, count) in zip(first, counts.items(), strict=False)}
    things = len(SPECIES)
    return found | {
        "species": (0, things),
        "things": (things, len(THINGS)),
        "places": (things + len(THINGS), len(PLACES)),
    }


_ANY: Final = 99.0
"""However far from all that may be told it is, the nearest is meant."""


Name = tuple[int, list[list[float]], float, int | None]


def named() -> tuple[list[Name], ...]:
    """Of figures and of places: the first of some numbers, all that they may tell, how far from one
    of these it is meant, and, where the first of these says that there is no such thing, the first
    of the numbers of its colour: something yellow is there, whatever it is called."""
    figures = {field: [code(field, ""), *_CODES[field].values()] for field in _MINDED}
    del figures["kind"]
    figures |= {field: [np.array([at], np.float32) for at in (0, 1, -1)] for field in SHOWN}
    settings = {field: [*_CODES[name].values()] for name, field in OF_PLACES.items()}
    settings["pattern"] = [code("pattern", ""), *_CODES["sky"].values()]
    settings["colour"] = _tints()
    coloured = {"garment": PLACE_OF["garment colour"].start}
    rows = [
        [
            (PLACE_OF[field].start, np.stack(points).tolist(), _ANY, also.get(field))
            for field, points in of.items()
        ]
        for of, also in ((figures, coloured), (settings, {}))
    ]
    return rows[0], rows[1]


MIRROR: Final = PLACE_OF["mirror"].start
"""Which number is below 0 for who looks to the other side."""

COLOURS_TOLD: Final = tuple(PLACE_OF[name].start for name in FIELDS if name.endswith("colour"))
"""The first of the three numbers of each colour."""

HAD_BY: Final = {"colour": "kind", "garment colour": "garment", "pattern colour": "pattern"}
"""What tells that there is something which has such a colour."""
SOLVED: Final = tuple(
    (PLACE_OF[name].start, PLACE_OF[of].start, FIELDS[of], name == "pattern colour")
    for name, of in HAD_BY.items()
)
"""These colours are solved for where a picture is read: the first number of each, the first of what
tells that there is such a thing, how many numbers that is, and whether it is small."""


def tried() -> tuple[tuple[int, list[list[float]]], ...]:
    """What of places is tried where a picture is read: its tint, or none. Which it is hardly shows
    in one cell; the first of the numbers told, and all that they may be."""
    return ((PLACE_OF["colour"].start, np.stack(_tints()).tolist()),)


def _tints() -> list[Vector]:
    """None, and all that there are, as they are told."""
    return [np.zeros(3, np.float32), *(_colour(tint.ground) for tint in TINTS.values())]


KINDS: Final = tuple(_CODES["kind"])
KIND_CODES: Final = np.stack([*_CODES["kind"].values()])
"""(kinds, 8)."""


def _colour(value: str) -> Vector:
    """`#rrggbb` in [−1, 1]."""
    rgb = [int(value[i : i + 2], 16) for i in (1, 3, 5)]
    return np.array(rgb, np.float32) / 127.5 - 1


def meanings(
    picture: Picture, who: NDArray[np.int8], cover: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """(`MEANINGS`, h, w) what is told of each of h × w equal parts of a picture.

    who    (h, w) the number of the subject that is there, −1 where there is none
    cover  (h, w) how much of a part subjects cover, 0 to 255

    Parts beside a subject tell of it, too: its outline lies in them.
    """
    high, wide = who.shape
    near = _widened(who, cover)
    table = np.stack(told_of(picture))
    told: NDArray[np.float32] = table[near].transpose(2, 0, 1).copy()
    told[PLACE_OF["covered"]] = cover[None] / np.float32(127.5) - 1
    y, x = np.mgrid[0:high, 0:wide].astype(np.float32)
    told[PLACE_OF["spot"]] = 2 * np.stack([(x + 0.5) / wide, (y + 0.5) / high]) - 1
    for index, subject in enumerate(picture.subjects):
        here = near == index
        across = (x[here] + 0.5) / wide - subject.x
        down = (y[here] + 0.5) / high - subject.ground
        told[PLACE_OF["spot"].start][here] = 2 * across / subject.size
        told[PLACE_OF["spot"].start + 1][here] = 2 * down / subject.size + 1
    return told


def told_of(picture: Picture) -> list[Vector]:
    """(`MEANINGS`,) of every subject, then of the place; what is a cell's own is 0."""
    return [*map(_of_subject, picture.subjects), _of_place(picture)]


def _widened(who: NDArray[np.int8], cover: NDArray[np.uint8]) -> NDArray[np.int8]:
    """With the number of the neighbour that is covered most where there is nobody."""
    high, wide = who.shape
    names, parts = np.pad(who, 1, constant_values=-1), np.pad(cover, 1)
    found, most = who.copy(), np.zeros((high, wide), np.uint8)
    for dy in range(3):
        for dx in range(3):
            name, part = (each[dy : dy + high, dx : dx + wide] for each in (names, parts))
            better = (who < 0) & (name >= 0) & (part > most)
            found[better], most[better] = name[better], part[better]
    return found


def recoloured(told: NDArray[np.float32], colours: NDArray[np.int64]) -> NDArray[np.float32]:
    """What is told of a picture whose red, green and blue are exchanged.

    told     (`MEANINGS`, h, w)
    colours  (3,) which colour each becomes
    """
    made = told.copy()
    for name in (name for name in FIELDS if name.endswith("colour")):
        made[PLACE_OF[name]] = told[PLACE_OF[name]][colours]
    return made


def kinds(told: NDArray[np.float32]) -> NDArray[np.int64]:
    """(n, h, w) the number of the kind or place whose code is nearest, in the order of `KINDS`.

    told  (n, `MEANINGS`, h, w)
    """
    found: NDArray[np.int64] = np.einsum(
        "nchw,kc->nkhw", told[:, PLACE_OF["kind"]], KIND_CODES
    ).argmax(1)
    return found


def _written(values: dict[str, Vector | float]) -> Vector:
    made = np.zeros(MEANINGS, np.float32)
    for name, value in values.items():
        made[PLACE_OF[name]] = value
    return made


def _of_place(picture: Picture) -> Vector:
    values: dict[str, Vector | float] = {
        "kind": _CODES["kind"][picture.place],
        "garment": _CODES["time"][picture.time],
        "pose": _CODES["weather"][picture.weather],
        "size": _told_size(1.0),
    }
    if str(picture.seed) in _CODES["arrangement"]:
        values["accessory"] = _CODES["arrangement"][str(picture.seed)]
    if picture.tint:
        values["colour"] = _colour(TINTS[picture.tint].ground)
    if picture.sky in _CODES["sky"]:
        values["pattern"] = _CODES["sky"][picture.sky]
    return _written(values)


def _told_size(size: float) -> float:
    gain, more = SIZE_LAW
    return gain * float(np.log(size)) + more


def _of_subject(subject: Subject) -> Vector:
    what = subject.what
    values: dict[str, Vector | float] = {"size": _told_size(subject.size)}
    if not isinstance(what, Look):
        values |= {"kind": _CODES["kind"][what.name], "colour": _colour(COLOURS[what.colour])}
        if what.pattern:
            values["pattern"] = _CODES["pattern"][what.pattern]
            values["pattern colour"] = _colour(DYES[what.pattern_colour])
        values["glow"] = 1.0 if what.glow else -1.0
        return _written(values)
    return _written(values | _of_creature(what))


def _of_creature(look: Look) -> dict[str, Vector | float]:
    values: dict[str, Vector | float] = {
        "kind": _CODES["kind"][look.species],
        "colour": _colour(look.coat_of_fur()),
        "pose": _CODES["pose"][look.pose],
        "mirror": -1.0 if look.mirror else 1.0,
        "wings": 1.0 if look.extra("wings") else -1.0,
        "glow": 1.0 if look.extra("glow") else -1.0,
    }
    if look.garment:
        values["garment"] = _CODES["garment"][look.garment]
        values["garment colour"] = _colour(COLOURS[look.garment_colour])
    if look.accessory:
        values["accessory"] = _CODES["accessory"][look.accessory]
        values["accessory colour"] = _colour(COLOURS[look.accessory_colour])
    if look.build in _CODES["build"]:
        values["build"] = _CODES["build"][look.build]
    if look.holding:
        values["held"] = _CODES["held"][look.holding]
        values["held colour"] = _colour(COLOURS[look.holding_colour])
    if dye := look.extra("wings") or look.extra("glow"):
        values["shine colour"] = _colour(dye)
    for field, names in (("pattern", PATTERNS), ("crown", CROWNS), ("marks", MARKS)):
        name = look.one_of(names)
        if dye := look.extra(name):
            values[field] = _CODES[field][name]
            values["other colour" if field == "marks" else f"{field} colour"] = _colour(dye)
    if look.species in PEOPLE:
        values["other colour"] = _colour(HAIRS[look.hair])
    return values
