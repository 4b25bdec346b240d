"""The reflowable EPUB, the HTML folder and the page pictures: the same book for other readers."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bookmaking import LONG_ALT, hostile, sample
from epubs import DC, HTML, OPF, TYPE, complaints, metadata, parsed, words
from PIL import Image

from storyforge.book.epub import write_epub
from storyforge.book.html import write_html, write_web
from storyforge.book.leaf import Book
from storyforge.book.pdf import write_pages
from storyforge.book.reflow import write_reflow
from storyforge.provenance.xmp import DIGITAL_SOURCE, XMP_CHUNK


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Book]:
    """The sample story, and the one that means harm."""
    return {
        "sample": sample(tmp_path_factory.mktemp("sample")),
        "hostile": hostile(tmp_path_factory.mktemp("hostile")),
    }


@pytest.fixture(scope="module")
def epubs(books: Mapping[str, Book], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reflow")
    return {name: write_reflow(book, folder / f"{name}.epub") for name, book in books.items()}


def chapters(epub: Path) -> dict[str, ElementTree.Element]:
    with zipfile.ZipFile(epub) as archive:
        names = [name for name in archive.namelist() if name.endswith(".xhtml")]
    return {
        Path(name).name: parsed(epub, Path(name).name)
        for name in names
        if not name.endswith("nav.xhtml")
    }


@pytest.mark.parametrize("name", ["sample", "hostile"])
def test_epubcheck_finds_nothing(
    name: str,
    books: Mapping[str, Book],
    epubs: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert complaints(epubs[name], books[name].title, monkeypatch) == []


def test_it_flows_and_says_so(epubs: dict[str, Path]) -> None:
    epub = epubs["sample"]
    assert metadata(epub, "rendition:layout") == ["reflowable"]
    assert "displayTransformability" in metadata(epub, "schema:accessibilityFeature")
    assert "pageBreakMarkers" in metadata(epub, "schema:accessibilityFeature")
    assert not [
        item for item in parsed(epub, "package.opf").iter(f"{OPF}itemref") if item.get("properties")
    ]
    style = zipfile.ZipFile(epub).read("EPUB/style.css").decode()
    assert not re.search(r"\d(px|pt)\b|position:", style)


def test_the_two_epubs_are_two_books(
    books: Mapping[str, Book], epubs: dict[str, Path], tmp_path: Path
) -> None:
    fixed = write_epub(books["sample"], tmp_path / "fixed.epub")
    identifiers = {
        next(parsed(path, "package.opf").iter(f"{DC}identifier")).text
        for path in (fixed, epubs["sample"])
    }
    assert len(identifiers) == 2


@pytest.mark.parametrize("name", ["sample", "hostile"])
def test_all_words_and_alt_texts_are_there(
    name: str, books: Mapping[str, Book], epubs: dict[str, Path]
) -> None:
    found = " ".join(words(chapter) for chapter in chapters(epubs[name]).values())
    alts = [
        image.get("alt")
        for chapter in chapters(epubs[name]).values()
        for image in chapter.iter(f"{HTML}img")
    ]
    for leaf in books[name].leaves:
        for text in leaf.texts:
            for line in text.text.splitlines():
                assert " ".join(line.split()) in found
        for picture in leaf.pictures:
            assert (picture.alt or "") in alts
            for said in picture.balloons:
                assert " ".join(said.lines) in found
    assert (LONG_ALT in alts) == (name == "hostile")


def test_page_breaks_are_where_the_page_list_leads(epubs: dict[str, Path]) -> None:
    navs = {nav.get(TYPE): nav for nav in parsed(epubs["sample"], "nav.xhtml").iter(f"{HTML}nav")}
    listed = [link.get("href") for link in navs["page-list"].iter(f"{HTML}a")]
    marked = [
        f"{name}#{element.get('id')}"
        for name, chapter in chapters(epubs["sample"]).items()
        for element in chapter.iter()
        if element.get(TYPE) == "pagebreak"
    ]
    assert listed == marked
    assert len(marked) == 12


def test_what_an_author_writes_is_no_markup(epubs: dict[str, Path]) -> None:
    for chapter in chapters(epubs["hostile"]).values():
        tags = {element.tag.removeprefix(HTML) for element in chapter.iter()}
        assert not tags & {"script", "style", "svg"}
        assert not [
            key for element in chapter.iter() for key in element.attrib if key.startswith("on")
        ]


def test_the_same_book_is_the_same_bytes(
    books: Mapping[str, Book], epubs: dict[str, Path], tmp_path: Path
) -> None:
    again = write_reflow(books["hostile"], tmp_path / "again.epub")
    assert again.read_bytes() == epubs["hostile"].read_bytes()


# HTML as a folder


def test_pictures_lie_beside_the_page_and_nothing_else_is_loaded(
    books: Mapping[str, Book], tmp_path: Path
) -> None:
    web = write_web(books["sample"], tmp_path / "web")
    page = (web / "index.html").read_text(encoding="utf-8")
    sources = re.findall(r'<img src="(.*?)"', page)
    assert len(sources) == sum(len(leaf.pictures) for leaf in books["sample"].leaves)
    assert {web / source for source in sources} == set((web / "assets").iterdir())
    assert "img-src 'self' file:;" in page.replace("&#39;", "'")
    assert "http" not in "".join(re.findall(r'(?:src|href)="(.*?)"', page))
    assert all(DIGITAL_SOURCE.encode() in path.read_bytes() for path in (web / "assets").iterdir())


def test_the_folder_shows_what_the_single_file_shows(
    books: Mapping[str, Book], tmp_path: Path
) -> None:
    web = write_web(books["hostile"], tmp_path / "web")
    page = (web / "index.html").read_text(encoding="utf-8")
    single = write_html(books["hostile"], tmp_path / "a.html").read_text(encoding="utf-8")
    for html in (page, single):
        assert "<script src=" not in html
    plain = [re.sub(r'(src|content)="[^"]*"', "", html) for html in (page, single)]
    assert plain[0] == plain[1]


# Pages as pictures


def test_every_page_is_a_picture_of_the_cut_page(books: Mapping[str, Book], tmp_path: Path) -> None:
    book = books["hostile"]
    folder = write_pages(book, tmp_path / "pages", 36)
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"page-{leaf.number:03d}.png" for leaf in book.leaves]
    for path in folder.iterdir():
        with Image.open(path) as page:
            page.load()
            size = (36 * book.trim.width, 36 * book.trim.height)
            assert page.size == pytest.approx(size, abs=1)
            assert DIGITAL_SOURCE in page.info[XMP_CHUNK]
