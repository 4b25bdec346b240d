"""The illustrator: picture-book scenes by seed, with captions, labels and masks. No torch.

A `Picture` says what is to be seen, `imagine` throws one at random, `draw` paints it, `describe`
words it, differently each time and often leaving things unsaid. The embedded model learns from
these pairs. Not covered: anything a camera could see.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from storyforge.pocket import brush as paint
from storyforge.pocket.brush import INK, Brush
from storyforge.pocket.creatures import draw_creature
from storyforge.pocket.looks import (
    ACCESSORIES,
    COLOURS,
    FURS,
    GARMENTS,
    HAIRS,
    PEOPLE,
    POSES,
    SKINS,
    SPECIES,
    Look,
)
from storyforge.pocket.places import PLACES, TIMES, WEATHERS, draw_place
from storyforge.pocket.things import THINGS, draw_thing

SIDES = ("left", "middle", "right")
INK_WIDTH = 0.0095  # of a subject's lines, in fractions of the picture
HOLDABLE = ("ball", "balloon", "flower", "star", "apple", "book", "umbrella", "gift")


@dataclass(frozen=True, slots=True)
class Thing:
    """An object of a named colour."""

    name: str
    colour: str


@dataclass(frozen=True, slots=True)
class Subject:
    """Who or what stands where; `x`, `ground` and `size` in fractions of the picture."""

    what: Look | Thing
    x: float
    ground: float
    size: float

    @property
    def side(self) -> str:
        """`left`, `middle` or `right`."""
        return SIDES[min(2, int(self.x * 3))]


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of the world; `seed` throws its small props."""

    place: str
    time: str
    weather: str
    subjects: tuple[Subject, ...]
    seed: int


def draw(picture: Picture, size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Paint it.

    Returns:
      (size, size, 3)  uint8, RGB
      (n, size, size)  uint8, the visible coverage 0..255 of each subject, in the order given
    """
    base = paint.surface(size)
    canvas = base.getCanvas()
    canvas.scale(size, size)
    stage = draw_place(
        Brush(canvas, 0.008),
        picture.place,
        picture.time,
        picture.weather,
        np.random.default_rng(picture.seed),
    )
    masks: list[np.ndarray] = []
    for subject in picture.subjects:
        layer = paint.surface(size)
        layer.getCanvas().scale(size, size)
        _shadow(Brush(canvas, 0.008), subject)
        put(Brush(layer.getCanvas(), INK_WIDTH / subject.size), subject)
        alpha = paint.pixels(layer)[..., 3]
        masks = [np.minimum(mask, 255 - alpha) for mask in masks] + [alpha]
        canvas.save()
        canvas.resetMatrix()
        canvas.drawImage(layer.makeImageSnapshot(), 0, 0)
        canvas.restore()
    stage.fall()
    return paint.pixels(base)[..., :3].copy(), np.array(masks).reshape(-1, size, size)


def _shadow(b: Brush, subject: Subject) -> None:
    b.oval(
        subject.x,
        subject.ground,
        0.24 * subject.size,
        0.035 * subject.size,
        INK,
        line=False,
        alpha=0.25,
    )


def put(b: Brush, subject: Subject) -> None:
    """Draw a subject in its place; the brush is as wide as its lines are in the subject's size."""
    with b.at(subject.x, subject.ground, scale=subject.size):
        if isinstance(subject.what, Look):
            draw_creature(b, subject.what)
        else:
            draw_thing(b, subject.what.name, COLOURS[subject.what.colour])


def imagine(dice: np.random.Generator) -> Picture:
    """A random picture: one subject 45 %, two 40 %, three 12 %, four 3 %."""
    place = str(dice.choice(list(PLACES)))
    time = str(dice.choice(TIMES, p=[0.6, 0.26, 0.14]))
    outdoors = PLACES[place][1]
    weather = str(dice.choice(WEATHERS, p=[0.84, 0.08, 0.08])) if outdoors else "clear"
    count = int(dice.choice([1, 2, 3, 4], p=[0.45, 0.40, 0.12, 0.03]))
    return Picture(place, time, weather, _cast(dice, count), int(dice.integers(2**31)))


def _cast(dice: np.random.Generator, count: int) -> tuple[Subject, ...]:
    if count == 1:
        near = dice.random()
        size = float(dice.uniform(0.62, 0.8) if near < 0.6 else dice.uniform(0.42, 0.6))
        x = float(dice.choice([0.22, 0.5, 0.78], p=[0.27, 0.46, 0.27]))
        spots = [(x, size)]
    else:
        size = {2: 0.62, 3: 0.46, 4: 0.4}[count] * float(dice.uniform(0.82, 1.08))
        columns = {2: (0.25, 0.75), 3: (0.19, 0.5, 0.81), 4: (0.13, 0.38, 0.62, 0.87)}[count]
        spots = [(x, size * float(dice.uniform(0.92, 1.06))) for x in columns]
    subjects = []
    for x, size in spots:
        x += float(dice.uniform(-0.04, 0.04))
        ground = float(dice.uniform(0.86, 0.94))
        if dice.random() < 0.72:
            subjects.append(Subject(random_look(dice), x, ground, size))
        else:
            name = str(dice.choice(list(THINGS)))
            subjects.append(
                Subject(
                    Thing(name, _colour(dice)), x, ground, size * min(0.9, 1.35 * THINGS[name][1])
                )
            )
    return tuple(subjects)


def _colour(dice: np.random.Generator) -> str:
    return str(dice.choice(list(COLOURS)))


def random_look(dice: np.random.Generator) -> Look:
    """A random ordinary character."""
    species = str(dice.choice(list(SPECIES)))
    if species in PEOPLE:
        fur = str(dice.choice(list(SKINS)))
    else:
        fur = str(dice.choice(list(FURS))) if dice.random() < 0.3 else SPECIES[species].fur
    dressed = dice.random() < 0.82
    garment = str(dice.choice(GARMENTS)) if dressed else None
    if species == "girl":
        garment = "dress" if dice.random() < 0.6 else "coat"
    accessory = str(dice.choice(ACCESSORIES)) if dice.random() < 0.5 else None
    pose = str(dice.choice(POSES))
    return Look(
        species=species,
        fur=fur,
        garment=garment,
        garment_colour=_colour(dice),
        accessory=accessory,
        accessory_colour=_colour(dice),
        pose=pose,
        hair=str(dice.choice(list(HAIRS))),
        mirror=bool(dice.random() < 0.5),
        holding=str(dice.choice(HOLDABLE)) if pose == "holding" else None,
        holding_colour=_colour(dice),
    )


SAID: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "place": {
        "meadow": ("in a meadow", "in the meadow", "on a green meadow", "on the grass"),
        "forest": ("in a forest", "in the forest", "in the woods", "among trees"),
        "beach": ("on a beach", "at the beach", "by the sea"),
        "mountains": ("in the mountains", "in front of mountains"),
        "town": ("in a town", "in the town", "on a street", "in the city"),
        "snow": ("in the snow", "in a snowy field", "in winter"),
        "desert": ("in a desert", "in the desert"),
        "pond": ("at a pond", "by the pond", "by a lake"),
        "bedroom": ("in a bedroom", "in a room", "at home"),
        "library": ("in a library", "in the library", "in front of bookshelves"),
    },
    "time": {
        "day": ("by day", "in the sunshine", "on a bright day"),
        "night": ("at night", "by night", "in the night", "under the moon"),
        "sunset": ("at sunset", "in the evening", "at dusk"),
    },
    "weather": {
        "rain": ("in the rain", "while it is raining"),
        "snowfall": ("while it is snowing", "in falling snow"),
    },
    "side": {
        "left": ("on the left", "on the left side", "to the left"),
        "middle": ("in the middle", "in the centre", "in the center"),
        "right": ("on the right", "on the right side", "to the right"),
    },
    "pose": {
        "standing": ("standing",),
        "waving": ("waving", "waving hello"),
        "sitting": ("sitting",),
        "jumping": ("jumping", "jumping for joy"),
        "running": ("running",),
        "holding": ("holding",),
    },
    "garment": {
        "coat": ("coat", "jacket"),
        "shirt": ("shirt", "sweater", "jumper"),
        "dress": ("dress",),
    },
}
OPENINGS: Final = (
    "",
    "",
    "",
    "",
    "a picture of ",
    "a drawing of ",
    "picture book illustration of ",
    "a storybook picture of ",
    "illustration of ",
)
CLOSINGS: Final = ("", "", "", ", picture book illustration", ", soft light")


def describe(picture: Picture, dice: np.random.Generator) -> str:
    """A caption: a full sentence or a list of tags, with a random part left unsaid."""
    crowd = len(picture.subjects) > 1
    who = [_subject_words(dice, s, place=crowd or dice.random() < 0.65) for s in picture.subjects]
    setting = _setting_words(dice, picture)
    opening, closing = _pick(dice, OPENINGS), _pick(dice, CLOSINGS)
    if dice.random() < 0.25:
        dice.shuffle(setting)
        return opening + ", ".join(who + setting) + closing
    body = (", and " if dice.random() < 0.5 else " and ").join(who)
    tail = " ".join(setting)
    if tail and dice.random() < 0.15:
        return f"{opening}{tail}, {body}{closing}"
    return opening + (f"{body}{',' if crowd else ''} {tail}" if tail else body) + closing


def _pick(dice: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(dice.integers(len(words)))]


def _words(dice: np.random.Generator, kind: str, name: str) -> str:
    return _pick(dice, SAID[kind][name])


def _setting_words(dice: np.random.Generator, picture: Picture) -> list[str]:
    said = []
    if dice.random() < 0.88:
        said.append(_words(dice, "place", picture.place))
    if dice.random() < (0.3 if picture.time == "day" else 0.85):
        said.append(_words(dice, "time", picture.time))
    if picture.weather != "clear" and dice.random() < 0.85:
        said.append(_words(dice, "weather", picture.weather))
    return said


def _article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def _subject_words(dice: np.random.Generator, subject: Subject, *, place: bool) -> str:
    what = subject.what
    if isinstance(what, Thing):
        words = _article(f"{what.colour} {what.name}" if dice.random() < 0.9 else what.name)
    else:
        words = look_words(dice, what)
    if len(words) and subject.size < 0.5 and isinstance(what, Look) and dice.random() < 0.3:
        words = words.replace("a ", "a small ", 1).replace("an small", "a small", 1)
    return f"{words} {_words(dice, 'side', subject.side)}" if place else words


def look_words(dice: np.random.Generator, look: Look) -> str:
    """Words for a character, such as `a blue cat in a red coat with a crown, waving`."""
    noun = look.species
    if look.species in PEOPLE:
        if dice.random() < 0.5:
            noun = f"{noun} with {look.hair} hair"
        if dice.random() < 0.35:
            noun = f"{look.fur}-skinned {noun}"
    elif look.fur != SPECIES[look.species].fur or dice.random() < 0.2:
        noun = f"{look.fur} {noun}"
    words = _article(noun)
    if look.garment and dice.random() < 0.85:
        dress = f"{look.garment_colour} {_words(dice, 'garment', look.garment)}"
        words += _pick(dice, (" in ", " wearing ")) + _article(dress)
    if look.accessory and dice.random() < 0.85:
        words += " with " + _accessory_words(dice, look)
    if look.pose == "holding" and look.holding:
        words += f" holding {_article(f'{look.holding_colour} {look.holding}')}"
    elif dice.random() < 0.75:
        words += _pick(dice, (" ", ", ")) + _words(dice, "pose", look.pose)
    return words


def _accessory_words(dice: np.random.Generator, look: Look) -> str:
    if look.accessory == "glasses":
        return "glasses"
    if look.accessory == "crown":
        return _pick(dice, ("a crown", "a golden crown"))
    return _article(
        f"{look.accessory_colour} {look.accessory}" if dice.random() < 0.8 else str(look.accessory)
    )


SLOTS = 4
LABELS: dict[str, tuple[str, ...]] = {
    "place": tuple(PLACES),
    "time": TIMES,
    "weather": WEATHERS,
    **{
        f"{name}{slot}": values
        for slot in range(SLOTS)
        for name, values in {
            "kind": ("none", *SPECIES, *THINGS),
            "side": SIDES,
            "colour": tuple(COLOURS),
            "fur": tuple(FURS) + tuple(SKINS),
            "pose": POSES,
            "accessory": ("none", *ACCESSORIES),
        }.items()
    },
}
"""Heads of the text warm-up and of the judge: name -> classes."""


def labels(picture: Picture) -> dict[str, int]:
    """Class index of each head in `LABELS`; -1 where it does not apply."""
    found = dict.fromkeys(LABELS, -1)
    found["place"] = list(PLACES).index(picture.place)
    found["time"], found["weather"] = TIMES.index(picture.time), WEATHERS.index(picture.weather)
    for slot in range(SLOTS):
        found[f"kind{slot}"] = 0
    for slot, subject in enumerate(picture.subjects):
        what = subject.what
        found[f"side{slot}"] = SIDES.index(subject.side)
        if isinstance(what, Thing):
            values = {"kind": what.name, "colour": what.colour}
        else:
            values = {
                "kind": what.species,
                "fur": what.fur,
                "pose": what.pose,
                "accessory": what.accessory or "none",
            }
            if what.garment:
                values["colour"] = what.garment_colour
        for name, value in values.items():
            found[f"{name}{slot}"] = LABELS[f"{name}{slot}"].index(value)
    return found


def sheet(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    """Tile equally sized (h, w, 3) pictures row by row."""
    blank = np.full_like(pictures[0], 255)
    rows = [
        np.concatenate((pictures[i : i + columns] + [blank] * columns)[:columns], axis=1)
        for i in range(0, len(pictures), columns)
    ]
    return np.concatenate(rows, axis=0)


__all__ = [
    "LABELS",
    "Picture",
    "Subject",
    "Thing",
    "describe",
    "draw",
    "imagine",
    "labels",
    "put",
]
