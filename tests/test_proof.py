"""Layout proofs: what is on a page before it is drawn, in every format and without a model."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pikepdf
import pytest
from bookmaking import hostile_story, placeholders, written
from PIL import Image
from typer.testing import CliRunner, Result

from storyforge.book.leaf import Rect
from storyforge.book.page import bind
from storyforge.book.preview import diagram, typeset, web
from storyforge.book.preview.drawing import (
    Drawing,
    Ink,
    Label,
    LineShape,
    Photo,
    Proof,
    RectShape,
    ellipse,
    polyline,
)
from storyforge.book.preview.pages import proof_of
from storyforge.cli.program import app
from storyforge.project.layouts import layouts
from storyforge.story.families import FAMILIES
from storyforge.story.layout import shipped
from storyforge.story.story import Story, read

STORY = """
storyforge: 1
title: Two
size: [64, 64]
characters: {pip: pip, owl: owl}
objects: {lamp: lamp}
book: {trim: kdp-6x9}
pages:
  - text: Once upon a time.
    kind: full-bleed
    panels:
      - id: both
        prompt: a wood
        alt: A fox and an owl.
        regions:
          left: {at: left, concept: pip, pose: waving, facing: right}
          right: {at: right, concept: owl, z: 1}
          lamp: {at: centre, concept: lamp, z: 2}
        say: [{who: pip, text: Good evening!}, {text: Crash, kind: sound}]
  - text: The end.
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A story of one picture with two characters and an object."""
    for name, kind in (("pip", "character"), ("owl", "character"), ("lamp", "object")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "concept.yaml").write_text(f"kind: {kind}\nclass: {name}\n")
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    (tmp_path / "story.yaml").write_text(STORY)
    return tmp_path / "story.yaml"


def page(proof: Proof, title: str) -> Drawing:
    return next(each for each in proof.drawings if each.title == title)


def words(drawing: Drawing) -> list[str]:
    return [" ".join(mark.lines) for mark in drawing.marks if isinstance(mark, Label)]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_a_proof_has_the_book_s_pages_and_all_its_words(path: Path, tmp_path: Path) -> None:
    story = read(path)
    proof, book = proof_of(story), bind(story, placeholders(story, tmp_path))
    assert [each.title for each in proof.drawings] == [leaf.label for leaf in book.leaves]
    assert len({each.name for each in proof.drawings}) == len(book.leaves)
    for drawing, leaf in zip(proof.drawings, book.leaves, strict=True):
        said = [said for picture in leaf.pictures for said in picture.balloons]
        wanted = {" ".join(item.lines) for item in (*leaf.texts, *said)}
        assert wanted <= set(words(drawing))


def test_regions_stand_where_the_story_puts_them_and_bear_their_names(path: Path) -> None:
    drawing = page(proof_of(read(path)), "Page 1")
    assert {"left: pip waving", "right: owl, z 1", "lamp: lamp, z 2"} <= set(words(drawing))
    tinted = [
        mark for mark in drawing.marks if mark.layer == "regions" and isinstance(mark, RectShape)
    ]
    left, right, lamp = (mark.rect for mark in tinted if mark.ink.line)
    frame = next(m.rect for m in drawing.marks if isinstance(m, RectShape) and m.layer == "art")
    assert left.x == pytest.approx(frame.x)
    assert right.right == pytest.approx(frame.right)
    assert left.right == pytest.approx(right.x) == pytest.approx(lamp.centre().x)


def test_characters_are_stick_figures_and_objects_are_not(path: Path) -> None:
    drawing = page(proof_of(read(path)), "Page 1")
    figures = [m for m in drawing.marks if isinstance(m, LineShape) and m.layer == "figures"]
    assert sum(mark.ink.dashed for mark in figures) == 1, "the lamp is an oval"
    heads = [mark for mark in figures if mark.ink.fill == "#ffffff"]
    assert len(heads) == 2
    assert heads[0].ink.line != heads[1].ink.line
    assert heads[1].ink.line.endswith("70"), "nobody said what the owl does"


def test_quiet_places_are_marked_on_the_page(path: Path) -> None:
    path.write_text(STORY.replace("alt: A fox", "quiet: [[0, 0, 1, 0.25]]\n        alt: A fox"))
    drawing = page(proof_of(read(path)), "Page 1")
    assert "quiet" in words(drawing)
    frame, quiet = (
        next(m.rect for m in drawing.marks if isinstance(m, RectShape) and m.layer == layer)
        for layer in ("art", "regions")
    )
    assert (quiet.x, quiet.width) == pytest.approx((frame.x, frame.width), abs=frame.width / 4)
    assert quiet.y == pytest.approx(frame.y)


def test_a_spread_is_proofed_as_two_halves_of_one_picture(path: Path) -> None:
    written = STORY.replace("size: [64, 64]", "size: [128, 96]").replace("full-bleed", "spread")
    for old, new in (("at: left", "box: [0.1, 0.2, 0.4, 1]"), ("at: right", "at: C2:C3")):
        written = written.replace(old, new)
    lamp = "          lamp: {at: centre, concept: lamp, z: 2}\n"
    path.write_text(written.replace(lamp, "").replace("objects: {lamp: lamp}\n", ""))
    first, second = [each for each in proof_of(read(path)).drawings if each.title == "Page 1"]
    assert any(each.startswith("left: pip") for each in words(first))
    assert any(each.startswith("right: owl") for each in words(second))
    assert not any(each.startswith("left: pip") for each in words(second))


def test_the_lines_are_the_printer_s(path: Path) -> None:
    drawing = page(proof_of(read(path)), "Page 2")
    guides = [m.rect for m in drawing.marks if isinstance(m, RectShape) and m.layer == "guides"]
    bled, safe, cut = guides
    assert (cut.width, cut.height) == (6 * 72, 9 * 72)
    assert bled.height - cut.height == pytest.approx(2 * 0.125 * 72)
    assert bled.width - cut.width == pytest.approx(0.125 * 72), "nothing bleeds into the fold"
    assert cut.width - safe.width == pytest.approx(2 * 0.375 * 72)
    for mark in drawing.marks:
        rect = mark.rect if isinstance(mark, RectShape | Label) else cut
        assert rect.x >= 0
        assert rect.y >= 0
        assert rect.right <= drawing.width + 0.01
        assert rect.bottom <= drawing.height + 0.01


def test_pictures_that_exist_are_shown_beneath(path: Path, tmp_path: Path) -> None:
    story = read(path)
    drawn = placeholders(story, tmp_path)
    photos = [
        mark
        for drawing in proof_of(story, drawn=drawn).drawings
        for mark in drawing.marks
        if isinstance(mark, Photo)
    ]
    assert {photo.path for photo in photos} == {drawn["both"].path}
    assert not any(isinstance(m, Photo) for d in proof_of(story).drawings for m in d.marks)


def test_pictures_that_are_not_shown_place_the_balloons_of_the_book(
    path: Path, tmp_path: Path
) -> None:
    story = read(path)
    drawn = placeholders(story, tmp_path)
    shown, hidden = proof_of(story, drawn=drawn), proof_of(story, drawn=drawn, unshown=drawn)
    for one, other in zip(shown.drawings, hidden.drawings, strict=True):
        assert not any(isinstance(mark, Photo) for mark in other.marks)
        assert layer(one, "balloons") == layer(other, "balloons")


def layer(drawing: Drawing, name: str) -> list[object]:
    return [mark for mark in drawing.marks if mark.layer == name]


def colors(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_png_draws_every_kind_of_mark_in_its_place(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (0, 0, 255)).save(tmp_path / "sea.png")
    whole = Rect(0, 0, 1, 1)
    marks = (
        RectShape("page", Rect(0, 0, 72, 72), Ink("#ffffff")),
        RectShape("art", Rect(0, 0, 20, 20), Ink("#ff0000")),
        LineShape(
            "figures", polyline([(40, 10), (70, 10)]), Ink(None, "#00ff00", 6), Rect(40, 0, 15, 72)
        ),
        LineShape("figures", ellipse(Rect(0, 40, 20, 20)), Ink("#ff00ff")),
        Photo("art", tmp_path / "sea.png", Rect(40, 40, 20, 20), whole),
    )
    (png,) = typeset.pngs([Drawing("a", "A", 72, 72, marks)], ppi=72)
    seen = colors(png)
    assert seen.shape == (72, 72, 3)
    for (x, y), color in {
        (10, 10): (255, 0, 0),
        (48, 10): (0, 255, 0),
        (62, 10): (255, 255, 255),
        (10, 50): (255, 0, 255),
        (50, 50): (0, 0, 255),
        (30, 30): (255, 255, 255),
    }.items():
        assert tuple(seen[y, x]) == color


def test_pdf_has_the_pages_and_the_same_bytes_twice(path: Path) -> None:
    proof = proof_of(read(path))
    made = typeset.pdf(proof)
    assert made == typeset.pdf(proof)
    with pikepdf.open(io.BytesIO(made)) as pdf:
        sizes = [tuple(float(side) for side in each.mediabox[2:]) for each in pdf.pages]
    assert sizes == [pytest.approx((d.width, d.height), abs=0.01) for d in proof.drawings]


def test_html_holds_every_word_and_a_switch_for_every_layer(path: Path) -> None:
    proof = proof_of(read(path))
    made = b"".join(web.html(proof)).decode()
    for drawing in proof.drawings:
        for mark in drawing.marks:
            if isinstance(mark, Label):
                assert all(f">{line}</tspan>" in made for line in mark.lines if line.isalnum())
    for layer in ("art", "regions", "figures", "words", "balloons", "guides"):
        assert f'id="show-{layer}"' in made
        assert f'class="{layer}"' in made
    assert "http" not in made.replace("http-equiv", "")


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    proof = proof_of(hostile_story(tmp_path))
    made = b"".join(web.html(proof)).decode()
    assert "<script" not in made
    assert "onerror=" not in made.replace("onerror=&#34;", "")
    body = made[made.index("<main>") : made.index("</body>")]
    assert len(ET.fromstring(body).findall(".//svg")) == len(proof.drawings)
    assert len(typeset.pngs(proof.drawings, ppi=24)) == len(proof.drawings)


def test_a_book_from_right_to_left_lies_open_the_other_way(tmp_path: Path) -> None:
    proof = proof_of(hostile_story(tmp_path))
    assert proof.rtl
    assert proof.spreads()[:2] == ((0,), (2, 1))


@pytest.mark.parametrize("story", [*shipped("stories").glob("*.yaml")], ids=lambda path: path.stem)
def test_every_shipped_story_has_a_proof(story: Path) -> None:
    made: Story = read(story)
    proof = proof_of(made)
    shown = {words_ for drawing in proof.drawings for words_ in words(drawing)}
    for _, panel in made.panels():
        for name, region in panel.regions.items():
            assert any(each.startswith(f"{name}: {region.concept or ''}") for each in shown)


def test_preview_writes_every_page_in_every_format(path: Path, tmp_path: Path) -> None:
    done = invoke("preview", path, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    files = [Path(name) for name in json.loads(done.stdout)["files"]]
    assert all(file.is_file() for file in files)
    pages = [file for file in files if file.parent.name.endswith(".proof")]
    assert len(pages) == len(proof_of(read(path)).drawings)
    assert {file.suffix for file in files if file not in pages} == {".png", ".pdf", ".html"}
    assert not (tmp_path / ".storyforge").exists(), "a preview needs no store"


def test_a_page_that_is_gone_is_gone_from_the_preview(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert invoke("preview", path, "--out", out, "--to", "png").exit_code == 0
    before = {file.name for file in out.glob("*.proof/*.png")}
    path.write_text(STORY.replace("  - text: The end.\n", ""))
    assert invoke("preview", path, "--out", out, "--to", "png").exit_code == 0
    after = {file.name for file in out.glob("*.proof/*.png")}
    assert "05-page-2.png" in before
    assert "05-page-2.png" not in after


def test_an_unknown_format_is_wrong_usage(path: Path) -> None:
    done = invoke("preview", path, "--to", "png,docx")
    assert done.exit_code == 2
    assert "docx" in done.output


def test_words_that_do_not_fit_name_their_page(path: Path, tmp_path: Path) -> None:
    path.write_text(STORY.replace("The end.", "The end. " * 900))
    done = invoke("preview", path, "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "page 2" in done.output
    assert not (tmp_path / "out").exists()


def test_a_layout_s_picture_names_its_regions_and_shows_who_is_in_front() -> None:
    made = next(each for each in layouts(None) if each.name == "over-the-shoulder")
    drawing = diagram.layout_drawing(made)
    assert {"listener, z 1", "speaker", "over-the-shoulder"} <= set(words(drawing))
    boxes = [m for m in drawing.marks if isinstance(m, RectShape) and m.layer == "regions"]
    speaker, veil, listener = boxes[:3]
    assert veil.rect == listener.rect
    assert listener.rect.common(speaker.rect) is not None


def test_the_sheet_of_layouts_shows_each_once_and_apart() -> None:
    found = layouts(None)
    drawing = diagram.layouts_drawing(found)
    shown = words(drawing)
    assert all(shown.count(each.name) == 1 for each in found)
    frames = [m.rect for m in drawing.marks if isinstance(m, RectShape) and m.layer == "art"]
    assert len(frames) == len(found)
    for index, one in enumerate(frames):
        assert all(one.common(other) is None for other in frames[:index])


def test_layouts_are_shown_one_or_all(tmp_path: Path) -> None:
    for arguments in (("one-left",), ()):
        out = tmp_path / f"{len(arguments)}.png"
        done = invoke("layout", "show", *arguments, "--out", out)
        assert done.exit_code == 0, done.output
        assert done.stdout.strip() == str(out)
        assert len(np.unique(colors(out.read_bytes()).reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("one-lft",), "did you mean `one-left`"),
        (("xyzzy",), "storyforge layout list"),
        (("one-left", "--out", "a.pdf"), "a.png"),
    ],
)
def test_a_layout_that_cannot_be_shown_is_told_with_its_remedy(arguments, told: str) -> None:
    done = invoke("layout", "show", *arguments)
    assert done.exit_code == 1
    assert told in done.output


WORDS = (
    "One night Pip found a lantern in the snow. Nobody knew whose it was, or why it still burnt so "
    "brightly. So he took it home, and waited."
)


def typeset_page(folder: Path, book: str) -> Drawing:
    """A page with these words on paper, in a proof of a book that is set so."""
    story = written(
        folder,
        f"storyforge: 1\ntitle: T\nbook: {book}\npages:\n"
        f"  - {{kind: art-over-text, text: '{WORDS}', panels: [{{id: a, prompt: a, alt: A}}]}}\n",
    )
    return next(each for each in proof_of(story).drawings if each.title == "Page 1")


@pytest.mark.parametrize("family", FAMILIES)
def test_words_of_every_typeface_are_seen_in_a_proof(tmp_path: Path, family: str) -> None:
    drawing = typeset_page(tmp_path, f"{{font: {family}}}")
    words = next(m for m in drawing.marks if isinstance(m, Label) and m.layer == "words")
    (png,) = typeset.pngs([drawing], 72)
    with Image.open(io.BytesIO(png)) as page:
        rect = words.rect
        seen = page.convert("L").crop(
            (round(rect.x), round(rect.y), round(rect.right), round(rect.bottom))
        )
    assert seen.getextrema()[0] < 100


def test_a_proof_has_drop_capitals_as_the_book(tmp_path: Path) -> None:
    drawing = typeset_page(tmp_path, "{drop_capitals: true, text_color: '#1b2a4a'}")
    letter, beside, below = (
        mark for mark in drawing.marks if isinstance(mark, Label) and mark.layer == "words"
    )
    assert letter.lines == ("O",)
    assert letter.size > 2 * beside.size
    assert beside.rect.x == pytest.approx(letter.rect.right)
    assert below.rect.y == pytest.approx(beside.rect.bottom)
    assert " ".join(("O" + beside.lines[0], *beside.lines[1:], *below.lines)) == WORDS
    assert {letter.color, beside.color, below.color} == {"#1b2a4a"}
