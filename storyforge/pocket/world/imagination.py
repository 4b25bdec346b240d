"""Random pictures of the world: who and what stands where, in which light and weather."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from storyforge.pocket.world.brush import distance
from storyforge.pocket.world.instances import is_held_out, look_held_out
from storyforge.pocket.world.looks import (
    ACCESSORIES,
    BUILDS,
    COLOURS,
    CROWNS,
    DYES,
    FURS,
    GARMENTS,
    HAIRS,
    HEADGEAR,
    MARKS,
    PATTERNS,
    PEOPLE,
    POSES,
    SKINS,
    SPECIES,
    Look,
)
from storyforge.pocket.world.picture import HOLDABLE, Picture, Subject, Thing
from storyforge.pocket.world.places import (
    ARRANGEMENTS,
    PLACES,
    SKY_KINDS,
    TIMES,
    TINTED,
    TINTS,
    WEATHERS,
)
from storyforge.pocket.world.proportions import (
    BUILD_SHAPES,
    SHOULDER,
    half_width,
    head_height,
    head_middle,
    height,
    lift,
)
from storyforge.pocket.world.things import GLASS, SURFACES, THINGS

GLOWS: Final = ("yellow", "gold", "cream", "mint", "sky", "pink", "lavender", "white")
FAR: Final = 110.0
"""How far apart two colours have to be to be told apart, in steps of 256."""

CLOSE: Final = {1: 0.7, 2: 0.45}
"""How often one or two creatures are seen from near."""


CLOSE_POSES: Final = ("standing", "standing", "waving", "waving", "holding")
"""What can be told of who shows no legs."""


def imagine(generator: np.random.Generator) -> Picture:
    """A random picture: one subject 35 %, two 40 %, three 17 %, four 8 %; nothing held out."""
    while True:
        picture = _throw(generator)
        if not is_held_out(picture):
            return picture


def _throw(generator: np.random.Generator) -> Picture:
    place = _pick(generator, tuple(PLACES))
    time = str(generator.choice(TIMES, p=[0.56, 0.29, 0.15]))
    weather, sky, tint = "clear", "plain", None
    if PLACES[place][1]:
        weather = str(generator.choice(WEATHERS, p=[0.68, 0.07, 0.07, 0.06, 0.06, 0.06]))
        if weather == "fireflies" and time == "day":
            weather = "leaves"
        if generator.random() < 0.3:
            sky = _odd_sky(generator, time, weather)
    if place in TINTED and generator.random() < 0.4:
        tint = _pick(generator, tuple(TINTS))
    count = int(generator.choice([1, 2, 3, 4], p=[0.35, 0.40, 0.17, 0.08]))
    cast = _cast(generator, count)
    return Picture(place, time, weather, cast, int(generator.integers(ARRANGEMENTS)), sky, tint)


def _odd_sky(generator: np.random.Generator, time: str, weather: str) -> str:
    kinds = [kind for kind in SKY_KINDS if kind != "plain"]
    if time != "night":
        kinds = [kind for kind in kinds if kind not in ("big moon", "stars")]
    elif "rainbow" in kinds:
        kinds = [kind for kind in kinds if kind != "rainbow"] + ["big moon", "big moon"]
    if weather not in ("clear", "fireflies", "leaves"):
        kinds = [kind for kind in kinds if kind not in ("stars", "rainbow")]
    return _pick(generator, kinds)


def _cast(generator: np.random.Generator, count: int) -> tuple[Subject, ...]:
    creatures = generator.random(count) < 0.76
    if bool(creatures.all()) and generator.random() < CLOSE.get(count, 0.0):
        return _near(generator, count)
    if count == 1:
        near = generator.random()
        size = float(generator.uniform(0.62, 0.8) if near < 0.6 else generator.uniform(0.42, 0.6))
        x = float(generator.choice([0.22, 0.5, 0.78], p=[0.27, 0.46, 0.27]))
        spots = [(x, size)]
    else:
        size = {2: 0.62, 3: 0.46, 4: 0.4}[count] * float(generator.uniform(0.82, 1.08))
        columns = {2: (0.25, 0.75), 3: (0.19, 0.5, 0.81), 4: (0.13, 0.38, 0.62, 0.87)}[count]
        spots = [(x, size * float(generator.uniform(0.92, 1.06))) for x in columns]
    subjects = []
    for (x, size), creature in zip(spots, creatures, strict=True):
        x += float(generator.uniform(-0.04, 0.04))
        ground = float(generator.uniform(0.86, 0.94))
        if creature:
            look = random_look(generator)
            x, size = _fitted(look, x, ground, size)
            subjects.append(Subject(look, x, ground, size))
        else:
            thing = random_thing(generator)
            size *= 1.35 * THINGS[thing.name][1]
            subjects.append(Subject(thing, x, ground, min(0.8, size)))
    return tuple(subjects)


def _fitted(look: Look, x: float, ground: float, size: float) -> tuple[float, float]:
    """Where and how large the creature is that nothing of it is cut off, on the same side."""
    size = min(size, (ground - 0.015) / height(look))
    room = 0.02 + half_width(look) * size
    lowest, highest = (0.02, 0.3) if x < 1 / 3 else (0.37, 0.63) if x < 2 / 3 else (0.7, 0.98)
    return float(np.clip(np.clip(x, min(room, 0.5), max(1 - room, 0.5)), lowest, highest)), size


def _near(generator: np.random.Generator, count: int) -> tuple[Subject, ...]:
    """One or two creatures that are cut by the lower edge: head and shoulders, or a face."""
    face = count == 1 and generator.random() < 0.35
    subjects = []
    for x in {1: (0.5,), 2: (0.26, 0.74)}[count]:
        look = random_look(generator, poses=("standing",) if face else CLOSE_POSES)
        size, hidden = _close(generator, look, face=face)
        if count == 2:  # nobody waves before another's face
            look = replace(look, mirror=x < 0.5)
            size = min(size, float(generator.uniform(0.78, 0.92)))
        elif generator.random() < 0.35:
            x, size = (0.28, 0.72)[int(generator.integers(2))], 0.85 * size
        x += float(generator.uniform(-0.03, 0.03))
        subjects.append(Subject(look, x, 1 + hidden * size, size))
    return tuple(subjects)


def _close(generator: np.random.Generator, look: Look, *, face: bool) -> tuple[float, float]:
    """Size, and how much of the creature lies below the picture, of its own height."""
    shoulder, scale = SHOULDER * BUILD_SHAPES[look.build].tall, BUILD_SHAPES[look.build].head
    if face:
        hidden = shoulder - float(generator.uniform(0.01, 0.1))
        ears = generator.random() < 0.6
        top = head_height(look, ears=ears) * scale - head_middle(look)[1]
        largest = min(0.97 / (top - hidden), 1.75 / scale)
    else:
        hidden = shoulder * float(generator.uniform(0.36, 0.62)) - lift(look)
        largest = min(0.97 / (height(look) - hidden), 0.5 / (0.3 * scale))
    return largest * float(generator.uniform(0.8, 1.0)), hidden


def _pick(generator: np.random.Generator, names: Sequence[str]) -> str:
    return names[int(generator.integers(len(names)))]


def _colour(generator: np.random.Generator) -> str:
    return _pick(generator, tuple(COLOURS))


def random_thing(generator: np.random.Generator) -> Thing:
    """A random object, some with a pattern; lanterns mostly glow, other things seldom."""
    names = list(THINGS)
    odds = np.array([2.0 if name == "lantern" else 1.0 for name in names])
    name, colour = str(generator.choice(names, p=odds / odds.sum())), _colour(generator)
    shines = bool(generator.random() < (0.65 if name == "lantern" else 0.1))
    if name not in SURFACES or generator.random() > (0.6 if name == "lantern" else 0.45):
        return Thing(name, colour, glow=shines)
    patterns = ("moon", "star", "hearts") if name == "lantern" else PATTERNS
    behind = GLASS if name == "lantern" else COLOURS[colour]
    pattern = _pick(generator, patterns)
    return Thing(name, colour, pattern, contrasting(generator, behind), shines)


def contrasting(generator: np.random.Generator, ground: str) -> str:
    """The name of a colour that is seen on `ground`."""
    return _pick(generator, _seen_on(ground))


@functools.cache
def _seen_on(ground: str) -> tuple[str, ...]:
    return tuple(name for name, dye in DYES.items() if distance(dye, ground) > FAR)


def random_look(generator: np.random.Generator, *, poses: tuple[str, ...] = POSES) -> Look:
    """A random character that is none of those held out."""
    while True:
        look = _random_look(generator, poses)
        if not look_held_out(look):
            return look


def _random_look(generator: np.random.Generator, poses: tuple[str, ...]) -> Look:
    species = _pick(generator, tuple(SPECIES))
    if species in PEOPLE:
        fur = _pick(generator, tuple(SKINS))
    else:
        fur = _pick(generator, tuple(FURS)) if generator.random() < 0.42 else natural(species)
    dressed = generator.random() < 0.84
    garment = _pick(generator, GARMENTS) if dressed else None
    if species == "girl":
        garment = "dress" if generator.random() < 0.6 else "coat"
    colour = _colour(generator)
    extras = _extras(generator, species, fur, COLOURS[colour] if garment else None)
    pose = _pick(generator, poses)
    return Look(
        species=species,
        fur=fur,
        garment=garment,
        garment_colour=colour,
        accessory=_accessory(generator, dict(extras)),
        accessory_colour=_colour(generator),
        pose=pose,
        hair=_pick(generator, tuple(HAIRS)),
        mirror=bool(generator.random() < 0.5),
        holding=_pick(generator, HOLDABLE) if pose == "holding" else None,
        holding_colour=_colour(generator),
        extras=extras,
        build=str(generator.choice(BUILDS, p=[0.64, 0.12, 0.12, 0.12])),
    )


def natural(species: str) -> str:
    """The colour of fur that the species has in nature."""
    return SPECIES[species].fur


def _accessory(generator: np.random.Generator, extras: dict[str, str]) -> str | None:
    """Seven in ten have one; nothing sits on horns, and wings leave no room for a cape."""
    if generator.random() > 0.7:
        return None
    grown = any(name in extras for name in CROWNS)
    barred = (HEADGEAR if grown else ()) + (("cape",) if "wings" in extras else ())
    return str(generator.choice([name for name in ACCESSORIES if name not in barred]))


def _extras(
    generator: np.random.Generator, species: str, fur: str, cloth: str | None
) -> tuple[tuple[str, str], ...]:
    """Up to three features, each in a colour that is seen where it is."""
    skin = SKINS[fur] if species in PEOPLE else FURS[fur]
    found: list[tuple[str, str]] = []
    if cloth and generator.random() < 0.4:
        found.append((_pick(generator, PATTERNS), contrasting(generator, cloth)))
    if generator.random() < 0.24:
        found.append(_grown(generator))
    if species not in PEOPLE and generator.random() < 0.16:
        found.append((_pick(generator, MARKS), contrasting(generator, skin)))
    if generator.random() < 0.09:
        found.append(("wings", _pick(generator, tuple(DYES))))
    if generator.random() < 0.07:
        found.append(("glow", _pick(generator, GLOWS)))
    return tuple(found[:3])


def _grown(generator: np.random.Generator) -> tuple[str, str]:
    name = _pick(generator, CROWNS)
    usual = {"horn": "gold", "antlers": "brown", "antennae": "black"}.get(name)
    if usual and generator.random() < 0.35:
        return name, usual
    return name, _pick(generator, tuple(DYES))
