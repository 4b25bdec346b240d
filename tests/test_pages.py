"""Kinds of pages: what stands where on grids, strips and spreads, from either side."""

from __future__ import annotations

from pathlib import Path

import pytest
from bookmaking import placeholders, written
from PIL import Image

from storyforge.book.compose import Sheet
from storyforge.book.html import write_html
from storyforge.book.leaf import Art, Book, Leaf, Picture, Point, Rect
from storyforge.book.page import bind
from storyforge.errors import StoryError, StoryForgeError
from storyforge.story.story import Story
from storyforge.story.trims import TRIMS

HEAD = """\
storyforge: 1
title: Kinds
characters: {pip: concepts/pip, owl: concepts/owl}
book: {trim: kdp-8.5x8.5BOOK}
pages:
"""

SPREAD = """\
  - kind: spread
    text: The wood went on and on.
    panels:
      - id: wood
        regions:
          l: {concept: pip, box: [0.1, 0.4, 0.35, 0.95]}
          r: {concept: owl, box: [0.65, 0.4, 0.9, 0.95]}
        alt: A long wood.
        say: [{who: pip, text: Are we there?}, {who: owl, text: Not yet.}]
"""


def story(folder: Path, pages: str, book: str = "") -> Story:
    return written(folder, HEAD.replace("BOOK", book) + pages)


def bound(
    folder: Path, pages: str, book: str = "", sizes: dict[str, tuple[int, int]] | None = None
) -> Book:
    made = story(folder, pages, book)
    art = placeholders(made, folder)
    for panel, size in (sizes or {}).items():
        Image.open(art[panel].path).resize(size).save(art[panel].path)
        art[panel] = Art(panel, art[panel].path, *size)
    return bind(made, art)


def story_leaves(book: Book) -> list[Leaf]:
    return [leaf for leaf in book.leaves if leaf.kind == "story"]


def frames(book: Book) -> list[Rect]:
    (leaf,) = story_leaves(book)
    return [picture.frame for picture in leaf.pictures]


def panels(*names: str) -> str:
    return "[" + ", ".join(f"{{id: {name}, alt: {name}}}" for name in names) + "]"


RTL = ", direction: rtl"


# Grids and strips


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_a_grid_stands_in_rows_and_columns(tmp_path: Path, rows: int, columns: int) -> None:
    names = [f"p{index}" for index in range(rows * columns)]
    made = frames(bound(tmp_path, f"  - {{grid: {rows}x{columns}, panels: {panels(*names)}}}"))
    assert len({round(frame.y) for frame in made}) == rows
    assert len({round(frame.x) for frame in made}) == columns
    assert made == sorted(made, key=lambda frame: (frame.y, frame.x))


@pytest.mark.parametrize("kind", ["grid: 2x2", "kind: strip"])
def test_panels_begin_on_the_right_where_reading_does(tmp_path: Path, kind: str) -> None:
    pages = f"  - {{{kind}, panels: {panels('a', 'b', 'c')}}}"
    left = frames(bound(tmp_path, pages))
    right = frames(bound(tmp_path, pages, RTL))
    width = 8.5 * 72
    for one, other in zip(left, right, strict=True):
        assert other.right == pytest.approx(width - one.x)
        assert (other.y, other.width) == pytest.approx((one.y, one.width))


def test_a_free_cell_for_words_comes_last_from_the_right_too(tmp_path: Path) -> None:
    pages = f"  - {{grid: 2x2, text: The end., panels: {panels('a', 'b', 'c')}}}"
    (leaf,) = story_leaves(bound(tmp_path, pages, RTL))
    (text,) = leaf.texts
    last = leaf.pictures[-1].frame
    assert text.rect.right < last.x
    assert last.y < text.rect.centre().y < last.bottom


def test_in_a_strip_widths_follow_the_shapes_of_the_pictures(tmp_path: Path) -> None:
    sizes = {"a": (96, 96), "b": (192, 96), "c": (96, 96), "d": (96, 96), "e": (96, 96)}
    made = frames(bound(tmp_path, f"  - {{kind: strip, panels: {panels(*sizes)}}}", sizes=sizes))
    rows = [[frame for frame in made if round(frame.y) == y] for y in {round(f.y) for f in made}]
    assert len(rows) > 1
    assert made[1].width == pytest.approx(2 * made[0].width)
    lefts, rights = {round(row[0].x) for row in rows}, {round(row[-1].right) for row in rows}
    assert (len(lefts), len(rights)) == (1, 1)
    live = Sheet(bound(tmp_path, "  - text: x").trim, outer_right=False).live
    assert max(rights) <= round(live.right)


def test_no_strip_crops_its_pictures_beyond_what_must_show(tmp_path: Path) -> None:
    for count in range(1, 9):
        names = [f"p{index}" for index in range(count)]
        (leaf,) = story_leaves(bound(tmp_path, f"  - {{kind: strip, panels: {panels(*names)}}}"))
        assert all(picture.crop.area > 0.81 for picture in leaf.pictures)


def test_too_many_pictures_are_an_error_that_names_the_page(tmp_path: Path) -> None:
    names = [f"p{index}" for index in range(81)]
    with pytest.raises(StoryForgeError, match=r"page 1: 81 pictures are too many"):
        bound(tmp_path, f"  - {{panels: {panels(*names)}}}")


def test_a_grid_and_another_kind_are_a_contradiction(tmp_path: Path) -> None:
    with pytest.raises(StoryError) as raised:
        bound(tmp_path, f"  - {{kind: strip, grid: 1x2, panels: {panels('a', 'b')}}}")
    assert [found.code for found in raised.value.diagnostics] == ["SF320"]


# Beside


def test_words_beside_a_picture_stand_towards_the_fold(tmp_path: Path) -> None:
    pages = f"  - {{kind: text-beside-art, text: Words., panels: {panels('a')}}}"
    for book, fold_is_right in (("", True), (RTL, False)):
        (leaf,) = story_leaves(bound(tmp_path, pages, book))
        (text,), (picture,) = leaf.texts, leaf.pictures
        assert (text.rect.x > picture.frame.x) == fold_is_right


# Spreads


@pytest.fixture
def halves(tmp_path: Path) -> tuple[Leaf, Leaf]:
    first, second = story_leaves(bound(tmp_path, SPREAD, sizes={"wood": (210, 100)}))
    return first, second


def test_a_spread_is_one_picture_over_two_facing_pages(halves: tuple[Leaf, Leaf]) -> None:
    first, second = halves
    assert (first.spread, second.spread) == ("first", "second")
    assert (first.number, second.number) == (4, 5)
    (left,), (right,) = first.pictures, second.pictures
    assert left.art == right.art
    assert left.halved
    # what the left page shows at the fold, the right page goes on from
    assert left.crop.right == pytest.approx(right.crop.x)
    assert left.frame.right == pytest.approx(8.5 * 72)
    assert right.frame.x == pytest.approx(0)
    scales = [
        p.frame.width / p.crop.width / (p.frame.height / p.crop.height) for p in (left, right)
    ]
    assert scales == pytest.approx([2.1, 2.1])


def test_a_spread_is_said_in_words_once(halves: tuple[Leaf, Leaf]) -> None:
    assert [leaf.pictures[0].alt for leaf in halves] == ["A long wood.", None]


def test_nobody_lies_in_the_fold(tmp_path: Path) -> None:
    pages = SPREAD.replace("[0.1, 0.4, 0.35, 0.95]", "[0.25, 0.4, 0.52, 0.95]")
    pages = pages.replace("[0.65, 0.4, 0.9, 0.95]", "[0.7, 0.4, 0.9, 0.95]")
    first, second = story_leaves(bound(tmp_path, pages, sizes={"wood": (260, 100)}))
    (left,), (right,) = first.pictures, second.pictures
    for x0, x1 in ((0.25, 0.52), (0.7, 0.9)):
        inset = 0.1 * (x1 - x0)
        on_left = x1 - inset <= left.crop.right
        on_right = x0 + inset >= right.crop.x
        assert on_left != on_right


def test_somebody_in_the_fold_is_an_error_that_names_them(tmp_path: Path) -> None:
    pages = SPREAD.replace("[0.1, 0.4, 0.35, 0.95]", "[0.1, 0.4, 0.75, 0.95]")
    with pytest.raises(StoryError) as raised:
        bound(tmp_path, pages, sizes={"wood": (210, 100)})
    (found,) = raised.value.diagnostics
    assert found.code == "SF322"
    assert "lies in the fold" in found.message


def test_a_square_picture_is_no_spread(tmp_path: Path) -> None:
    with pytest.raises(StoryForgeError, match=r"2.0 times as wide as high, this picture 1.0"):
        bound(tmp_path, SPREAD)


def test_a_spread_begins_on_a_left_hand_page(tmp_path: Path) -> None:
    with pytest.raises(StoryError) as raised:
        bound(tmp_path, "  - text: One.\n" + SPREAD, sizes={"wood": (210, 100)})
    assert [found.code for found in raised.value.diagnostics] == ["SF321"]


def test_words_and_balloons_keep_off_the_fold(halves: tuple[Leaf, Leaf]) -> None:
    said = []
    for leaf in halves:
        safe = Sheet(TRIMS["kdp-8.5x8.5"], outer_right=leaf.number % 2 == 1).safe.inset(-0.01)
        said.append([balloon.speaker for p in leaf.pictures for balloon in p.balloons])
        words = [balloon.text for p in leaf.pictures for balloon in p.balloons]
        for rect in [*words, *(text.rect for text in leaf.texts)]:
            assert safe.holds(Point(rect.x, rect.y))
            assert safe.holds(Point(rect.right, rect.bottom))
    assert said == [["Pip"], ["Owl"]]


def test_what_is_said_later_never_stands_on_an_earlier_page(tmp_path: Path) -> None:
    pages = SPREAD.replace(
        "[{who: pip, text: Are we there?}, {who: owl, text: Not yet.}]",
        "[{who: owl, text: Not yet.}, {who: pip, text: Are we there?}]",
    )
    first, second = story_leaves(bound(tmp_path, pages, sizes={"wood": (210, 100)}))
    assert first.pictures[0].balloons == ()
    assert [said.speaker for said in second.pictures[0].balloons] == ["Owl", "Pip"]


def test_from_the_right_a_spread_begins_with_its_right_half(tmp_path: Path) -> None:
    book = bound(tmp_path, SPREAD, RTL, {"wood": (210, 100)})
    first, second = story_leaves(book)
    assert first.pictures[0].crop.x > second.pictures[0].crop.x
    assert first.pictures[0].alt == "A long wood."
    assert [said.speaker for said in second.pictures[0].balloons] == ["Pip", "Owl"]


def test_a_phone_shows_each_half_by_itself(tmp_path: Path) -> None:
    book = bound(tmp_path, SPREAD, sizes={"wood": (210, 100)})
    halved = [leaf.pictures[0] for leaf in story_leaves(book)]
    assert all(shown_alone(picture) for picture in halved)
    html = write_html(book, tmp_path / "b.html").read_text(encoding="utf-8")
    assert html.count('<figure class="picture square halved"') == 2


def shown_alone(picture: Picture) -> bool:
    width, height = 300.0, 300.0 / picture.aspect
    inside = Rect(0, 0, width, height)
    return bool(picture.small) and all(
        inside.holds(Point(said.text.x, said.text.y))
        and inside.holds(Point(said.text.right, said.text.bottom))
        for said in picture.small
    )


# Quiet places


def test_the_plate_stands_in_the_quiet_part(tmp_path: Path) -> None:
    pages = (
        "  - {kind: full-bleed, text: Hush., panels: [{id: a, alt: a, "
        "quiet: [[0.55, 0.4, 0.95, 0.7]]}]}"
    )
    (leaf,) = story_leaves(bound(tmp_path, pages))
    (text,), (picture,) = leaf.texts, leaf.pictures
    assert text.plate
    frame = picture.frame
    quiet = Rect(
        frame.x + 0.55 * frame.width,
        frame.y + 0.4 * frame.height,
        0.4 * frame.width,
        0.3 * frame.height,
    )
    assert text.plate.covered(quiet) == pytest.approx(1, abs=0.05)
