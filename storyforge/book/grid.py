"""Pages of several pictures: equal frames in rows, with the words beneath or in a free cell.

Frames are as large as cropping allows; strips and panels of unequal size are not made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from storyforge.book.compose import (
    KEPT,
    STORY_SIZES,
    TEXT_GAP,
    Composition,
    Sheet,
    Subject,
    Words,
    block,
    moved,
)
from storyforge.book.leaf import Rect

_GAP: Final = 14.0
"""Between two pictures, in points."""

_SHOWN: Final = 0.36
"""Pictures should take this share of the page before the words are made smaller."""

_NARROWEST: Final = 60.0
"""A narrower frame, in points, shows nothing."""


def grid(
    sheet: Sheet, subjects: Sequence[Subject], words: Words | None, shape: tuple[int, int] | None
) -> Composition | None:
    """Pictures in rows, the words beneath them or in a cell left free.

    Of the grids that hold the pictures, the one that shows most of them is taken.
    """
    shapes = [shape] if shape else _shapes(len(subjects))
    sizes = STORY_SIZES if words else STORY_SIZES[:1]
    fallback: Composition | None = None
    for size in sizes:
        found = [
            made
            for rows, columns in shapes
            for made in (
                _free_cell(sheet, subjects, words, (rows, columns), size),
                _text_beneath(sheet, subjects, words, (rows, columns), size),
            )
            if made is not None
        ]
        if not found:
            continue
        best = max(found, key=_shown)
        if _shown(best) >= _SHOWN * sheet.cut.area:
            return best
        if fallback is None or _shown(best) > 1.1 * _shown(fallback):
            fallback = best
    return fallback


def _shown(composition: Composition) -> float:
    return sum(frame.area for frame in composition.frames)


def _shapes(count: int) -> list[tuple[int, int]]:
    return [(math.ceil(count / columns), columns) for columns in range(1, count + 1)]


def _text_beneath(
    sheet: Sheet,
    subjects: Sequence[Subject],
    words: Words | None,
    shape: tuple[int, int],
    size: float,
) -> Composition | None:
    live = sheet.live
    text = block(words, "story", live, (size,)) if words else None
    if words and text is None:
        return None
    below = text.rect.height + TEXT_GAP if text else 0.0
    area = replace(live, height=live.height - below)
    frames = _frames(area, subjects, shape)
    if not frames:
        return None
    used = frames[-1].bottom - frames[0].y + below
    shift = live.y + (live.height - used) / 2 - frames[0].y
    frames = [replace(frame, y=frame.y + shift) for frame in frames]
    if text:
        text = moved(text, live.x, frames[-1].bottom + TEXT_GAP)
    return Composition(tuple(frames), "round", text)


def _free_cell(
    sheet: Sheet,
    subjects: Sequence[Subject],
    words: Words | None,
    shape: tuple[int, int],
    size: float,
) -> Composition | None:
    rows, columns = shape
    if words is None or min(rows, columns) < 2 or rows * columns != len(subjects) + 1:
        return None
    live = sheet.live
    square = Subject(sum(subject.aspect for subject in subjects) / len(subjects), ())
    frames = _frames(live, [*subjects, square], shape)
    if not frames:
        return None
    cell = frames.pop()
    used = cell.bottom - frames[0].y
    shift = live.y + (live.height - used) / 2 - frames[0].y
    frames = [replace(frame, y=frame.y + shift) for frame in frames]
    cell = replace(cell, y=cell.y + shift)
    text = block(words, "story", cell.inset(4, 0), (size,))
    if text is None:
        return None
    text = moved(text, text.rect.x, cell.centre().y - text.rect.height / 2)
    return Composition(tuple(frames), "round", text)


def _frames(area: Rect, subjects: Sequence[Subject], shape: tuple[int, int]) -> list[Rect]:
    """Frames in rows from the top of `area`, as large as cropping to `KEPT` allows."""
    rows, columns = shape
    width = (area.width - (columns - 1) * _GAP) / columns
    height = (area.height - (rows - 1) * _GAP) / rows
    if min(width, height) < _NARROWEST or rows * columns < len(subjects):
        return []
    aspect = sum(subject.aspect for subject in subjects) / len(subjects)
    height = min(height, width / (aspect * KEPT))
    width = min(width, height * aspect / KEPT)
    frames: list[Rect] = []
    for row in range(rows):
        here = min(columns, len(subjects) - row * columns)
        across = here * width + (here - 1) * _GAP
        x = area.centre().x - across / 2
        for column in range(here):
            left = x + column * (width + _GAP)
            frames.append(Rect(left, area.y + row * (height + _GAP), width, height))
    return frames
