"""The page about those who made the book: a portrait, a name and a few sentences for each."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from storyforge.book.binding import Binding
from storyforge.book.compose import RunningText, block, moved
from storyforge.book.front import cover_panel
from storyforge.book.leaf import Art, Leaf, Picture, Rect, TextBlock
from storyforge.book.own import made_by
from storyforge.book.unsettable import Unsettable
from storyforge.pictures import beside, picture_size
from storyforge.story.book_settings import Person

_NAME_SIZES: Final = (20.0, 18.0, 16.0, 14.0)
_LIFE_SIZES: Final = (14.0, 13.0, 12.0, 11.0)
_PORTRAIT: Final = 110.0
"""Points across a portrait, where there is room."""

_SMALLEST: Final = 36.0
"""Points; a smaller portrait shows nobody."""

_PORTRAIT_SHARE: Final = 0.4
"""Of the page's width that a portrait may take."""

_GAP: Final = 22.0
_BENEATH: Final = 4.0
"""Points between a name and the life beneath it."""

_LEADING: Final = 1.42


def leaves(binding: Binding, number: int) -> list[Leaf]:
    """The page, if the story tells of anybody.

    Raises Unsettable where the words do not fit.
    """
    people = binding.story.book.people
    if not people:
        return []
    live = binding.sheet(number).live
    room = replace(live, height=(live.height - _GAP * (len(people) - 1)) / len(people))
    pictures: list[Picture] = []
    texts: list[TextBlock] = []
    y = live.y
    for index, person in enumerate(people):
        portrait, words = _told(binding, person, index, replace(room, y=y))
        pictures += portrait
        texts += words
        low = [text.rect.bottom for text in words] + [item.frame.bottom for item in portrait]
        y = max(low) + _GAP
    down = (live.bottom - (y - _GAP)) * 0.4
    panel = cover_panel(binding)
    return [
        Leaf(
            number=number,
            kind="lives",
            label=binding.phrases.lives,
            ground="paper",
            tone=binding.art[panel.id] if panel else None,
            pictures=tuple(_lower_picture(item, down) for item in pictures),
            texts=tuple(moved(text, text.rect.x, text.rect.y + down) for text in texts),
        )
    ]


def _told(
    binding: Binding, person: Person, index: int, room: Rect
) -> tuple[list[Picture], list[TextBlock]]:
    """One of them in the upper part of a room: the portrait where reading begins, words beside."""
    place = ("book", "people", index)
    name = binding.set(person.name)
    across = min(_PORTRAIT, room.height, _PORTRAIT_SHARE * room.width)
    if person.picture and across < _SMALLEST:
        message = f"there is no room for the portrait of {name[:40]} on the page about the authors"
        hint = "take a larger `book.trim`, fewer people, or leave the pictures out"
        raise Unsettable(message, place=place, hint=hint)
    aside = across + _GAP if person.picture else 0.0
    left = room.x + (0 if binding.writing == "rtl" else aside)
    words = _words(binding, person, replace(room, x=left, width=room.width - aside), place)
    if person.picture is None:
        return [], words
    file = beside(binding.story.folder, person.picture)
    width, height = picture_size(file)
    art = Art(f"portrait {index + 1}", file, width, height, made_by(file, None))
    side = min(width, height)
    crop = Rect((1 - side / width) / 2, (1 - side / height) / 2, side / width, side / height)
    x = room.right - across if binding.writing == "rtl" else room.x
    return [Picture(art, Rect(x, room.y, across, across), crop, "circle", name)], words


def _words(
    binding: Binding, person: Person, room: Rect, place: tuple[str | int, ...]
) -> list[TextBlock]:
    """The name, and the life beneath it; a long life makes the name smaller."""
    name, life = binding.set(person.name), binding.set(person.life)
    face = binding.face_for(name, binding.title_face, "lives", place)
    heading = RunningText(name, face, binding.language)
    face = binding.face_for(life, binding.text_face, "lives", place)
    running = RunningText(life, face, binding.language)
    for size in _NAME_SIZES:
        head = block(heading, "heading", room, (size,), 1.2)
        if head is None:
            continue
        below = replace(room, height=room.height - head.rect.height - _BENEATH)
        body = block(running, "colophon", below, _LIFE_SIZES, _LEADING)
        if body is not None:
            body = moved(body, room.x, room.y + head.rect.height + _BENEATH)
            return [replace(head, align="start"), replace(body, align="start")]
    message = f"the life of {name[:40]} does not fit on its page"
    raise Unsettable(message, place=place, hint="shorten it")


def _lower_picture(item: Picture, by: float) -> Picture:
    return replace(item, frame=replace(item.frame, y=item.frame.y + by))
