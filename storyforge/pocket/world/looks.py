"""What a character of the picture-book world can look like: kinds, colours, clothes, features.

A colour has one name in the whole world; a literal `#rrggbb` is one that has none. How things are
drawn is not covered.
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
"""Of clothes and objects."""

RARE_COLOURS = {
    "mint": "#7ad9b8",
    "coral": "#f2795f",
    "lavender": "#cdbcf5",
    "lime": "#a9d63c",
    "gold": "#e9b010",
    "cream": "#fae6b4",
    "crimson": "#c23a5b",
    "sky": "#5fb7ea",
    "rose": "#d87fb0",
    "navy": "#3c4fa8",
}
"""Of fur, of patterns and of features; in words the sky's is `sky blue`."""

COMMON_FURS = {
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
FURS = {**COMMON_FURS, **RARE_COLOURS}
DYES = {**COLOURS, **RARE_COLOURS, "brown": "#7a4a2b"}
"""Of patterns and of features."""

SKINS = {"light": "#fbd9bd", "tan": "#e3ad7f", "brown": "#a66f48", "dark": "#70482f"}
HAIRS = {"black": "#3a2e33", "brown": "#7a4a2b", "blond": "#f0cb62", "red": "#c9552b"}
ACCESSORIES = ("crown", "glasses", "scarf", "bow", "hat", "cap", "cape", "flower")
HEADGEAR = ("crown", "hat", "cap")
GARMENTS = ("coat", "shirt", "dress")
POSES = ("standing", "waving", "sitting", "jumping", "running", "holding")

BUILDS = ("usual", "tall", "small", "round")

PATTERNS = ("stripes", "spots", "checks", "moon", "star", "hearts")
"""On what is worn, on objects, and on the body of who wears nothing."""

MARKS = ("fur stripes", "fur spots", "patch")
"""On the fur itself, head and body."""

CROWNS = ("horn", "antlers", "crest", "antennae")
"""What grows on a head: one at most."""

FEATURES = (*PATTERNS, *MARKS, *CROWNS, "wings", "glow")
"""Names that `Look.extras` may have."""


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


@dataclass(frozen=True, slots=True)
class Look:
    """All that one sees of a character.

    `extras` pairs names of `FEATURES` with colours, by name or as `#rrggbb`.
    """

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
    build: str = "usual"

    def coat_of_fur(self) -> str:
        """The colour of fur or skin as `#rrggbb`; a literal colour passes through."""
        if self.fur.startswith("#"):
            return self.fur
        return SKINS[self.fur] if self.species in PEOPLE else FURS[self.fur]

    def extra(self, name: str) -> str | None:
        """The colour of a feature as `#rrggbb`; None if the character lacks it."""
        dye = dict(self.extras).get(name)
        return dye and DYES.get(dye, dye)

    def one_of(self, names: tuple[str, ...]) -> str:
        """The first of the features that the character has; `none` if it has none of them."""
        return next((name for name, _ in self.extras if name in names), "none")
