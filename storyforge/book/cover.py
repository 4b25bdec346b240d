"""The front cover, in one of three designs: type in the picture, on a band above it, or round it.

`overlay`, the usual one, fills the cover and outlines the letters, `band` gives the title a ground
of its own, and `framed` sets the picture into paper, as older picture books do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from storyforge.book.binding import Binding
from storyforge.book.compose import FramedPicture, Sheet, crop_to, figures_in, hiding, moved, widest
from storyforge.book.front import cover_panel, fitted
from storyforge.book.leaf import Leaf, Picture, Rect, TextBlock
from storyforge.book.placing import Figure
from storyforge.story.story import Panel

_TITLE: Final = (
    *(76.0, 70.0, 64.0, 58.0, 52.0, 46.0, 40.0),
    *(36.0, 32.0, 28.0, 24.0, 22.0, 20.0, 18.0),
)
_SUBTITLE: Final = (26.0, 24.0, 22.0, 20.0, 18.0, 16.0, 14.0)
"""Letter sizes in points, the best first; nothing on a cover is smaller than 14."""

_AUTHOR: Final = (22.0, 20.0, 18.0, 16.0, 14.0)
_SUBTITLE_SHARE: Final = 0.4
"""Of the title's room that a subtitle may take."""

_BENEATH: Final = 6.0
"""Between title and subtitle, in points."""

_TITLED: Final = 0.34
"""Of the cover's height that title and subtitle may take on a picture or a band."""

_BAND: Final = 110.0
"""A title above the picture needs this much height, in points."""

_BAND_PAD: Final = 20.0
_BAND_GAP: Final = 8.0
_WHOLE: Final = 0.93
"""Less of a figure than this, and it is cut off."""

_KEPT: Final = 0.98
"""The share of the cover picture's width that must show."""

_AUTHOR_ROOM: Final = 60.0
_FRAMED: Final = (0.8, 0.64)
"""Width and height of a framed picture, as shares of the cover."""


def cover(binding: Binding, number: int) -> list[Leaf]:
    """The front cover.

    Raises Unsettable where its words do not fit.
    """
    panel = cover_panel(binding)
    settings = binding.story.book.cover
    if panel is None:
        return [_lettered(binding, number)]
    design = settings.design if settings else None
    # What is to show whole is framed, unless the author wants something else.
    design = design or ("framed" if panel.fit == "contain" else "overlay")
    made = {"overlay": _overlay, "band": _band, "framed": _framed}[design]
    return [made(binding, panel, number)]


def _lettered(binding: Binding, number: int) -> Leaf:
    """A cover without a picture."""
    safe = binding.sheet(number).safe
    title = _titles(binding, safe, _TITLED * safe.height)
    title = _lower(title, safe.centre().y - _height(title) / 2 - safe.y)
    author = _plated_author(binding, safe, (), safe.bottom)
    return Leaf(number, "cover", binding.phrases.cover, "deep", None, (), (*title, *author))


def _overlay(binding: Binding, panel: Panel, number: int) -> Leaf:
    """The picture over the whole cover, the title where it hides least."""
    sheet = binding.sheet(number)
    safe, subject = sheet.safe, binding.subject(panel)
    frame = _filled(sheet, subject)
    crop = crop_to(frame, subject)
    figures = figures_in(frame, crop, subject.figures)
    band = frame.y - safe.y - _BAND_GAP
    title = _titles(binding, safe, band if band > 0 else _TITLED * safe.height)
    low = _lower(title, safe.bottom - _AUTHOR_ROOM - _height(title) - safe.y)
    places = (title,) if band > 0 else (_lower(title, 8), low)
    best = min(places, key=lambda texts: sum(hiding(figures, text.rect) for text in texts))
    best = tuple(replace(text, halo=band <= 0) for text in best)
    under = max(best[-1].rect.bottom, frame.y) + 14
    author = _plated_author(binding, safe, figures, under)
    return _leaf(binding, panel, number, _picture(binding, panel, frame, crop), (*best, *author))


def _band(binding: Binding, panel: Panel, number: int) -> Leaf:
    """Title, subtitle and author on a plain band, the picture below it up to the edges."""
    sheet = binding.sheet(number)
    safe, bled = sheet.safe, sheet.bled
    title = _titles(binding, safe, _TITLED * safe.height)
    author = _author(binding, safe, title[-1].rect.bottom + _BENEATH)
    foot = (author or title)[-1].rect.bottom + _BAND_PAD
    frame = Rect(bled.x, foot, bled.width, bled.bottom - foot)
    crop = crop_to(frame, binding.subject(panel))
    return _leaf(binding, panel, number, _picture(binding, panel, frame, crop), (*title, *author))


def _framed(binding: Binding, panel: Panel, number: int) -> Leaf:
    """The picture in paper, the title above and the author beneath it."""
    sheet = binding.sheet(number)
    safe, cut, subject = sheet.safe, sheet.cut, binding.subject(panel)
    title = _titles(binding, safe, (1 - _FRAMED[1]) * 0.6 * cut.height)
    author = _author(binding, safe, 0.0)
    beneath = author[0].rect.height + _BAND_PAD if author else 0.0
    room = safe.height - _height(title) - beneath - 2 * _BAND_PAD
    height = min(_FRAMED[1] * cut.height, room)
    width = min(_FRAMED[0] * cut.width, height * subject.aspect / subject.kept[1])
    height = min(height, width / (subject.aspect * subject.kept[0]))
    used = _height(title) + _BAND_PAD + height + beneath
    top = safe.y + (safe.height - used) / 2
    title = _lower(title, top - safe.y)
    frame = Rect(cut.centre().x - width / 2, title[-1].rect.bottom + _BAND_PAD, width, height)
    author = tuple(moved(text, text.rect.x, frame.bottom + _BAND_PAD) for text in author)
    crop = crop_to(frame, subject)
    picture = replace(_picture(binding, panel, frame, crop), corner="round")
    return replace(_leaf(binding, panel, number, picture, (*title, *author)), ground="paper")


def _leaf(
    binding: Binding, panel: Panel, number: int, picture: Picture, texts: tuple[TextBlock, ...]
) -> Leaf:
    art = binding.art[panel.id]
    return Leaf(number, "cover", binding.phrases.cover, "deep", art, (picture,), texts)


def _picture(binding: Binding, panel: Panel, frame: Rect, crop: Rect) -> Picture:
    return Picture(binding.art[panel.id], frame, crop, "square", binding.alt(panel))


def _filled(sheet: Sheet, subject: FramedPicture) -> Rect:
    """The whole cover, or its lower part where filling it would cut figures off."""
    bled = sheet.bled
    height = bled.width / (subject.aspect * _KEPT)
    crop = crop_to(bled, subject)
    whole = all(figure.body.covered(crop) > _WHOLE for figure in subject.figures)
    if whole or bled.height - height < _BAND:
        return bled
    return replace(bled, y=bled.bottom - height, height=height)


def _titles(binding: Binding, safe: Rect, height: float) -> tuple[TextBlock, ...]:
    """The title at the top, in no more than `height` points, and the subtitle under it."""
    settings = binding.story.book.cover
    if settings is None or settings.subtitle is None:
        return (fitted(binding, binding.title, "title", replace(safe, height=height), _TITLE),)
    words = binding.say(settings.subtitle)
    room = replace(safe, height=max(_SUBTITLE_SHARE * height, _SUBTITLE[-1] * 2.2))
    subtitle = fitted(binding, words, "subtitle", room, _SUBTITLE)
    left = replace(safe, height=height - subtitle.rect.height - _BENEATH)
    title = fitted(binding, binding.title, "title", left, _TITLE)
    if subtitle.size > 0.6 * title.size:
        sizes = [size for size in _SUBTITLE if size <= 0.6 * title.size] or [_SUBTITLE[-1]]
        subtitle = fitted(binding, words, "subtitle", room, sizes)
    return title, moved(subtitle, safe.x, title.rect.bottom + _BENEATH)


def _height(texts: Sequence[TextBlock]) -> float:
    return texts[-1].rect.bottom - texts[0].rect.y


def _lower(texts: Sequence[TextBlock], by: float) -> tuple[TextBlock, ...]:
    return tuple(moved(text, text.rect.x, text.rect.y + by) for text in texts)


def _author(binding: Binding, safe: Rect, top: float) -> tuple[TextBlock, ...]:
    """The author on the page's own ground; nothing where nobody is named."""
    if not binding.author:
        return ()
    text = fitted(binding, binding.author, "author", safe, _AUTHOR)
    return (moved(text, safe.x, top),)


def _plated_author(
    binding: Binding, safe: Rect, figures: Sequence[Figure], under: float
) -> tuple[TextBlock, ...]:
    """The author on a plate: at the foot of the cover, or higher where it would hide a figure."""
    if not binding.author:
        return ()
    text = fitted(binding, binding.author, "author", safe.inset(24, 0), _AUTHOR)
    width, height = widest(text) + 36, text.rect.height + 14
    foot = Rect(safe.centre().x - width / 2, safe.bottom - height, width, height)
    higher = replace(foot, y=min(under, foot.y))
    right, left = replace(foot, x=safe.right - width), replace(foot, x=safe.x)
    plate = min((foot, higher, right, left), key=lambda place: round(hiding(figures, place), 2))
    rect = Rect(plate.x, plate.y + 7, width, text.rect.height)
    return (replace(text, rect=rect, plate=plate),)
