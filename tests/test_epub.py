"""The EPUB: what a reading system, a checker and a screen reader find in it."""

from __future__ import annotations

import re
import zipfile
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bookmaking import LONG_ALT, hostile, hostile_story, placeholders, sample
from epubs import DC, HTML, OPF, TYPE, complaints, metadata, parsed, words

from storyforge.book.epub import in_reading_order, write_epub
from storyforge.book.leaf import Book, Leaf, Picture, Rect
from storyforge.book.page import bind
from storyforge.errors import StoryForgeError
from storyforge.provenance.xmp import DIGITAL_SOURCE
from storyforge.story.layout import shipped
from storyforge.story.story import read


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    return sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def epub(book: Book, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_epub(book, tmp_path_factory.mktemp("sample-epub") / "book.epub")


@pytest.fixture(scope="module")
def hostile_book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    return hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def hostile_epub(hostile_book: Book, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_epub(hostile_book, tmp_path_factory.mktemp("hostile-epub") / "book.epub")


def page(epub: Path, leaf: Leaf) -> ElementTree.Element:
    return parsed(epub, f"page-{leaf.number:03d}.xhtml")


# The checker


def test_epubcheck_finds_nothing_in_the_sample_story(
    book: Book, epub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert complaints(epub, book.title, monkeypatch) == []


@pytest.mark.parametrize("name", ["good-night", "the-sneeze"])
def test_epubcheck_finds_nothing_in_the_other_samples(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = read(shipped("stories") / f"{name}.yaml")
    book = bind(story, placeholders(story, tmp_path))
    assert complaints(write_epub(book, tmp_path / "b.epub"), book.title, monkeypatch) == []


def test_epubcheck_finds_nothing_in_a_story_that_means_harm(
    hostile_book: Book, hostile_epub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert complaints(hostile_epub, hostile_book.title, monkeypatch) == []


# The archive


def test_the_mimetype_comes_first_and_is_stored(epub: Path) -> None:
    head = epub.read_bytes()[:58]
    assert head[30:58] == b"mimetypeapplication/epub+zip"
    with zipfile.ZipFile(epub) as archive:
        first = archive.infolist()[0]
        assert (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED)
        assert archive.testzip() is None


def test_the_same_book_is_the_same_bytes(book: Book, epub: Path, tmp_path: Path) -> None:
    again = write_epub(book, tmp_path / "again.epub")
    assert again.read_bytes() == epub.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.epub"]


def test_the_manifest_lists_every_file_once(epub: Path) -> None:
    listed = [item.get("href") for item in parsed(epub, "package.opf").iter(f"{OPF}item")]
    with zipfile.ZipFile(epub) as archive:
        held = {name.removeprefix("EPUB/") for name in archive.namelist()[3:]}
    assert len(listed) == len(set(listed))
    assert set(listed) == held


def test_nothing_is_loaded_from_anywhere(epub: Path, hostile_epub: Path) -> None:
    for path in (epub, hostile_epub):
        with zipfile.ZipFile(path) as archive:
            held = set(archive.namelist())
            texts = {name: archive.read(name) for name in held if name.endswith((".css", "xhtml"))}
        for name, content in texts.items():
            if name.endswith(".css"):
                links = re.findall(r"url\((.*?)\)", content.decode())
                assert links
                assert b"@import" not in content
            else:
                tree = ElementTree.fromstring(content)
                links = [
                    value
                    for element in tree.iter()
                    for key, value in element.attrib.items()
                    if key.rpartition("}")[2] in {"src", "href", "srcset", "data", "poster"}
                ]
                assert not list(tree.iter(f"{HTML}script"))
            assert {f"EPUB/{link.partition('#')[0]}" for link in links} <= held


def test_fonts_come_with_their_licence(book: Book, epub: Path) -> None:
    with zipfile.ZipFile(epub) as archive:
        fonts = {archive.read(name) for name in archive.namelist() if name.endswith(".woff2")}
        texts = [archive.read(name) for name in archive.namelist() if name.endswith(".txt")]
    assert fonts == {face.web.read_bytes() for face in book.faces}
    assert len(texts) == len({face.family for face in book.faces})
    assert all(b"SIL OPEN FONT LICENSE" in text for text in texts)


# The package


def test_the_package_says_what_the_book_is(book: Book, epub: Path) -> None:
    package = parsed(epub, "package.opf")
    assert [each.text for each in package.iter(f"{DC}title")] == [book.title]
    assert [each.text for each in package.iter(f"{DC}creator")] == [book.author]
    assert [each.text for each in package.iter(f"{DC}language")] == ["en"]
    assert metadata(epub, "rendition:layout") == ["pre-paginated"]


def test_the_package_says_that_a_model_made_the_pictures(epub: Path) -> None:
    assert metadata(epub, "Iptc4xmpExt:DigitalSourceType") == [DIGITAL_SOURCE]
    (credit,) = metadata(epub, "schema:creditText")
    assert "AI image model" in (credit or "")
    described = [each.text or "" for each in parsed(epub, "package.opf").iter(f"{DC}description")]
    assert not any("AI image model" in text for text in described)
    with zipfile.ZipFile(epub) as archive:
        pictures = [archive.read(name) for name in archive.namelist() if name.endswith(".jpg")]
    assert all(DIGITAL_SOURCE.encode() in picture for picture in pictures)


def test_the_package_says_who_can_read_it(epub: Path) -> None:
    assert set(metadata(epub, "schema:accessMode")) == {"textual", "visual"}
    assert "textual" in metadata(epub, "schema:accessModeSufficient")
    assert metadata(epub, "schema:accessibilityHazard") == ["none"]
    assert {"alternativeText", "readingOrder", "pageNavigation"} <= set(
        metadata(epub, "schema:accessibilityFeature")
    )
    assert metadata(epub, "schema:accessibilitySummary")[0]


def test_another_edition_is_another_book_and_the_same_edition_is_not(
    book: Book, epub: Path, tmp_path: Path
) -> None:
    def identifier(path: Path) -> str | None:
        return next(parsed(path, "package.opf").iter(f"{DC}identifier")).text

    shorter = replace(book, leaves=book.leaves[:3])
    assert identifier(write_epub(shorter, tmp_path / "short.epub")) == identifier(epub)
    french = replace(shorter, language="fr")
    assert identifier(write_epub(french, tmp_path / "french.epub")) != identifier(epub)


def test_the_navigation_reaches_every_page(book: Book, epub: Path) -> None:
    navs = {nav.get(TYPE): nav for nav in parsed(epub, "nav.xhtml").iter(f"{HTML}nav")}
    assert set(navs) == {"toc", "page-list", "landmarks"}
    pages = [link.get("href") for link in navs["page-list"].iter(f"{HTML}a")]
    assert pages == [f"page-{leaf.number:03d}.xhtml" for leaf in book.leaves]
    marks = [link.get(TYPE) for link in navs["landmarks"].iter(f"{HTML}a")]
    assert marks == ["cover", "titlepage", "bodymatter", "colophon"]
    contents = [link.text for link in navs["toc"].iter(f"{HTML}a")]
    assert contents == ["Cover", "Title page", book.title, "About this book"]


def test_pages_lie_on_the_side_on_which_they_are_printed(epub: Path) -> None:
    spine = next(parsed(epub, "package.opf").iter(f"{OPF}spine"))
    assert spine.get("page-progression-direction") == "ltr"
    sides = [item.get("properties") for item in spine]
    assert sides[:3] == ["page-spread-right", "page-spread-left", "page-spread-right"]


def test_a_book_that_is_read_from_the_right_opens_the_other_way(hostile_epub: Path) -> None:
    spine = next(parsed(hostile_epub, "package.opf").iter(f"{OPF}spine"))
    assert spine.get("page-progression-direction") == "rtl"
    sides = [item.get("properties") for item in spine]
    assert sides[:2] == ["page-spread-left", "page-spread-right"]
    cover = parsed(hostile_epub, "page-001.xhtml")
    assert (cover.get("dir"), cover.get("lang")) == ("rtl", "he")


# The pages


def test_every_page_has_the_viewport_of_the_trim(book: Book, epub: Path) -> None:
    for leaf in book.leaves:
        metas = {
            meta.get("name"): meta.get("content") for meta in page(epub, leaf).iter(f"{HTML}meta")
        }
        assert metas["viewport"] == "width=1224, height=1224"


def test_every_picture_has_its_alt_text(
    book: Book, epub: Path, hostile_book: Book, hostile_epub: Path
) -> None:
    for bound, path in ((book, epub), (hostile_book, hostile_epub)):
        for leaf in bound.leaves:
            alts = [image.get("alt") for image in page(path, leaf).iter(f"{HTML}img")]
            assert alts == [item.alt or "" for item in leaf.pictures]
    assert LONG_ALT in {item.alt for leaf in hostile_book.leaves for item in leaf.pictures}


def test_all_words_are_text_in_the_order_of_reading(book: Book, epub: Path) -> None:
    for leaf in book.leaves:
        expected: list[str] = []
        for part in in_reading_order(leaf, rtl=False):
            if isinstance(part, Picture):
                for said in part.balloons:
                    expected += [f"{said.speaker}:"] if said.speaker else []
                    expected += said.lines
            else:
                expected += part.lines
        body = page(epub, leaf).find(f"{HTML}body")
        assert body is not None
        assert words(body) == " ".join(" ".join(expected).split())


def test_words_above_a_picture_are_read_before_it(book: Book) -> None:
    leaf = next(leaf for leaf in book.leaves if leaf.kind == "story" and leaf.texts)
    (text,), (picture,) = leaf.texts, leaf.pictures
    frame, wide = Rect(100, 100, 200, 200), replace(text.rect, x=100, width=200, height=20)
    shown = replace(leaf, pictures=(replace(picture, frame=frame),))

    def first(x: float, y: float, *, rtl: bool = False) -> bool:
        moved = replace(text, rect=replace(wide, x=x, y=y))
        return in_reading_order(replace(shown, texts=(moved,)), rtl=rtl)[0] is moved

    assert first(100, 110)
    assert not first(100, 270)
    assert first(-110, 270)
    assert not first(310, 110)
    assert first(310, 110, rtl=True)


def test_balloons_are_drawn_as_inline_svg(book: Book, epub: Path) -> None:
    for leaf in book.leaves:
        outlines = [o for item in leaf.pictures for said in item.balloons for o in said.outlines]
        paths = list(page(epub, leaf).iter("{http://www.w3.org/2000/svg}path"))
        assert len(paths) == len(outlines)


def test_what_an_author_writes_is_text(hostile_epub: Path, hostile_book: Book) -> None:
    shown = [words(page(hostile_epub, leaf)) for leaf in hostile_book.leaves]
    assert '<script>alert("x")</script> & ]]> #panic("t")' in shown[0]
    assert "{{ 7 * 7 }} {% raw %}" in shown[2]
    assert '<script src="http://example.org/x.js"></script>' in " ".join(shown)
    for leaf in hostile_book.leaves:
        tags = {element.tag.removeprefix(HTML) for element in page(hostile_epub, leaf).iter()}
        assert not tags & {"script", "b", "style"}


# What the author must mend


def test_a_control_character_is_named_with_its_place(hostile_book: Book, tmp_path: Path) -> None:
    for strange in ("\x07", "\x1b", "\ufffe"):
        with pytest.raises(StoryForgeError, match=rf"^כריכה: .*U\+{ord(strange):04X}"):
            write_epub(replace(hostile_book, title=f"a{strange}b"), tmp_path / "book.epub")
    assert not list(tmp_path.iterdir())


def test_a_book_without_a_title_is_refused(hostile_book: Book, tmp_path: Path) -> None:
    with pytest.raises(StoryForgeError, match="needs a title"):
        write_epub(replace(hostile_book, title=" "), tmp_path / "book.epub")


def test_ten_thousand_letters_on_a_page_are_refused(tmp_path: Path) -> None:
    story = hostile_story(tmp_path)
    pages = (story.pages[0].model_copy(update={"text": "word " * 2_000}),)
    with pytest.raises(StoryForgeError, match="page 1: the text does not fit"):
        bind(story.model_copy(update={"pages": pages}), placeholders(story, tmp_path))
