"""One picture over two pages that face each other: nothing alive and no word in the fold.

The book holds it as two leaves, each with its half of the picture, its words and its balloons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from storyforge.book import compose
from storyforge.book.binding import Binding
from storyforge.book.compose import KEPT, FramedPicture, RunningText, Sheet
from storyforge.book.leaf import Leaf, Point, Rect, TextBlock
from storyforge.book.panel import Setting, lettered
from storyforge.book.placing import Figure, Utterance
from storyforge.book.unsettable import Unsettable
from storyforge.story.story import Panel

_FOLD: Final = 18.0
"""So wide a strip, in points, is lost to the eye where the book is bound."""

_CORE: Final = 0.1
"""The share of a figure's width, on either side, that may still reach into the fold."""

_LEAST: Final = 0.55
"""Less of a picture than this, and it is the wrong shape for a spread."""

_ZOOMS: Final = (1.0, 0.95, 0.9, 0.86, KEPT)
_STEPS: Final = 12
_WHOLE: Final = 0.8
"""A figure of which less shows is cut off."""

_ASKED: Final = 100.0
"""What it costs a plate to lie where the author wants a balloon: more than anybody hidden."""

_USUAL_HEIGHT: Final = 256
_CELL: Final = 16
"""Pixels: every base draws multiples of this."""

_EDGE: Final = 0.04
"""Who speaks on the other page is heard from this close to the fold, as a share of the picture."""


@dataclass(frozen=True, slots=True)
class _Half:
    """One of the two pages; lengths in its own points.

    crop   the part of the picture that shows on it
    shift  what to add to get from its points to those of the left page
    """

    number: int
    sheet: Sheet
    crop: Rect
    shift: float

    @property
    def safe(self) -> Rect:
        """Where words may stand: a little further from the fold than from the other edges."""
        safe = self.sheet.safe
        x = safe.x if self.sheet.outer_right is False else safe.x + _FOLD / 2
        return Rect(x, safe.y, safe.width - _FOLD / 2, safe.height)


def leaves(
    binding: Binding, panel: Panel, words: RunningText | None, page: int, number: int
) -> tuple[Leaf, Leaf]:
    """The two leaves, in the order of reading; `number` is the first one's.

    Raises Unsettable, naming the page, where the spread would begin on the wrong side, its
    picture is too narrow, somebody would lie in the fold, or words do not fit.
    """
    if number % 2:
        raise Unsettable(
            f"page {page}: a spread needs two pages that face each other, and this one falls on a "
            f"{'left' if binding.rtl else 'right'}-hand page",
            place=("page", page, "kind"),
            hint="put one more page before it, such as `kind: blank`, or take one away",
        )
    subject = binding.subject(panel)
    halves = _halves(binding, panel, subject, number, f"page {page}, panel `{panel.id}`")
    text, where = None, halves[0]
    if words is not None:
        text, where = _text(halves, subject, words, page)
    says = _shared(binding, panel, subject, halves, f"page {page}, panel `{panel.id}`")
    made = []
    for half, said in zip(halves, says, strict=True):
        mine = text if half is where else None
        made.append(_leaf(binding, panel, half, (subject, said, mine), page))
    first, second = made
    return replace(first, spread="first"), replace(second, spread="second")


def _leaf(
    binding: Binding,
    panel: Panel,
    half: _Half,
    content: tuple[FramedPicture, Sequence[Utterance], TextBlock | None],
    page: int,
) -> Leaf:
    """One page of the spread; only the first in reading order says the picture in words."""
    subject, says, text = content
    setting = Setting(
        frame=half.sheet.bled,
        crop=half.crop,
        corner="square",
        safe=half.safe,
        taken=(text.plate,) if text and text.plate else (),
        where=f"page {page}, panel `{panel.id}`",
        halved=True,
    )
    seen = replace(subject, figures=_seen(subject.figures, half.crop))
    alt = binding.alt(panel) if half.number % 2 == 0 else None
    picture = lettered(binding, panel, seen, setting, alt, says)
    return Leaf(
        number=half.number,
        kind="story",
        label=binding.phrases.pages.format(number=page),
        ground="paper",
        tone=picture.art,
        pictures=(picture,),
        texts=(text,) if text else (),
    )


def _seen(figures: Sequence[Figure], crop: Rect) -> tuple[Figure, ...]:
    """The figures of this half; of one that stands in the other, a point at the fold speaks."""
    seen = []
    for figure in figures:
        middle = figure.body.centre().x
        if crop.x <= middle <= crop.right:
            seen.append(figure)
            continue
        x = crop.x if middle < crop.x else crop.right - _EDGE
        body = Rect(x, figure.mouth.y - _EDGE, _EDGE, 2 * _EDGE)
        seen.append(Figure(figure.name, body, body, alive=False))
    return tuple(seen)


def _halves(
    binding: Binding, panel: Panel, subject: FramedPicture, number: int, where: str
) -> tuple[_Half, _Half]:
    """Both pages in the order of reading, the picture cropped so that nobody lies in the fold."""
    first, second = binding.sheet(number), binding.sheet(number + 1)
    left, right = (second, first) if binding.rtl else (first, second)
    width = left.cut.width
    open_ = Rect(left.bled.x, left.bled.y, width + right.bled.right - left.bled.x, left.bled.height)
    crop = _crop(open_, width, panel, subject, where)
    made = []
    for index, sheet in enumerate((first, second)):
        shift = width if sheet is right else 0.0
        bled = sheet.bled
        scale = crop.width / open_.width
        part = Rect(
            crop.x + (bled.x + shift - open_.x) * scale, crop.y, bled.width * scale, crop.height
        )
        made.append(_Half(number + index, sheet, part, shift))
    return made[0], made[1]


def _crop(open_: Rect, fold: float, panel: Panel, subject: FramedPicture, where: str) -> Rect:
    """The part of the picture, in fractions, that fills both pages with the fold kept free."""
    widest = compose.crop_to(open_, subject)
    if widest.area < _LEAST:
        wanted = open_.width / open_.height
        raise Unsettable(
            f"{where}: a spread is {wanted:.1f} times as wide as high, this picture "
            f"{subject.aspect:.1f} times",
            place=("panel", panel.id, "size"),
            hint=f"give the panel a `size` of that shape, such as `{_size(subject, wanted)}`",
        )
    culprit = ""
    for zoom in _ZOOMS:
        for crop in sorted(_moved(widest, zoom), key=lambda crop: _off(crop, widest)):
            lying = _in_fold(crop, open_, fold, subject)
            if lying is None:
                return crop
            culprit = culprit or lying
    raise Unsettable(
        f"{where}: {culprit} would lie in the fold of the spread or be cut off at its edge",
        place=("panel", panel.id),
        hint="give it a region on one side of the middle, or choose another `kind` of page",
    )


def _size(subject: FramedPicture, wanted: float) -> str:
    """A size of the picture's height that fills the two pages, as the story writes it."""
    height = subject.height or _USUAL_HEIGHT
    width = round(height * wanted / _CELL) * _CELL
    return f"size: [{width}, {height}]"


def _moved(crop: Rect, zoom: float) -> list[Rect]:
    """Crops of the same shape, `zoom` times as large, all over the picture."""
    width, height = crop.width * zoom, crop.height * zoom
    y = min(max(crop.centre().y - height / 2, 0.0), 1 - height)
    places = (step / _STEPS * (1 - width) for step in range(_STEPS + 1))
    return [Rect(x, y, width, height) for x in places]


def _off(crop: Rect, wanted: Rect) -> float:
    return abs(crop.centre().x - wanted.centre().x)


def _in_fold(crop: Rect, open_: Rect, fold: float, subject: FramedPicture) -> str | None:
    """Who lies in the fold, or is cut off by the edge of the page; None if nobody does."""
    scale = crop.width / open_.width
    middle = crop.x + (fold - open_.x) * scale
    band = Rect(middle - _FOLD / 2 * scale, 0, _FOLD * scale, 1)
    for figure in subject.figures:
        core = figure.body.inset(_CORE * figure.body.width, 0)
        cut_off = figure.body.covered(crop) < _WHOLE * figure.body.covered(Rect(0, 0, 1, 1))
        if figure.alive and (core.common(band) or cut_off):
            return f"`{figure.name}`" if figure.name else "a figure"
    return None


def _text(
    halves: tuple[_Half, _Half], subject: FramedPicture, words: RunningText, page: int
) -> tuple[TextBlock, _Half]:
    """The page's words on a plate, on the page where they hide less; the first if it is equal."""
    choices = _plates(halves, subject, words) or _plates(
        halves, subject, replace(words, sizes=compose.SMALL_SIZES)
    )
    if not choices:
        raise Unsettable(
            f"page {page}: the text does not fit, even at {compose.SMALL_SIZES[-1]:g} points",
            place=("page", page, "text"),
            hint="shorten it, share it over two pages, or choose another `kind` of page",
        )
    _, _, _, text, half = min(choices, key=lambda choice: choice[:3])
    return text, half


def _plates(
    halves: tuple[_Half, _Half], subject: FramedPicture, words: RunningText
) -> list[tuple[float, float, int, TextBlock, _Half]]:
    """The plates that the words can have, each with what speaks against it."""
    choices = []
    for order, half in enumerate(halves):
        text = compose.plated(half.sheet, words, half.sheet.bled, half.crop, subject)
        if text is not None and text.plate is not None:
            figures = compose.figures_in(half.sheet.bled, half.crop, subject.figures)
            quiet = compose.placed_in(half.sheet.bled, half.crop, subject.quiet)
            calm = max((text.plate.covered(part) for part in quiet), default=0.0)
            hides = round(compose.hiding(figures, text.plate), 2)
            taken = compose.placed_in(half.sheet.bled, half.crop, subject.taken)
            if compose.in_the_way(text.plate, taken):
                hides += _ASKED
            choices.append((-round(calm, 1), hides, order, text, half))
    return choices


def _shared(
    binding: Binding, panel: Panel, subject: FramedPicture, halves: tuple[_Half, _Half], where: str
) -> tuple[list[Utterance], list[Utterance]]:
    """What is said on each page: where its speaker stands, but never before what comes earlier."""
    homes: dict[str | None, int] = {}
    for figure in subject.figures:
        homes.setdefault(figure.name, _home(figure.body.centre(), halves))
    shares: tuple[list[Utterance], list[Utterance]] = ([], [])
    reached = 0
    for turn in binding.turns(panel):
        speech = panel.say[turn]
        home = homes.get(speech.who, reached) if speech.who else reached
        if speech.from_ in {"left", "right"}:
            home = _side(speech.from_ == "left", halves)
        if speech.tail is not None:
            home = _home(Point(*speech.tail), halves)
        if speech.at is not None:
            home = _home(Point(*speech.at.centre()), halves)
        reached = max(reached, home)
        half = halves[reached]
        shares[reached].append(binding.said(panel, turn, half.sheet.bled, half.crop, where))
    return shares


def _side(left: bool, halves: tuple[_Half, _Half]) -> int:
    """The half, 0 or 1, that lies on the left, or on the right."""
    return 0 if (halves[0].shift == 0.0) == left else 1


def _home(place: Point, halves: tuple[_Half, _Half]) -> int:
    """The half, 0 or 1, in which a place of the picture shows."""
    return 0 if halves[0].crop.x <= place.x <= halves[0].crop.right else 1
