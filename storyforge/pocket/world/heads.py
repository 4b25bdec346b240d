"""How heads are drawn: ears, hair, face, muzzle, and what is worn on them."""

from storyforge.pocket.world import brush as paint
from storyforge.pocket.world.brush import INK, Brush, mix
from storyforge.pocket.world.looks import COLOURS, HAIRS, PEOPLE, SPECIES, Look, Species
from storyforge.pocket.world.proportions import eyes_above


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


def draw_head(b: Brush, look: Look) -> None:
    """Draw the head; the caller has set the origin to its middle."""
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
        _fur_marks(b, look)
        _face_markings(b, look, species)
    b.path(skull, None)
    if look.species in PEOPLE:
        _hair_front(b, look)
    _face(b, look, species)
    with b.at(0, -eyes_above(look)):
        _accessory(b, look, species)


def _fur_marks(b: Brush, look: Look) -> None:
    if dye := look.extra("patch"):
        b.oval(0.13, -0.04, 0.13, 0.15, dye, line=False)
    if dye := look.extra("fur stripes"):
        for x in (-0.07, 0.0, 0.07):
            b.stroke([(x, -0.26), (x * 0.9, -0.13 - abs(x) * 0.3)], dye, 0.032, line=False)
        for side in (-1, 1):
            for y in (-0.06, 0.02):
                b.stroke([(side * 0.29, y), (side * 0.2, y + 0.01)], dye, 0.032, line=False)
    if dye := look.extra("fur spots"):
        for x, y, r in ((-0.15, -0.15, 0.045), (0.05, -0.185, 0.03), (0.2, -0.11, 0.04)):
            b.oval(x, y, r, r, dye, line=False)
        for x, y in ((-0.23, 0.01), (0.235, 0.03)):
            b.oval(x, y, 0.028, 0.028, dye, line=False)


def _crown_of_head(b: Brush, look: Look) -> None:
    if dye := look.extra("antlers"):
        for side in (-1, 1):
            b.stroke([(side * 0.08, -0.18), (side * 0.13, -0.34), (side * 0.2, -0.46)], dye, 0.035)
            b.stroke([(side * 0.125, -0.32), (side * 0.24, -0.34)], dye, 0.03)
    if dye := look.extra("antennae"):
        for side in (-1, 1):
            b.stroke([(side * 0.07, -0.2), (side * 0.09, -0.36), (side * 0.18, -0.42)], INK, 0.02)
            b.oval(side * 0.18, -0.43, 0.05, 0.05, dye)
    if dye := look.extra("crest"):
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
    if dye := look.extra("horn"):
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


def _accessory(b: Brush, look: Look, species: Species) -> None:
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
            x, y = (0.14, -0.185) if species.muzzle == "wide" else (0.115, -0.01)
            for side in (-1, 1):
                b.oval(side * x, y, 0.085, 0.085, "#dff2ff", alpha=0.35, line=False)
                b.path(paint.oval(side * x, y, 0.085, 0.085), None)
                b.path(paint.oval(side * x, y, 0.078, 0.078), None)
            b.stroke([(0.085 - x, y - 0.01), (x - 0.085, y - 0.01)], INK, b.ink * 1.4, line=False)
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
