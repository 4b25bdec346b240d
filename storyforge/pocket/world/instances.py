"""What is held out of the world: the characters, objects and scenes that are taught as concepts.

All of their features occur, as in life, where a model knows stripes and horns but not the one fox
that has both. Only their combinations never do.
"""

from dataclasses import dataclass
from typing import Final

from storyforge.pocket.world.looks import FURS, Look
from storyforge.pocket.world.picture import Picture, Thing


@dataclass(frozen=True, slots=True)
class Instance:
    """A kind of animal in one colour of fur that never has any of these features."""

    species: str
    fur: str
    features: tuple[str, ...]


HELD_OUT: Final = (
    Instance("fox", "mint", ("horn", "stripes")),
    Instance("fox", "crimson", ("crest",)),
    Instance("bear", "crimson", ("moon",)),
    Instance("rabbit", "rose", ("antlers", "spots")),
    Instance("elephant", "ginger", ("spots", "horn")),
    Instance("cat", "lime", ("antennae",)),
    Instance("dog", "sky", ("patch",)),
    Instance("owl", "purple", ("crest",)),
    Instance("frog", "coral", ("spots",)),
    Instance("mouse", "yellow", ("stripes", "antennae")),
)


def is_held_out(picture: Picture) -> bool:
    """Whether a concept is to be seen: the picture's scene, or anybody or anything in it."""
    return _scene_held_out(picture) or any(
        look_held_out(subject.what)
        if isinstance(subject.what, Look)
        else thing_held_out(subject.what)
        for subject in picture.subjects
    )


def look_held_out(look: Look) -> bool:
    """Whether a character has the species, the fur and any feature of one that is held out."""
    fur, names = fur_name(look), {name for name, _ in look.extras}
    return any(
        look.species == held.species and fur == held.fur and names & set(held.features)
        for held in HELD_OUT
    )


def thing_held_out(thing: Thing) -> bool:
    """Whether an object is the blue lantern with its star, or the teal ball with red stripes."""
    if thing.name == "lantern":
        return thing.colour == "blue" and thing.pattern == "star"
    stripy = thing.colour == "teal" and thing.pattern_colour in ("red", "coral", "crimson")
    return thing.name == "ball" and thing.pattern == "stripes" and stripy


def _scene_held_out(picture: Picture) -> bool:
    return picture.place == "grove" and picture.tint == "violet" and picture.sky == "big moon"


def fur_name(look: Look) -> str:
    """The name of a fur's colour, or of the nearest that has one."""
    if not look.fur.startswith("#"):
        return look.fur
    wanted = _channels(look.fur)
    return min(
        FURS,
        key=lambda name: sum(
            (a - b) ** 2 for a, b in zip(wanted, _channels(FURS[name]), strict=True)
        ),
    )


def _channels(dye: str) -> tuple[int, ...]:
    return tuple(int(dye[i : i + 2], 16) for i in (1, 3, 5))
