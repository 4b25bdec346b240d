"""How a creature is built, and where its head is: feet at the origin, one unit tall, y down."""

import math
from dataclasses import dataclass

from storyforge.pocket.world.looks import CROWNS, HEADGEAR, SPECIES, Look

LIFT = {"jumping": -0.13, "sitting": 0.13}
LEAN = 7.0
"""Degrees that who runs leans forward."""

SHOULDER = 0.5
NECK = 0.16
"""Heights of the shoulders, and of the middle of the head above them, in the usual build."""

EARS = {"long": 0.49, "pointed": 0.34, "tufts": 0.31, "flaps": 0.29, "bulges": 0.29, "big": 0.33}
TOPS = {"crown": 0.41, "hat": 0.44, "cap": 0.32, "flower": 0.31, "bow": 0.3}
GROWN = {"horn": 0.47, "antlers": 0.48, "crest": 0.44, "antennae": 0.48}
SKULL = 0.235
"""How far ears, what is worn and what has grown reach above the middle of the head."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True, slots=True)
class Build:
    """How much wider and taller a body is than the usual one, and how much larger its head."""

    wide: float = 1.0
    tall: float = 1.0
    head: float = 1.0

    @property
    def neck(self) -> float:
        """Height of the middle of the head above the feet."""
        return SHOULDER * self.tall + NECK * self.head


BUILD_SHAPES = {
    "usual": Build(),
    "tall": Build(0.92, 1.36, 0.86),
    "small": Build(0.86, 0.66, 0.96),
    "round": Build(1.36, 0.98, 1.0),
}


def stature(look: Look) -> float:
    """How tall the build is, in heights of the usual one."""
    return BUILD_SHAPES[look.build].neck / BUILD_SHAPES["usual"].neck


def lift(look: Look) -> float:
    """How far the pose moves the creature down."""
    return LIFT.get(look.pose, 0.0)


def lean(look: Look) -> float:
    """Degrees clockwise that the creature leans."""
    if look.pose != "running":
        return 0.0
    return -LEAN if look.mirror else LEAN


def eyes_above(look: Look) -> float:
    """How much higher than usual is what sits on the head of who has the eyes on top of it."""
    on_top = (*HEADGEAR, "bow", "flower")
    return 0.1 if SPECIES[look.species].muzzle == "wide" and look.accessory in on_top else 0.0


def head_height(look: Look, *, ears: bool = True) -> float:
    """How far the head with all that is on it reaches above its middle, before it is scaled."""
    worn = TOPS.get(look.accessory or "", 0.0) + eyes_above(look)
    heights = [SKULL, GROWN.get(look.one_of(CROWNS), 0.0), worn]
    if ears:
        heights.append(EARS.get(SPECIES[look.species].ears, 0.29))
    if look.accessory in HEADGEAR or look.one_of(CROWNS) != "none":
        heights.append(0.3)
    return max(heights) + 0.02


def head_middle(look: Look) -> tuple[float, float]:
    """Where the middle of the head is."""
    neck, turn = BUILD_SHAPES[look.build].neck, math.radians(lean(look))
    return neck * math.sin(turn), lift(look) - neck * math.cos(turn)


def height(look: Look) -> float:
    """How far the creature reaches above the ground that it stands on."""
    return head_height(look) * BUILD_SHAPES[look.build].head - head_middle(look)[1]


def half_width(look: Look) -> float:
    """How far the creature reaches to either side, arms, tail and wings included."""
    wide = 0.36 if look.pose in ("waving", "jumping", "running", "holding") else 0.3
    if SPECIES[look.species].ears == "fans":
        wide = 0.48
    if look.extra("wings"):
        wide = max(wide, 0.47)
    return wide * max(1.0, BUILD_SHAPES[look.build].wide)


def head_box(look: Look) -> Box:
    """Around skull, ears and what is on them."""
    (x, y), scale = head_middle(look), BUILD_SHAPES[look.build].head
    half = 0.48 if SPECIES[look.species].ears == "fans" else 0.32
    return (x - half * scale, y - head_height(look) * scale, x + half * scale, y + 0.26 * scale)


def eyes_box(look: Look) -> Box:
    """Around both eyes."""
    (x, y), scale = head_middle(look), BUILD_SHAPES[look.build].head
    wide = SPECIES[look.species].muzzle == "wide"
    half, middle = (0.22, -0.19) if wide else (0.18, -0.015)
    return (
        x - half * scale,
        y + (middle - 0.08) * scale,
        x + half * scale,
        y + (middle + 0.08) * scale,
    )
