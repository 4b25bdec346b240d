"""The pages before and after the story: cover, endpapers, title page, colophon, back cover."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from storyforge.book import compose
from storyforge.book.binding import Binding
from storyforge.book.colophon import colophon
from storyforge.book.compose import Words, block, crop_to, figures_in, hidden, moved
from storyforge.book.leaf import Leaf, Picture, Rect, Role, TextBlock
from storyforge.book.typeface import COMIC_NEUE_BOLD, metrics
from storyforge.errors import StoryForgeError
from storyforge.story import Panel

_COVER_SIZES: Final = (76.0, 70.0, 64.0, 58.0, 52.0, 46.0, 40.0, 36.0, 32.0, 28.0, 24.0)
_TITLE_SIZES: Final = _COVER_SIZES[4:]
_SMALL_SIZES: Final = (20.0, 18.0, 16.0, 14.0, 12.0, 11.0)
_COLOPHON_SIZES: Final = (11.5, 11.0, 10.5, 10.0, 9.5, 9.0, 8.5, 8.0)
_TIGHT: Final = 1.08
_VIGNETTE: Final = 0.42
"""The round picture on the title page, as a share of the page's shorter side."""


def matter(binding: Binding) -> list[Leaf]:
    """The cover, an endpaper and the title page, which lies on the right."""
    panel = _cover_panel(binding)
    return [_cover(binding, panel), _endpaper(binding, 2, panel), _title_page(binding, panel)]


def end_matter(binding: Binding, before: int) -> list[Leaf]:
    """The colophon if wanted, then as many endpapers as put the back cover on a left page."""
    panel = _cover_panel(binding)
    leaves: list[Leaf] = []
    if binding.story.book.colophon:
        leaves.append(_colophon(binding, before + 1, panel))
    if (before + len(leaves)) % 2 == 0:
        leaves.append(_endpaper(binding, before + len(leaves) + 1, panel))
    back = _endpaper(binding, before + len(leaves) + 1, panel)
    return [*leaves, replace(back, kind="back", label=binding.phrases.back)]


def _cover_panel(binding: Binding) -> Panel | None:
    settings = binding.story.book.cover
    panels = [panel for _, panel in binding.story.panels()]
    wanted = settings.panel if settings else None
    if wanted is None:
        return panels[0] if panels else None
    named = [panel for panel in panels if panel.id == wanted]
    if not named:
        raise StoryForgeError(f"cover: no panel has the id `{wanted}`")
    return named[0]


def _fitted(
    binding: Binding, text: str, role: Role, room: Rect, sizes: tuple[float, ...], where: str
) -> TextBlock:
    """A line or two of display type; StoryForgeError if even the smallest size is too large."""
    face = binding.face_for(text, COMIC_NEUE_BOLD, where)
    made = block(Words(text, face), role, room, sizes, _TIGHT)
    if made is None:
        raise StoryForgeError(f"{where}: `{text}` does not fit", hint="make it shorter")
    return made


def _cover(binding: Binding, panel: Panel | None) -> Leaf:
    sheet = binding.sheet(1)
    leaf = Leaf(1, "cover", binding.phrases.cover, "deep", None)
    safe = sheet.safe
    if panel is None:
        title = _cover_title(binding, safe)
        shift = safe.centre().y - _height(title) / 2 - safe.y
        return replace(leaf, texts=(*_lower(title, shift), *_cover_author(binding, safe)))
    subject = binding.subject(panel)
    crop = crop_to(sheet.bled, subject)
    art = binding.art[panel.id]
    picture = Picture(art, sheet.bled, crop, "square", binding.alt(panel))
    author = _cover_author(binding, safe)
    title = _cover_title(binding, safe)
    figures = figures_in(sheet.bled, crop, subject.figures)
    floor = (author[0].plate or author[0].rect).y - 14 if author else safe.bottom
    low = _lower(title, floor - _height(title) - safe.y)
    high = _lower(title, 8)
    hides = {id(texts): max(hidden(figures, text.rect) for text in texts) for texts in (high, low)}
    best = low if hides[id(low)] + 0.1 < hides[id(high)] else high
    return replace(leaf, tone=art, pictures=(picture,), texts=(*best, *author))


def _cover_title(binding: Binding, safe: Rect) -> tuple[TextBlock, ...]:
    room = replace(safe, height=0.34 * safe.height)
    title = _fitted(binding, binding.title, "title", room, _COVER_SIZES, "cover")
    settings = binding.story.book.cover
    if settings is None or settings.subtitle is None:
        return (title,)
    words = binding.say(settings.subtitle)
    sizes = tuple(size for size in (28.0, 26.0, 24.0, 22.0, *_SMALL_SIZES) if size < title.size)
    below = Rect(safe.x, title.rect.bottom + 6, safe.width, 0.14 * safe.height)
    return title, _fitted(binding, words, "subtitle", below, sizes, "cover")


def _height(texts: tuple[TextBlock, ...]) -> float:
    return texts[-1].rect.bottom - texts[0].rect.y


def _lower(texts: tuple[TextBlock, ...], by: float) -> tuple[TextBlock, ...]:
    return tuple(moved(text, text.rect.x, text.rect.y + by) for text in texts)


def _cover_author(binding: Binding, safe: Rect) -> tuple[TextBlock, ...]:
    """The author on a plate of its own width, at the foot of the cover."""
    if not binding.author:
        return ()
    room = safe.inset(24, 0)
    text = _fitted(binding, binding.author, "author", room, (22.0, *_SMALL_SIZES), "cover")
    text = moved(text, text.rect.x, safe.bottom - 8 - text.rect.height)
    width = max(metrics(text.face).width(line) for line in text.lines) * text.size
    plate = Rect(safe.centre().x - width / 2, text.rect.y, width, text.rect.height)
    return (replace(text, plate=plate.inset(-18, -7)),)


def _endpaper(binding: Binding, number: int, panel: Panel | None) -> Leaf:
    tone = binding.art[panel.id] if panel else None
    return Leaf(number, "endpaper", binding.phrases.endpaper, "deep", tone)


def _title_page(binding: Binding, panel: Panel | None) -> Leaf:
    sheet = binding.sheet(3)
    live = sheet.live
    room = replace(live, height=0.3 * live.height)
    blocks = [_fitted(binding, binding.title, "title", room, _TITLE_SIZES, "title page")]
    if binding.author:
        author = _fitted(binding, binding.author, "author", room, _SMALL_SIZES, "title page")
        blocks.append(author)
    side = _VIGNETTE * min(live.width, live.height) if panel else 0.0
    total = side + 28 + sum(text.rect.height for text in blocks) + 12 * (len(blocks) - 1)
    y = live.y + (live.height - total) * 0.42
    pictures: tuple[Picture, ...] = ()
    if panel is not None:
        frame = Rect(live.centre().x - side / 2, y, side, side)
        subject = binding.subject(panel)
        art = binding.art[panel.id]
        pictures = (Picture(art, frame, crop_to(frame, subject), "circle", None),)
    y += side + 28
    texts: list[TextBlock] = []
    for text in blocks:
        texts.append(moved(text, live.x, y))
        y += text.rect.height + 12
    texts += _dedication(binding, live, y)
    tone = binding.art[panel.id] if panel else None
    label = binding.phrases.title_page
    return Leaf(3, "title", label, "paper", tone, pictures, tuple(texts))


def _dedication(binding: Binding, live: Rect, top: float) -> list[TextBlock]:
    dedication = binding.story.book.dedication
    if dedication is None:
        return []
    text = binding.say(dedication)
    face = binding.face_for(text, binding.text_face, "dedication")
    room = Rect(live.x, top, live.width, live.bottom - top).inset(0.12 * live.width, 0)
    made = block(Words(text, face), "dedication", room, _SMALL_SIZES[2:])
    if made is None:
        raise StoryForgeError("dedication: the text does not fit", hint="shorten it")
    return [moved(made, made.rect.x, live.bottom - made.rect.height)]


def _colophon(binding: Binding, number: int, panel: Panel | None) -> Leaf:
    live = binding.sheet(number).live
    faces = (binding.text_face, COMIC_NEUE_BOLD)
    text = colophon(binding.story, binding.language, faces)
    face = binding.face_for(text, binding.text_face, "colophon")
    room = live.inset(0.1 * live.width, 0)
    heading = _fitted(
        binding, binding.phrases.heading, "heading", room, (18.0, 16.0, 14.0), "colophon"
    )
    room = replace(room, height=live.height - heading.rect.height - 10)
    made = block(Words(text, face), "colophon", room, _COLOPHON_SIZES, compose.STORY_LEADING)
    if made is None:
        raise StoryForgeError(
            "colophon: the text does not fit on one page",
            hint="shorten concept authors and licences, or set `book.colophon: false`",
        )
    y = live.bottom - made.rect.height
    texts = (
        replace(moved(heading, room.x, y - 10 - heading.rect.height), align="start"),
        replace(moved(made, room.x, y), align="start"),
    )
    tone = binding.art[panel.id] if panel else None
    label = binding.phrases.heading
    return Leaf(number, "colophon", label, "paper", tone, (), texts)
