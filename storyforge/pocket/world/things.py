"""How the objects of the world are drawn: base at the origin, one unit tall, y down."""

from collections.abc import Callable

import skia

from storyforge.pocket.world import brush as paint
from storyforge.pocket.world.brush import INK, Brush, mix
from storyforge.pocket.world.patterns import draw_pattern

CREAM = "#fdf3dc"
GLASS = "#fff3b8"
"""Of a lantern that is lit."""

WOOD = "#9a6a45"


def _ball(b: Brush, dye: str) -> None:
    ball = paint.oval(0, -0.5, 0.5, 0.5)
    b.path(ball, dye)
    with b.inside(ball):
        b.stroke(
            [(-0.6, -0.42), (0, -0.25), (0.6, -0.42)], mix(dye, "#ffffff", 0.6), 0.14, line=False
        )
    b.path(ball, None)
    b.oval(-0.18, -0.75, 0.1, 0.07, "#ffffff", line=False, alpha=0.8)


def _balloon(b: Brush, dye: str) -> None:
    b.stroke([(0, 0), (0.08, -0.22), (0, -0.42)], INK, b.ink * 0.8, line=False)
    b.oval(0, -0.7, 0.27, 0.31, dye)
    b.oval(-0.1, -0.82, 0.05, 0.07, "#ffffff", line=False, alpha=0.8)


def _mushroom(b: Brush, dye: str) -> None:
    b.box(-0.14, -0.5, 0.28, 0.5, CREAM, radius=0.1)
    b.blob([(-0.55, -0.4), (-0.5, -0.95), (0, -1.1), (0.5, -0.95), (0.55, -0.4), (0, -0.32)], dye)
    for x, y, r in ((-0.24, -0.65, 0.085), (0.05, -0.8, 0.1), (0.27, -0.58, 0.075)):
        b.oval(x, y, r, r, "#fffaf0", line=False)


def _tree(b: Brush, dye: str) -> None:
    b.box(-0.08, -0.42, 0.16, 0.42, WOOD, radius=0.03)
    b.blob(
        [(-0.42, -0.35), (-0.48, -0.75), (-0.2, -1.05), (0.2, -1.05), (0.48, -0.75), (0.42, -0.35)],
        dye,
    )
    b.oval(-0.15, -0.72, 0.06, 0.06, mix(dye, INK, 0.25), line=False)
    b.oval(0.16, -0.6, 0.06, 0.06, mix(dye, INK, 0.25), line=False)


def _house(b: Brush, dye: str) -> None:
    b.box(-0.4, -0.58, 0.8, 0.58, CREAM)
    b.polygon([(-0.54, -0.55), (0, -1.0), (0.54, -0.55)], dye)
    b.box(-0.11, -0.34, 0.22, 0.34, WOOD, radius=0.02)
    b.box(0.18, -0.43, 0.14, 0.15, "#8fd0f2")
    b.box(-0.32, -0.43, 0.14, 0.15, "#8fd0f2")


def _star(b: Brush, dye: str) -> None:
    b.path(paint.star(0, -0.5, 0.54, 0.27), dye)
    for side in (-1, 1):
        b.oval(side * 0.11, -0.52, 0.04, 0.055, INK, line=False)


def _flower(b: Brush, dye: str) -> None:
    b.stroke([(0, 0), (0.03, -0.2), (0, -0.5)], "#3f9150", 0.06)
    b.oval(0.14, -0.2, 0.12, 0.06, "#4fae5c")
    for x, y in ((0, -0.2), (0.19, -0.06), (0.12, 0.16), (-0.12, 0.16), (-0.19, -0.06)):
        b.oval(x, -0.68 + y, 0.13, 0.13, dye)
    b.oval(0, -0.68, 0.11, 0.11, "#fbd341" if dye != "#f8cf3a" else WOOD)


def _umbrella(b: Brush, dye: str) -> None:
    b.stroke([(0, -0.05), (0, -0.8)], WOOD, 0.05)
    b.path(_canopy(), dye)
    for x in (-0.18, 0.18):
        b.stroke([(0, -0.95), (x, -0.75), (x, -0.56)], mix(dye, INK, 0.4), b.ink * 0.7, line=False)


def _cake(b: Brush, dye: str) -> None:
    b.oval(0, -0.03, 0.58, 0.07, "#f4f1ec")
    b.box(-0.45, -0.35, 0.9, 0.32, dye, radius=0.05)
    b.box(-0.3, -0.62, 0.6, 0.28, mix(dye, "#ffffff", 0.55), radius=0.05)
    b.box(-0.04, -0.82, 0.08, 0.2, "#f7f4ee")
    b.oval(0, -0.9, 0.05, 0.08, "#fbb52c")


def _book(b: Brush, dye: str) -> None:
    b.box(-0.45, -0.82, 0.9, 0.8, dye, radius=0.06)
    b.box(-0.32, -0.82, 0.07, 0.8, mix(dye, INK, 0.35), line=False)
    b.box(-0.12, -0.62, 0.42, 0.22, CREAM, radius=0.03)


def _boat(b: Brush, dye: str) -> None:
    b.stroke([(0, -0.25), (0, -0.98)], WOOD, 0.05)
    b.polygon([(0.06, -0.95), (0.06, -0.36), (0.46, -0.36)], "#fffaf0")
    b.polygon([(-0.06, -0.85), (-0.06, -0.36), (-0.36, -0.36)], mix(dye, "#ffffff", 0.6))
    b.path(_hull(), dye)


def _gift(b: Brush, dye: str) -> None:
    ribbon = "#fbd341" if dye != "#f8cf3a" else "#dc3c3c"
    b.box(-0.4, -0.62, 0.8, 0.62, dye, radius=0.03)
    b.box(-0.08, -0.62, 0.16, 0.62, ribbon, line=False)
    b.box(-0.46, -0.74, 0.92, 0.17, dye, radius=0.03)
    for side in (-1, 1):
        b.oval(side * 0.15, -0.83, 0.14, 0.09, ribbon)


def _apple(b: Brush, dye: str) -> None:
    b.path(_apple_shape(), dye)
    b.stroke([(0, -0.78), (0.02, -0.9), (0.1, -1.0)], WOOD, 0.06)
    b.oval(0.22, -0.93, 0.13, 0.07, "#4fae5c")
    b.oval(-0.22, -0.62, 0.07, 0.1, "#ffffff", line=False, alpha=0.7)


def _car(b: Brush, dye: str) -> None:
    b.blob([(-0.42, -0.42), (-0.3, -0.86), (0.28, -0.86), (0.45, -0.42)], mix(dye, "#ffffff", 0.25))
    b.box(-0.22, -0.68, 0.2, 0.22, "#8fd0f2", radius=0.03)
    b.box(0.04, -0.68, 0.2, 0.22, "#8fd0f2", radius=0.03)
    b.box(-0.66, -0.46, 1.32, 0.34, dye, radius=0.12)
    for x in (-0.36, 0.36):
        b.oval(x, -0.12, 0.15, 0.15, "#3d3a48")
        b.oval(x, -0.12, 0.06, 0.06, "#c9c6c0", line=False)


def _lantern(b: Brush, dye: str) -> None:
    for wide, tall in ((0.2, 0.16), (0.17, 0.13)):
        b.path(paint.oval(0, -0.86, wide, tall), None)
    b.box(-0.27, -0.8, 0.54, 0.13, dye, radius=0.05)
    b.path(_glass(), GLASS)
    for side in (-1, 1):
        b.stroke([(side * 0.22, -0.7), (side * 0.44, -0.4), (side * 0.22, -0.1)], dye, 0.05)
    b.box(-0.3, -0.13, 0.6, 0.13, dye, radius=0.05)


def _glass() -> skia.Path:
    return paint.oval(0, -0.4, 0.4, 0.34)


THINGS: dict[str, tuple[Callable[[Brush, str], None], float]] = {
    "ball": (_ball, 0.3),
    "balloon": (_balloon, 0.75),
    "mushroom": (_mushroom, 0.42),
    "tree": (_tree, 0.8),
    "house": (_house, 0.75),
    "star": (_star, 0.4),
    "flower": (_flower, 0.5),
    "umbrella": (_umbrella, 0.6),
    "cake": (_cake, 0.45),
    "book": (_book, 0.38),
    "boat": (_boat, 0.5),
    "gift": (_gift, 0.4),
    "apple": (_apple, 0.32),
    "car": (_car, 0.42),
    "lantern": (_lantern, 0.48),
}
"""Drawing and usual height, in heights of a character, of each object."""


def _hull() -> skia.Path:
    return paint.blob([(-0.62, -0.34), (0.62, -0.34), (0.42, 0.02), (-0.42, 0.02)])


def _canopy() -> skia.Path:
    return paint.blob(
        [(-0.55, -0.45), (-0.48, -0.9), (0, -1.08), (0.48, -0.9), (0.55, -0.45), (0, -0.58)]
    )


def _apple_shape() -> skia.Path:
    right = [(0.25, 0.06), (0.55, -0.3), (0.52, -0.95), (0.05, -0.86)]
    left = [(-x, y) for x, y in reversed(right)]
    return paint.blob([*left, *right])


def _boxes(*boxes: tuple[float, float, float, float], radius: float = 0.0) -> skia.Path:
    path = skia.Path()
    for x, y, width, height in boxes:
        path.addRoundRect(skia.Rect.MakeXYWH(x, y, width, height), radius, radius)
    return path


SURFACES: dict[str, tuple[Callable[[], skia.Path], float]] = {
    "ball": (lambda: paint.oval(0, -0.5, 0.5, 0.5), 0.14),
    "balloon": (lambda: paint.oval(0, -0.7, 0.27, 0.31), -0.24),
    "house": (lambda: paint.polygon([(-0.54, -0.55), (0, -1.0), (0.54, -0.55)]), -0.1),
    "cake": (lambda: _boxes((-0.45, -0.35, 0.9, 0.32), radius=0.05), 0.45),
    "boat": (
        lambda: paint.blob([(-0.62, -0.34), (0.62, -0.34), (0.42, 0.02), (-0.42, 0.02)]),
        0.48,
    ),
    "gift": (lambda: _boxes((-0.4, -0.57, 0.32, 0.57), (0.08, -0.57, 0.32, 0.57)), 0.32),
    "apple": (_apple_shape, 0.22),
    "umbrella": (_canopy, 0.02),
    "lantern": (_glass, 0.24),
}
"""What of an object a pattern is drawn on, and how far it is moved down, drawn twice as large."""


def draw_thing(b: Brush, name: str, dye: str, pattern: str | None = None, other: str = "") -> None:
    """Draw the object `name` one unit tall in the colour `#rrggbb`, its pattern in `other`."""
    THINGS[name][0](b, dye)
    if pattern is not None:
        surface, down = SURFACES[name]
        with b.inside(surface()), b.at(0, down, scale=2.2):
            draw_pattern(b, pattern, other, GLASS if name == "lantern" else dye)
        b.path(surface(), None)


def glow(b: Brush, x: float, y: float, radius: float, dye: str) -> None:
    """A soft light around (x, y)."""
    for share, alpha in ((1.0, 0.2), (0.8, 0.26)):
        b.oval(x, y, share * radius, share * radius, dye, line=False, alpha=alpha)
