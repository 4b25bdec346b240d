"""Pages of several pictures: equal frames in rows, or strips, the words beneath or above them.

Frames are as large as cropping allows. The first picture stands at the top, on the side where
reading begins; words may also stand in a cell left free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from storyforge.book.compose import (
    KEPT,
    STORY_SIZES,
    TEXT_GAP,
    Composition,
    FramedPicture,
    RunningText,
    Sheet,
    block,
    crop_to,
    moved,
)
from storyforge.book.leaf import Rect
from storyforge.story.gridform import Pattern

GAP: Final = 14.0
"""Between two pictures, in points."""

_SHOWN: Final = 0.36
"""Pictures should take this share of the page before the words are made smaller."""

_NARROWEST: Final = 60.0
"""A narrower frame, in points, shows nothing."""

Framing = Callable[[Rect], list[Rect]]
"""Frames for all pictures, as large as an area allows, from its top; none if it is too small."""


def grid(
    sheet: Sheet,
    subjects: Sequence[FramedPicture],
    words: RunningText | None,
    shape: tuple[int, int] | None,
    gap: float = GAP,
) -> Composition | None:
    """Pictures in rows of equal frames, the words beneath them or in a cell left free.

    Of the grids that hold the pictures, the one that shows most of them is taken.
    """
    shapes = [shape] if shape else _shapes(len(subjects))

    def composed(size: float) -> list[Composition | None]:
        """Every way to set the page at one size of letters."""
        made = []
        for rows_columns in shapes:
            framing = _cells(sheet, subjects, rows_columns, gap)
            made.append(_free_cell(sheet, subjects, words, rows_columns, size, gap))
            made.append(_text_beneath(sheet, framing, words, size))
        return made

    return _best(sheet, words, composed)


def strips(
    sheet: Sheet,
    subjects: Sequence[FramedPicture],
    words: RunningText | None,
    gap: float = GAP,
) -> Composition | None:
    """Pictures in rows as wide as the page, each as wide in its row as its shape asks."""

    def composed(size: float) -> list[Composition | None]:
        """Every way to set the page at one size of letters."""
        return [
            _text_beneath(sheet, _strips(sheet, subjects, rows, gap), words, size)
            for rows in range(1, len(subjects) + 1)
        ]

    return _best(sheet, words, composed)


def patterned(
    sheet: Sheet,
    subjects: Sequence[FramedPicture],
    words: RunningText | None,
    pattern: Pattern,
    gap: float = GAP,
) -> Composition | None:
    """Pictures over the cells that the author gave them, the words beneath them."""

    def composed(size: float) -> list[Composition | None]:
        """Every way to set the page at one size of letters."""
        return [_text_beneath(sheet, _patterned(sheet, subjects, pattern, gap), words, size)]

    return _best(sheet, words, composed)


def _patterned(
    sheet: Sheet, subjects: Sequence[FramedPicture], pattern: Pattern, gap: float
) -> Framing:
    """Frames as wide as the area, and as high as crops their pictures least."""

    def framed(area: Rect) -> list[Rect]:
        """Frames for the pictures in an area; none if they would be too small."""
        made = [_pattern_in(sheet, area, share, pattern, gap) for share in _HEIGHTS]
        fit = [frames for frames in made if min(_shorter(frame) for frame in frames) >= _NARROWEST]
        if not fit:
            return []
        return max(fit, key=lambda frames: round(_least_shown(frames, subjects), 2))

    return framed


_HEIGHTS: Final = tuple(1.0 - 0.05 * step for step in range(11))
"""Shares of the page's height that a pattern of frames may take, all of it first."""


def _pattern_in(sheet: Sheet, area: Rect, share: float, pattern: Pattern, gap: float) -> list[Rect]:
    width = (area.width - (pattern.columns - 1) * gap) / pattern.columns
    height = (area.height * share - (pattern.rows - 1) * gap) / pattern.rows
    frames = []
    for cells in pattern.frames:
        across, down = cells.right - cells.left, cells.bottom - cells.top
        wide, high = across * (width + gap) - gap, down * (height + gap) - gap
        x = area.x + cells.left * (width + gap)
        x = area.x + area.right - x - wide if sheet.rtl else x
        frames.append(Rect(x, area.y + cells.top * (height + gap), wide, high))
    return frames


def _shorter(frame: Rect) -> float:
    return min(frame.width, frame.height)


def _least_shown(frames: Sequence[Rect], subjects: Sequence[FramedPicture]) -> float:
    """The smallest share of a picture that its frame shows."""
    crops = (crop_to(frame, subject) for frame, subject in zip(frames, subjects, strict=True))
    return min(crop.area for crop in crops)


def _best(
    sheet: Sheet, words: RunningText | None, composed: Callable[[float], list[Composition | None]]
) -> Composition | None:
    """The composition that shows most; words shrink before pictures become too small."""
    fallback: Composition | None = None
    for size in words.sizes if words else STORY_SIZES[:1]:
        found = [made for made in composed(size) if made is not None]
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
    sheet: Sheet, framing: Framing, words: RunningText | None, size: float
) -> Composition | None:
    live = sheet.live
    text = block(words, "story", live, (size,)) if words else None
    if words and text is None:
        return None
    below = text.rect.height + TEXT_GAP if text else 0.0
    frames = framing(replace(live, height=live.height - below))
    if not frames:
        return None
    top, foot = min(frame.y for frame in frames), max(frame.bottom for frame in frames)
    shift = live.y + (live.height - (foot - top + below)) / 2 - top
    above = below if words and words.place == "top" else 0.0
    frames = [replace(frame, y=frame.y + shift + above) for frame in frames]
    if text:
        text = moved(text, live.x, top + shift if above else foot + shift + TEXT_GAP)
    return Composition(tuple(frames), "round", text)


def _free_cell(
    sheet: Sheet,
    subjects: Sequence[FramedPicture],
    words: RunningText | None,
    shape: tuple[int, int],
    size: float,
    gap: float,
) -> Composition | None:
    rows, columns = shape
    if words is None or words.place or min(rows, columns) < 2:
        return None
    if rows * columns != len(subjects) + 1:
        return None
    live = sheet.live
    mean = FramedPicture(sum(subject.aspect for subject in subjects) / len(subjects), ())
    frames = _cells(sheet, [*subjects, mean], shape, gap)(live)
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


def _cells(
    sheet: Sheet, subjects: Sequence[FramedPicture], shape: tuple[int, int], gap: float
) -> Framing:
    """Equal frames in rows and columns; an unfilled last row stands in the middle."""
    rows, columns = shape

    def framed(area: Rect) -> list[Rect]:
        """Frames for the pictures in an area; none if they would be too small."""
        width = (area.width - (columns - 1) * gap) / columns
        height = (area.height - (rows - 1) * gap) / rows
        if min(width, height) < _NARROWEST or rows * columns < len(subjects):
            return []
        aspect = sum(subject.aspect for subject in subjects) / len(subjects)
        across = max(subject.kept[0] for subject in subjects)
        down = max(subject.kept[1] for subject in subjects)
        height = min(height, width / (aspect * across))
        width = min(width, height * aspect / down)
        frames: list[Rect] = []
        for row in range(rows):
            here = min(columns, len(subjects) - row * columns)
            y = area.y + row * (height + gap)
            frames += _row(sheet, area, y, [width] * here, height, gap)
        return frames

    return framed


def _strips(sheet: Sheet, subjects: Sequence[FramedPicture], rows: int, gap: float) -> Framing:
    """Frames in `rows` rows of one width; all are cropped alike, and never below `KEPT`."""
    aspects = [subject.aspect for subject in subjects]
    cut = _evenly_cut(aspects, rows)

    def framed(area: Rect) -> list[Rect]:
        """Frames for the pictures in an area; none if they would be too small."""
        natural = [(area.width - (len(row) - 1) * gap) / sum(row) for row in cut]
        stretch = (area.height - (rows - 1) * gap) / sum(natural)
        squeeze = min(1.0, stretch / KEPT)
        stretch = min(max(stretch, KEPT), 1 / KEPT)
        frames: list[Rect] = []
        y = area.y
        for row, height in zip(cut, natural, strict=True):
            widths = [height * squeeze * aspect for aspect in row]
            high = height * squeeze * stretch
            if min(high, *widths) < _NARROWEST:
                return []
            frames += _row(sheet, area, y, widths, high, gap)
            y += high + gap
        return frames

    return framed


def _evenly_cut(aspects: Sequence[float], rows: int) -> list[list[float]]:
    """The pictures' shapes, in their order, in rows that are as nearly as long as can be."""
    mean = sum(aspects) / rows
    # cost and rows of the best way to lay the first pictures in so many rows
    best: dict[tuple[int, int], tuple[float, list[list[float]]]] = {(0, 0): (0.0, [])}
    for row in range(1, rows + 1):
        for end in range(row, len(aspects) + 1):
            choices = []
            for start in range(row - 1, end):
                if (row - 1, start) in best:
                    cost, laid = best[row - 1, start]
                    here = list(aspects[start:end])
                    choices.append((cost + (sum(here) - mean) ** 2, [*laid, here]))
            best[row, end] = min(choices, key=lambda choice: choice[0])
    return best[rows, len(aspects)][1]


def _row(
    sheet: Sheet, area: Rect, y: float, widths: Sequence[float], height: float, gap: float
) -> list[Rect]:
    """Frames beside each other in the middle of `area`, the first where reading begins."""
    x = area.centre().x - (sum(widths) + (len(widths) - 1) * gap) / 2
    frames = []
    for width in widths:
        left = area.x + area.right - x - width if sheet.rtl else x
        frames.append(Rect(left, y, width, height))
        x += width + gap
    return frames
