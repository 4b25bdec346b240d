"""The pages before and after the story: cover, endpapers, title page, colophon, back cover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from storyforge.book import back, compose
from storyforge.book.binding import Binding
from storyforge.book.colophon import colophon, phrases, spoken_in
from storyforge.book.compose import (
    FramedPicture,
    RunningText,
    block,
    moved,
)
from storyforge.book.leaf import Art, Leaf, Picture, Rect, Role, TextBlock
from storyforge.book.typeface import metrics
from storyforge.book.unsettable import StoryPlace, Unsettable
from storyforge.errors import StoryForgeError
from storyforge.story.lint.pages import ON_IMPRINT
from storyforge.story.story import Panel

_TITLE_SIZES: Final = (52.0, 46.0, 40.0, 36.0, 32.0, 28.0, 24.0, 22.0, 20.0, 18.0)
_SMALL_SIZES: Final = (20.0, 18.0, 16.0, 14.0, 12.0, 11.0)
_COLOPHON_SIZES: Final = (11.5, 11.0, 10.5, 10.0, 9.5, 9.0, 8.5, 8.0)
_BELOW_HEADING: Final = 10.0
"""Points between the colophon's heading and its words."""

_PLACES: Final[Mapping[Role, StoryPlace]] = {
    "title": ("title",),
    "subtitle": ("book", "cover", "subtitle"),
    "author": ("author",),
    "heading": ("book", "colophon"),
}
"""Where the story says what stands in these."""

_QUOTED: Final = 60
"""Letters of a text that a message quotes."""

_TIGHT: Final = 1.08
_CLOSEST: Final = 0.6
"""A portrait shows at least this share of the picture; closer, it would blur."""

_DEDICATION_SIZES: Final = (16.0, 15.0, 14.0, 13.0, 12.0, 11.0)
_DEDICATION_SHARE: Final = 0.5
"""Of the title page's height that a dedication may take."""

_DEDICATION_GAP: Final = 24.0
_SMALLEST_VIGNETTE: Final = 90.0
"""Points; where less is left beside a long dedication, there is no picture."""

_VIGNETTE: Final = 0.5
"""The round picture on the title page, as a share of the page's shorter side."""


def endpaper(binding: Binding, number: int) -> list[Leaf]:
    """The page behind the cover."""
    return [_endpaper(binding, number, cover_panel(binding))]


def end_matter(binding: Binding, number: int) -> list[Leaf]:
    """The colophon if wanted, then as many endpapers as put the back cover on a left page."""
    panel = cover_panel(binding)
    leaves: list[Leaf] = []
    if binding.story.book.colophon:
        leaves += _colophon(binding, number, panel)
    if (number - 1 + len(leaves)) % 2 == 0:
        leaves.append(_endpaper(binding, number + len(leaves), panel))
    leaf = _endpaper(binding, number + len(leaves), panel)
    label = binding.phrases.back
    words, codes = tuple(back.blurb(binding)), back.barcode(binding)
    pictures = back.picture(binding, leaf.number)
    leaf = replace(leaf, kind="back", label=label, texts=words, codes=codes)
    return [*leaves, replace(leaf, pictures=pictures, tone=_tone(pictures, leaf))]


def _tone(pictures: Sequence[Picture], leaf: Leaf) -> Art | None:
    """The picture that the back takes its colours from: its own, if it has one."""
    return pictures[0].art if pictures else leaf.tone


def imprint(binding: Binding, number: int) -> list[Leaf]:
    """The page behind the title: edition, publisher, rights and numbers; none if nothing is said.

    Raises Unsettable where the words do not fit.
    """
    said = binding.story.book.published
    if not any(getattr(said, key) for key in ON_IMPRINT):
        return []
    lines = [binding.title]
    lines += [binding.author] if binding.author else []
    lines += ["", *(binding.set(text) for text in (said.edition, said.publisher) if text)]
    lines += ["", binding.set(said.rights)] if said.rights else []
    if said.isbn:
        lines += ["", f"ISBN\u00a0{said.isbn}"]
    if said.isbn_ebook:
        lines += [f"ISBN\u00a0{said.isbn_ebook} (EPUB)"]
    lines += ["", binding.set(said.notes)] if said.notes else []
    text = "\n".join(lines)
    place = ("book", "published")
    face = binding.face_for(text, binding.text_face, "imprint", place)
    live = binding.sheet(number).live
    room = live.inset(0.1 * live.width, 0)
    made = block(RunningText(text, face, binding.language), "colophon", room, _COLOPHON_SIZES)
    if made is None:
        raise Unsettable(
            f"imprint: the text does not fit, even at {_COLOPHON_SIZES[-1]:g} points",
            place=place,
            hint="shorten what `book.published` says",
        )
    words = replace(moved(made, room.x, live.bottom - made.rect.height), align="start")
    panel = cover_panel(binding)
    tone = binding.art[panel.id] if panel else None
    return [Leaf(number, "imprint", binding.phrases.imprint, "paper", tone, (), (words,))]


def cover_panel(binding: Binding) -> Panel | None:
    """The panel whose picture the cover shows: the one named, or the first."""
    settings = binding.story.book.cover
    panels = [panel for _, panel in binding.story.panels()]
    wanted = settings.panel if settings else None
    if wanted is None:
        return panels[0] if panels else None
    named = [panel for panel in panels if panel.id == wanted]
    if not named:
        raise StoryForgeError(f"cover: no panel has the id `{wanted}`")
    return named[0]


def fitted(
    binding: Binding,
    text: str,
    role: Role,
    room: Rect,
    sizes: Sequence[float],
    where: str = "cover",
) -> TextBlock:
    """Display type as large as its room allows; Unsettable if the smallest size is too large."""
    face = binding.face_for(text, binding.title_face, where, _PLACES[role])
    made = block(RunningText(text, face, binding.language), role, room, sizes, _TIGHT)
    if made is None:
        short = text if len(text) <= _QUOTED else f"{text[: _QUOTED - 1]}…"
        message = f"{where}: `{short}` does not fit, even at {sizes[-1]:g} points"
        raise Unsettable(message, place=_PLACES[role], hint="make it shorter")
    return made


def _endpaper(binding: Binding, number: int, panel: Panel | None) -> Leaf:
    tone = binding.art[panel.id] if panel else None
    return Leaf(number, "endpaper", binding.phrases.endpaper, "deep", tone)


def title_page(binding: Binding, number: int) -> list[Leaf]:
    """The title page, which lies on the right."""
    return [_title_page(binding, cover_panel(binding), number)]


def _title_page(binding: Binding, panel: Panel | None, number: int) -> Leaf:
    """A round picture, title and author, and the dedication at the foot."""
    live = binding.sheet(number).live
    room = replace(live, height=0.4 * live.height)
    blocks = [fitted(binding, binding.title, "title", room, _TITLE_SIZES, "title page")]
    if binding.author:
        author = fitted(binding, binding.author, "author", room, _SMALL_SIZES, "title page")
        blocks.append(author)
    dedication = _dedication(binding, live)
    foot = dedication[0].rect.y - _DEDICATION_GAP if dedication else live.bottom
    words = sum(text.rect.height for text in blocks) + 12 * (len(blocks) - 1)
    free = foot - live.y - words - 28
    side = min(_VIGNETTE * min(live.width, live.height), free) if panel else 0.0
    side = side if side >= _SMALLEST_VIGNETTE else 0.0
    above = side + 28 if side else 0.0
    y = live.y + max(0.0, min((live.height - above - words) * 0.42, foot - live.y - above - words))
    pictures: tuple[Picture, ...] = ()
    if panel is not None and side:
        frame = Rect(live.centre().x - side / 2, y, side, side)
        subject = binding.subject(panel)
        art = binding.art[panel.id]
        pictures = (Picture(art, frame, _portrait(subject), "circle", None),)
    y += above
    texts: list[TextBlock] = []
    for text in blocks:
        texts.append(moved(text, live.x, y))
        y += text.rect.height + 12
    tone = binding.art[panel.id] if panel else None
    label = binding.phrases.title_page
    return Leaf(number, "title", label, "paper", tone, pictures, (*texts, *dedication))


def _portrait(subject: FramedPicture) -> Rect:
    """The part of a picture, square on the page, round the first who has a face."""
    faces = [figure for figure in subject.figures if figure.alive]
    body = faces[0].body if faces else Rect(0, 0, 1, 1)
    height = min(1.0, subject.aspect, max(_CLOSEST, 1.1 * body.height))
    width = height / subject.aspect
    x, y = body.centre().x - width / 2, body.centre().y - height / 2
    return Rect(min(max(x, 0.0), 1 - width), min(max(y, 0.0), 1 - height), width, height)


def _dedication(binding: Binding, live: Rect) -> list[TextBlock]:
    """The dedication at the foot of the page; it may take half of it."""
    dedication = binding.story.book.dedication
    if dedication is None:
        return []
    text = binding.set(dedication)
    face = binding.face_for(text, binding.text_face, "dedication", ("book", "dedication"))
    room = replace(live, height=_DEDICATION_SHARE * live.height).inset(0.12 * live.width, 0)
    made = block(RunningText(text, face, binding.language), "dedication", room, _DEDICATION_SIZES)
    if made is None:
        raise Unsettable(
            f"dedication: the text does not fit, even at {_DEDICATION_SIZES[-1]:g} points",
            place=("book", "dedication"),
            hint="shorten it",
        )
    return [moved(made, made.rect.x, live.bottom - made.rect.height)]


def _colophon(binding: Binding, number: int, panel: Panel | None) -> list[Leaf]:
    """On one page at the foot if it fits in any size, else from the top, over as many as it takes.

    Raises Unsettable where a single line of it fills more than a page.
    """
    live = binding.sheet(number).live
    faces = tuple(dict.fromkeys((binding.text_face, binding.title_face)))
    said_in = spoken_in(binding.language)
    if metrics(binding.text_face).missing(phrases(said_in).made_by):
        said_in = "en"  # the story may not use the letters of its language; these words may wait
    drawn = {panel.id: binding.art[panel.id].made for _, panel in binding.story.panels()}
    text = colophon(binding.story, said_in, faces, drawn)
    face = binding.face_for(text, binding.text_face, "colophon", ("book", "colophon"))
    running = RunningText(text, face, binding.language)
    room = live.inset(0.1 * live.width, 0)
    heading = fitted(
        binding, phrases(said_in).heading, "heading", room, (18.0, 16.0, 14.0), "colophon"
    )
    below = replace(room, height=live.height - heading.rect.height - _BELOW_HEADING)
    whole = block(running, "colophon", below, _COLOPHON_SIZES, compose.STORY_LEADING)
    parts = [whole] if whole else _flowed(running, below, room)
    foreign = None if binding.language.split("-")[0] == said_in else said_in
    tone = binding.art[panel.id] if panel else None
    leaves = []
    for page, part in enumerate(parts, start=number):
        live = binding.sheet(page).live
        x, y = live.inset(0.1 * live.width, 0).x, live.y
        texts = []
        if page == number:
            y = live.bottom - part.rect.height if whole else live.bottom - below.height
            texts = [moved(heading, x, y - _BELOW_HEADING - heading.rect.height)]
        texts.append(moved(part, x, y))
        said = tuple(replace(text, align="start", language=foreign) for text in texts)
        label = binding.phrases.heading
        leaves.append(Leaf(page, "colophon", label, "paper", tone, (), said))
    return leaves


def _flowed(text: RunningText, first: Rect, others: Rect) -> list[TextBlock]:
    """A text over several pages in the smallest size, each with as many lines as it takes."""
    lines, parts = text.text.split("\n"), list[TextBlock]()
    size, leading = _COLOPHON_SIZES[-1:], compose.STORY_LEADING
    while lines:
        room = others if parts else first
        # Each page holds one line at least and all at most: halve what lies between.
        least, most, made = 0, len(lines), None
        while least < most:
            count = (least + most + 1) // 2
            some = replace(text, text="\n".join(lines[:count]))
            tried = block(some, "colophon", room, size, leading)
            least, most, made = (count, most, tried) if tried else (least, count - 1, made)
        if made is None:
            raise Unsettable(
                "colophon: one of its lines does not fit on a page",
                place=("book", "colophon"),
                hint="shorten concept authors and licences, or set `book.colophon: false`",
            )
        parts.append(made)
        lines = lines[least:]
        while lines and not lines[0]:
            lines.pop(0)
    return parts
