"""What a character of the picture-book world can look like: kinds, colours, clothes, poses.

Everything that the embedded model is never shown (horns, patterns, crests, …) is for concepts, and
is listed in `HELD_OUT`.
"""

from dataclasses import dataclass, field

COLOURS = {
    "red": "#dc3c3c",
    "orange": "#f08a2c",
    "yellow": "#f8cf3a",
    "green": "#43a35a",
    "teal": "#1fa5a5",
    "blue": "#3b72d9",
    "purple": "#8a4fc0",
    "pink": "#f48cb6",
    "white": "#f7f4ee",
    "black": "#3d3a48",
}
FURS = {
    "orange": "#e8752e",
    "ginger": "#f0a54c",
    "brown": "#8d5d3c",
    "grey": "#9aa0aa",
    "white": "#f4f1ec",
    "black": "#454250",
    "green": "#6cbb4c",
    "blue": "#6f95cf",
    "pink": "#f2a3b8",
    "purple": "#a683cf",
    "yellow": "#f3cf58",
    "teal": "#54b3ae",
}
SKINS = {"light": "#fbd9bd", "tan": "#e3ad7f", "brown": "#a66f48", "dark": "#70482f"}
HAIRS = {"black": "#3a2e33", "brown": "#7a4a2b", "blond": "#f0cb62", "red": "#c9552b"}
ACCESSORIES = ("crown", "glasses", "scarf", "bow", "hat", "cap", "cape", "flower")
GARMENTS = ("coat", "shirt", "dress")
POSES = ("standing", "waving", "sitting", "jumping", "running", "holding")


@dataclass(frozen=True, slots=True)
class Species:
    """What makes one kind of animal: natural fur, ears, tail and muzzle by name."""

    fur: str
    ears: str
    tail: str
    muzzle: str
    face: str = "light"


SPECIES = {
    "fox": Species("orange", "pointed", "brush", "pointed", "mask"),
    "cat": Species("ginger", "pointed", "long", "cat", "plain"),
    "dog": Species("brown", "floppy", "short", "round", "light"),
    "bear": Species("brown", "round", "none", "round", "light"),
    "rabbit": Species("white", "long", "puff", "cat", "plain"),
    "mouse": Species("grey", "big", "thin", "small", "plain"),
    "frog": Species("green", "bulges", "none", "wide", "plain"),
    "owl": Species("brown", "tufts", "none", "beak", "discs"),
    "penguin": Species("black", "none", "none", "beak", "heart"),
    "elephant": Species("blue", "fans", "thin", "trunk", "plain"),
    "pig": Species("pink", "flaps", "curl", "snout", "plain"),
    "panda": Species("white", "dark-round", "none", "round", "patches"),
    "girl": Species("light", "human", "none", "human", "human"),
    "boy": Species("light", "human", "none", "human", "human"),
}
PEOPLE = ("girl", "boy")
HELD_OUT = ("horn", "antlers", "crest", "antennae", "stripes", "spots", "patch", "moon")


@dataclass(frozen=True, slots=True)
class Look:
    """All that one sees of a character. `extras` are features outside the model's world."""

    species: str
    fur: str
    garment: str | None = None
    garment_colour: str = "red"
    accessory: str | None = None
    accessory_colour: str = "red"
    pose: str = "standing"
    hair: str = "brown"
    mirror: bool = False
    holding: str | None = None
    holding_colour: str = "red"
    extras: tuple[tuple[str, str], ...] = field(default=())

    def coat_of_fur(self) -> str:
        """The colour of fur or skin as `#rrggbb`; a literal colour passes through."""
        if self.fur.startswith("#"):
            return self.fur
        return SKINS[self.fur] if self.species in PEOPLE else FURS[self.fur]

    def extra(self, name: str) -> str | None:
        """The colour of a feature outside the model's world; None if the character lacks it."""
        return dict(self.extras).get(name)
