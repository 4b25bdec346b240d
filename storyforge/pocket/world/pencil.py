"""The illustrator's pencil: what a brush would paint, as white lines on black.

Shapes hide what is behind them. Shapes without an outline (bellies, cheeks, the light of the sun)
leave no line, those of pure ink (eyes, mouths) are white.
"""

from collections.abc import Sequence

import numpy as np
import skia

from storyforge.pocket.world import brush as paint
from storyforge.pocket.world.brush import INK, Brush, Point, colour
from storyforge.pocket.world.drawing import ink_width, put
from storyforge.pocket.world.picture import Picture

WHITE, BLACK = "#ffffff", "#000000"
HAIR_LINE = 2.0
"""A stroke without an outline that is at most so many times as wide as the ink is a line itself."""


class Pencil(Brush):
    """A brush whose ink is white and whose colours are black."""

    def path(
        self, path: skia.Path, fill: str | None, *, line: bool = True, alpha: float = 1.0
    ) -> None:
        """The outline of `path`; what lies behind it is gone."""
        if line:
            if fill is not None:
                super().path(path, BLACK, line=False)
            self.canvas.drawPath(path, self._pen(WHITE, self.ink))
        elif fill == INK and alpha == 1:
            super().path(path, WHITE, line=False)

    def stroke(
        self, points: Sequence[Point], fill: str, width: float, *, line: bool = True
    ) -> None:
        """Both sides of a round-ended line, or the line if it is a thin one."""
        if line:
            super().stroke(points, WHITE, width + 2 * self.ink, line=False)
            super().stroke(points, BLACK, width, line=False)
        elif fill == INK or width <= HAIR_LINE * self.ink:
            super().stroke(points, WHITE, width, line=False)

    def gradient(self, box: tuple[float, float, float, float], top: str, bottom: str) -> None:
        """Nothing: skies have no line."""


def sketch(picture: Picture, size: int = 256) -> np.ndarray:
    """(size, size) uint8, 0 to 255: the lines of the subjects; scenes are painted without lines."""
    base = paint.surface(size)
    canvas = base.getCanvas()
    canvas.clear(colour(BLACK))
    canvas.scale(size, size)
    for subject in picture.subjects:
        put(Pencil(canvas, ink_width(subject.size) / subject.size), subject)
    return paint.pixels(base)[..., 0].copy()
