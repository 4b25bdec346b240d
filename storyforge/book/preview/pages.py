"""A bound book becomes a proof: every page with its pictures' regions, its words and its edges.

Places come from `book`, so that a proof shows what will be printed; nothing is composed here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from storyforge.book.binding import Binding
from storyforge.book.compose import Sheet
from storyforge.book.inline import printed
from storyforge.book.leaf import Art, Balloon, Initial, Leaf, Picture, Rect, TextBlock
from storyforge.book.page import Kept, bind, undrawn
from storyforge.book.picture import PLAIN
from storyforge.book.preview.drawing import (
    ASCENT,
    Drawing,
    DrawnShape,
    Ink,
    Label,
    LineShape,
    Photo,
    PlacedPanel,
    Proof,
    RectShape,
    polyline,
)
from storyforge.book.preview.scene import COLORS, Standing, crossed, regions, tags
from storyforge.book.typeface import ANDIKA, metrics, set_lines
from storyforge.story.prompts import pose_of
from storyforge.story.story import Panel, Story

_SLUG: Final = 34.0
"""Round the page with its bleed, in points: room for notes."""

_NOTE: Final = 9.0
_FIELDS: Final = ("#dfe9f1", "#e8e3ef", "#e2eddd", "#f2e9d9", "#f1e2e0", "#dbeae8")
"""Of pictures that are not drawn yet."""

_INK: Final = "#2a2320"
_GREY: Final = "#5c6370"
_TRIM: Final = Ink(None, "#c2185b", 1.0)
_BLEED: Final = Ink(None, "#d9480f", 0.8, dashed=True)
_SAFE: Final = Ink(None, "#1971c2", 0.8, dashed=True)
_QUIET: Final = Ink("#ffffff80", _GREY, 1.0, dashed=True)
_BORDERS: Final = {"lined": Ink(None, _INK, 1.6), "rimmed": Ink(None, "#ffffff", 3.0)}
_LEGEND: Final = (("cut", _TRIM), ("bleed", _BLEED), ("safe for words", _SAFE))

_LONGEST: Final = 24
"""Characters of a region's words on its tag."""


Sheets = dict[int, tuple[Leaf, Drawing]]
"""Story pages by identity; each holds its page, so that no other can have its identity."""


def proof_of(
    story: Story,
    language: str | None = None,
    drawn: Mapping[str, Art] | None = None,
    kept: Kept | None = None,
    sheets: Sheets | None = None,
    *,
    unshown: Collection[str] = (),
) -> Proof:
    """Every page as it will be bound, with the pictures `drawn`, by panel, under the marks.

    kept     pages that need not be composed again
    sheets   what such pages looked like: filled here, for the next time
    unshown  panels whose pictures only say where balloons will stand, as they do in the book

    Raises StoryForgeError, naming the page, where words do not fit or a font lacks a character.
    """
    drawn = drawn or {}
    art = {**undrawn(story), **drawn}
    book = bind(story, art, language, kept, phones=False)
    desk = _Desk(Binding.of(story, art, language), frozenset(drawn), frozenset(unshown))
    return Proof(
        title=book.title,
        language=book.language,
        rtl=desk.binding.rtl,
        drawings=tuple(_drawing(desk, leaf, sheets) for leaf in book.leaves),
    )


def _drawing(desk: _Desk, leaf: Leaf, sheets: Sheets | None) -> Drawing:
    """The page as a drawing; the same one, if this very page was drawn before."""
    if sheets is None or leaf.kind != "story":
        return desk.drawing(leaf)
    known = sheets.get(id(leaf))
    if known is None or known[0] is not leaf:
        known = sheets[id(leaf)] = leaf, desk.drawing(leaf)
    return known[1]


@dataclass(frozen=True, slots=True)
class _Desk:
    """Where pages are drawn: what the book says, which pictures exist, and which of them hide."""

    binding: Binding
    drawn: frozenset[str]
    unshown: frozenset[str] = frozenset()

    @property
    def story(self) -> Story:
        """The story."""
        return self.binding.story

    def drawing(self, leaf: Leaf) -> Drawing:
        """One page with all its marks, moved so that nothing begins at negative points."""
        sheet = self.binding.sheet(leaf.number)
        bled = sheet.bled
        size = bled.width + 2 * _SLUG, bled.height + 2 * _SLUG
        marks: list[DrawnShape] = [
            RectShape("page", Rect(bled.x - _SLUG, bled.y - _SLUG, *size), Ink("#ffffff"))
        ]
        marks.append(
            RectShape("page", bled, Ink(PLAIN.paper if leaf.ground == "paper" else PLAIN.deep))
        )
        for picture in leaf.pictures:
            marks += self._picture(picture, leaf)
        for text in leaf.texts:
            marks += self._text(text, leaf)
        for picture in leaf.pictures:
            for balloon in picture.balloons:
                marks += self._balloon(balloon)
        marks += _guides(sheet)
        for picture in leaf.pictures:
            marks += self._tags(picture, leaf, sheet)
        marks += self._notes(sheet, leaf)
        by = (_SLUG - bled.x, _SLUG - bled.y)
        label = re.sub(r"\W+", "-", leaf.label.lower()).strip("-") or leaf.kind
        return Drawing(
            name=f"{leaf.number:02d}-{label}",
            title=leaf.label,
            width=size[0],
            height=size[1],
            marks=tuple(_moved(mark, *by) for mark in marks),
            panels=tuple(
                PlacedPanel(
                    each.art.panel,
                    replace(each.frame, x=each.frame.x + by[0], y=each.frame.y + by[1]),
                    each.crop,
                )
                for each in leaf.pictures
                if each.corner != "circle"
            ),
        )

    def _panel(self, picture: Picture) -> Panel:
        return next(each for _, each in self.story.panels() if each.id == picture.art.panel)

    def _picture(self, picture: Picture, leaf: Leaf) -> list[DrawnShape]:
        """The picture, or a field of colour with what it will show."""
        frame = picture.frame
        radius = {"round": 12.0, "circle": frame.width / 2}.get(picture.corner, 0.0)
        marks: list[DrawnShape] = []
        if leaf.kind == "lives":
            return [Photo("art", picture.art.path, frame, picture.crop, radius)]
        there = picture.art.panel in self.drawn or picture.art.path != self.story.path
        if there and picture.art.panel not in self.unshown:
            marks.append(Photo("art", picture.art.path, frame, picture.crop, radius))
        else:
            order = [panel.id for _, panel in self.story.panels()].index(picture.art.panel)
            field = _FIELDS[order % len(_FIELDS)]
            marks.append(RectShape("art", frame, Ink(field, "#9aa3ad", 0.8), radius))
            if not self._panel(picture).regions and picture.corner != "circle":
                marks.append(crossed(frame, "#b9c2cc"))
        if border := _BORDERS.get(picture.border):
            marks.append(RectShape("art", frame, border, radius))
        if picture.corner != "circle":
            marks += self._quiet(picture)
            marks += regions(self._standing(picture), frame)
        return marks

    def _quiet(self, picture: Picture) -> list[DrawnShape]:
        """The parts kept calm for words."""
        marks: list[DrawnShape] = []
        for part in self.binding.subject(self._panel(picture)).quiet:
            seen = _on_page(picture, part).common(picture.frame)
            if seen is not None:
                marks.append(RectShape("regions", seen, _QUIET, 6))
                marks.append(_note("quiet", seen.x + 6, seen.y + 5, _GREY))
        return marks

    def _standing(self, picture: Picture) -> list[Standing]:
        """The panel's regions in points of the page."""
        panel = self._panel(picture)
        shapes = self.story.region_shapes(panel)
        figures = self.binding.subject(panel).figures
        concepts = list(self.story.concepts)
        made = []
        for (name, shape), figure in zip(shapes.items(), figures, strict=True):
            region = panel.regions[name]
            pose = pose_of(self.story, panel, name)
            body = None if figure.name is None else _on_page(picture, figure.body)
            hue = concepts.index(region.concept) if region.concept else len(concepts)
            what = region.concept or _shortened(region.prompt)
            said = f"{name}: {what}" + (f" {pose}" if pose and figure.alive else "")
            made.append(
                Standing(
                    words=said + (f", z {shape.z}" if shape.z else ""),
                    color=COLORS[hue % len(COLORS)],
                    z=shape.z,
                    region=_on_page(picture, figure.region),
                    body=body,
                    pose=(pose or "standing") if figure.alive else None,
                    facing=shape.facing,
                    sure=pose is not None or not figure.alive,
                )
            )
        return made

    def _tags(self, picture: Picture, leaf: Leaf, sheet: Sheet) -> list[DrawnShape]:
        """The regions' names, where neither the knife nor a balloon takes them."""
        seen = picture.frame.common(sheet.safe)
        if picture.corner == "circle" or seen is None:
            return []
        taken = [said.text for said in picture.balloons]
        taken += [text.plate or text.rect for text in leaf.texts]
        return tags(self._standing(picture), seen, taken)

    def _text(self, text: TextBlock, leaf: Leaf) -> list[DrawnShape]:
        """Words as the page sets them, on their plate."""
        author, plate = text.role == "author", text.plate
        light = leaf.ground == "deep" or (author and plate is not None)
        heading = text.role in {"title", "heading"}
        usual = "#ffffff" if light else PLAIN.deep if heading else _INK
        bare = plate is not None and text.ground == "none" and not author
        whole = Label(
            layer="words",
            lines=tuple(map(printed, text.lines)),
            rect=text.rect,
            size=text.size,
            face=text.face,
            color=text.color or usual,
            leading=text.leading,
            align=text.align,
            halo=PLAIN.deep if text.halo else PLAIN.paper if bare else None,
            rtl=self.binding.writing == "rtl" and text.language is None,
            tilt=text.tilt,
        )
        words = (whole,) if text.initial is None else _initialled(whole, text.initial)
        return [*([] if plate is None or bare else [_plate(plate, text)]), *words]

    def _balloon(self, said: Balloon) -> list[DrawnShape]:
        pen = 1.8 if said.kind == "shout" else 0.8 if said.kind == "caption" else 1.3
        fill = "#fff6d6" if said.kind == "caption" else "#ffffff"
        ink = Ink(fill, _INK, pen, dashed=said.kind == "whisper")
        sound = said.kind == "sound"
        marks: list[DrawnShape] = [LineShape("balloons", outline, ink) for outline in said.outlines]
        words = Label(
            layer="balloons",
            lines=tuple(map(printed, said.lines)),
            rect=said.text,
            size=said.size,
            face=said.face,
            color="#c8322b" if sound else _INK,
            leading=said.leading,
            align="center",
            halo="#ffffff" if sound else None,
            rtl=self.binding.writing == "rtl",
            tilt=said.tilt,
        )
        return [*marks, words]

    def _notes(self, sheet: Sheet, leaf: Leaf) -> list[DrawnShape]:
        """Beside the page: what it is, what its pictures will be, and what the lines mean."""
        bled = sheet.bled
        top = bled.y - _SLUG / 2 - 0.6 * _NOTE
        marks: list[DrawnShape] = [
            _note(f"{leaf.number}  {leaf.label}", bled.x, top, _INK),
            *_legend(bled.right, top),
        ]
        shown = {panel.id: panel for panel in map(self._panel, leaf.pictures)}
        words = "  ·  ".join(self._caption(panel) for panel in shown.values())
        lines = set_lines(words, ANDIKA, bled.width / _NOTE) or (words,)
        low = bled.bottom + 5
        marks += [
            _note(line, bled.x, low + index * 1.3 * _NOTE, _GREY)
            for index, line in enumerate(lines[:2])
        ]
        return marks

    def _caption(self, panel: Panel) -> str:
        setting = ", ".join(word for word in (panel.scene, panel.prompt) if word)
        return f"{panel.id}: {setting}" if setting else panel.id


def _plate(plate: Rect, text: TextBlock) -> RectShape:
    """The ground under words; a veil, which fades in the book, is thinner here."""
    if text.role == "author":
        return RectShape("words", plate, Ink(PLAIN.deep), plate.height / 2)
    fill = PLAIN.paper + ("aa" if text.ground == "soft" else "ee")
    return RectShape("words", plate, Ink(fill), 16 if text.ground == "rounded" else 0)


def _initialled(whole: Label, initial: Initial) -> tuple[Label, ...]:
    """The first letter as high as two lines, those beside it, and the lines below."""
    rect, high = whole.rect, whole.leading * whole.size
    baseline = rect.y + (whole.leading - 1) * whole.size / 2 + ASCENT * whole.size + high
    x = rect.right - initial.width if whole.rtl else rect.x
    letter = Rect(x, baseline - ASCENT * initial.size, initial.width, initial.size)
    left = rect.x if whole.rtl else rect.x + initial.width
    beside = Rect(left, rect.y, rect.width - initial.width, 2 * high)
    below = replace(rect, y=rect.y + 2 * high, height=rect.height - 2 * high)
    first, second, *rest = whole.lines
    return (
        replace(whole, lines=(initial.letter,), rect=letter, size=initial.size, leading=1.0),
        replace(whole, lines=(first[len(initial.letter) :], second), rect=beside),
        replace(whole, lines=tuple(rest), rect=below),
    )


def _shortened(words: str) -> str:
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"


def _on_page(picture: Picture, part: Rect) -> Rect:
    """A part of a picture, in fractions of it, in points of the page."""
    frame, crop = picture.frame, picture.crop
    across, down = frame.width / crop.width, frame.height / crop.height
    return Rect(
        frame.x + (part.x - crop.x) * across,
        frame.y + (part.y - crop.y) * down,
        part.width * across,
        part.height * down,
    )


def _guides(sheet: Sheet) -> list[DrawnShape]:
    return [
        RectShape("guides", sheet.bled, _BLEED),
        RectShape("guides", sheet.safe, _SAFE),
        RectShape("guides", sheet.cut, _TRIM),
    ]


def _note(words: str, x: float, y: float, color: str) -> Label:
    width = metrics(ANDIKA).width(words) * _NOTE
    return Label("notes", (words,), Rect(x, y, width, 1.2 * _NOTE), _NOTE, ANDIKA, color)


def _legend(right: float, top: float) -> list[DrawnShape]:
    """What the lines of a page mean, up to its right edge."""
    marks: list[DrawnShape] = []
    for words, ink in reversed(_LEGEND):
        label = _note(words, 0, top, ink.line or _INK)
        right -= label.rect.width
        marks.append(replace(label, rect=replace(label.rect, x=right)))
        middle = label.rect.centre().y
        marks.append(LineShape("notes", polyline(((right - 22, middle), (right - 5, middle))), ink))
        right -= 34
    return marks


def _moved(mark: DrawnShape, x: float, y: float) -> DrawnShape:
    """The same mark further right and down."""

    def rect(old: Rect) -> Rect:
        """A place, moved."""
        return replace(old, x=old.x + x, y=old.y + y)

    if isinstance(mark, Photo):
        return replace(mark, frame=rect(mark.frame))
    if isinstance(mark, RectShape | Label):
        return replace(mark, rect=rect(mark.rect))
    outline = tuple(
        step._replace(
            points=tuple(point._replace(x=point.x + x, y=point.y + y) for point in step.points)
        )
        for step in mark.outline
    )
    return replace(mark, outline=outline, clip=rect(mark.clip) if mark.clip else None)
