"""A story and its pictures become a book: every leaf composed, every balloon in its place.

`bind` is geometry and words only; it opens no picture and knows no output format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from storyforge.book import compose, cover, front, grid, lives, spread
from storyforge.book.binding import Binding
from storyforge.book.colophon import spoken_in
from storyforge.book.compose import Composition, FramedPicture, RunningText, Sheet
from storyforge.book.folio import numbered
from storyforge.book.initial import initialled
from storyforge.book.leaf import Art, Book, Border, Corner, Leaf, Picture, Rect
from storyforge.book.own import made_by
from storyforge.book.panel import Setting, pictured
from storyforge.book.picture import changed
from storyforge.book.recording import Recording, recording
from storyforge.book.unsettable import Unheeded, Unprintable, Unsettable
from storyforge.errors import StoryForgeError
from storyforge.pictures import beside, picture_size
from storyforge.provenance.xmp import together
from storyforge.settings import Made
from storyforge.story.book_settings import FrameStyle
from storyforge.story.gridform import pattern_of, room_in
from storyforge.story.readalong import narration_of
from storyforge.story.story import Page, Panel, Story

__all__ = ["Art", "Book", "bind", "problems", "undrawn"]


Kept = MutableMapping[tuple[object, ...], Sequence[Leaf]]
"""Pages that were composed before, by all that decided about them."""


def bind(
    story: Story,
    art: Mapping[str, Art],
    language: str | None = None,
    kept: Kept | None = None,
    *,
    phones: bool = True,
) -> Book:
    """Compose the whole book, its texts in `language` (the story's own if None).

    kept    pages that need not be composed again; those that are new are added
    phones  whether balloons are set once more for small screens

    What a story's lint has seen to, such as that a page's kind suits its pictures, is not looked at
    again. Raises StoryForgeError, naming the page, where words do not fit, a font lacks a character
    or a picture is missing; EnvironmentProblem if a font cannot be read.
    """
    binding = Binding.of(story, art, language, phones=phones)
    binding.check_pictures()
    leaves: list[Leaf] = []
    for part in _parts(binding, kept):
        leaves += part(leaves)
    made = together([binding.art[panel.id].made for _, panel in story.panels()])
    return Book(
        title=binding.title,
        author=binding.author,
        language=binding.language,
        direction="rtl" if binding.rtl else "ltr",
        writing=binding.writing,
        trim=binding.trim,
        faces=binding.faces_of(leaves),
        notice=binding.phrases.notice(made),
        notice_in=spoken_in(binding.language),
        keywords=KEYWORDS[made],
        made=made,
        leaves=tuple(leaves),
        about=binding.about,
        published=binding.published,
    )


KEYWORDS: Final[dict[Made, tuple[str, ...]]] = {
    "model": ("AI-generated pictures", "trainedAlgorithmicMedia", "storyforge"),
    "hand": ("digitalCreation", "storyforge"),
    "retouched": (
        *("pictures partly AI-generated", "compositeWithTrainedAlgorithmicMedia", "storyforge"),
    ),
}
"""What a book's metadata say by who made its pictures."""

_UNDRAWN: Final = (256, 256)
"""Pixels of a picture whose size the story leaves to the base."""


def undrawn(story: Story) -> dict[str, Art]:
    """A picture of the right shape for every panel, which is never opened."""
    return {panel.id: _undrawn(story, panel) for _, panel in story.panels()}


def _undrawn(story: Story, panel: Panel) -> Art:
    if panel.picture is None:
        return Art(panel.id, story.path, *(panel.size or story.size or _UNDRAWN))
    file = beside(story.folder, panel.picture)
    return Art(panel.id, story.path, *picture_size(file), made_by(file, panel.made))


def problems(
    story: Story, art: Mapping[str, Art], language: str, kept: Kept | None = None
) -> list[Unsettable]:
    """Everything that `bind` would refuse or nobody would see, one after the other.

    Raises EnvironmentProblem if a font cannot be read.
    """
    binding = Binding.of(story, art, language, phones=False)
    found = _unprintable(binding)
    bad = {problem.place[:2] for problem in found}
    leaves: list[Leaf] = []
    for part in _parts(binding, kept):
        try:
            made = part(leaves)
            leaves += made
            found += [each for leaf in made for each in _unheeded(binding, leaf)]
        except Unsettable as exc:
            if exc.place[:2] not in bad:
                found.append(exc)
            leaves += [Leaf(len(leaves) + 1, "story", "", "paper", None)] * part.leaves
    return found


def _unprintable(binding: Binding) -> list[Unsettable]:
    """Every text for which a letter is missing."""
    found: list[Unsettable] = []

    def tried(face_of: Callable[[], object]) -> None:
        """Keep what a text's face cannot print."""
        try:
            face_of()
        except Unprintable as exc:
            found.append(exc)

    whole = Rect(0, 0, 1, 1)
    for number, page in enumerate(binding.story.pages, start=1):
        tried(partial(_words, binding, page, number))
        for panel in page.panels:
            where = f"page {number}, panel `{panel.id}`"
            for turn in binding.turns(panel):
                tried(partial(binding.said, panel, turn, whole, whole, where))
    return found


@dataclass(frozen=True, slots=True)
class _Part:
    """Some pages that follow each other, and how many there are."""

    leaves: int
    compose: Callable[[int], Sequence[Leaf]]

    def __call__(self, before: Sequence[Leaf]) -> Sequence[Leaf]:
        """Compose them, behind the pages that come before."""
        return self.compose(len(before) + 1)


def _parts(binding: Binding, kept: Kept | None = None) -> Iterator[_Part]:
    """The book from cover to cover, in pieces that can be composed alone."""
    around = None if kept is None else _around(binding)
    for composed in (cover.cover, front.endpaper, front.title_page, front.imprint):
        yield _Part(1, partial(composed, binding))
    for number, page in enumerate(binding.story.pages, start=1):
        leaves = 2 if page.kind == "spread" else 1
        made: Callable[[int], Sequence[Leaf]] = partial(_story_leaves, binding, page, number)
        if kept is not None:
            own = (around, number, page.model_dump_json(), _art_of(binding, page))
            made = partial(_remembered, kept, own, made)
        yield _Part(leaves, made)
    yield _Part(1, partial(lives.leaves, binding))
    yield _Part(1, partial(front.end_matter, binding))


def _around(binding: Binding) -> str:
    """All that decides about a page besides its own words and pictures."""
    layouts = {name: each.model_dump_json() for name, each in binding.story.layouts.items()}
    said = binding.story.model_dump_json(exclude={"pages", "concepts", "layouts"})
    return f"{binding.language} {binding.phones} {said} {layouts}"


def _art_of(binding: Binding, page: Page) -> tuple[tuple[Art, int], ...]:
    pictures = [binding.art[panel.id] for panel in page.panels]
    # The path of one that is not drawn is the story's own, which changes with every keystroke.
    return tuple((art, art.path != binding.story.path and changed(art)) for art in pictures)


def _remembered(
    kept: Kept,
    own: tuple[object, ...],
    composed: Callable[[int], Sequence[Leaf]],
    leaf_number: int,
) -> Sequence[Leaf]:
    key = (*own, leaf_number)
    if key not in kept:
        kept[key] = composed(leaf_number)
    return kept[key]


def _story_leaves(binding: Binding, page: Page, number: int, leaf_number: int) -> tuple[Leaf, ...]:
    first, *rest = _silent_leaves(binding, page, number, leaf_number)
    return (replace(first, narration=_narration(binding, number)), *rest)


def _narration(binding: Binding, number: int) -> Recording | None:
    """The page's words, read out, in this edition's language."""
    path = narration_of(binding.story, number, binding.language)
    if path is None:
        return None
    try:
        return recording(path)
    except StoryForgeError as exc:
        place = ("page", number, "narration")
        raise Unsettable(f"page {number}: {exc.message}", place=place, hint=exc.hint) from exc


def _silent_leaves(binding: Binding, page: Page, number: int, leaf_number: int) -> tuple[Leaf, ...]:
    words = _words(binding, page, number)
    if page.kind == "spread":
        return spread.leaves(binding, page.panels[0], words, number, leaf_number)
    sheet = binding.sheet(leaf_number)
    composition = _composed(binding, page, sheet, words, number) or (
        _composed(binding, page, sheet, replace(words, sizes=compose.SMALL_SIZES), number)
        if words
        else None
    )
    if composition is None:
        raise Unsettable(
            f"page {number}: the text does not fit, even at {compose.SMALL_SIZES[-1]:g} points",
            place=("page", number, "text"),
            hint="shorten it, share it over two pages, or choose another `kind` of page",
        )
    hosts = zip(_with_insets(page.panels), composition.frames, strict=True)
    pictures = tuple(
        picture
        for (host, insets), frame in hosts
        for picture in _pictures(binding, (host, *insets), frame, composition, sheet, number)
    )
    text = composition.text
    if text is not None and binding.story.book.drop_capitals:
        text = initialled(text, sheet.live, binding.language)
    leaf = Leaf(
        number=leaf_number,
        kind="story",
        label=binding.phrases.pages.format(number=number),
        ground="paper",
        tone=pictures[0].art if pictures else None,
        pictures=pictures,
        texts=(text,) if text else (),
    )
    return (numbered(binding, leaf, sheet),)


def _words(binding: Binding, page: Page, number: int) -> RunningText | None:
    text = binding.set(page.text) if page.text else ""
    if not text.strip():
        return None
    place = ("page", number, "text")
    face = binding.face_for(text, binding.text_face, f"page {number}", place)
    return binding.words(text, face, page)


def _composed(
    binding: Binding, page: Page, sheet: Sheet, words: RunningText | None, number: int
) -> Composition | None:
    """The page's composition; None if its text is too long."""
    subjects = [_subject(binding, *each) for each in _with_insets(page.panels)]
    count = len(subjects)
    if count == 0:
        return compose.words_alone(sheet, words)
    if page.kind == "strip":
        made = grid.strips(sheet, subjects, words, grid.GAP if page.gutter is None else page.gutter)
    elif count == 1 and page.grid is None and page.kind != "grid":
        made = compose.single(sheet, page.kind, subjects[0], words)
    else:
        made = _gridded(page, sheet, subjects, words, number)
    if made is None and words is None:
        raise Unsettable(
            f"page {number}: {count} pictures are too many for a page of this size",
            place=("page", number, "panels"),
            hint="share them over two pages, or choose a larger `book.trim`",
        )
    # Panels that touch have no round corners, between which the paper would show.
    return replace(made, corner="square") if made and page.gutter == 0 and count > 1 else made


def _with_insets(panels: Sequence[Panel]) -> list[tuple[Panel, list[Panel]]]:
    """Every panel that has a frame of its own, with those that lie over it."""
    hosts: list[tuple[Panel, list[Panel]]] = []
    for panel in panels:
        if panel.inset is None or not hosts:
            hosts.append((panel, []))
        else:
            hosts[-1][1].append(panel)
    return hosts


def _subject(binding: Binding, host: Panel, insets: Sequence[Panel]) -> FramedPicture:
    """What a panel's picture shows; words keep off where others lie over it."""
    subject = binding.subject(host)
    return replace(subject, taken=(*subject.taken, *(_inset(panel) for panel in insets)))


def _inset(panel: Panel) -> Rect:
    """Where a panel lies over another, in fractions of that one's picture."""
    box = panel.inset
    return Rect(box.x0, box.y0, box.width, box.height) if box else Rect(0, 0, 1, 1)


def _gridded(
    page: Page,
    sheet: Sheet,
    subjects: Sequence[FramedPicture],
    words: RunningText | None,
    number: int,
) -> Composition | None:
    """Pictures in the page's own grid, or in the one that shows most of them."""
    gutter = grid.GAP if page.gutter is None else page.gutter
    if page.grid is None:
        return grid.grid(sheet, subjects, words, None, gutter)
    room = room_in(page.grid)
    pattern = pattern_of(page.grid)
    if room < len(subjects) or (pattern is not None and room != len(subjects)):
        raise Unsettable(
            f"page {number}: a grid of {page.grid} has room for {room} pictures, not for "
            f"{len(subjects)}",
            place=("page", number, "grid"),
            hint="rows come first: `2x3` has two rows of three",
        )
    if pattern is not None:
        return grid.patterned(sheet, subjects, words, pattern, gutter)
    rows, columns = (int(side) for side in page.grid.split("x"))
    return grid.grid(sheet, subjects, words, (rows, columns), gutter)


def _pictures(
    binding: Binding,
    panels: Sequence[Panel],
    frame: Rect,
    composition: Composition,
    sheet: Sheet,
    number: int,
) -> Iterator[Picture]:
    """A panel's picture in its frame, then those of the panels that lie over it."""
    host, *insets = panels
    subject, text = _subject(binding, host, insets), composition.text
    frame = compose.contained(sheet, frame, subject)
    crop = compose.crop_to(frame, subject)
    plates = (text.plate,) if text and text.plate else ()
    over = [_over(panel, frame, crop, number) for panel in insets]
    touching = composition.corner == "square" and len(composition.frames) > 1
    corner, border = _edge(_style(binding, host), sheet, frame, touching=touching)
    setting = Setting(
        frame=frame,
        crop=crop,
        corner=corner,
        safe=sheet.safe,
        taken=(*plates, *over),
        where=f"page {number}, panel `{host.id}`",
        border=border,
    )
    yield pictured(binding, host, subject, setting, binding.alt(host))
    for panel, place in zip(insets, over, strict=True):
        shown = binding.subject(panel)
        place = compose.contained(sheet, place, shown)
        where = f"page {number}, panel `{panel.id}`"
        crop = compose.crop_to(place, shown)
        style = _style(binding, panel)
        inlaid = Setting(
            frame=place,
            crop=crop,
            corner="round" if style == "round" else "square",
            safe=sheet.safe,
            taken=plates,
            where=where,
            # What lies over a picture is told from it by a rim, where it has no line.
            border="lined" if style == "line" else "rimmed",
        )
        yield pictured(binding, panel, shown, inlaid, binding.alt(panel))


def _style(binding: Binding, panel: Panel) -> FrameStyle:
    """How a picture's frame ends, as its panel or the book says."""
    return panel.frame or binding.story.book.frame


def _edge(style: FrameStyle, sheet: Sheet, frame: Rect, *, touching: bool) -> tuple[Corner, Border]:
    """How a picture ends that lies over no other: one that fills the page just ends, and has no
    round corners where it runs off the page or touches others."""
    if _fills(sheet, frame):
        return "square", "none"
    if style == "line":
        return "square", "lined"
    inside = frame.covered(sheet.cut.inset(1)) > 1 - _SLIVER
    return "round" if style == "round" and inside and not touching else "square", "none"


def _fills(sheet: Sheet, frame: Rect) -> bool:
    """Whether nothing of the page shows beside a frame."""
    return sheet.cut.covered(frame) > 1 - _SLIVER


def _unheeded(binding: Binding, leaf: Leaf) -> Iterator[Unheeded]:
    """What a page's panels say of frames that nobody will see."""
    said = {panel.id: panel for _, panel in binding.story.panels() if panel.frame is not None}
    sheet = binding.sheet(leaf.number)
    for item in leaf.pictures:
        panel = said.get(item.art.panel)
        if leaf.kind == "story" and panel and panel.inset is None and _fills(sheet, item.frame):
            yield Unheeded(
                "`frame` means nothing in a picture that fills its page",
                place=("panel", panel.id, "frame"),
                hint="take it out",
            )


_SLIVER: Final = 1e-4
"""A share of a page or picture that is rounded away."""

_SMALLEST_INSET: Final = 48.0
"""Points a side; in less, nothing is seen."""


def _over(panel: Panel, frame: Rect, crop: Rect, number: int) -> Rect:
    """Where a panel lies on the page, over another's frame."""
    place = compose.on_page(_inset(panel), frame, crop)
    if place is None or min(place.width, place.height) < _SMALLEST_INSET:
        raise Unsettable(
            f"page {number}, panel `{panel.id}`: what shows of its `inset` is too small",
            place=("panel", panel.id, "inset"),
            hint="make it larger, or move it towards the middle of the picture that it lies over",
        )
    return place
