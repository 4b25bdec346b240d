"""What a press and a binder want: output intents, inks, crop marks, boards; and who made a book."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import pikepdf
import pytest
from inks import press_profile
from PIL import Image, ImageCms
from pinning import edit

from storyforge.book.binding import Binding
from storyforge.book.epub import write_epub
from storyforge.book.html import write_html
from storyforge.book.initial import initialled
from storyforge.book.inline import emphasised, runs, unmarked
from storyforge.book.leaf import Art, Book, Picture, Rect, TextBlock
from storyforge.book.page import bind, undrawn
from storyforge.book.picture import jpeg
from storyforge.book.preflight import Marks, check_book
from storyforge.book.typeface import ANDIKA
from storyforge.book.wrap import inside, wrap
from storyforge.errors import Report, StoryError, StoryForgeError
from storyforge.project.project import Project
from storyforge.provenance.xmp import SOURCES
from storyforge.story.story import check, read

STORY = """\
storyforge: 1
title: The Sea
author: A. Painter
book:
  trim: {{width: 100mm, height: 100mm, bleed: 3mm}}
  cover: {{panel: sea, back: sea, blurb: Salt and wind.}}
  people: [{{name: A. Painter, life: She lives by the sea., picture: sea.png}}]
  print: {{caliper: 0.005, {said}}}
pages:
  - text: Once.
    panels: [{{id: sea, picture: sea.png, alt: The sea.}}]
"""
MM = 72 / 25.4


def story_of(folder: Path, said: str = "") -> Path:
    Image.new("RGB", (300, 300), (30, 90, 200)).save(folder / "sea.png")
    path = folder / "story.yaml"
    path.write_text(STORY.format(said=said))
    return path


def printed(story: Path, *names: str) -> list[Path]:
    made = Project(story).render(formats=names)  # type: ignore[arg-type]
    assert not made.troubles, made.troubles
    return list(made.books)


def test_a_press_gets_its_profile_as_output_intent(tmp_path: Path) -> None:
    press_profile(tmp_path / "press.icc")
    (pdf,) = printed(story_of(tmp_path, "profile: press.icc"), "inside")
    with pikepdf.open(pdf) as opened:
        (intent,) = opened.Root.OutputIntents
        assert intent.S == "/GTS_PDFX"
        assert intent.DestOutputProfile.read_bytes() == (tmp_path / "press.icc").read_bytes()
        assert "PDF/X-4" in opened.Root.Metadata.read_bytes().decode()
        assert str(opened.docinfo["/Trapped"]) == "/False"
        assert opened.pdf_version == "1.6"
        assert not opened.is_encrypted
        images = images_of(opened)
        assert images
        assert all(item.get("/ColorSpace") != "/DeviceRGB" for item in images)


def test_colours_become_inks_and_letters_black_alone(tmp_path: Path) -> None:
    press_profile(tmp_path / "press.icc")
    (pdf,) = printed(story_of(tmp_path, "profile: press.icc, colors: cmyk"), "inside")
    with pikepdf.open(pdf) as opened:
        spaces = [str(item.get("/ColorSpace")) for item in images_of(opened)]
        steps = [
            (str(step.operator), [float(each) for each in step.operands])
            for page in opened.pages
            for step in pikepdf.parse_content_stream(page)
            if str(step.operator) in {"k", "K", "rg", "RG"}
        ]
    assert set(spaces) == {"/DeviceCMYK"}
    assert {name for name, _ in steps} <= {"k", "K"}
    assert any(inks[:3] == [0, 0, 0] and inks[3] > 0.9 for name, inks in steps if name == "k")


@pytest.mark.parametrize("colors", ["rgb", "cmyk"])
def test_a_press_is_told_who_made_the_pictures(tmp_path: Path, colors: str) -> None:
    press_profile(tmp_path / "press.icc")
    story = story_of(tmp_path, f"profile: press.icc, colors: {colors}")
    edit(story, "picture: sea.png,", "picture: sea.png, made: model,")
    (pdf,) = printed(story, "inside")
    with pikepdf.open(pdf) as opened:
        metadata = opened.Root.Metadata.read_bytes().decode()
        said = [told_in(item.read_raw_bytes()) for item in images_of(opened)]
    assert "DigitalSourceType" in metadata
    assert [made for made in SOURCES if SOURCES[made] in metadata] == ["model"]
    assert set(filter(None, said)) == {"hand", "model"}


def told_in(jpeg: bytes) -> str | None:
    return next((made for made, source in SOURCES.items() if source.encode() in jpeg), None)


def images_of(pdf: pikepdf.Pdf) -> list[pikepdf.Stream]:
    return [
        item
        for item in pdf.objects
        if isinstance(item, pikepdf.Stream) and item.get("/Subtype") == "/Image"
    ]


@pytest.mark.parametrize("said", ["marks: true", "profile: press.icc, marks: true"])
def test_a_page_without_bleed_is_cut_where_its_paper_ends(tmp_path: Path, said: str) -> None:
    press_profile(tmp_path / "press.icc")
    story = story_of(tmp_path, said)
    edit(story, "bleed: 3mm", "bleed: 0mm")
    (pdf,) = printed(story, "inside")
    with pikepdf.open(pdf) as opened:
        page = opened.pages[0]
        trim, bleed, media = (
            [float(e) for e in box] for box in (page.TrimBox, page.BleedBox, page.MediaBox)
        )
    assert trim == bleed == pytest.approx([0, 0, 100 * MM, 100 * MM], abs=0.01)
    assert media == pytest.approx([-30, -30, 100 * MM + 30, 100 * MM + 30], abs=0.01)


def test_a_book_without_bleed_passes_preflight(tmp_path: Path) -> None:
    story = story_of(tmp_path, "marks: false")
    edit(story, "bleed: 3mm", "bleed: 0mm")
    printed(story, "pdf")
    assert not [found for found in Project(story).preflight() if found.code == "SF510"]


def test_the_same_profile_gives_the_same_bytes(tmp_path: Path) -> None:
    press_profile(tmp_path / "press.icc")
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        story = story_of(tmp_path / name, "profile: ../press.icc, marks: true")
        made.append(printed(story, "inside")[0].read_bytes())
    assert made[0] == made[1]


def test_crop_marks_stand_outside_the_bleed(tmp_path: Path) -> None:
    (pdf,) = printed(story_of(tmp_path, "marks: true"), "inside")
    with pikepdf.open(pdf) as opened:
        page = opened.pages[0]
        media, bleed, trim = (
            [float(e) for e in box] for box in (page.MediaBox, page.BleedBox, page.TrimBox)
        )
        lines = [
            [float(each) for each in step.operands]
            for step in pikepdf.parse_content_stream(page)
            if str(step.operator) in {"m", "l"}
        ][-16:]
    assert media[0] < bleed[0] < trim[0]
    ends = {round(x, 2) for x, _ in lines} & {round(trim[0], 2), round(trim[2], 2)}
    assert len(ends) == 2
    assert all(not (bleed[0] < x < bleed[2] and bleed[1] < y < bleed[3]) for x, y in lines)


@pytest.mark.parametrize(
    ("said", "code"),
    [("profile: none.icc", "SF303"), ("colors: cmyk", "SF202"), ("binding: stapled", "SF202")],
)
def test_check_says_what_a_press_would_lack(tmp_path: Path, said: str, code: str) -> None:
    assert [found.code for found in check(story_of(tmp_path, said))] == [code]


def test_a_screens_profile_is_no_presss(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    (tmp_path / "screen.icc").write_bytes(srgb.tobytes())
    with pytest.raises(StoryError) as raised:
        Project(story_of(tmp_path, "profile: screen.icc")).render(formats=("inside",))
    assert "no printer's" in raised.value.diagnostics[0].message


def bound(path: Path) -> Book:
    story = read(path)
    return bind(story, undrawn(story))


def test_a_case_is_larger_by_boards_hinges_and_what_is_turned_in(tmp_path: Path) -> None:
    path = story_of(tmp_path, "binding: case")
    book = bound(path)
    made = wrap(book, read(path))
    spine = len(inside(book).leaves) * 0.005 * 72 + 2 * 2.5 * MM
    assert made.trim.width * 72 == pytest.approx(2 * (100 + 3 + 8) * MM + spine)
    assert made.trim.height * 72 == pytest.approx(106 * MM)
    assert made.trim.bleed * 72 == pytest.approx(16 * MM)
    (leaf,) = made.leaves
    back, front = sorted((item.frame for item in leaf.pictures), key=lambda frame: frame.x)
    assert back.x == pytest.approx(-16 * MM)
    assert front.right == pytest.approx(made.trim.width * 72 + 16 * MM)
    assert (back.y, back.bottom) == pytest.approx((-16 * MM, 122 * MM))
    hinge = (100 + 3) * MM
    for text in leaf.texts:
        assert text.rect.right < hinge or text.rect.x > hinge


@pytest.mark.parametrize("language", ["en", "he"])
def test_a_framed_cover_keeps_its_frame_on_a_case(tmp_path: Path, language: str) -> None:
    path = story_of(tmp_path, "binding: case")
    edit(path, "back: sea,", "design: framed,")
    edit(path, "author:", f"language: {language}\nauthor:")
    book = bound(path)
    (leaf,) = wrap(book, read(path)).leaves
    (before,), (after,) = book.leaves[0].pictures, leaf.pictures
    title = next(text for text in leaf.texts if text.role == "title")
    for side in ("width", "height"):
        assert getattr(after.frame, side) == pytest.approx(getattr(before.frame, side))
    assert after.crop.area == pytest.approx(before.crop.area)
    assert after.frame.centre().x == pytest.approx(title.rect.centre().x)
    assert not any(after.frame.common(text.rect) for text in leaf.texts)


def test_the_back_shows_its_picture_with_the_blurb_on_a_plate(tmp_path: Path) -> None:
    last = bound(story_of(tmp_path)).leaves[-1]
    assert [item.art.panel for item in last.pictures] == ["sea"]
    (blurb,) = last.texts
    assert blurb.plate is not None


def test_a_page_tells_who_made_the_book(tmp_path: Path) -> None:
    (leaf,) = [leaf for leaf in bound(story_of(tmp_path)).leaves if leaf.kind == "lives"]
    assert [text.text for text in leaf.texts] == ["A. Painter", "She lives by the sea."]
    (portrait,) = leaf.pictures
    assert isinstance(portrait, Picture)
    assert (portrait.corner, portrait.alt) == ("circle", "A. Painter")
    assert all(not portrait.frame.common(text.rect) for text in leaf.texts)


def told_of(folder: Path, count: int, trim: str) -> Path:
    """A story with so many people, each with a portrait, on pages of this size."""
    path = story_of(folder)
    edit(path, "people: [", f"people: [{'{name: B, life: He., picture: sea.png}, ' * (count - 1)}")
    edit(path, "width: 100mm, height: 100mm", trim)
    return path


@pytest.mark.parametrize("trim", ["width: 100mm, height: 100mm", "width: 70mm, height: 200mm"])
def test_portraits_stay_on_their_page_however_many(tmp_path: Path, trim: str) -> None:
    path = told_of(tmp_path, 4, trim)
    binding = Binding.of(read(path), {}, None)
    (leaf,) = [leaf for leaf in bound(path).leaves if leaf.kind == "lives"]
    live = binding.sheet(leaf.number).live
    assert len(leaf.pictures) == 4
    for item in leaf.pictures:
        assert item.frame.width == item.frame.height
        assert item.frame.covered(live) == pytest.approx(1)
        assert not any(item.frame.common(text.rect) for text in leaf.texts)


def test_portraits_are_no_panels_to_be_led_through(tmp_path: Path) -> None:
    story = read(told_of(tmp_path, 2, "width: 100mm, height: 100mm"))
    book = bind(story, {"sea": Art("sea", tmp_path / "sea.png", 300, 300)})
    assert [len(leaf.pictures) for leaf in book.leaves if leaf.kind == "lives"] == [2]
    with zipfile.ZipFile(write_epub(book, tmp_path / "b.epub")) as archive:
        assert "EPUB/regions.xhtml" not in archive.namelist()
    page = write_html(book, tmp_path / "b.html").read_text()
    assert 'id="guide"' not in page
    assert "data-guided>" not in page


def test_a_small_portrait_is_told_to_bring_a_larger_one(tmp_path: Path) -> None:
    book, report = bound(told_of(tmp_path, 1, "width: 100mm, height: 100mm")), Report("a")
    check_book(book, Marks(), report)
    hints = {d.message.split("`")[1]: d.hint for d in report.findings() if "an inch" in d.message}
    assert "`book.people`" in hints["portrait 1"]
    assert not any("people" in hint for name, hint in hints.items() if name != "portrait 1")


def test_where_no_portrait_has_room_the_author_is_told(tmp_path: Path) -> None:
    path = told_of(tmp_path, 4, "width: 100mm, height: 90mm")
    with pytest.raises(StoryForgeError, match="no room for the portrait"):
        bound(path)


def test_a_portrait_lies_as_its_camera_says_in_the_colours_that_it_means(tmp_path: Path) -> None:
    path = story_of(tmp_path)
    edit(path, "picture: sea.png}", "picture: me.jpg}")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.new("CMYK", (200, 100), (0, 255, 255, 0))
    turned.paste((255, 0, 0, 0), (0, 0, 100, 100))
    turned.save(tmp_path / "me.jpg", exif=exif)
    (leaf,) = [leaf for leaf in bound(path).leaves if leaf.kind == "lives"]
    shown = Image.open(io.BytesIO(jpeg(leaf.pictures[0].art, 1)))
    assert shown.size == (100, 200)
    assert near(shown.getpixel((50, 20)), (0, 255, 255))
    assert near(shown.getpixel((50, 180)), (255, 0, 0))


def near(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) < 8


def test_proofs_show_portraits_of_every_kind_and_of_one_name(tmp_path: Path) -> None:
    path = told_of(tmp_path, 2, "width: 200mm, height: 200mm")
    for name, color in (("one", "red"), ("two", "blue")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (64, 64), color).save(tmp_path / name / "me.tif")
    edit(path, "life: He., picture: sea.png", "life: He., picture: one/me.tif")
    edit(path, "picture: sea.png}]", "picture: two/me.tif}]")
    seen: set[object] = set()
    for page in Project(path).preview(("png",)):
        seen |= {rgb for _, rgb in Image.open(page).convert("RGB").getcolors(1 << 24) or ()}
    assert {(255, 0, 0), (0, 0, 255)} <= seen


def block_of(words: str, lines: int, align: str = "center") -> TextBlock:
    from storyforge.book.typeface import set_lines

    measure = next(m for m in range(60, 4, -1) if len(set_lines(words, ANDIKA, m) or ()) == lines)
    found = set_lines(words, ANDIKA, measure)
    assert found is not None
    return TextBlock("story", words, found, Rect(0, 0, measure * 10, lines * 14), 10, 1.4, ANDIKA)


WORDS = "There was once a fox who lived in a wood of violet trees and never needed a lamp at all."
ROOM = Rect(0, 0, 400, 400)


def test_a_drop_capital_moves_two_lines_aside_and_loses_no_word() -> None:
    made = initialled(block_of(WORDS, 4), ROOM, "en")
    assert made.initial is not None
    assert made.initial.letter == "T"
    assert " ".join(made.lines) == WORDS
    assert made.align == "start"
    assert made.initial.size > 2.5 * made.size


FRENCH = (
    "Voil\u00e0\u00a0! dit le renard\u00a0; o\u00f9 est ma lampe\u00a0? "
    "Elle \u00e9tait l\u00e0\u00a0: je l\u2019ai vue hier, et puis plus rien du tout."
)
UNSPACED = "O" + "🦊🌙🌲🌊" * 12
"""Wide signs, between which lines break as they do in Japanese."""


@pytest.mark.parametrize(
    "words",
    [
        FRENCH,
        UNSPACED,
        "E\u0301" + FRENCH[5:],
        "A fox" + WORDS[20:],
        WORDS.replace("wood", "won\u00adder\u00adwood"),
        WORDS.replace(" fox ", "  fox  "),
    ],
)
def test_a_drop_capital_gives_every_letter_once(words: str) -> None:
    made = initialled(block_of(words, 5), ROOM, "fr")
    assert made.initial is not None
    assert letters("".join(made.lines)) == letters(words)


@pytest.mark.parametrize("first", ["\u0915\u093f", "\u0e01\u0e33", "\u0e19\u0e35\u0e49"])
def test_signs_of_vowels_stay_with_their_letter(first: str) -> None:
    made = initialled(block_of(first + WORDS, 5), ROOM, "hi")
    assert made.initial is not None
    assert made.initial.letter == first


def test_a_first_word_of_one_letter_stays_a_word() -> None:
    made = initialled(block_of("A fox" + WORDS[20:], 4), ROOM, "en")
    assert made.initial is not None
    assert made.lines[0].startswith("A fox")


def test_emphasis_that_two_lines_began_goes_on_below_them() -> None:
    made = initialled(block_of(emphasised(f"There *{WORDS[6:-1]}*."), 5), ROOM, "en")
    assert made.initial is not None
    assert [style for _, style in runs(made.lines[2])] == ["italic"]


@pytest.mark.parametrize(("language", "side"), [("en", "left"), ("he", "right")])
def test_a_drop_capital_stands_where_reading_begins(
    tmp_path: Path, language: str, side: str
) -> None:
    said = f"kind: art-over-text\n    text: {' '.join([WORDS] * 2)}"
    path = story_of(tmp_path)
    edit(path, "text: Once.", said)
    edit(path, "  people:", "  drop_capitals: true\n  people:")
    edit(path, "author:", f"language: {language}\nauthor:")
    (epub,) = printed(path, "epub")
    with zipfile.ZipFile(epub) as archive:
        pages = "".join(archive.read(n).decode() for n in archive.namelist() if "page-" in n)
    assert re.findall(r"float:(\w+)", pages) == [side]


def letters(text: str) -> str:
    return "".join(unmarked(text).replace("\u00ad", "").split())


@pytest.mark.parametrize(
    ("words", "lines"), [(WORDS, 2), ("“" + WORDS, 4), (f"{WORDS}\nAnd then.", 5)]
)
def test_what_suits_no_drop_capital_has_none(words: str, lines: int) -> None:
    text = block_of(words.replace("\n", " "), lines)
    text = TextBlock("story", words, text.lines, text.rect, 10, 1.4, ANDIKA)
    assert initialled(text, ROOM, "en") == text


def test_a_profile_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    from storyforge.book.press import Press, pressed

    (tmp_path / "a.icc").write_bytes(b"no profile")
    plain = io.BytesIO()
    with pikepdf.new() as pdf:
        pdf.add_blank_page()
        pdf.save(plain)
    with pytest.raises(StoryForgeError, match="cannot read the colour profile"):
        pressed(plain.getvalue(), Press(tmp_path / "a.icc"), "T")
