"""The page about those who made the book: a portrait, a name and a few sentences for each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from storyforge.book.binding import Binding
from storyforge.book.compose import RunningText, block, moved
from storyforge.book.front import cover_panel
from storyforge.book.leaf import Art, Leaf, Picture, Rect, TextBlock
from storyforge.book.own import made_by
from storyforge.book.unsettable import Unsettable
from storyforge.pictures import picture_size
from storyforge.story.book_settings import Person

_NAME_SIZES: Final = (20.0, 18.0, 16.0, 14.0)
_LIFE_SIZES: Final = (14.0, 13.0, 12.0, 11.0)
_PORTRAIT: Final = 110.0
"""Points across a portrait."""

_GAP: Final = 22.0
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
    name, life = binding.set(person.name), binding.set(person.life)
    aside = _PORTRAIT + _GAP if person.picture else 0.0
    beside = Rect(room.x + (0 if binding.writing == "rtl" else aside), room.y, 0, room.height)
    beside = replace(beside, width=room.width - aside)
    face = binding.face_for(name, binding.title_face, "lives", place)
    head = block(RunningText(name, face, binding.language), "heading", beside, _NAME_SIZES, 1.2)
    below = replace(beside, height=beside.height - (head.rect.height + 4 if head else 0))
    face = binding.face_for(life, binding.text_face, "lives", place)
    body = block(
        RunningText(life, face, binding.language), "colophon", below, _LIFE_SIZES, _LEADING
    )
    if head is None or body is None:
        message = f"the life of {name[:40]} does not fit on its page"
        raise Unsettable(message, place=place, hint="shorten it")
    body = moved(body, beside.x, beside.y + head.rect.height + 4)
    words = [replace(head, align="start"), replace(body, align="start")]
    if person.picture is None:
        return [], words
    file = binding.story.folder / Path(person.picture).expanduser()
    width, height = picture_size(file)
    art = Art(f"portrait {index + 1}", file, width, height, made_by(file, None))
    side = min(width, height)
    crop = Rect((1 - side / width) / 2, (1 - side / height) / 2, side / width, side / height)
    x = room.right - _PORTRAIT if binding.writing == "rtl" else room.x
    return [Picture(art, Rect(x, room.y, _PORTRAIT, _PORTRAIT), crop, "circle", name)], words


def _lower_picture(item: Picture, by: float) -> Picture:
    return replace(item, frame=replace(item.frame, y=item.frame.y + by))
