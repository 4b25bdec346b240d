"""A story and its pictures become a book: every leaf composed, every balloon in its place.

`bind` is geometry and words only; it opens no picture and knows no output format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from storyforge.book import compose, front, grid
from storyforge.book.binding import Binding
from storyforge.book.compose import Composition, Sheet, Subject, Words
from storyforge.book.leaf import Art, Balloon, Book, Leaf, Picture, Rect, TextBlock
from storyforge.book.lettering import PAGE_SIZES, SMALL, SMALL_SIZES, Stage, letter
from storyforge.errors import StoryForgeError
from storyforge.story import Page, Panel, Story

__all__ = ["Art", "Book", "bind"]

_STAGE_INSET = 8.0


def bind(story: Story, art: Mapping[str, Art], language: str | None = None) -> Book:
    """Compose the whole book, its texts in `language` (the story's own if None).

    Raises StoryForgeError, naming the page, where words do not fit, a font lacks a character, a
    picture is missing, or the page's kind does not suit its pictures; EnvironmentProblem if a font
    cannot be read.
    """
    binding = Binding.of(story, art, language)
    binding.check_pictures()
    leaves = front.matter(binding)
    for number, page in enumerate(story.pages, start=1):
        leaves.append(_story_leaf(binding, page, number, len(leaves) + 1))
    leaves += front.end_matter(binding, len(leaves))
    return Book(
        title=binding.title,
        author=binding.author,
        language=binding.language,
        direction="rtl" if binding.rtl else "ltr",
        writing=binding.writing,
        trim=binding.trim,
        faces=binding.faces_of(leaves),
        summary=binding.phrases.made_by,
        keywords=("AI-generated pictures", "trainedAlgorithmicMedia", "storyforge"),
        leaves=tuple(leaves),
    )


def _story_leaf(binding: Binding, page: Page, number: int, leaf_number: int) -> Leaf:
    sheet = binding.sheet(leaf_number)
    words = _words(binding, page, number)
    composition = _composed(binding, page, sheet, words, number)
    if composition is None:
        raise StoryForgeError(
            f"page {number}: the text does not fit, even at {compose.STORY_SIZES[-1]:g} points",
            hint="shorten it, share it over two pages, or choose another `kind` of page",
        )
    pictures = tuple(
        _picture(binding, panel, frame, composition, sheet, number)
        for panel, frame in zip(page.panels, composition.frames, strict=True)
    )
    return Leaf(
        number=leaf_number,
        kind="story",
        label=binding.phrases.pages.format(number=number),
        ground="paper",
        tone=pictures[0].art if pictures else None,
        pictures=pictures,
        texts=(composition.text,) if composition.text else (),
    )


def _words(binding: Binding, page: Page, number: int) -> Words | None:
    text = binding.say(page.text) if page.text else ""
    if not text.strip():
        return None
    return Words(text, binding.face_for(text, binding.text_face, f"page {number}"))


def _composed(
    binding: Binding, page: Page, sheet: Sheet, words: Words | None, number: int
) -> Composition | None:
    """The page's composition; None if its text is too long."""
    count = len(page.panels)
    _check_kind(page, words, number)
    if count == 0:
        return compose.words_alone(sheet, words)
    subjects = [binding.subject(panel) for panel in page.panels]
    if count == 1 and page.grid is None and page.kind != "grid":
        return compose.single(sheet, page.kind, subjects[0], words)
    shape = _grid_shape(page, number) if page.grid else None
    return grid.grid(sheet, subjects, words, shape)


def _check_kind(page: Page, words: Words | None, number: int) -> None:
    count = len(page.panels)
    if page.kind == "blank" and (count or words):
        raise StoryForgeError(
            f"page {number}: a `blank` page holds no panels and no text",
            hint="leave out `kind`, or what is on the page",
        )
    if page.kind in {"full-bleed", "text-beside-art"} and count != 1:
        raise StoryForgeError(
            f"page {number}: `{page.kind}` shows one picture, this page has {count}",
            hint="use `grid`, or leave out `kind`",
        )


def _grid_shape(page: Page, number: int) -> tuple[int, int]:
    rows, columns = (int(side) for side in (page.grid or "1x1").split("x"))
    if rows * columns < len(page.panels):
        raise StoryForgeError(
            f"page {number}: a grid of {page.grid} has no room for {len(page.panels)} pictures",
            hint="rows come first: `2x3` has two rows of three",
        )
    return rows, columns


def _picture(
    binding: Binding, panel: Panel, frame: Rect, composition: Composition, sheet: Sheet, number: int
) -> Picture:
    subject = binding.subject(panel)
    crop = compose.crop_to(frame, subject)
    art = binding.art[panel.id]
    picture = Picture(art, frame, crop, composition.corner, binding.alt(panel))
    if not panel.say:
        return picture
    says = binding.says(panel, frame, crop, f"page {number}, panel `{panel.id}`")
    stage = _stage(binding, subject, frame, crop, composition.text, sheet)
    balloons = letter(says, stage, PAGE_SIZES)
    if balloons is None:
        raise StoryForgeError(
            f"page {number}, panel `{panel.id}`: the balloons do not fit, even at "
            f"{PAGE_SIZES[-1]:g} points",
            hint="say less in this panel, or share it over two",
        )
    return replace(picture, balloons=balloons, small=_small(binding, panel, subject, number))


def _stage(
    binding: Binding,
    subject: Subject,
    frame: Rect,
    crop: Rect,
    text: TextBlock | None,
    sheet: Sheet,
) -> Stage:
    area = frame.inset(_STAGE_INSET).common(sheet.safe)
    plate = text.plate if text else None
    return Stage(
        area=area or frame,
        figures=compose.figures_in(frame, crop, subject.figures),
        taken=(plate,) if plate else (),
        rtl=binding.rtl,
    )


def _small(binding: Binding, panel: Panel, subject: Subject, number: int) -> tuple[Balloon, ...]:
    """The balloons again, large enough to read on a phone; none if they do not fit."""
    frame = Rect(0, 0, SMALL, SMALL / subject.aspect)
    whole = Rect(0, 0, 1, 1)
    says = binding.says(panel, frame, whole, f"page {number}, panel `{panel.id}`")
    figures = compose.figures_in(frame, whole, subject.figures)
    stage = Stage(frame.inset(5), figures, (), binding.rtl)
    return letter(says, stage, SMALL_SIZES) or ()
