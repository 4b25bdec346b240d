"""Descriptions of pictures in which much is not as it is: what a judge that is told what was asked
for must not repeat.

Not covered: the judge (`benchmarks/redrawn.py`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from storyforge.pocket import world
from storyforge.pocket.world import looks, places
from storyforge.pocket.world.looks import Look
from storyforge.pocket.world.picture import HOLDABLE, Picture, Subject, Thing

OTHERWISE: Final = 0.3
"""Share of what is said that is taken from somebody or somewhere else, if that has it, too."""


def misled(picture: Picture, rng: np.random.Generator) -> Picture:
    """The same with much of it otherwise: somewhere else, at another time, in other clothes,
    somebody else."""
    other = world.imagine(rng)
    subjects = tuple(_other(each, rng) for each in picture.subjects)
    made = replace(picture, subjects=subjects)
    for name in ("place", "time", "weather", "sky", "tint"):
        if rng.random() < OTHERWISE:
            made = replace(made, **{name: getattr(other, name)})
    outdoors = places.PLACES[made.place][1]
    if not outdoors:
        made = replace(made, weather="clear", sky="plain")
    return made if made.place in places.TINTED else replace(made, tint=None)


def _other(subject: Subject, rng: np.random.Generator) -> Subject:
    if isinstance(subject.what, Thing):
        other = world.random_thing(rng)
        coloured = other if rng.random() < OTHERWISE else subject.what
        what = other if rng.random() < OTHERWISE else subject.what
        return replace(subject, what=replace(what, colour=coloured.colour))
    return replace(subject, what=_look(subject.what, world.random_look(rng), rng))


def _look(look: Look, other: Look, rng: np.random.Generator) -> Look:
    """Some of the one, and the rest of the other."""
    alike = (look.species in looks.PEOPLE) == (other.species in looks.PEOPLE)
    names = [("pose", "holding", "holding_colour", "mirror"), ("accessory", "accessory_colour")]
    names += [("garment", "garment_colour"), ("garment_colour",), ("extras",), ("build",)]
    names += [("species",), ("fur",), ("hair",)] if alike else []
    for together in names:
        if rng.random() < OTHERWISE:
            look = replace(look, **{name: getattr(other, name) for name in together})
    if look.pose == "holding" and look.holding is None:
        look = replace(look, holding=HOLDABLE[0])
    return look
