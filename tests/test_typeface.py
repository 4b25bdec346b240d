"""Fonts by name and by file, what they lack, and where lines of other scripts may end."""

from __future__ import annotations

from pathlib import Path

import pikepdf
import pytest
from bookmaking import placeholders, written
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from storyforge.book.leaf import Face
from storyforge.book.page import bind
from storyforge.book.pdf import write_pdf
from storyforge.book.typeface import ANDIKA, TEXT_FACES, metrics, set_lines, text_face
from storyforge.errors import StoryForgeError
from storyforge.story.families import FAMILIES

STORY = """\
storyforge: 1
title: TITLE
language: LANG
book: {font: FONT, colophon: false}
pages:
  - text: "TEXT"
"""


def square_font(path: Path, characters: str, family: str) -> Path:
    """A font in which every character is a square of one em."""
    names = {ord(character): f"u{ord(character):04X}" for character in characters}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((900, 0), (900, 800), (100, 800)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    builder.setupGlyf(dict.fromkeys([".notdef", *names.values()], square))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (1000, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular", "psName": "Squares"})
    builder.setupOS2(sTypoAscender=800, sTypoDescender=-200, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    builder.save(path)
    return path


def set_book(folder: Path, text: str, language: str, characters: str) -> Path:
    square_font(folder / "squares.ttf", characters, "My Squares Condensed Medium")
    source = STORY.replace("TITLE", text[:2]).replace("LANG", language).replace("TEXT", text)
    story = written(folder, source.replace("FONT", "squares.ttf"))
    return write_pdf(bind(story, placeholders(story, folder)), folder / "book.pdf")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_that_can_be_named_is_there_with_its_licence(name: str) -> None:
    face = text_face(name.upper(), Path("nowhere"))
    assert face == TEXT_FACES[name.casefold()]
    licence = face.path.with_name(f"{face.path.stem.partition('-')[0]}-OFL.txt")
    assert "SIL OPEN FONT LICENSE" in licence.read_text(encoding="utf-8")
    assert metrics(face).missing("Æble, café, “Straße” – it’s…") == ""
    assert face.web.read_bytes()[:4] == b"wOF2"


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_embedded_when_it_is_asked_for(tmp_path: Path, name: str) -> None:
    source = STORY.replace("TITLE", "T").replace("LANG", "en").replace("TEXT", "Once upon a time")
    story = written(tmp_path, source.replace("FONT", name))
    path = write_pdf(bind(story, placeholders(story, tmp_path)), tmp_path / "book.pdf")
    assert any(name.replace(" ", "") in font for font in embedded(path))


def embedded(path: Path) -> list[str]:
    with pikepdf.open(path) as opened:
        return [
            str(item.FontName)
            for item in opened.objects
            if isinstance(item, pikepdf.Dictionary)
            and item.get("/Type") == pikepdf.Name.FontDescriptor
        ]


@pytest.mark.parametrize(
    ("text", "language"),
    [("你是谁的灯笼？我不知道。", "zh"), ("שלום לכל הילדים", "he"), ("مرحبا يا أصدقاء", "ar")],
)
def test_a_given_font_sets_other_scripts(tmp_path: Path, text: str, language: str) -> None:
    path = set_book(tmp_path, text, language, text + " ")
    assert any("Squares" in font for font in embedded(path))
    with pikepdf.open(path) as opened:
        assert str(opened.Root.Lang) == language


def test_a_missing_glyph_names_character_page_and_font(tmp_path: Path) -> None:
    with pytest.raises(StoryForgeError, match=r"page 1: .*`My Squares.*` has no `谁` \(U\+8C01"):
        set_book(tmp_path, "你是谁", "zh", "你是 ")


def test_an_accent_of_its_own_counts_as_missing_unless_it_can_be_joined(tmp_path: Path) -> None:
    font = square_font(tmp_path / "f.ttf", "aé", "F")
    face = Face("F", 400, font, font, "none")
    assert metrics(face).missing("e\u0301") == ""
    assert metrics(face).missing("a\u0331") == "\u0331"
    assert metrics(face).missing("a\ufe0f\u200d") == ""


def test_no_line_begins_with_what_closes_or_ends_with_what_opens(tmp_path: Path) -> None:
    text = "他说：“你好，朋友。”（然后走了。）「そうですかーっ」と言った。"
    font = square_font(tmp_path / "f.ttf", text, "F")
    face = Face("F", 400, font, font, "none")
    broken = 0
    for measure in range(4, 20):
        lines = set_lines(text, face, float(measure)) or ()
        broken += len(lines)
        for line in lines:
            assert line[0] not in "，。：？”）」ーっ"
            assert line[-1] not in "“（「"
    assert broken > 40


def test_words_of_latin_script_are_never_broken() -> None:
    lines = set_lines("“Don’t!” she (softly) said; it’s…", ANDIKA, 5.0)
    assert lines is not None
    assert " ".join(lines) == "“Don’t!” she (softly) said; it’s…"
