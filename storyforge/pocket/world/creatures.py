"""How the animals and people of the picture-book world are drawn, but for their heads.

A creature stands with its feet at the origin and is one unit tall, y down.
"""

from storyforge.pocket.world import brush as paint
from storyforge.pocket.world.brush import INK, Brush, mix
from storyforge.pocket.world.heads import draw_head
from storyforge.pocket.world.looks import COLOURS, FURS, PATTERNS, PEOPLE, SPECIES, Look
from storyforge.pocket.world.patterns import SPOTS, draw_pattern
from storyforge.pocket.world.proportions import BUILD_SHAPES, lean, lift
from storyforge.pocket.world.things import draw_thing, glow


def draw_creature(b: Brush, look: Look) -> None:
    """Draw the character; the caller has set origin and scale (feet at 0, 0; one unit tall)."""
    build = BUILD_SHAPES[look.build]
    with b.at(0, lift(look), mirror=look.mirror, turn=lean(look)):
        if dye := look.extra("glow"):
            glow(b, 0, -0.5 * build.tall, 0.6, dye)
        with b.stretched(build.wide, build.tall):
            _cape(b, look)
            _wings(b, look)
            _tail(b, look)
            _legs(b, look)
            _body(b, look)
            _arms(b, look)
        with b.at(0, -build.neck, scale=build.head):
            draw_head(b, look)


def _wings(b: Brush, look: Look) -> None:
    if dye := look.extra("wings"):
        light = mix(dye, "#ffffff", 0.45)
        for side in (-1, 1):
            lower = [(0.06, -0.34), (0.3, -0.36), (0.43, -0.24), (0.3, -0.1), (0.08, -0.22)]
            b.blob([(side * x, y) for x, y in lower], mix(dye, "#ffffff", 0.25))
            upper = [(0.04, -0.4), (0.24, -0.62), (0.5, -0.68), (0.49, -0.42), (0.28, -0.3)]
            b.blob([(side * x, y) for x, y in upper], dye)
            b.oval(side * 0.38, -0.52, 0.05, 0.065, light, line=False)


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
    with b.inside(paint.blob(shape)):
        _marks(b, look)
    if look.garment is None:
        belly = "#fbf5ea" if fur.lower() != FURS["white"] else "#fffdf8"
        if look.species in PEOPLE:
            belly = "#8fa7c9"
        b.oval(0, -0.24, 0.115, 0.13, belly, line=False)
        with b.inside(paint.blob(shape)):
            _patterns(b, look, fur)
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
    if look.one_of(PATTERNS) != "none":
        with b.inside(paint.blob(cut)):
            _patterns(b, look, dye)
        b.path(paint.blob(cut), None)


def _patterns(b: Brush, look: Look, ground: str) -> None:
    for name in PATTERNS:
        if dye := look.extra(name):
            draw_pattern(b, name, dye, ground)


def _marks(b: Brush, look: Look) -> None:
    if dye := look.extra("fur stripes"):
        for side in (-1, 1):
            for y in (-0.38, -0.27, -0.16):
                b.stroke([(side * 0.24, y), (side * 0.12, y + 0.015)], dye, 0.035, line=False)
    if dye := look.extra("fur spots"):
        for x, y in SPOTS:
            b.oval(1.3 * x, y, 0.038, 0.038, dye, line=False)


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
            draw_thing(b.within(0.34), look.holding, COLOURS[look.holding_colour])
    for arm in (left, right):
        b.stroke(list(arm), _sleeve(look), 0.085)
        hand = look.coat_of_fur()
        b.oval(arm[2][0], arm[2][1], 0.052, 0.052, hand)
