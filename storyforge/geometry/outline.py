"""Outlines of parts of a grid: which cells belong together, and the corners round them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from storyforge.geometry.box import Corners

Cells = NDArray[np.bool_]
"""(rows, columns)"""

_Point = tuple[int, int]


def largest_part(cells: Cells) -> Cells:
    """The most cells that hang together by their sides; all False if there is none."""
    left, best = {(int(y), int(x)) for y, x in np.argwhere(cells)}, set[_Point]()
    while left:
        part, todo = set[_Point](), [min(left)]
        while todo:
            y, x = todo.pop()
            if (y, x) in left:
                left.discard((y, x))
                part.add((y, x))
                todo += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        if len(part) > len(best):
            best = part
    made = np.zeros_like(cells)
    for y, x in best:
        made[y, x] = True
    return made


def box_round(cells: Cells) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the box round the cells, in fractions of the grid.

    Raises ValueError if there are none.
    """
    rows, columns = np.nonzero(cells.any(1))[0], np.nonzero(cells.any(0))[0]
    if not len(rows):
        raise ValueError("there is no cell to draw a box round")
    height, width = cells.shape
    return (
        float(columns[0] / width),
        float(rows[0] / height),
        float((columns[-1] + 1) / width),
        float((rows[-1] + 1) / height),
    )


def outline(cells: Cells) -> Corners:
    """The corners (x, y) round cells that hang together, in fractions; holes are filled.

    Raises ValueError if there are none.
    """
    ways = _sides(cells)
    if not ways:
        raise ValueError("there is no cell to draw a line round")
    start = min(ways)
    at, came, corners = start, (1, 0), list[_Point]()
    while True:
        # Clockwise and rightmost: where two cells touch by a corner the line stays with its own.
        ahead = [(b - at[0], d - at[1]) for b, d in ways[at]]
        step = max(ahead, key=lambda way: _turn(came, way))
        ways[at].remove((at[0] + step[0], at[1] + step[1]))
        if step != came or at == start:
            corners.append(at)
        at, came = (at[0] + step[0], at[1] + step[1]), step
        if at == start:
            break
    height, width = cells.shape
    return tuple((x / width, y / height) for x, y in corners)


def _sides(cells: Cells) -> dict[_Point, list[_Point]]:
    """Where each side of a cell leads that has no neighbour, clockwise; points are (x, y)."""
    padded, ways = np.pad(cells, 1), dict[_Point, list[_Point]]()
    for y, x in ((int(y), int(x)) for y, x in np.argwhere(cells)):
        around = (
            (padded[y, x + 1], (x, y), (x + 1, y)),
            (padded[y + 1, x + 2], (x + 1, y), (x + 1, y + 1)),
            (padded[y + 2, x + 1], (x + 1, y + 1), (x, y + 1)),
            (padded[y + 1, x], (x, y + 1), (x, y)),
        )
        for neighbour, start, end in around:
            if not neighbour:
                ways.setdefault(start, []).append(end)
    return ways


def _turn(came: _Point, way: _Point) -> int:
    """1 for a turn to the right (y runs down), 0 for straight on, -1 for one to the left."""
    return came[0] * way[1] - came[1] * way[0]
