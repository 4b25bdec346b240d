"""The CBZ: pages as pictures, and what ComicInfo.xml says of them."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from bookmaking import hostile
from lxml import etree
from PIL import Image

from storyforge.book.cbz import page_pictures, write_cbz
from storyforge.book.leaf import Book
from storyforge.errors import StoryForgeError
from storyforge.provenance.xmp import DIGITAL_SOURCE

SCHEMA = Path(__file__).parent / "schemas" / "ComicInfo-2.1.xsd"


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    return hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def cbz(book: Book, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cbz(book, tmp_path_factory.mktemp("cbz") / "book.cbz")


def info(cbz: Path) -> etree._Element:
    with zipfile.ZipFile(cbz) as archive:
        return etree.fromstring(archive.read("ComicInfo.xml"))


def test_every_leaf_is_a_page_and_names_sort_as_pages_do(book: Book, cbz: Path) -> None:
    with zipfile.ZipFile(cbz) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert names[0] == "ComicInfo.xml"
    assert names[1:] == [f"page-{leaf.number:03d}.jpg" for leaf in book.leaves]
    assert names == sorted(names)


def test_pages_are_the_cut_page_and_marked_as_made_by_a_model(book: Book, cbz: Path) -> None:
    with zipfile.ZipFile(cbz) as archive:
        for name in archive.namelist()[1:]:
            content = archive.read(name)
            assert DIGITAL_SOURCE.encode() in content
            with Image.open(io.BytesIO(content)) as page:
                assert page.width / page.height == pytest.approx(
                    book.trim.width / book.trim.height, rel=2e-3
                )
                assert min(page.size) > 1000


def test_a_page_shows_its_picture_and_the_words_upon_it(book: Book) -> None:
    leaf = next(leaf for leaf in book.leaves if leaf.kind == "story")
    bare = replace(leaf, texts=(), pictures=(replace(leaf.pictures[0], balloons=()),))
    full, empty = page_pictures(book, [leaf, bare])
    assert (full.width, full.height) == (empty.width, empty.height)
    with (
        Image.open(io.BytesIO(full.content)) as lettered,
        Image.open(io.BytesIO(empty.content)) as plain,
    ):
        scale = full.width / (book.trim.width * 72)
        frame = leaf.pictures[0].frame
        spot = (round(scale * frame.centre().x), round(scale * (frame.y + 0.8 * frame.height)))
        assert plain.getpixel(spot) == pytest.approx((240, 140, 40), abs=12)
        said = leaf.pictures[0].balloons[0].text
        corner = (round(scale * (said.x - 2)), round(scale * said.centre().y))
        assert lettered.getpixel(corner) == pytest.approx((255, 255, 255), abs=8)
        assert plain.getpixel(corner) != pytest.approx((255, 255, 255), abs=8)


def test_comic_info_follows_its_schema(cbz: Path) -> None:
    etree.XMLSchema(etree.parse(SCHEMA)).assertValid(info(cbz))


def test_comic_info_says_what_the_book_is(book: Book, cbz: Path) -> None:
    about = info(cbz)
    assert about.findtext("Title") == book.title
    assert about.findtext("Writer") == book.author
    assert about.findtext("LanguageISO") == "he"
    assert about.findtext("Manga") == "YesAndRightToLeft"
    assert about.findtext("PageCount") == str(len(book.leaves))
    assert about.findtext("Notes") == book.notice
    assert "בינה מלאכותית" in book.notice, "that a model made the pictures, in the book's language"


def test_comic_info_describes_each_page_as_it_is(book: Book, cbz: Path) -> None:
    with zipfile.ZipFile(cbz) as archive:
        for index, page in enumerate(info(cbz).iter("Page")):
            content = archive.read(archive.namelist()[index + 1])
            with Image.open(io.BytesIO(content)) as picture:
                size = (str(picture.width), str(picture.height))
            assert page.get("Image") == str(index)
            assert (page.get("ImageWidth"), page.get("ImageHeight")) == size
            assert page.get("ImageSize") == str(len(content))
    types = [page.get("Type") for page in info(cbz).iter("Page")]
    assert len(types) == len(book.leaves)
    assert (types[0], types[3], types[-1]) == ("FrontCover", "Story", "BackCover")


def test_the_same_book_is_the_same_bytes(book: Book, tmp_path: Path) -> None:
    short = replace(book, leaves=book.leaves[:1], direction="ltr")
    first = write_cbz(short, tmp_path / "a.cbz").read_bytes()
    assert write_cbz(short, tmp_path / "b.cbz").read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.cbz", "b.cbz"]
    assert info(tmp_path / "a.cbz").findtext("Manga") == "No"


def test_a_control_character_is_refused(book: Book, tmp_path: Path) -> None:
    strange = replace(book, title="a\x07b", leaves=book.leaves[:1])
    with pytest.raises(StoryForgeError, match=r"title and author: .*U\+0007"):
        write_cbz(strange, tmp_path / "book.cbz")
    assert not list(tmp_path.iterdir())
