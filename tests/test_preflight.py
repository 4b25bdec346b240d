"""Whether a book is fit to print: each thing that a printer sends back, once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pikepdf
import pytest
from bookmaking import sample

from storyforge.book.leaf import Art, Balloon, Book, Head, Leaf, Picture, Point, Rect
from storyforge.book.pdf import write_pdf
from storyforge.book.preflight import Marks, check_book, check_pdf
from storyforge.book.printers import INGRAM, KDP
from storyforge.book.typeface import COMIC_NEUE_BOLD
from storyforge.book.upscale import inches, widths, with_art
from storyforge.book.wrap import inside
from storyforge.errors import Diagnostic, EnvironmentProblem, Mark, Report, Severity
from storyforge.story.trims import TRIMS

NOWHERE = Marks()
KDP_SQUARE = TRIMS["kdp-8.5x8.5"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """The sample story with small pictures, on a page of no printer's."""
    return sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def book(drawn: Book) -> Book:
    """The same with pictures large enough to print, which say where faces are."""
    made = with_art(drawn, {name: large(name, width) for name, width in widths(drawn).items()})
    return replace(made, leaves=tuple(map(known, made.leaves)))


def known(leaf: Leaf) -> Leaf:
    pictures = (
        replace(item, heads=tuple(replace(head, planned=False) for head in item.heads))
        for item in leaf.pictures
    )
    return replace(leaf, pictures=tuple(pictures))


def large(panel: str, width: int) -> Art:
    return Art(panel, Path(f"{panel}.png"), width, width)


def findings(book: Book, marks: Marks = NOWHERE) -> list[Diagnostic]:
    report = Report("story.yaml")
    check_book(book, marks, report)
    return report.findings()


def codes(book: Book) -> set[str]:
    return {found.code for found in findings(book)}


def changed(book: Book, number: int, leaf: Leaf) -> Book:
    leaves = list(book.leaves)
    leaves[number - 1] = leaf
    return replace(book, leaves=tuple(leaves))


def bleeding(book: Book) -> tuple[Leaf, Picture]:
    for leaf in book.leaves:
        for item in leaf.pictures:
            if leaf.kind == "story" and item.frame.y < 0:
                return leaf, item
    raise LookupError("no picture bleeds")


def test_a_book_of_large_pictures_is_fit_to_print(book: Book) -> None:
    assert findings(book) == []


def test_small_pictures_of_one_size_are_one_warning_on_a_page_of_no_printers(drawn: Book) -> None:
    marks = Marks(Mark(1, 1), {"glow": Mark(70, 9)})
    (found,) = [each for each in findings(drawn, marks) if each.code == "SF501"]
    assert found.severity is Severity.WARNING
    names = {item.art.panel for leaf in drawn.leaves for item in leaf.pictures}
    assert found.message.startswith(f"{len(names)} pictures are 96 pixels wide")
    ppi = min(96 / inches(item) for leaf in drawn.leaves for item in leaf.pictures)
    assert f"{ppi:.0f} an inch" in found.message


def test_one_small_picture_is_named_with_its_line(drawn: Book, book: Book) -> None:
    marks = Marks(Mark(1, 1), {"glow": Mark(70, 9)})
    item = next(i for leaf in drawn.leaves for i in leaf.pictures if i.art.panel == "glow")
    (found,) = [
        each for each in findings(with_art(book, {"glow": item.art}), marks) if each.code == "SF501"
    ]
    assert (found.line, found.column) == (70, 9)
    assert "`glow`" in found.message


def test_an_enlarged_picture_is_soft_however_many_pixels_it_has_now(book: Book) -> None:
    was = dict.fromkeys((item.art.panel for leaf in book.leaves for item in leaf.pictures), 256)
    (found,) = findings(book, Marks(drawn=was))
    assert (found.code, found.severity) == ("SF520", Severity.WARNING)
    assert "from 256 pixels" in found.message
    assert "soft" in found.message


def test_very_small_pictures_are_mistakes_on_a_printers_page(drawn: Book, book: Book) -> None:
    assert "SF502" in codes(replace(drawn, trim=KDP_SQUARE))
    half = {name: large(name, width // 2 + 1) for name, width in widths(drawn).items()}
    assert codes(replace(with_art(drawn, half), trim=KDP_SQUARE)) & {"SF501", "SF502"} == {"SF501"}


@pytest.mark.parametrize(("pages", "refused"), [(22, True), (24, False), (828, False), (830, True)])
def test_a_printer_counts_the_pages_inside_the_cover(book: Book, pages: int, refused: bool) -> None:
    story = [Leaf(number + 3, "story", "", "paper", None) for number in range(pages)]
    leaves = (*book.leaves[:2], *story, book.leaves[-1])
    made = replace(book, trim=KDP_SQUARE, leaves=leaves)
    assert len(inside(made).leaves) == pages
    found = [each for each in findings(made) if each.code == "SF503"]
    assert bool(found) == refused
    assert all(f"has {pages} pages" in each.message for each in found)


def test_pages_that_do_not_fill_folded_sheets_are_a_warning_where_no_printer_is_named(
    book: Book,
) -> None:
    count = len(inside(book).leaves)
    assert count % 4 == 0
    less = replace(book, leaves=(*book.leaves[:-3], book.leaves[-1]))
    (found,) = findings(less)
    assert (found.code, found.severity) == ("SF521", Severity.WARNING)
    assert "SF521" not in codes(replace(less, trim=KDP_SQUARE))


FACE = Rect(100, 100, 80, 80)


def speaking(book: Book, where: Rect, tip: Point | None, head: Head | None = None) -> Book:
    """The book with one balloon at a place, in a picture where Pip's face is known."""
    leaf, item = bleeding(book)
    said = Balloon("speech", "Pip", ("Hello there",), where, 12, 1.16, COMIC_NEUE_BOLD, ((),), tip)
    heads = (head or Head("Pip", FACE, Rect(90, 100, 100, 200), 1.0),)
    return changed(
        book,
        leaf.number,
        replace(leaf, texts=(), pictures=(replace(item, balloons=(said,), heads=heads),)),
    )


def test_words_on_a_face_a_tail_through_one_and_a_tail_at_nobody_are_found(book: Book) -> None:
    beside, above, far = Rect(250, 110, 80, 15), Rect(100, 40, 80, 15), Rect(400, 400, 80, 15)
    assert codes(speaking(book, above, Point(140, 96))) == set()
    assert codes(speaking(book, Rect(105, 130, 70, 15), Point(140, 190))) == {"SF530", "SF531"}
    assert codes(speaking(book, beside, Point(110, 140))) == {"SF531"}
    assert codes(speaking(book, beside, Point(190, 140))) == set()
    assert codes(speaking(book, far, Point(440, 430))) == {"SF532"}


def test_somebody_cut_off_by_the_frame_is_found(book: Book) -> None:
    head = Head("Pip", FACE, Rect(90, 100, 100, 200), 0.7)
    assert codes(speaking(book, Rect(100, 40, 80, 15), Point(140, 96), head)) == {"SF533"}


def test_a_picture_that_ends_at_the_cut_is_found(book: Book) -> None:
    leaf, item = bleeding(book)
    frame = replace(item.frame, y=0.0, height=item.frame.height + item.frame.y)
    cut = changed(book, leaf.number, replace(leaf, pictures=(replace(item, frame=frame),)))
    (found,) = [each for each in findings(cut) if each.code == "SF505"]
    assert "top" in found.message
    assert "bottom" not in found.message


def test_words_at_the_edge_and_in_the_fold_are_found(book: Book) -> None:
    leaf = next(leaf for leaf in book.leaves if leaf.kind == "story" and leaf.texts)
    (text,) = leaf.texts
    for rect in (replace(text.rect, y=2.0), Rect(5.0, 300.0, 200.0, 20.0)):
        moved = changed(book, leaf.number, replace(leaf, texts=(replace(text, rect=rect),)))
        assert codes(moved) == {"SF506"}


def test_the_fold_takes_more_of_a_thick_book() -> None:
    assert [KDP.gutter(pages) for pages in (24, 150, 151, 828, 900)] == [
        0.375,
        0.375,
        0.5,
        0.875,
        0.875,
    ]
    assert INGRAM.gutter(100) == 0.0


def test_tiny_letters_are_found(book: Book) -> None:
    leaf = next(leaf for leaf in book.leaves if leaf.kind == "colophon")
    small = tuple(replace(text, size=6.5) for text in leaf.texts)
    tiny = replace(changed(book, leaf.number, replace(leaf, texts=small)), trim=KDP_SQUARE)
    assert "SF507" in codes(tiny)
    assert "SF507" not in codes(replace(book, trim=KDP_SQUARE))


# The file


@pytest.fixture(scope="module")
def pdf(drawn: Book, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pdf(drawn, tmp_path_factory.mktemp("pdf") / "book.pdf")


def found_in(book: Book, pdf: Path) -> list[str]:
    report = Report("story.yaml")
    check_pdf(book, pdf, Marks(), report)
    return [found.code for found in report.findings()]


def test_the_pdf_as_it_is_written_has_nothing_wrong(drawn: Book, pdf: Path) -> None:
    assert found_in(drawn, pdf) == []


def test_a_font_that_is_not_embedded_is_found(drawn: Book, pdf: Path, tmp_path: Path) -> None:
    with pikepdf.open(pdf) as opened:
        font = next(
            each
            for each in opened.objects
            if isinstance(each, pikepdf.Dictionary)
            and each.get("/Type") == pikepdf.Name.FontDescriptor
        )
        for key in ("/FontFile2", "/FontFile3"):
            if key in font:
                del font[key]
        opened.save(tmp_path / "loose.pdf")
    assert found_in(drawn, tmp_path / "loose.pdf") == ["SF509"]


def test_a_page_of_another_size_is_found(drawn: Book, pdf: Path, tmp_path: Path) -> None:
    with pikepdf.open(pdf) as opened:
        opened.pages[3].TrimBox = [0, 0, 300, 300]
        opened.save(tmp_path / "cut.pdf")
    assert found_in(drawn, tmp_path / "cut.pdf") == ["SF510"]


def test_a_file_that_is_too_large_is_found(
    drawn: Book, pdf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storyforge.book.preflight._MEGABYTE", 10)
    assert "SF508" in found_in(replace(drawn, trim=KDP_SQUARE), pdf)
    assert found_in(drawn, pdf) == []


def test_what_is_no_pdf_is_an_environment_problem(drawn: Book, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"not a PDF")
    with pytest.raises(EnvironmentProblem, match=r"a\.pdf"):
        found_in(drawn, tmp_path / "a.pdf")


def test_where_words_lie_on_a_picture_whose_faces_are_not_known_it_is_named(
    book: Book,
) -> None:
    above, planned = Rect(100, 40, 80, 15), Head("Pip", FACE, Rect(90, 100, 100, 200), 1.0, True)
    assert codes(speaking(book, above, Point(140, 96), planned)) == {"SF534"}
    leaf, item = bleeding(book)
    silent = replace(item, balloons=(), heads=(planned,))
    quiet = changed(book, leaf.number, replace(leaf, texts=(), pictures=(silent,)))
    assert codes(quiet) == set()
