"""What a printer takes instead of one file: the cover that wraps the book, and the pages inside it.

The cover is one wide page: back, spine and front, with bleed all round; round a hardcover's boards
it is larger by what is turned in. Dust jackets are not made.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from storyforge.book import back
from storyforge.book.binding import Binding, trim_of
from storyforge.book.case import Case
from storyforge.book.compose import moved
from storyforge.book.leaf import Book, Leaf, Picture, Rect, TextBlock
from storyforge.book.press import Press
from storyforge.book.typeface import metrics
from storyforge.book.unsettable import Unsettable
from storyforge.pictures import beside
from storyforge.story.story import Story
from storyforge.story.trims import POINTS_PER_INCH, Trim, spine_of

_SPINE_SIZES: Final = (16.0, 14.0, 12.0, 11.0, 10.0, 9.0, 8.0, 7.0, 6.0)
_SPINE_LINE: Final = 1.2
_SPINE_FREE: Final = 0.0625
"""Inches on either side of the words on a spine: folds are not exact."""


def inside(book: Book) -> Book:
    """The pages between the covers, from the title page, as many as can be printed: an even count.

    Odd pages still lie where they lay, on the right of a book read from left to right.
    """
    kept = [replace(leaf, number=leaf.number - 2) for leaf in book.leaves[2:-1]]
    if len(kept) % 2:
        label = book.leaves[1].label
        kept.append(Leaf(len(kept) + 1, "endpaper", label, "paper", None))
    return replace(book, leaves=tuple(kept))


def press_of(story: Story) -> Press | None:
    """How the printer wants the two files; None if the story does not say."""
    said = story.book.print
    if said.profile is None and not said.marks:
        return None
    profile = beside(story.folder, said.profile) if said.profile else None
    return Press(profile, said.colors == "cmyk", said.marks)


def check_spine(story: Story) -> None:
    """Raise StoryForgeError, before anything is made, where no cover can be: no paper is known."""
    spine_of(trim_of(story.book.trim), story.book.print.paper, story.book.print.caliper, _FEWEST)


_FEWEST: Final = 24
"""Pages for which the spine is tried."""


def wrap(book: Book, story: Story) -> Book:
    """The cover of the bound book as a book of one page.

    The spine is as thick as the paper of the pages inside; it bears words only from the page count
    on at which the printer allows them, and where letters of 6 points fit.

    Raises StoryForgeError where the paper's thickness is not known or words do not fit.
    """
    binding = Binding.of(story, {}, book.language)
    cover = book.leaves[0]
    pages = len(inside(book).leaves)
    spine = spine_of(binding.trim, story.book.print.paper, story.book.print.caliper, pages)
    trim = _opened(binding.trim, spine.width)
    case = Case.of(story, binding.trim)
    if case is not None:
        spine = replace(spine, width=spine.width + 2 * case.board)
    width, thick = binding.trim.width * POINTS_PER_INCH, spine.width * POINTS_PER_INCH
    at = 0.0 if binding.rtl else width + thick
    texts = [_shifted(text, at) for text in cover.texts]
    pictures = [_clipped(item, at, binding) for item in cover.pictures]
    behind, last = width + thick if binding.rtl else 0.0, book.leaves[-1]
    pictures += [_clipped(item, behind, binding, back=True) for item in last.pictures]
    texts += [_shifted(text, behind) for text in last.texts]
    if spine.worded:
        texts += _spine(binding, Rect(width, 0, thick, binding.trim.height * POINTS_PER_INCH))
    codes = back.barcode(binding, behind)
    leaf = replace(cover, pictures=tuple(pictures), texts=tuple(texts), codes=codes)
    if case is not None:
        leaf, trim = case.covered(leaf, thick), case.laid_flat(spine.width)
    return replace(book, trim=trim, leaves=(leaf,), faces=binding.faces_of((leaf,)))


def _opened(trim: Trim, spine: float) -> Trim:
    """The cover laid flat: two pages and a spine, bleeding on all sides."""
    return replace(
        trim,
        name=f"{trim.name}-cover",
        width=2 * trim.width + spine,
        inner_bleed=trim.bleed,
    )


def _shifted(text: TextBlock, by: float) -> TextBlock:
    plate = replace(text.plate, x=text.plate.x + by) if text.plate else None
    return replace(moved(text, text.rect.x + by, text.rect.y), plate=plate)


def _clipped(item: Picture, by: float, binding: Binding, *, back: bool = False) -> Picture:
    """A side's picture in its place, without what would run over the spine."""
    bled = binding.sheet(1).bled
    cut = binding.sheet(1).cut
    outer = -binding.trim.bleed * POINTS_PER_INCH
    on_left = binding.rtl != back
    left, right = (outer, cut.right) if on_left else (0.0, cut.right - outer)
    frame = item.frame.common(Rect(left, bled.y, right - left, bled.height))
    if frame is None:
        return replace(item, frame=replace(item.frame, x=item.frame.x + by))
    scale = item.crop.width / item.frame.width
    crop = replace(
        item.crop,
        x=item.crop.x + (frame.x - item.frame.x) * scale,
        width=frame.width * scale,
    )
    return replace(item, frame=replace(frame, x=frame.x + by), crop=crop)


def _spine(binding: Binding, spine: Rect) -> list[TextBlock]:
    """Title and author down the spine; nothing where no legible letters fit its thickness."""
    free = 2 * _SPINE_FREE * POINTS_PER_INCH
    sizes = [size for size in _SPINE_SIZES if size * _SPINE_LINE <= spine.width - free]
    length = spine.height - 2 * binding.trim.safe * POINTS_PER_INCH
    if not sizes:
        return []
    title = " ".join(binding.title.split())
    choices = [f"{title}  ·  {binding.author}", title] if binding.author else [title]
    for words in choices:
        face = binding.face_for(words, binding.title_face, "spine", ("title",))
        for size in sizes:
            width = metrics(face).width(words) * size
            if width <= length:
                middle = spine.centre()
                high = size * _SPINE_LINE
                rect = Rect(middle.x - length / 2, middle.y - high / 2, length, high)
                return [
                    TextBlock("spine", words, (words,), rect, size, _SPINE_LINE, face, tilt=90.0)
                ]
    message = "cover: the title does not fit on the spine"
    raise Unsettable(message, place=("title",), hint="make it shorter")
