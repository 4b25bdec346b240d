"""What a picture of the world says is to be seen; nothing is drawn or worded here."""

from dataclasses import dataclass

from storyforge.pocket.world.looks import Look
from storyforge.pocket.world.proportions import BUILD_SHAPES, SHOULDER, lift

SIDES = ("left", "middle", "right")
VIEWS = ("whole", "close-up", "face")
HOLDABLE = ("ball", "balloon", "flower", "star", "apple", "book", "umbrella", "gift", "lantern")

LEGS = 0.12
"""Of a body's height: who shows less of its legs than all but this is seen close up."""

CHEST = 0.13
"""Who shows less than this below the shoulders shows its face alone."""


@dataclass(frozen=True, slots=True)
class Thing:
    """An object of a named colour; `pattern` is one of `PATTERNS`."""

    name: str
    colour: str
    pattern: str | None = None
    pattern_colour: str = "white"
    glow: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """Who or what stands where; `x`, `ground` and `size` in fractions of the picture.

    Who stands below the picture's lower edge is seen close up.
    """

    what: Look | Thing
    x: float
    ground: float
    size: float

    @property
    def side(self) -> str:
        """`left`, `middle` or `right`."""
        return SIDES[max(0, min(2, int(self.x * 3)))]

    @property
    def view(self) -> str:
        """How much of a creature is in the picture: one of `VIEWS`."""
        if isinstance(self.what, Thing) or self.ground <= 1:
            return "whole"
        hidden = (self.ground - 1) / self.size + lift(self.what)
        tall = BUILD_SHAPES[self.what.build].tall
        if hidden < LEGS * tall:
            return "whole"
        return "close-up" if hidden < SHOULDER * tall - CHEST else "face"

    @property
    def pose(self) -> str | None:
        """What a creature is seen to do; None where too little of it shows to tell."""
        if isinstance(self.what, Thing):
            return None
        told = {"whole": True, "close-up": self.what.pose in ("waving", "holding")}
        return self.what.pose if told.get(self.view) else None

    @property
    def garment(self) -> str | None:
        """What a creature is seen to wear."""
        return None if isinstance(self.what, Thing) or self.view == "face" else self.what.garment


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of the world; `seed` throws its small props."""

    place: str
    time: str
    weather: str
    subjects: tuple[Subject, ...]
    seed: int
    sky: str = "plain"
    tint: str | None = None
