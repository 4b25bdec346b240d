"""How pictures and words share one page: frames and text in their places, for each kind of page.

Pictures are cropped a little to fill their frames, never below `KEPT` unless the author asks for
a full bleed. Words are set as large as the page allows; what does not fit gives no composition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from storyforge.book.leaf import Corner, Face, PlateStyle, Rect, Role, TextBlock
from storyforge.book.placing import Figure
from storyforge.book.typeface import metrics, set_lines
from storyforge.story.story import PageKind
from storyforge.story.trims import POINTS_PER_INCH, Trim

STORY_SIZES: Final = (20.0, 19.0, 18.0, 17.0, 16.0, 15.0, 14.0)
"""Letter sizes for children to read, in points, the best first."""

SMALL_SIZES: Final = (13.0, 12.0, 11.0)
"""Tried where words do not fit otherwise: small for children, and preflight says so."""


def sizes_from(largest: float) -> tuple[float, ...]:
    """Letter sizes to try from the author's own on, down to seven tenths of it."""
    return tuple(round(largest * share, 2) for share in (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7))


_PLATE_SIZES: Final = 5
"""So many of a text's sizes are large enough for words on a picture."""

STORY_LEADING: Final = 1.42
KEPT: Final = 0.82
"""The share of a picture that must show when it is cropped to its frame."""

_WHOLE: Final = Rect(0, 0, 1, 1)
_ROOM: Final = 0.04
"""Round everybody in a cropped picture, as a share of it: outlines are made out roughly."""

_CUT_OFF: Final = 0.93
"""Less of a figure than this, and it is cut off."""

_FACE: Final = 0.7
"""So much of where a face probably is shows the face: that is wider than any."""

_PLATE_SHARE: Final = 0.27
"""Words on a picture may take this share of the page's height."""

_HARMLESS: Final = 0.5
"""A plate in a quiet place may hide so much of the figures, counted as `hiding` does."""

_VEIL: Final = 0.35
"""So much of its height a veil fades out above and below the words."""

_PLATE_PAD: Final = (20.0, 11.0)
TEXT_GAP: Final = 22.0
"""Between a picture and the words that belong to it, in points."""

_RUNNING: Final = frozenset({"story", "dedication", "blurb", "colophon"})

_TALL: Final = 1.15
_WIDE: Final = 1.25


@dataclass(frozen=True, slots=True)
class Sheet:
    """One page to be filled; lengths in points.

    outer_right  whether the outer edge is the right one
    rtl          whether panels are read from right to left
    """

    trim: Trim
    outer_right: bool
    rtl: bool = False

    @property
    def cut(self) -> Rect:
        """The page as it is cut."""
        return Rect(0, 0, self.trim.width * POINTS_PER_INCH, self.trim.height * POINTS_PER_INCH)

    @property
    def bled(self) -> Rect:
        """The page with its bleed."""
        outer = self.trim.bleed * POINTS_PER_INCH
        inner = self.trim.inner_bleed * POINTS_PER_INCH
        left, right = (inner, outer) if self.outer_right else (outer, inner)
        cut = self.cut
        return Rect(-left, -outer, cut.width + left + right, cut.height + 2 * outer)

    @property
    def safe(self) -> Rect:
        """Where the printer lets words stand."""
        return self.cut.inset(self.trim.safe * POINTS_PER_INCH)

    @property
    def live(self) -> Rect:
        """Inside the margins, where framed pictures and plain text stand."""
        margin = max(self.trim.safe * POINTS_PER_INCH, 0.075 * self.cut.width)
        return self.cut.inset(margin)


@dataclass(frozen=True, slots=True)
class FramedPicture:
    """What one picture asks of its frame; lengths in fractions of the picture.

    aspect  width over height
    quiet   where words may stand
    taken   where running words keep off: places of balloons, and of panels that lie over it
    height  of the picture in pixels; 0 if it is not known
    uncut   whether all of it must show
    """

    aspect: float
    figures: tuple[Figure, ...]
    quiet: tuple[Rect, ...] = ()
    taken: tuple[Rect, ...] = ()
    height: int = 0
    uncut: bool = False

    @property
    def held(self) -> Rect | None:
        """The part that holds everybody who has a face; None where nobody has."""
        bodies = [figure.body.common(_WHOLE) for figure in self.figures if figure.alive]
        seen = [body for body in bodies if body is not None]
        if not seen:
            return None
        left, top = min(body.x for body in seen), min(body.y for body in seen)
        right, bottom = max(body.right for body in seen), max(body.bottom for body in seen)
        around = Rect(left, top, right - left, bottom - top).inset(-_ROOM)
        return around.common(_WHOLE)

    @property
    def kept(self) -> tuple[float, float]:
        """The shares of its width and height that must show: more than `KEPT` if it is full."""
        if self.uncut:
            return 1.0, 1.0
        held = self.held
        if held is None:
            return KEPT, KEPT
        return max(KEPT, min(1.0, held.width)), max(KEPT, min(1.0, held.height))


@dataclass(frozen=True, slots=True)
class RunningText:
    """A text and its face.

    language  as which its words may be divided, if they must; None if they may not
    sizes     of its letters, in points, the best first
    ground    what it stands on where it stands on a picture
    color     of its letters; None for ink
    place     where it is to stand; None for where it hides least
    """

    text: str
    face: Face
    language: str | None = None
    sizes: tuple[float, ...] = STORY_SIZES
    ground: PlateStyle = "rounded"
    color: str | None = None
    place: Literal["top", "bottom"] | None = None


@dataclass(frozen=True, slots=True)
class Composition:
    """Frames for the pictures, in order, and the text."""

    frames: tuple[Rect, ...]
    corner: Corner
    text: TextBlock | None


def crop_to(frame: Rect, subject: FramedPicture) -> Rect:
    """The part of a picture, in fractions, that fills `frame` and shows its figures best."""
    wanted = frame.width / frame.height
    width = min(1.0, wanted / subject.aspect)
    height = min(1.0, subject.aspect / wanted)
    x, y = 0.5, 0.5
    if subject.figures:
        left = min(figure.body.x for figure in subject.figures)
        right = max(figure.body.right for figure in subject.figures)
        top = min(figure.body.y for figure in subject.figures)
        bottom = max(figure.body.bottom for figure in subject.figures)
        x, y = (left + right) / 2, (top + bottom) / 2

    def around(x: float) -> Rect:
        """The part that has `x` as near to its middle as the picture's edges allow."""
        kept = min(max(x - width / 2, 0.0), 1 - width), min(max(y - height / 2, 0.0), 1 - height)
        return Rect(*kept, width, height)

    # Where there is no room for all faces, some whole figures are better than halves of two.
    places = (x, *(figure.body.centre().x for figure in subject.figures))
    return max((around(place) for place in places), key=lambda part: _shown(subject, part))


def _shown(subject: FramedPicture, part: Rect) -> tuple[int, int]:
    """How many faces a part of the picture shows, and how many of their figures whole."""
    alive = [figure for figure in subject.figures if figure.alive]
    faces = sum(_shows(figure.face, part, _FACE) for figure in alive)
    return faces, sum(_shows(figure.body, part, _CUT_OFF) for figure in alive)


def _shows(shape: Rect, part: Rect, share: float) -> bool:
    return shape.covered(part) >= share * shape.covered(_WHOLE)


def contained(sheet: Sheet, frame: Rect, subject: FramedPicture) -> Rect:
    """The frame; for a picture that must not be cut, what it fills of it inside the margins."""
    if not subject.uncut:
        return frame
    room = frame.common(sheet.live) or frame
    width = min(room.width, room.height * subject.aspect)
    height = width / subject.aspect
    middle = room.centre()
    return Rect(middle.x - width / 2, middle.y - height / 2, width, height)


def whole(subject: FramedPicture, crop: Rect) -> bool:
    """Whether everybody with a face shows in a part of the picture as whole as in all of it."""
    return all(_shows(figure.body, crop, _CUT_OFF) for figure in subject.figures if figure.alive)


def on_page(part: Rect, frame: Rect, crop: Rect) -> Rect | None:
    """A part of a picture, in points of the page; None if it is cropped away."""
    across, down = frame.width / crop.width, frame.height / crop.height
    x, y = frame.x + (part.x - crop.x) * across, frame.y + (part.y - crop.y) * down
    return Rect(x, y, part.width * across, part.height * down).common(frame)


def figures_in(frame: Rect, crop: Rect, figures: Sequence[Figure]) -> tuple[Figure, ...]:
    """The figures of a picture, in points of the page; those cropped away are left out."""
    placed = []
    for figure in figures:
        region, body = on_page(figure.region, frame, crop), on_page(figure.body, frame, crop)
        if region is not None and body is not None:
            head = None if figure.head is None else on_page(figure.head, frame, crop)
            placed.append(replace(figure, region=region, body=body, head=head))
    return tuple(placed)


def placed_in(frame: Rect, crop: Rect, parts: Sequence[Rect]) -> tuple[Rect, ...]:
    """Parts of a picture, in points of the page; those cropped away are left out."""
    return tuple(filter(None, (on_page(part, frame, crop) for part in parts)))


def block(
    words: RunningText,
    role: Role,
    room: Rect,
    sizes: Sequence[float],
    leading: float = STORY_LEADING,
) -> TextBlock | None:
    """The words as large as `sizes` and `room` allow, at the top of `room`; None if too long.

    Running text divides words too long for a line; display type becomes smaller before it does.
    """
    languages = (words.language,) if role in _RUNNING else (None, words.language)
    for size, language in [(size, language) for language in languages for size in sizes]:
        lines = set_lines(words.text, words.face, room.width / size, language)
        if lines is None:
            continue
        height = len(lines) * leading * size
        if height <= room.height + 0.01:
            rect = Rect(room.x, room.y, room.width, height)
            return TextBlock(
                role, words.text, lines, rect, size, leading, words.face, color=words.color
            )
    return None


def widest(text: TextBlock) -> float:
    """The width of the longest line, in points."""
    return max(metrics(text.face).width(line) for line in text.lines) * text.size


def moved(text: TextBlock, x: float, y: float) -> TextBlock:
    """The same block at another place."""
    return replace(text, rect=replace(text.rect, x=x, y=y))


def hidden(faces: Sequence[Figure], by: Rect) -> float:
    """The largest share of a face that a rectangle covers, 0 to 1."""
    return max((figure.face.covered(by) for figure in faces if figure.alive), default=0.0)


def hiding(figures: Sequence[Figure], plate: Rect) -> float:
    """How much of the figures a rectangle hides, faces counting more than feet."""
    return sum(
        figure.body.covered(plate) + (6 * figure.face.covered(plate) if figure.alive else 0)
        for figure in figures
    )


def in_the_way(plate: Rect, taken: Sequence[Rect]) -> bool:
    """Whether a plate lies where something else is to lie."""
    return any(plate.common(part) for part in taken)


def full_bleed(
    sheet: Sheet, subject: FramedPicture, words: RunningText | None
) -> Composition | None:
    """One picture over the whole page, with the words on a light plate above or below."""
    frame = sheet.bled
    if words is None:
        return Composition((frame,), "square", None)
    text = plated(sheet, words, frame, crop_to(frame, subject), subject)
    return None if text is None else Composition((frame,), "square", text)


def plated(
    sheet: Sheet, words: RunningText, frame: Rect, crop: Rect, subject: FramedPicture
) -> TextBlock | None:
    """The words on a light plate: in a quiet part of the picture, else above or below."""
    figures = figures_in(frame, crop, subject.figures)
    taken = placed_in(frame, crop, subject.taken)
    for spot in placed_in(frame, crop, subject.quiet) if words.place is None else ():
        text = _plated_in(spot.common(sheet.safe), words)
        if text is None or text.plate is None or in_the_way(text.plate, taken):
            continue
        if hiding(figures, text.plate) < _HARMLESS:
            return text
    pad_x, pad_y = _PLATE_PAD
    room = sheet.safe.inset(pad_x + 6, pad_y)
    room = replace(room, height=_PLATE_SHARE * sheet.cut.height - 2 * pad_y)
    text = block(words, "story", room, words.sizes[:_PLATE_SIZES])
    if text is None:
        return None
    width = min(widest(text) + 2.5 * pad_x, sheet.safe.width)
    height = text.rect.height + 2 * pad_y
    high = Rect(sheet.cut.centre().x - width / 2, sheet.safe.y, width, height)
    low = replace(high, y=sheet.safe.bottom - height)
    choices = {"top": (high,), "bottom": (low,)}.get(words.place or "", (low, high))
    plate = min(choices, key=lambda plate: (in_the_way(plate, taken), hiding(figures, plate)))
    placed = moved(text, room.x, plate.y + pad_y)
    return replace(placed, plate=_grounded(plate, words.ground, frame), ground=words.ground)


def _grounded(plate: Rect, ground: PlateStyle, frame: Rect) -> Rect:
    """The plate as wide as its look asks: bands and veils run from edge to edge of the picture."""
    if ground in {"rounded", "none"}:
        return plate
    reach = _VEIL * plate.height if ground == "soft" else 0.0
    return Rect(frame.x, plate.y - reach, frame.width, plate.height + 2 * reach)


def _plated_in(spot: Rect | None, words: RunningText) -> TextBlock | None:
    """The words on a plate in the middle of a place; None if they do not fit there."""
    pad_x, pad_y = _PLATE_PAD
    if spot is None or spot.width < 4 * pad_x or spot.height < 3 * pad_y:
        return None
    room = spot.inset(pad_x, pad_y)
    text = block(words, "story", room, words.sizes[:_PLATE_SIZES])
    if text is None:
        return None
    text = moved(text, room.x, room.centre().y - text.rect.height / 2)
    width = min(widest(text) + 2 * pad_x, spot.width)
    left = spot.centre().x - width / 2
    plate = Rect(left, text.rect.y - pad_y, width, text.rect.height + 2 * pad_y)
    return replace(text, plate=plate)


def art_over_text(sheet: Sheet, subject: FramedPicture, words: RunningText) -> Composition | None:
    """A picture with the words beneath: bleeding on a tall page, framed on a square one."""
    if sheet.cut.height / sheet.cut.width >= _TALL:
        return _tall_art_over_text(sheet, subject, words)
    live = sheet.live
    for size in words.sizes:
        text = block(words, "story", live, (size,))
        if text is None:
            continue
        height = live.height - text.rect.height - TEXT_GAP
        across, down = subject.kept
        width = min(live.width, height * subject.aspect / down)
        height = min(height, width / (subject.aspect * across))
        if height < 0.48 * sheet.cut.height:
            continue
        top = live.y + (live.height - height - TEXT_GAP - text.rect.height) / 2
        frame = Rect(live.centre().x - width / 2, top, width, height)
        if words.place == "top":
            frame = replace(frame, y=top + text.rect.height + TEXT_GAP)
            return Composition((frame,), "round", moved(text, live.x, top))
        return Composition((frame,), "round", moved(text, live.x, frame.bottom + TEXT_GAP))
    return None


def _tall_art_over_text(
    sheet: Sheet, subject: FramedPicture, words: RunningText
) -> Composition | None:
    bled, live = sheet.bled, sheet.live
    natural = bled.width / subject.aspect
    least = subject.kept[1]
    for share in sorted({1.0, *(share for share in (0.94, 0.88) if share > least), least})[::-1]:
        height = min(natural * share, 0.8 * bled.height)
        below = bled.y + height + TEXT_GAP
        room = Rect(live.x, below, live.width, live.bottom - below)
        if room.height <= 0:
            continue
        sizes = words.sizes if share == least else words.sizes[:4]
        text = block(words, "story", room, sizes)
        if text is not None:
            spare = room.height - text.rect.height
            frame = replace(bled, height=height)
            if words.place == "top":
                frame = replace(frame, y=bled.bottom - height)
                return Composition((frame,), "square", moved(text, live.x, live.y + spare * 0.42))
            return Composition((frame,), "square", moved(text, live.x, below + spare * 0.42))
    return None


def text_beside_art(sheet: Sheet, subject: FramedPicture, words: RunningText) -> Composition | None:
    """A picture towards the outer edge and the words towards the fold."""
    live, cut, bled = sheet.live, sheet.cut, sheet.bled
    wide = cut.width / cut.height >= _WIDE
    if wide:
        height = bled.height
        width = min(0.66 * cut.width, height * subject.aspect)
        if not whole(subject, crop_to(Rect(0, 0, width, height), subject)):
            height = min(height, width / (subject.aspect * subject.kept[0]))
    else:
        width = 0.58 * live.width
        height = min(live.height, width / (subject.aspect * subject.kept[0]))
    text_width = (cut.width if wide else live.right) - live.x - width - TEXT_GAP
    text_width -= (cut.width - live.right) if wide else 0
    text = block(words, "story", Rect(0, 0, text_width, live.height), words.sizes)
    if text is None:
        return None
    if sheet.outer_right:
        x, text_x = bled.right - width, live.x
    else:
        x, text_x = bled.x, live.right - text_width
    if not wide:
        used = width + TEXT_GAP + widest(text)
        left = cut.centre().x - used / 2
        x = left + used - width if sheet.outer_right else left
        text_x = left if sheet.outer_right else left + width + TEXT_GAP
    frame = Rect(x, cut.centre().y - height / 2, width, height)
    rect = replace(text.rect, x=text_x, y=cut.centre().y - text.rect.height / 2)
    if not wide:
        rect = replace(rect, width=widest(text))
    text = replace(text, rect=rect, align="start")
    return Composition((frame,), "square" if wide else "round", text)


def words_alone(sheet: Sheet, words: RunningText | None) -> Composition | None:
    """Words in the middle of the page, or an empty page."""
    if words is None:
        return Composition((), "square", None)
    live = sheet.live
    room = live.inset(0.08 * live.width, 0)
    text = block(words, "story", room, (24.0, 22.0, *words.sizes))
    if text is None:
        return None
    return Composition((), "square", moved(text, room.x, live.centre().y - text.rect.height / 2))


def single(
    sheet: Sheet, kind: PageKind, subject: FramedPicture, words: RunningText | None
) -> Composition | None:
    """One picture and its words; `auto` prefers a full bleed that hides no face."""
    if words is None or kind == "full-bleed":
        return full_bleed(sheet, subject, words)
    if kind == "text-beside-art":
        return text_beside_art(sheet, subject, words)
    if kind == "auto" and not subject.uncut and _bleeds_well(sheet, subject, words):
        return full_bleed(sheet, subject, words)
    if made := art_over_text(sheet, subject, words):
        return made
    # Beside a picture, words stand neither at the top nor at the foot.
    return text_beside_art(sheet, subject, words) if kind == "auto" and not words.place else None


def _bleeds_well(sheet: Sheet, subject: FramedPicture, words: RunningText) -> bool:
    frame = sheet.bled
    crop = crop_to(frame, subject)
    made = full_bleed(sheet, subject, words)
    if made is None or made.text is None or made.text.plate is None or crop.area < KEPT:
        return False
    if not whole(subject, crop):
        return False
    if len(made.text.lines) > 3:
        return False
    return hidden(figures_in(frame, crop, subject.figures), made.text.plate) < 0.3
