"""Stripes, spots, checks and emblems, drawn on what a brush is clipped to.

They are made for a chest: x from −0.3 to 0.3, y from −0.45 to −0.05.
"""

from storyforge.pocket.world import brush as paint
from storyforge.pocket.world.brush import Brush, Point

SPOTS: tuple[Point, ...] = (
    (-0.11, -0.36),
    (0.08, -0.4),
    (0.12, -0.26),
    (-0.04, -0.25),
    (-0.13, -0.15),
    (0.05, -0.13),
)
HEARTS: tuple[Point, ...] = (
    (-0.09, -0.36),
    (0.1, -0.36),
    (0.0, -0.24),
    (-0.13, -0.14),
    (0.13, -0.14),
)


def draw_pattern(b: Brush, name: str, dye: str, ground: str) -> None:
    """Draw the pattern `name` in `dye` on something of the colour `ground`."""
    match name:
        case "stripes":
            for y in (-0.4, -0.3, -0.2, -0.1):
                b.stroke([(-0.3, y), (0.3, y)], dye, 0.045, line=False)
        case "spots":
            for x, y in SPOTS:
                b.oval(x, y, 0.034, 0.034, dye, line=False)
        case "checks":
            for row in range(7):
                for column in range(9):
                    if (row + column) % 2:
                        x, y = -0.3 + column * 0.0667, -0.5 + row * 0.0667
                        b.box(x, y, 0.067, 0.067, dye, line=False)
        case "moon":
            b.oval(0, -0.29, 0.085, 0.085, dye, line=False)
            b.oval(0.04, -0.31, 0.07, 0.07, ground, line=False)
        case "star":
            b.path(paint.star(0, -0.29, 0.1, 0.045), dye, line=False)
        case "hearts":
            for x, y in HEARTS:
                heart(b, x, y, 0.045, dye)


def heart(b: Brush, x: float, y: float, size: float, dye: str) -> None:
    """A heart around (x, y), about 2 × `size` wide."""
    for side in (-1, 1):
        b.oval(x + side * 0.45 * size, y - 0.3 * size, 0.52 * size, 0.5 * size, dye, line=False)
    tip = [(x - 0.94 * size, y - 0.1 * size), (x + 0.94 * size, y - 0.1 * size), (x, y + size)]
    b.polygon(tip, dye, line=False)
