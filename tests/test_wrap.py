"""What a printer takes: the wrap cover with its spine, the pages inside, and their boxes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pikepdf
import pytest
from bookmaking import placeholders, written

from storyforge.book.leaf import Book
from storyforge.book.page import bind
from storyforge.book.pdf import write_pdf
from storyforge.book.wrap import inside, wrap
from storyforge.errors import StoryForgeError
from storyforge.plan.plan import Order, base_of, draw_up
from storyforge.project.project import Project
from storyforge.store import Store
from storyforge.story.story import Story
from storyforge.story.trims import PAPERS, TRIMS, spine_of

STORY = """\
storyforge: 1
title: The Fox and the Lantern
author: A. Author
characters: {pip: concepts/pip}
book:
  trim: TRIM
  cover: {blurb: A fox finds a lantern. The lantern has lost its star.}
  print: PRINT
pages:
  - text: One.
    panels: [{id: one, regions: {a: {concept: pip, at: centre}}, alt: One.}]
"""


def story(folder: Path, *, pages: int = 1, trim: str = "kdp-8.5x8.5", made: str = "{}") -> Story:
    text = STORY.replace("TRIM", trim).replace("PRINT", made) + "  - text: More.\n" * (pages - 1)
    return written(folder, text)


def bound(folder: Path, made: Story) -> Book:
    return bind(made, placeholders(made, folder))


def boxes(path: Path) -> list[tuple[list[float], list[float], list[float]]]:
    with pikepdf.open(path) as opened:
        return [
            tuple(
                [float(side) for side in box]
                for box in (page.MediaBox, page.BleedBox, page.TrimBox)
            )
            for page in opened.pages
        ]


def test_the_inside_begins_with_the_title_page_and_ends_even(tmp_path: Path) -> None:
    for count in range(1, 5):
        book = bound(tmp_path, story(tmp_path, pages=count))
        pages = inside(book).leaves
        assert pages[0].kind == "title"
        assert len(pages) % 2 == 0
        assert [leaf.number for leaf in pages] == list(range(1, len(pages) + 1))
        assert "cover" not in {leaf.kind for leaf in pages}
        assert "back" not in {leaf.kind for leaf in pages}
        # what lay on the right still does
        for leaf in pages[:-1]:
            assert any(leaf == replace(old, number=old.number - 2) for old in book.leaves)


@pytest.mark.parametrize("paper", sorted(PAPERS))
def test_the_spine_is_as_thick_as_its_pages(tmp_path: Path, paper: str) -> None:
    made = story(tmp_path, pages=40, made=f"{{paper: {paper}}}")
    book = bound(tmp_path, made)
    pages = len(inside(book).leaves)
    assert wrap(book, made).trim.width == pytest.approx(17 + pages * PAPERS[paper].caliper)


def test_the_cover_bleeds_on_all_sides(tmp_path: Path) -> None:
    made = story(tmp_path)
    cover = wrap(bound(tmp_path, made), made)
    ((media, bleed, trim),) = boxes(write_pdf(cover, tmp_path / "cover.pdf"))
    spine = len(inside(bound(tmp_path, made)).leaves) * 0.002347 * 72
    assert media == pytest.approx([0, 0, 2 * 621 + spine, 630], abs=0.01)
    assert bleed == media
    assert trim == pytest.approx([9, 9, 9 + 1224 + spine, 621], abs=0.01)


def test_the_front_stands_right_of_the_spine_and_the_blurb_on_the_back(tmp_path: Path) -> None:
    made = story(tmp_path)
    book = bound(tmp_path, made)
    (leaf,) = wrap(book, made).leaves
    front = wrap(book, made).trim.width * 72 - 612
    (picture,) = leaf.pictures
    assert picture.frame.x == pytest.approx(front)
    assert picture.frame.right == pytest.approx(front + 621)
    roles = {text.role: text for text in leaf.texts}
    assert roles["title"].rect.x > front
    assert roles["blurb"].rect.right < 612
    assert roles["blurb"].rect.bottom < 612 - 27 - 1.2 * 72
    assert "spine" not in roles


def test_from_the_right_the_front_stands_left(tmp_path: Path) -> None:
    made = story(tmp_path)
    turned = made.model_copy(update={"book": made.book.model_copy(update={"direction": "rtl"})})
    (leaf,) = wrap(bound(tmp_path, turned), turned).leaves
    roles = {text.role: text for text in leaf.texts}
    assert leaf.pictures[0].frame.x == pytest.approx(-9)
    assert leaf.pictures[0].frame.right == pytest.approx(612)
    assert roles["title"].rect.right < 612 < roles["blurb"].rect.x


def test_the_spine_bears_words_from_the_printers_page_count(tmp_path: Path) -> None:
    thick = "{paper: kdp-cream, caliper: 0.004}"
    found = {}
    for count in (75, 76, 77, 78, 79, 80):
        made = story(tmp_path, pages=count, made=thick)
        book = bound(tmp_path, made)
        (leaf,) = wrap(book, made).leaves
        words = [text for text in leaf.texts if text.role == "spine"]
        found[len(inside(book).leaves)] = bool(words)
        for text in words:
            width = wrap(book, made).trim.width * 72
            assert text.tilt == 90
            assert text.rect.centre().x == pytest.approx(width / 2)
            assert text.rect.height <= width - 1224 - 9
    assert found == {pages: pages >= 79 for pages in found}
    assert set(found.values()) == {True, False}


def test_what_the_printer_does_not_say_the_story_must(tmp_path: Path) -> None:
    made = story(tmp_path, trim="ingram-8.5x8.5")
    with pytest.raises(StoryForgeError, match=r"not known for `ingram-8.5x8.5`"):
        wrap(bound(tmp_path, made), made)
    assert spine_of(TRIMS["ingram-8.5x8.5"], None, 0.003, 100).width == pytest.approx(0.3)
    with pytest.raises(StoryForgeError, match=r"did you mean `kdp-cream`"):
        spine_of(TRIMS["a5"], "kdp-crem", None, 100)


def test_every_paper_says_where_it_was_read_and_when() -> None:
    for paper in PAPERS.values():
        assert paper.source.startswith("https://")
        assert paper.verified_on.count("-") == 2


def test_a_blurb_too_long_is_an_error(tmp_path: Path) -> None:
    made = story(tmp_path)
    settings = made.book.cover
    assert settings is not None
    long = settings.model_copy(update={"blurb": "And so on and on. " * 200})
    made = made.model_copy(update={"book": made.book.model_copy(update={"cover": long})})
    with pytest.raises(StoryForgeError, match="the blurb does not fit"):
        wrap(bound(tmp_path, made), made)


def test_every_page_has_the_three_boxes_of_print(tmp_path: Path) -> None:
    path = write_pdf(inside(bound(tmp_path, story(tmp_path))), tmp_path / "inside.pdf")
    for media, bleed, trim in boxes(path):
        assert bleed == media
        assert media != trim


def test_boxes_leave_every_object_where_the_table_says(tmp_path: Path) -> None:
    path = write_pdf(bound(tmp_path, story(tmp_path)), tmp_path / "b.pdf")
    with pikepdf.open(path) as opened:
        assert opened.check_pdf_syntax() == []


def test_the_book_is_published_with_its_cover_and_its_inside(tmp_path: Path) -> None:
    made = story(tmp_path)
    project, order = Project(made.path), Order(("pdf",), wrap=True)
    store = Store(tmp_path / ".storyforge")
    drawings = placeholders(made, tmp_path)
    for task in draw_up(made, base=base_of(made)).panels:
        with store.make("panels", task.key) as path:
            path.write_bytes(drawings[task.panel].path.read_bytes())
    books = project.book(order).books
    name = tmp_path.name
    assert [path.name for path in books] == [
        f"{name}.pdf",
        f"{name}-cover.pdf",
        f"{name}-inside.pdf",
    ]
    assert [len(boxes(path)) for path in books] == [6, 1, 4]
