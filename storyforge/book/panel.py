"""One panel in its frame: the part of its picture that shows, and its balloons lettered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from storyforge.book import compose
from storyforge.book.binding import Binding
from storyforge.book.colophon import spoken
from storyforge.book.compose import FramedPicture
from storyforge.book.leaf import Balloon, Border, Corner, Head, Picture, Point, Rect
from storyforge.book.lettering import PAGE_SIZES, SMALL, SMALL_SIZES, letter
from storyforge.book.placing import LetteringSpace, Utterance
from storyforge.book.unsettable import Unsettable
from storyforge.story.story import Panel

_STAGE_INSET = 8.0
_SMALL_INSET = 5.0


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a panel stands on its page, in points.

    frame   where its picture stands
    crop    the part of the picture that shows, in fractions of it
    safe    where words may stand
    taken   what words must leave free
    halved  whether this is half of a spread
    where   the page and the panel, to say in an error
    """

    frame: Rect
    crop: Rect
    corner: Corner
    safe: Rect
    taken: tuple[Rect, ...]
    where: str
    halved: bool = False
    border: Border = "none"


def pictured(
    binding: Binding, panel: Panel, subject: FramedPicture, setting: Setting, alt: str | None
) -> Picture:
    """The panel's picture in its place with all that is said in it.

    Raises Unsettable, naming the page, if the balloons do not fit.
    """
    says = binding.says(panel, setting.frame, setting.crop, setting.where)
    return lettered(binding, panel, subject, setting, alt, says)


def lettered(
    binding: Binding,
    panel: Panel,
    subject: FramedPicture,
    setting: Setting,
    alt: str | None,
    says: Sequence[Utterance],
) -> Picture:
    """The same with some of what is said: on a spread, each half has its own."""
    art = binding.art[panel.id]
    frame, crop = setting.frame, setting.crop
    picture = Picture(
        art,
        frame,
        crop,
        setting.corner,
        alt,
        halved=setting.halved,
        heads=_heads(subject, setting),
        border=setting.border,
    )
    if not says:
        return picture
    stage = LetteringSpace(
        area=frame.inset(_STAGE_INSET).common(setting.safe) or frame,
        figures=compose.figures_in(frame, crop, subject.figures),
        taken=setting.taken,
        rtl=binding.rtl,
        frame=frame,
        quiet=tuple(
            part
            for part in compose.placed_in(frame, crop, subject.quiet)
            if not any(part.common(taken) for taken in setting.taken)
        ),
    )
    balloons = letter(says, stage, PAGE_SIZES)
    if balloons is None:
        raise Unsettable(
            f"{setting.where}: the balloons do not fit, even at {PAGE_SIZES[-1]:g} points",
            place=("panel", panel.id, "say"),
            hint="say less in this panel, or share it over two",
        )
    return replace(picture, balloons=balloons, small=_small(binding, subject, picture, says))


def _heads(subject: FramedPicture, setting: Setting) -> tuple[Head, ...]:
    """Whose faces show, in points of the page."""
    heads = []
    for figure in subject.figures:
        (placed,) = compose.figures_in(setting.frame, setting.crop, [figure]) or (None,)
        if placed is None or not figure.alive or figure.name is None:
            continue
        whole = figure.body.covered(Rect(0, 0, 1, 1)) or 1.0
        shown = min(1.0, figure.body.covered(setting.crop) / whole)
        name = spoken(figure.name)
        heads.append(Head(name, placed.face, placed.body, shown, figure.planned))
    return tuple(heads)


def _small(
    binding: Binding, subject: FramedPicture, picture: Picture, says: Sequence[Utterance]
) -> tuple[Balloon, ...]:
    """The balloons again, large enough to read on a phone; none if they do not fit."""
    if not binding.phones:
        return ()
    frame = Rect(0, 0, SMALL, SMALL / picture.aspect)
    crop = picture.crop if picture.halved else Rect(0, 0, 1, 1)
    again = [_said_again(said, picture, frame, crop) for said in says]
    stage = LetteringSpace(
        area=frame.inset(_SMALL_INSET),
        figures=compose.figures_in(frame, crop, subject.figures),
        taken=(),
        rtl=binding.rtl,
        quiet=compose.placed_in(frame, crop, subject.quiet),
        frame=frame,
    )
    return letter(again, stage, SMALL_SIZES) or ()


def _said_again(said: Utterance, picture: Picture, frame: Rect, crop: Rect) -> Utterance:
    """The same words for another frame: an asked-for place moves with the picture."""
    page, shown = picture.frame, picture.crop
    across, down = shown.width / page.width, shown.height / page.height
    if said.pointed is not None:
        x = (shown.x + (said.pointed.x - page.x) * across - crop.x) / crop.width
        y = (shown.y + (said.pointed.y - page.y) * down - crop.y) / crop.height
        pointed = Point(frame.x + x * frame.width, frame.y + y * frame.height)
        said = replace(said, pointed=pointed)
    if said.at is None:
        return said
    part = Rect(
        shown.x + (said.at.x - page.x) * across,
        shown.y + (said.at.y - page.y) * down,
        said.at.width * across,
        said.at.height * down,
    )
    return replace(said, at=compose.on_page(part, frame, crop))
