"""Text that means harm is text in every format, and what no format can hold is refused."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from dataclasses import replace
from html import unescape
from pathlib import Path

import pikepdf
import pytest
from bookmaking import LONG_ALT, hostile, hostile_story, placeholders

from storyforge.book.formats import write_book
from storyforge.book.leaf import Book
from storyforge.book.page import bind
from storyforge.errors import StoryForgeError
from storyforge.settings import Format

OVERRIDE = "\u202e"


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    return hostile(tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("form", ["pdf", "html", "web", "epub", "epub-reflow", "cbz", "png"])
def test_every_format_is_the_same_bytes_again(form: Format, book: Book, tmp_path: Path) -> None:
    short = replace(book, leaves=(book.leaves[0], book.leaves[3]))
    first, second = (write_book(short, form, tmp_path / name, 36) for name in ("a", "b"))
    files = [first] if first.is_file() else sorted(p for p in first.rglob("*") if p.is_file())
    assert files
    for file in files:
        again = second if file == first else second / file.relative_to(first)
        assert file.read_bytes() == again.read_bytes()


def test_the_pdf_shows_markup_as_it_was_written(tmp_path: Path) -> None:
    if shutil.which("pdftotext") is None:
        pytest.skip("there is no `pdftotext` here")
    story = hostile_story(tmp_path).model_copy(update={"language": "en"})
    book = bind(story, placeholders(story, tmp_path))
    pdf = write_book(book, "pdf", tmp_path / "book.pdf", 0)
    done = subprocess.run(["pdftotext", "-raw", pdf, "-"], capture_output=True, check=True)
    shown = "".join(done.stdout.decode().split())
    for words in ('#panic("t")', "$x^2$*bold*@nobody/**/{{7*7}}{%raw%}", "]]>#panic()"):
        assert words in shown
    with pikepdf.open(pdf) as opened:
        assert LONG_ALT.strip() in {
            str(each.get("/Alt", "")).strip()
            for each in opened.objects
            if isinstance(each, pikepdf.Dictionary)
        }
        assert str(opened.docinfo["/Title"]) == book.title
        assert "/JavaScript" not in opened.Root.get("/Names", {})


def test_html_and_comic_info_hold_the_long_text_and_the_overrides(
    book: Book, tmp_path: Path
) -> None:
    html = write_book(book, "html", tmp_path / "a.html", 0).read_text(encoding="utf-8")
    alts = [unescape(alt) for alt in re.findall(r'<img [^>]*?alt="([^"]*)"', html)]
    assert LONG_ALT in alts
    assert OVERRIDE in html
    assert len(re.findall("<script", html)) == 1
    with zipfile.ZipFile(write_book(book, "cbz", tmp_path / "a.cbz", 0)) as archive:
        about = archive.read("ComicInfo.xml").decode()
    assert "<script" not in about
    assert OVERRIDE in about


@pytest.mark.parametrize("form", ["epub", "epub-reflow", "cbz"])
def test_control_characters_are_refused_where_xml_has_no_way_to_write_them(
    form: Format, book: Book, tmp_path: Path
) -> None:
    strange = replace(book, title="a\x08b", leaves=book.leaves[:1])
    with pytest.raises(StoryForgeError, match=r"U\+0008"):
        write_book(strange, form, tmp_path / "book", 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_ten_thousand_letters_are_too_many_for_a_page_and_not_for_its_description(
    tmp_path: Path,
) -> None:
    story = hostile_story(tmp_path)
    art = placeholders(story, tmp_path)
    assert LONG_ALT in {item.alt for leaf in bind(story, art).leaves for item in leaf.pictures}
    page = story.pages[0].model_copy(update={"text": "a " * 5_000})
    with pytest.raises(StoryForgeError, match="page 1: the text does not fit"):
        bind(story.model_copy(update={"pages": (page,)}), art)
