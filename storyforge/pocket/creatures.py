"""How the animals and people of the picture-book world are drawn.

A creature stands with its feet at the origin and is one unit tall, y down. Everything that the
embedded model is never shown (horns, patterns, crests, …) is drawn here too, for concepts, and is
listed in `HELD_OUT`.
"""

from dataclasses import dataclass, field

from storyforge.pocket import brush as paint
from storyforge.pocket.brush import INK, Brush, mix
from storyforge.pocket.things import draw_thing

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


def draw_creature(b: Brush, look: Look) -> None:
    """Draw the character; the caller has set origin and scale (feet at 0, 0; one unit tall)."""
    lift = {"jumping": -0.13, "sitting": 0.13}.get(look.pose, 0.0)
    lean = 7.0 if look.pose == "running" else 0.0
    with b.at(0, lift, mirror=look.mirror, turn=-lean if look.mirror else lean):
        _cape(b, look)
        _tail(b, look)
        _legs(b, look)
        _body(b, look)
        _arms(b, look)
        with b.at(0, -0.66):
            _head(b, look)


def _extra(look: Look, name: str) -> str | None:
    return dict(look.extras).get(name)


def _cape(b: Brush, look: Look) -> None:
    if look.accessory == "cape":
        b.blob(
            [
                (-0.1, -0.47),
                (0.1, -0.47),
                (0.34, -0.02),
                (0.1, -0.05),
                (-0.1, -0.05),
                (-0.34, -0.02),
            ],
            COLOURS[look.accessory_colour],
        )


def _tail(b: Brush, look: Look) -> None:
    fur = look.coat_of_fur()
    kind = SPECIES[look.species].tail
    if kind == "brush":
        b.blob(
            [(0.08, -0.12), (0.3, -0.06), (0.4, -0.2), (0.38, -0.42), (0.28, -0.36), (0.2, -0.2)],
            fur,
        )
        b.oval(0.34, -0.35, 0.045, 0.055, "#fbf5ea", line=False)
    elif kind == "long":
        b.stroke([(0.1, -0.13), (0.36, -0.08), (0.32, -0.34)], fur, 0.055)
    elif kind == "thin":
        b.stroke([(0.1, -0.13), (0.34, -0.06), (0.34, -0.26)], fur, 0.022)
    elif kind == "short":
        b.stroke([(0.12, -0.17), (0.26, -0.22), (0.27, -0.3)], fur, 0.06)
    elif kind == "puff":
        b.oval(0.2, -0.14, 0.065, 0.06, mix(fur, "#ffffff", 0.5))
    elif kind == "curl":
        b.stroke([(0.14, -0.17), (0.3, -0.12), (0.26, -0.24)], fur, 0.025)


def _feet_colour(look: Look) -> str:
    if look.species in PEOPLE:
        return "#6b4533"
    return (
        "#f0a13c" if SPECIES[look.species].muzzle == "beak" else mix(look.coat_of_fur(), INK, 0.25)
    )


def _legs(b: Brush, look: Look) -> None:
    feet, skin = _feet_colour(look), look.coat_of_fur()
    leg = "#4a5a8a" if look.species == "boy" and look.garment else skin
    if look.pose == "sitting":
        for side in (-1, 1):
            b.oval(side * 0.16, -0.155, 0.1, 0.055, leg)
            b.oval(side * 0.23, -0.165, 0.055, 0.065, feet)
    elif look.pose == "running":
        b.stroke([(-0.05, -0.16), (-0.19, -0.1)], leg, 0.1)
        b.oval(-0.25, -0.09, 0.045, 0.07, feet)
        b.stroke([(0.06, -0.16), (0.14, -0.04)], leg, 0.1)
        b.oval(0.18, -0.03, 0.08, 0.045, feet)
    elif look.pose == "jumping":
        for side in (-1, 1):
            b.stroke([(side * 0.07, -0.15), (side * 0.16, -0.07)], leg, 0.1)
            b.oval(side * 0.2, -0.045, 0.07, 0.045, feet)
    else:
        for side in (-1, 1):
            b.stroke([(side * 0.08, -0.16), (side * 0.085, -0.06)], leg, 0.1)
            b.oval(side * 0.1, -0.035, 0.085, 0.045, feet)


def _body(b: Brush, look: Look) -> None:
    fur = look.coat_of_fur()
    shape = [(-0.13, -0.5), (0.13, -0.5), (0.2, -0.3), (0.2, -0.08), (-0.2, -0.08), (-0.2, -0.3)]
    b.blob(shape, fur)
    pattern = _extra(look, "stripes") or _extra(look, "spots") or _extra(look, "moon")
    if look.garment is None:
        belly = "#fbf5ea" if fur.lower() != FURS["white"] else "#fffdf8"
        if look.species in PEOPLE:
            belly = "#8fa7c9"
        b.oval(0, -0.24, 0.115, 0.13, belly, line=False)
        with b.inside(paint.blob(shape)):
            _pattern(b, look)
        b.path(paint.blob(shape), None)
        return
    dye = COLOURS[look.garment_colour]
    if look.garment == "dress":
        cut = [
            (-0.12, -0.5),
            (0.12, -0.5),
            (0.18, -0.3),
            (0.3, -0.06),
            (-0.3, -0.06),
            (-0.18, -0.3),
        ]
    elif look.garment == "coat":
        cut = [
            (-0.14, -0.5),
            (0.14, -0.5),
            (0.22, -0.3),
            (0.24, -0.07),
            (-0.24, -0.07),
            (-0.22, -0.3),
        ]
    else:
        cut = [
            (-0.14, -0.5),
            (0.14, -0.5),
            (0.21, -0.32),
            (0.2, -0.16),
            (-0.2, -0.16),
            (-0.21, -0.32),
        ]
    b.blob(cut, dye)
    shade = mix(dye, INK, 0.45)
    if look.garment == "coat":
        b.stroke([(0, -0.44), (0, -0.1)], shade, b.ink * 0.8, line=False)
        for y in (-0.36, -0.27, -0.18):
            b.oval(0.045, y, 0.017, 0.017, "#fbe9b0")
    if pattern:
        with b.inside(paint.blob(cut)):
            _pattern(b, look)
        b.path(paint.blob(cut), None)


def _pattern(b: Brush, look: Look) -> None:
    if dye := _extra(look, "stripes"):
        for y in (-0.4, -0.3, -0.2, -0.1):
            b.stroke([(-0.3, y), (0.3, y)], dye, 0.045, line=False)
    if dye := _extra(look, "spots"):
        for x, y in (
            (-0.11, -0.36),
            (0.08, -0.4),
            (0.12, -0.26),
            (-0.04, -0.25),
            (-0.13, -0.15),
            (0.05, -0.13),
        ):
            b.oval(x, y, 0.034, 0.034, dye, line=False)
    if dye := _extra(look, "moon"):
        b.oval(0, -0.29, 0.085, 0.085, dye, line=False)
        b.oval(0.04, -0.31, 0.07, 0.07, COLOURS.get(look.garment_colour, INK), line=False)


def _sleeve(look: Look) -> str:
    return COLOURS[look.garment_colour] if look.garment else look.coat_of_fur()


def _arms(b: Brush, look: Look) -> None:
    down = ((-0.15, -0.4), (-0.25, -0.33), (-0.245, -0.2))
    ends = {
        "waving": (((0.15, -0.4), (0.3, -0.42), (0.36, -0.6)), down),
        "jumping": (
            ((0.15, -0.4), (0.3, -0.44), (0.35, -0.62)),
            ((-0.15, -0.4), (-0.3, -0.44), (-0.35, -0.62)),
        ),
        "running": (
            ((0.15, -0.4), (0.27, -0.3), (0.33, -0.42)),
            ((-0.15, -0.4), (-0.3, -0.36), (-0.32, -0.22)),
        ),
        "holding": (((0.15, -0.4), (0.26, -0.3), (0.35, -0.34)), down),
    }
    right, left = ends.get(look.pose, (tuple((-x, y) for x, y in down), down))
    if look.pose == "holding" and look.holding:
        with b.at(0.38, -0.32, scale=0.34):
            inner = Brush(b.canvas, b.ink / 0.34)
            draw_thing(inner, look.holding, COLOURS[look.holding_colour])
    for arm in (left, right):
        b.stroke(list(arm), _sleeve(look), 0.085)
        hand = look.coat_of_fur()
        b.oval(arm[2][0], arm[2][1], 0.052, 0.052, hand)


def _ears(b: Brush, look: Look) -> None:
    fur, kind = look.coat_of_fur(), SPECIES[look.species].ears
    inner = mix(fur, "#f7a8b0", 0.6) if look.species != "fox" else "#4b3440"
    for side in (-1, 1):
        if kind == "pointed":
            b.polygon([(side * 0.26, -0.34), (side * 0.05, -0.2), (side * 0.25, -0.06)], fur)
            b.polygon(
                [(side * 0.225, -0.265), (side * 0.13, -0.2), (side * 0.215, -0.13)],
                inner,
                line=False,
            )
        elif kind == "round":
            b.oval(side * 0.19, -0.2, 0.09, 0.09, fur)
            b.oval(side * 0.19, -0.2, 0.05, 0.05, inner, line=False)
        elif kind == "dark-round":
            b.oval(side * 0.19, -0.2, 0.085, 0.085, "#3b3744")
        elif kind == "big":
            b.oval(side * 0.25, -0.19, 0.14, 0.14, fur)
            b.oval(side * 0.25, -0.19, 0.09, 0.09, inner, line=False)
        elif kind == "long":
            with b.at(side * 0.1, -0.3, turn=side * 9):
                b.oval(0, 0, 0.065, 0.19, fur)
                b.oval(0, 0.01, 0.032, 0.14, inner, line=False)
        elif kind == "floppy":
            with b.at(side * 0.255, -0.05, turn=side * -14):
                b.oval(0, 0.03, 0.085, 0.17, mix(fur, INK, 0.25))
        elif kind == "fans":
            b.oval(side * 0.31, -0.02, 0.16, 0.18, fur)
            b.oval(side * 0.31, -0.02, 0.1, 0.12, inner, line=False)
        elif kind == "flaps":
            b.polygon(
                [(side * 0.24, -0.29), (side * 0.06, -0.2), (side * 0.24, -0.09)],
                mix(fur, INK, 0.12),
            )
        elif kind == "tufts":
            b.polygon(
                [(side * 0.22, -0.31), (side * 0.08, -0.19), (side * 0.23, -0.08)],
                mix(fur, INK, 0.2),
            )
        elif kind == "bulges":
            b.oval(side * 0.135, -0.19, 0.1, 0.1, fur)


def _hair_behind(b: Brush, look: Look) -> None:
    if look.species == "girl":
        b.blob(
            [(-0.3, -0.28), (0.3, -0.28), (0.33, 0.1), (0.27, 0.24), (-0.27, 0.24), (-0.33, 0.1)],
            HAIRS[look.hair],
        )


def _hair_front(b: Brush, look: Look) -> None:
    dye = HAIRS[look.hair]
    if look.species == "girl":
        b.blob(
            [
                (-0.28, -0.04),
                (-0.26, -0.27),
                (0, -0.33),
                (0.26, -0.27),
                (0.28, -0.04),
                (0.14, -0.16),
                (0, -0.09),
                (-0.14, -0.16),
            ],
            dye,
        )
    elif look.species == "boy":
        b.blob(
            [
                (-0.28, -0.06),
                (-0.26, -0.29),
                (-0.02, -0.35),
                (0.26, -0.29),
                (0.28, -0.06),
                (0.16, -0.15),
                (0.06, -0.1),
                (-0.06, -0.16),
                (-0.17, -0.1),
            ],
            dye,
        )


def _head(b: Brush, look: Look) -> None:
    fur, species = look.coat_of_fur(), SPECIES[look.species]
    if look.species in PEOPLE:
        _hair_behind(b, look)
        for side in (-1, 1):
            b.oval(side * 0.265, 0.02, 0.045, 0.05, fur)
    _crown_of_head(b, look)
    _ears(b, look)
    skull = paint.oval(0, 0, 0.275, 0.235)
    b.path(skull, fur)
    with b.inside(skull):
        if dye := _extra(look, "patch"):
            b.oval(0.13, -0.04, 0.13, 0.15, dye, line=False)
        _face_markings(b, look, species)
    b.path(skull, None)
    if look.species in PEOPLE:
        _hair_front(b, look)
    _face(b, look, species)
    _accessory(b, look)


def _crown_of_head(b: Brush, look: Look) -> None:
    if dye := _extra(look, "antlers"):
        for side in (-1, 1):
            b.stroke([(side * 0.08, -0.18), (side * 0.13, -0.34), (side * 0.2, -0.46)], dye, 0.035)
            b.stroke([(side * 0.125, -0.32), (side * 0.24, -0.34)], dye, 0.03)
    if dye := _extra(look, "antennae"):
        for side in (-1, 1):
            b.stroke([(side * 0.07, -0.2), (side * 0.09, -0.36), (side * 0.18, -0.42)], INK, 0.02)
            b.oval(side * 0.18, -0.43, 0.05, 0.05, dye)
    if dye := _extra(look, "crest"):
        b.blob(
            [
                (-0.16, -0.14),
                (-0.2, -0.36),
                (-0.06, -0.3),
                (0, -0.46),
                (0.07, -0.3),
                (0.2, -0.36),
                (0.16, -0.14),
            ],
            dye,
        )
    if dye := _extra(look, "horn"):
        b.polygon([(-0.065, -0.19), (0, -0.47), (0.065, -0.19)], dye)
        b.stroke([(-0.035, -0.29), (0.03, -0.32)], mix(dye, INK, 0.35), b.ink * 0.8, line=False)


def _face_markings(b: Brush, look: Look, species: Species) -> None:
    cream = "#fdf6ec"
    if species.face == "mask":
        for side in (-1, 1):
            b.blob(
                [
                    (0, 0.03),
                    (side * 0.1, 0.02),
                    (side * 0.32, 0.02),
                    (side * 0.24, 0.24),
                    (0, 0.25),
                ],
                cream,
                line=False,
            )
    elif species.face == "light":
        b.oval(0, 0.11, 0.14, 0.1, mix(look.coat_of_fur(), cream, 0.75), line=False)
    elif species.face == "discs":
        for side in (-1, 1):
            b.oval(
                side * 0.105, -0.01, 0.115, 0.12, mix(look.coat_of_fur(), cream, 0.7), line=False
            )
    elif species.face == "heart":
        for side in (-1, 1):
            b.oval(side * 0.09, 0.0, 0.11, 0.12, cream, line=False)
        b.oval(0, 0.11, 0.17, 0.12, cream, line=False)
    elif species.face == "patches":
        for side in (-1, 1):
            with b.at(side * 0.12, -0.01, turn=side * 20):
                b.oval(0, 0, 0.07, 0.085, "#3b3744", line=False)


def _face(b: Brush, look: Look, species: Species) -> None:
    wide = species.muzzle == "wide"
    ex, ey, size = (0.135, -0.19, 0.058) if wide else (0.11, -0.015, 0.042)
    if species.face == "discs":
        size = 0.06
    light = species.face == "patches"
    for side in (-1, 1):
        if wide:
            b.oval(side * ex, ey, 0.07, 0.07, "#ffffff", line=False)
        b.oval(side * ex, ey, size, size * 1.15, "#ffffff" if light else INK, line=False)
        if light:
            b.oval(side * ex, ey, size * 0.7, size * 0.8, INK, line=False)
        b.oval(side * ex + 0.014, ey - 0.017, 0.014, 0.014, "#ffffff", line=False)
        b.oval(side * 0.2, 0.085, 0.042, 0.03, "#f4788a", line=False, alpha=0.55)
    _muzzle(b, look, species)


def _muzzle(b: Brush, look: Look, species: Species) -> None:
    smile = [(-0.05, 0.125), (0.0, 0.165), (0.05, 0.125)]
    match species.muzzle:
        case "beak":
            b.polygon([(-0.055, 0.05), (0.055, 0.05), (0, 0.15)], "#f5a63a")
        case "trunk":
            b.stroke([(0, 0.05), (0.0, 0.2), (0.1, 0.28)], look.coat_of_fur(), 0.1)
            b.oval(0, 0.04, 0.05, 0.03, look.coat_of_fur(), line=False)
        case "snout":
            b.oval(0, 0.085, 0.085, 0.06, mix(look.coat_of_fur(), "#e0607e", 0.35))
            for side in (-1, 1):
                b.oval(side * 0.03, 0.085, 0.013, 0.02, INK, line=False)
        case "wide":
            b.stroke([(-0.15, 0.07), (0.0, 0.17), (0.15, 0.07)], INK, b.ink, line=False)
        case "human":
            b.oval(0, 0.06, 0.02, 0.014, mix(look.coat_of_fur(), INK, 0.35), line=False)
            b.stroke(smile, INK, b.ink, line=False)
        case kind:
            width = {"pointed": 0.045, "round": 0.05, "cat": 0.034, "small": 0.03}[kind]
            nose = "#e56b7f" if kind in ("cat", "small") else INK
            b.oval(0, 0.07, width, width * 0.72, nose, line=False)
            b.stroke(smile, INK, b.ink, line=False)
            if kind == "cat":
                for side in (-1, 1):
                    b.stroke([(side * 0.15, 0.1), (side * 0.3, 0.07)], INK, b.ink * 0.6, line=False)


def _accessory(b: Brush, look: Look) -> None:
    dye = COLOURS[look.accessory_colour]
    match look.accessory:
        case "crown":
            b.polygon(
                [
                    (-0.15, -0.19),
                    (-0.18, -0.38),
                    (-0.08, -0.29),
                    (0, -0.41),
                    (0.08, -0.29),
                    (0.18, -0.38),
                    (0.15, -0.19),
                ],
                "#fbd341",
            )
        case "glasses":
            for side in (-1, 1):
                b.oval(side * 0.115, -0.01, 0.085, 0.085, "#dff2ff", alpha=0.35, line=False)
                b.path(paint.oval(side * 0.115, -0.01, 0.085, 0.085), None)
                b.path(paint.oval(side * 0.115, -0.01, 0.078, 0.078), None)
            b.stroke([(-0.03, -0.02), (0.03, -0.02)], INK, b.ink * 1.4, line=False)
        case "scarf":
            b.box(-0.19, 0.17, 0.38, 0.1, dye, radius=0.05)
            b.box(0.06, 0.22, 0.1, 0.2, dye, radius=0.02)
        case "bow":
            for side in (-1, 1):
                b.polygon(
                    [(0.15, -0.2), (0.15 + side * 0.13, -0.3), (0.15 + side * 0.13, -0.11)], dye
                )
            b.oval(0.15, -0.2, 0.04, 0.04, dye)
        case "hat":
            b.box(-0.15, -0.44, 0.3, 0.25, dye, radius=0.02)
            b.box(-0.15, -0.27, 0.3, 0.06, mix(dye, "#ffffff", 0.55), line=False)
            b.box(-0.25, -0.22, 0.5, 0.06, dye, radius=0.03)
        case "cap":
            b.blob([(-0.25, -0.13), (-0.22, -0.32), (0.22, -0.32), (0.25, -0.13)], dye)
            b.box(0.05, -0.18, 0.32, 0.06, mix(dye, INK, 0.2), radius=0.03)
        case "cape":
            b.box(-0.14, 0.18, 0.28, 0.065, dye, radius=0.03)
        case "flower":
            for x, y in (
                (0, -0.07),
                (0.065, -0.02),
                (0.04, 0.055),
                (-0.04, 0.055),
                (-0.065, -0.02),
            ):
                b.oval(-0.17 + x, -0.19 + y, 0.045, 0.045, dye)
            b.oval(
                -0.17,
                -0.19,
                0.035,
                0.035,
                "#fbd341" if look.accessory_colour != "yellow" else "#8d5d3c",
            )
