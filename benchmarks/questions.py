"""What may be asked of somebody in a picture, and what the answers would look like.

Not covered: which of them is right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from storyforge.pocket.world import looks
from storyforge.pocket.world.looks import Look
from storyforge.pocket.world.picture import HOLDABLE, Thing
from storyforge.pocket.world.things import SURFACES

MARGIN: Final = 2e-4
"""How much nearer, over all pixels on average, a drawing comes by what is there."""


class Choice(NamedTuple):
    """How somebody may look.

    what     but for a colour
    dyed     the field that has it, or the feature of `Look.extras`
    colours  among which it is chosen; none where there is no question of it
    """

    what: Look | Thing
    dyed: str = ""
    colours: Mapping[str, str] = MappingProxyType({})

    def of(self, colour: str) -> Look | Thing:
        """In a colour, by its name."""
        if isinstance(self.what, Look) and self.dyed in looks.FEATURES:
            return replace(self.what, extras=(*self.what.extras, (self.dyed, colour)))
        fields: dict[str, Any] = {self.dyed: colour} if self.dyed else {}
        return replace(self.what, **fields)


class Question(NamedTuple):
    """What somebody may look like.

    without  the same without what is asked for
    margin   how much nearer it must come by what is there
    """

    choices: Sequence[Choice]
    without: Look | Thing | None = None
    margin: float = 0.0


Asking = Callable[[Any], Question]
"""Somebody, as it looks now, to a question about that."""


def _colours(thing: Thing) -> Question:
    """Of what colour it is."""
    return Question([Choice(thing, "colour", looks.COLOURS)])


def _emblems(thing: Thing) -> Question:
    """What is on it."""
    names = looks.PATTERNS if thing.name in SURFACES else ()
    choices = [Choice(replace(thing, pattern=name), "pattern_colour", looks.DYES) for name in names]
    return Question(choices, replace(thing, pattern=None), MARGIN)


def _shine(thing: Thing) -> Question:
    """Whether it glows."""
    return Question([Choice(replace(thing, glow=not thing.glow))])


def _furs(look: Look) -> Question:
    """Of which fur, or skin."""
    return Question(
        [Choice(look, "fur", looks.SKINS if look.species in looks.PEOPLE else looks.FURS)]
    )


def _hairs(look: Look) -> Question:
    """Of which hair."""
    names = looks.HAIRS if look.species in looks.PEOPLE else ()
    return Question([Choice(replace(look, hair=name)) for name in names])


def _garments(look: Look) -> Question:
    """What it wears."""
    choices = [
        Choice(replace(look, garment=name), "garment_colour", looks.COLOURS)
        for name in looks.GARMENTS
    ]
    return Question(choices, replace(look, garment=None))


def poses(look: Look) -> list[Look]:
    """All that it may do, to both sides."""
    held = look.holding or HOLDABLE[0]
    return [
        replace(look, pose=pose, mirror=mirror, holding=held if pose == "holding" else None)
        for pose, mirror in product(looks.POSES, (False, True))
    ]


def _held(look: Look) -> Question:
    """What it holds."""
    names = HOLDABLE if look.pose == "holding" else ()
    return Question(
        [Choice(replace(look, holding=name), "holding_colour", looks.COLOURS) for name in names]
    )


def _accessories(look: Look) -> Question:
    """What it has on."""
    choices = [
        Choice(replace(look, accessory=name), "accessory_colour", looks.COLOURS)
        for name in looks.ACCESSORIES
    ]
    return Question(choices, replace(look, accessory=None), MARGIN)


def _features(names: Sequence[str], look: Look) -> Question:
    """One of some features, or none."""
    bare = replace(look, extras=tuple(each for each in look.extras if each[0] not in names))
    return Question([Choice(bare, name, looks.DYES) for name in names], bare, MARGIN)


_OF_THINGS: Final[Sequence[Asking]] = (_colours, _emblems, _shine)
_OF_LOOKS: Final[Sequence[Asking]] = (
    *(_furs, _hairs, _garments, _held, _accessories),
    *(
        partial(_features, names)
        for names in (looks.CROWNS, looks.PATTERNS, looks.MARKS, ("wings",), ("glow",))
    ),
)
"""What is asked, what is largest first."""


def askings(what: Look | Thing) -> Sequence[Asking]:
    """The questions about somebody."""
    return _OF_LOOKS if isinstance(what, Look) else _OF_THINGS
