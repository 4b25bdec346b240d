"""Comic pages whose frames differ, and books that are folded and stapled."""

from __future__ import annotations

import io
import itertools
import re
import zipfile
from pathlib import Path

import pikepdf
import pytest
from bookmaking import placeholders, written
from epubs import HTML, complaints, parsed
from PIL import Image

from storyforge.book.booklet import filled, order, write_booklet
from storyforge.book.epub import write_epub
from storyforge.book.fit import fit_findings
from storyforge.book.html import write_html
from storyforge.book.leaf import Book, Leaf, Rect
from storyforge.book.page import bind
from storyforge.book.pdf import page_images
from storyforge.book.preview.drawing import RectShape
from storyforge.book.preview.pages import proof_of
from storyforge.errors import StoryError
from storyforge.project.project import Project
from storyforge.provenance.xmp import DIGITAL_SOURCE
from storyforge.story.gridform import Cells, pattern_of

STORY = """\
storyforge: 1
title: Grid
language: LANGUAGE
pages:
  - grid: "FORM"
    gutter: 6
    panels:
      - {id: a, prompt: a, alt: A}
      - {id: b, prompt: b, alt: B}
      - {id: c, prompt: c, alt: C}
"""


def page_of(folder: Path, form: str, language: str = "en") -> Leaf:
    story = written(folder, STORY.replace("FORM", form).replace("LANGUAGE", language))
    book = bind(story, placeholders(story, folder))
    return next(leaf for leaf in book.leaves if leaf.kind == "story")


def frames(leaf: Leaf) -> list[Rect]:
    return [item.frame for item in leaf.pictures]


def test_frames_cover_the_cells_that_are_theirs(tmp_path: Path) -> None:
    a, b, c = frames(page_of(tmp_path, "AAB/CCB"))
    assert a.x == c.x
    assert a.width == pytest.approx(c.width)
    assert (b.y, b.bottom) == pytest.approx((a.y, c.bottom))
    assert c.y - a.bottom == pytest.approx(6)
    assert b.x - a.right == pytest.approx(6)
    assert a.width == pytest.approx(2 * b.width + 6)
    assert not any(one.common(other) for one, other in itertools.combinations((a, b, c), 2))


@pytest.mark.parametrize("kind", ["grid: AAB/CCB", "grid: 2x2", "kind: strip"])
def test_words_stand_above_pictures_where_the_author_wants_them(tmp_path: Path, kind: str) -> None:
    text = STORY.replace('grid: "FORM"', f"text_place: top\n    text: Once.\n    {kind}")
    story = written(tmp_path, text.replace("LANGUAGE", "en"))
    leaf = next(e for e in bind(story, placeholders(story, tmp_path)).leaves if e.kind == "story")
    (words,) = leaf.texts
    assert words.rect.bottom < min(frame.y for frame in frames(leaf))


def test_a_pattern_is_mirrored_where_panels_are_read_from_the_right(tmp_path: Path) -> None:
    a, b, _ = frames(page_of(tmp_path, "AAB/CCB", "he"))
    assert b.right < a.x


def test_an_empty_cell_stays_empty(tmp_path: Path) -> None:
    a, b, c = frames(page_of(tmp_path, "AB/.C"))
    assert c.x == pytest.approx(b.x)
    assert c.y > b.bottom
    assert a.bottom < c.y


@pytest.mark.parametrize(
    ("form", "wrong"),
    [
        ("AAB/CC", "not equally long"),
        ("AB/BA", "no rectangle"),
        ("AAC/DDC", "without a gap"),
        ("2y2", "is not a grid"),
    ],
)
def test_a_grid_that_cannot_be_laid_out_is_a_mistake_with_its_line(
    tmp_path: Path, form: str, wrong: str
) -> None:
    with pytest.raises(StoryError) as raised:
        written(tmp_path, STORY.replace("FORM", form).replace("LANGUAGE", "en"))
    (found,) = raised.value.diagnostics
    assert (found.line, found.column) == (5, 11)
    assert wrong in found.message


def test_check_counts_the_panels_of_a_pattern(tmp_path: Path) -> None:
    with pytest.raises(StoryError) as raised:
        written(tmp_path, STORY.replace("FORM", "AAB").replace("LANGUAGE", "en"))
    assert [each.code for each in raised.value.diagnostics] == ["SF314"]
    written(tmp_path, STORY.replace("FORM", "AAB/CCD").replace("LANGUAGE", "en"))
    found = Project(tmp_path / "story.yaml").check()
    assert [(each.line, each.code) for each in found if each.severity == "error"] == [(5, "SF323")]


def test_equal_frames_are_no_pattern() -> None:
    assert pattern_of("2x3") is None
    made = pattern_of("AAB/CCB")
    assert made is not None
    assert made.frames == (Cells(0, 0, 2, 1), Cells(2, 0, 3, 2), Cells(0, 1, 2, 2))


@pytest.mark.parametrize("pages", [4, 8, 24])
@pytest.mark.parametrize("rtl", [False, True])
def test_a_folded_booklet_reads_from_first_to_last(pages: int, rtl: bool) -> None:
    """Lay the sheets into each other, fold them, and turn the pages."""
    sides = order(pages, rtl=rtl)
    fronts, backs = sides[0::2], sides[1::2]
    # of a page on the left of a front, the other side is the right of the back
    read: list[int] = []
    for front, back in zip(fronts, backs, strict=True):
        leading, following = (front[0], back[1]) if rtl else (front[1], back[0])
        read += [leading, following]
    for front, back in reversed(list(zip(fronts, backs, strict=True))):
        leading, following = (back[0], front[1]) if rtl else (back[1], front[0])
        read += [leading, following]
    assert read == list(range(pages))


INSET = """\
storyforge: 1
title: Grid
pages:
  - kind: full-bleed
    text: Once upon a time, somebody looked up.
    panels:
      - {id: a, prompt: a, alt: A, say: [{who: x, tail: [0.2, 0.9], text: Look!}]}
      - {id: b, prompt: b, alt: B, inset: [0.55, 0.5, 0.95, 0.9], say: [{text: Oh., kind: caption}]}
"""


def test_a_panel_lies_over_the_one_before_it_and_words_keep_off(tmp_path: Path) -> None:
    story = written(tmp_path, INSET)
    book = bind(story, placeholders(story, tmp_path))
    leaf = next(each for each in book.leaves if each.kind == "story")
    host, inset = leaf.pictures
    (words,) = leaf.texts
    assert (host.border, inset.border) == ("none", "rimmed")
    assert inset.frame.covered(host.frame) == pytest.approx(1)
    assert inset.frame.width == pytest.approx(0.4 * host.frame.width)
    assert words.plate is not None
    assert not words.plate.common(inset.frame)
    assert not host.balloons[0].text.common(inset.frame)
    assert inset.balloons[0].text.covered(inset.frame) == pytest.approx(1)


def test_an_inset_is_drawn_with_a_rim_in_every_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = written(tmp_path, INSET)
    book = bind(story, placeholders(story, tmp_path))
    assert complaints(write_epub(book, tmp_path / "b.epub"), "Grid", monkeypatch) == []
    page = Image.open(io.BytesIO(page_images(book, 72)[3])).convert("RGB")
    frame = next(each for each in book.leaves if each.kind == "story").pictures[1].frame
    rim = [page.getpixel((round(frame.x), round(frame.centre().y + shift))) for shift in (-9, 9)]
    assert rim == [(255, 255, 255)] * 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{id: a, prompt: a,", "{id: a, prompt: a, inset: [0, 0, 0.5, 0.5],"),
        ("  - kind: full-bleed", "  - kind: blank\n  - kind: blank\n  - kind: spread"),
    ],
)
def test_what_lies_over_nothing_is_found_by_check(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(StoryError) as raised:
        written(tmp_path, INSET.replace(old, new))
    codes = [found.code for found in raised.value.diagnostics]
    assert [code for code in codes if code in {"SF316", "SF337"}] == ["SF337"]


def test_panels_touch_where_nothing_is_between_them(tmp_path: Path) -> None:
    story = written(
        tmp_path,
        STORY.replace("FORM", "AB/CC").replace("LANGUAGE", "en").replace("gutter: 6", "gutter: 0"),
    )
    leaf = next(e for e in bind(story, placeholders(story, tmp_path)).leaves if e.kind == "story")
    a, b, _ = frames(leaf)
    assert a.right == pytest.approx(b.x)
    assert {item.corner for item in leaf.pictures} == {"square"}


def test_frames_have_lines_where_the_book_says_so_and_a_panel_may_have_none(
    tmp_path: Path,
) -> None:
    text = STORY.replace("FORM", "AB/CC").replace("LANGUAGE", "en")
    text = text.replace("\npages:", "\nbook: {frame: line}\npages:")
    text = text.replace("{id: b,", "{id: b, frame: square,")
    story = written(tmp_path, text)
    book = bind(story, placeholders(story, tmp_path))
    leaf = next(each for each in book.leaves if each.kind == "story")
    assert [item.border for item in leaf.pictures] == ["lined", "none", "lined"]
    page = Image.open(io.BytesIO(page_images(book, 144)[leaf.number - 1])).convert("L")
    edges = [item.frame for item in leaf.pictures]
    assert isinstance(page.getpixel((0, 0)), int)
    dark = [page.getpixel((round(2 * each.x), round(2 * each.centre().y))) < 80 for each in edges]
    assert dark == [True, False, True]
    assert write_html(book, tmp_path / "b.html").read_text().count(" lined") == 2


def test_a_picture_that_fills_its_page_has_no_frame(tmp_path: Path) -> None:
    story = written(tmp_path, INSET.replace("{id: a,", "{id: a, frame: line,"))
    leaf = next(e for e in bind(story, placeholders(story, tmp_path)).leaves if e.kind == "story")
    assert [item.border for item in leaf.pictures] == ["none", "rimmed"]


@pytest.mark.parametrize("kind", ["kind: full-bleed", "kind: auto", "kind: spread"])
def test_a_frame_that_nobody_sees_is_told_of_however_the_page_came_to_be(
    tmp_path: Path, kind: str
) -> None:
    text = INSET[: INSET.index("      - {id: b")].replace("kind: full-bleed", kind)
    size = "size: [1024, 512], " if "spread" in kind else ""
    text = text.replace("{id: a,", f"{{id: a, frame: line, {size}")
    found = fit_findings(written(tmp_path, text))
    assert [(each.code, each.severity) for each in found] == [("SF413", "warning")]


@pytest.mark.parametrize(
    ("book", "panel", "ends"),
    [
        ("line", "", ("square", "lined")),
        ("line", "frame: round, ", ("round", "rimmed")),
        ("square", "", ("square", "rimmed")),
        ("round", "", ("round", "rimmed")),
        ("round", "frame: line, ", ("square", "lined")),
    ],
)
def test_an_inset_ends_as_its_panel_or_the_book_says(
    tmp_path: Path, book: str, panel: str, ends: tuple[str, str]
) -> None:
    text = INSET.replace("pages:", f"book: {{frame: {book}}}\npages:")
    story = written(tmp_path, text.replace("{id: b,", f"{{id: b, {panel}"))
    leaf = next(e for e in bind(story, placeholders(story, tmp_path)).leaves if e.kind == "story")
    inset = leaf.pictures[1]
    assert (inset.corner, inset.border) == ends


@pytest.mark.parametrize("trim", ["a5", "{width: 148mm, height: 210mm, bleed: 0mm}"])
def test_a_picture_that_runs_off_the_page_has_its_line_where_it_ends_on_it(
    tmp_path: Path, trim: str
) -> None:
    text = INSET[: INSET.index("      - {id: b")].replace("full-bleed", "art-over-text")
    text = text.replace("pages:", f"book: {{frame: line, trim: {trim}}}\npages:")
    story = written(tmp_path, text)
    book = bind(story, placeholders(story, tmp_path))
    leaf = next(each for each in book.leaves if each.kind == "story")
    (item,) = leaf.pictures
    assert (item.corner, item.border) == ("square", "lined")
    page = Image.open(io.BytesIO(page_images(book, 144)[leaf.number - 1])).convert("L")
    below = page.getpixel((page.width // 2, round(2 * item.frame.bottom)))
    assert isinstance(below, int)
    assert below < 80
    assert fit_findings(story) == ()


def test_a_proof_has_the_lines_and_rims_of_the_book(tmp_path: Path) -> None:
    text = INSET.replace("full-bleed", "grid").replace("{id: a,", "{id: a, frame: line,")
    drawing = proof_of(written(tmp_path, text)).drawings[3]
    lines = [mark.ink.line for mark in drawing.marks if isinstance(mark, RectShape)]
    assert lines.count("#2a2320") == 1
    assert lines.count("#ffffff") == 1


def test_an_epub_leads_from_panel_to_panel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(tmp_path)
    epub = write_epub(book, tmp_path / "b.epub")
    links = [link.get("href") or "" for link in parsed(epub, "regions.xhtml").iter(f"{HTML}a")]
    (leaf,) = [leaf for leaf in book.leaves if leaf.kind == "story"]
    own = [link for link in links if link.startswith(f"page-{leaf.number:03d}")]
    assert len(own) == len(leaf.pictures)
    assert len(links) == len(own) + len(book.leaves) - 1
    for link, item in zip(own, leaf.pictures, strict=True):
        x, y, wide, high = (int(each) / 100 for each in link.split("percent:")[1].split(","))
        seen = Rect(612 * x, 612 * y, 612 * wide, 612 * high)
        assert seen.covered(item.frame) > 0.94
    assert complaints(epub, "Grid", monkeypatch) == []


def test_a_web_page_leads_through_its_comic_pages_alone(tmp_path: Path) -> None:
    book = book_of(tmp_path)
    page = write_html(book, tmp_path / "b.html").read_text()
    (leaf,) = [leaf for leaf in book.leaves if leaf.kind == "story"]
    assert re.findall(r'id="(p\d+)"[^>]* data-guided>', page) == [f"p{leaf.number}"]


def test_a_book_of_single_pictures_needs_no_way_through_panels(tmp_path: Path) -> None:
    text = STORY.replace('grid: "FORM"', "kind: art-over-text\n    text: Once.")
    text = "\n".join(
        line for line in text.splitlines() if "id: b" not in line and "id: c" not in line
    )
    story = written(tmp_path, text.replace("LANGUAGE", "en").replace("    gutter: 6\n", ""))
    epub = write_epub(bind(story, placeholders(story, tmp_path)), tmp_path / "b.epub")
    with zipfile.ZipFile(epub) as archive:
        assert "EPUB/regions.xhtml" not in archive.namelist()


def test_a_count_that_fills_no_sheets_is_a_programmers_mistake() -> None:
    with pytest.raises(ValueError, match="multiple of four"):
        order(6)


def book_of(folder: Path) -> Book:
    story = written(folder, STORY.replace("FORM", "AB/.C").replace("LANGUAGE", "en"))
    return bind(story, placeholders(story, folder))


def test_a_booklet_has_half_as_many_pages_twice_as_wide(tmp_path: Path) -> None:
    book = book_of(tmp_path)
    full = filled(book)
    assert len(full.leaves) % 4 == 0
    assert (full.leaves[0], full.leaves[-1].kind) == (book.leaves[0], "back")
    path = write_booklet(book, tmp_path / "b.pdf")
    with pikepdf.open(path) as pdf:
        assert pdf.check_pdf_syntax() == []
        assert len(pdf.pages) == len(full.leaves) // 2
        box = [float(edge) for edge in pdf.pages[0].MediaBox]
        assert pdf.open_metadata()["Iptc4xmpExt:DigitalSourceType"] == DIGITAL_SOURCE
    assert (box[2], box[3]) == pytest.approx((2 * 612, 612), abs=0.1)
    again = write_booklet(book, tmp_path / "c.pdf")
    assert path.read_bytes() == again.read_bytes()
