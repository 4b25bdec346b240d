"""What is to be seen in a picture, as classes: the heads of classifiers that learn from drawings.

New classes are added at a head's end, so that what an older classifier learnt stays where it was.
"""

from storyforge.pocket.world.looks import (
    ACCESSORIES,
    BUILDS,
    COLOURS,
    COMMON_FURS,
    CROWNS,
    GARMENTS,
    MARKS,
    PATTERNS,
    POSES,
    RARE_COLOURS,
    SKINS,
    SPECIES,
)
from storyforge.pocket.world.picture import SIDES, VIEWS, Picture, Subject, Thing
from storyforge.pocket.world.places import PLACES, SKY_KINDS, TIMES, TINTS, WEATHERS
from storyforge.pocket.world.things import THINGS

SLOTS = 4
EACH: dict[str, tuple[str, ...]] = {
    "kind": ("none", *SPECIES, *THINGS),
    "side": SIDES,
    "colour": tuple(COLOURS),
    "fur": (*COMMON_FURS, *SKINS, *RARE_COLOURS),
    "pose": POSES,
    "accessory": ("none", *ACCESSORIES),
    "garment": ("none", *GARMENTS),
    "pattern": ("none", *PATTERNS),
    "marks": ("none", *MARKS),
    "crown": ("none", *CROWNS),
    "wings": ("none", "wings"),
    "glow": ("none", "glow"),
    "build": BUILDS,
    "view": VIEWS,
}
"""Of each subject."""

LABELS: dict[str, tuple[str, ...]] = {
    "place": tuple(PLACES),
    "time": TIMES,
    "weather": WEATHERS,
    "sky": SKY_KINDS,
    "tint": ("none", *TINTS),
    **{f"{name}{slot}": values for slot in range(SLOTS) for name, values in EACH.items()},
}
"""Heads of the text warm-up and of the judge: name -> classes."""


def labels(picture: Picture) -> dict[str, int]:
    """Class index of each head in `LABELS`; -1 where it does not apply or cannot be seen.

    A fur of a colour that has no name is of no class.
    """
    found = dict.fromkeys(LABELS, -1)
    said = {
        "place": picture.place,
        "time": picture.time,
        "weather": picture.weather,
        "sky": picture.sky,
        "tint": picture.tint or "none",
    }
    said |= {f"kind{slot}": "none" for slot in range(SLOTS)}
    for slot, subject in enumerate(picture.subjects):
        said |= {f"{name}{slot}": value for name, value in _seen(subject).items()}
    return found | {name: LABELS[name].index(value) for name, value in said.items() if value}


def _seen(subject: Subject) -> dict[str, str]:
    """The class of each head that applies to a subject."""
    what = subject.what
    if isinstance(what, Thing):
        return {
            "kind": what.name,
            "side": subject.side,
            "colour": what.colour,
            "pattern": what.pattern or "none",
            "glow": "glow" if what.glow else "none",
        }
    values = {
        "kind": what.species,
        "side": subject.side,
        "fur": "" if what.fur.startswith("#") else what.fur,
        "accessory": what.accessory or "none",
        "marks": what.one_of(MARKS),
        "crown": what.one_of(CROWNS),
        "glow": "glow" if what.extra("glow") else "none",
        "view": subject.view,
    }
    if subject.pose:
        values["pose"] = subject.pose
    if subject.garment:
        values["colour"] = what.garment_colour
    if subject.view != "face":
        values["garment"] = what.garment or "none"
        values["pattern"] = what.one_of(PATTERNS)
        values["wings"] = what.one_of(("wings",))
    if subject.view == "whole":
        values["build"] = what.build
    return values
