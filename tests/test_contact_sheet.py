"""A contact sheet shows every picture in its place, whole, with the words that belong to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storyforge.contact_sheet import (
    LINE,
    MARGIN,
    PAPER,
    Cell,
    Row,
    contact_sheet,
    font_of,
    write_contact_sheet,
)
from storyforge.errors import StoryForgeError

RED, BLUE = (255, 0, 0), (0, 0, 255)


def plain(colour: tuple[int, int, int], width: int = 40, height: int = 40) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def places(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """The box that all pixels of a colour fill."""
    rows, columns = np.nonzero((np.array(sheet) == colour).all(2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_without_a_side_every_pixel_is_shown_as_it_is() -> None:
    noise, larger = (Image.effect_noise((side, side), 90).convert("RGB") for side in (30, 34))
    sheet = contact_sheet([("", [Cell(noise), Cell(larger)])], side=None)
    left, top = MARGIN + 2, MARGIN + 2
    assert sheet.crop((left, top, left + 30, top + 30)).tobytes() == noise.tobytes()
    left, top = MARGIN + 34 + MARGIN, MARGIN
    assert sheet.crop((left, top, left + 34, top + 34)).tobytes() == larger.tobytes()


def test_a_picture_keeps_its_shape_in_the_middle_of_its_square() -> None:
    sheet = contact_sheet([("", [Cell(plain(RED, 20, 10))])], side=80)
    assert places(sheet, RED) == (MARGIN, MARGIN + 20, MARGIN + 80, MARGIN + 60)


def test_a_title_moves_its_row_down_by_a_line() -> None:
    bare, titled = (contact_sheet([(title, [Cell(plain(RED))])], 40) for title in ("", "pip"))
    assert places(titled, RED)[1] == places(bare, RED)[1] + LINE
    assert titled.height == bare.height + LINE


def test_rows_stand_below_each_other_under_the_words_of_the_one_before() -> None:
    rows: list[Row] = [("a", [Cell(plain(RED), "pip", "seed 1")]), ("", [Cell(plain(BLUE))])]
    sheet = contact_sheet(rows, 40)
    assert places(sheet, BLUE)[1] == places(sheet, RED)[3] + 2 * LINE + MARGIN


def test_an_empty_place_moves_the_others_to_the_right() -> None:
    sheet = contact_sheet([("", [Cell(None), Cell(plain(RED))])], 40)
    assert places(sheet, RED)[0] == MARGIN + 40 + MARGIN


def test_what_is_transparent_shows_paper() -> None:
    sheet = contact_sheet([("", [Cell(Image.new("RGBA", (40, 40)))])], 40)
    assert sheet.getcolors() == [(sheet.width * sheet.height, (251, 247, 239))]
    assert PAPER == "#fbf7ef"


def test_a_chosen_picture_has_a_frame_and_others_have_none() -> None:
    bare, framed = (contact_sheet([("", [Cell(plain(RED), chosen=c)])], 40) for c in (False, True))
    corner = (MARGIN - 1, MARGIN - 1)
    assert framed.getpixel(corner) != bare.getpixel(corner)


def test_bad_words_have_another_colour() -> None:
    fine, bad = (contact_sheet([("", [Cell(plain(RED), "x", bad=b)])], 40) for b in (False, True))
    assert fine.tobytes() != bad.tobytes()


def test_long_words_end_before_the_next_picture() -> None:
    cells = [Cell(plain(RED), "word " * 40), Cell(plain(RED))]
    sheet = contact_sheet([("", cells)], 40)
    gap = sheet.crop((MARGIN + 40, MARGIN + 40, MARGIN + 40 + MARGIN, sheet.height))
    assert gap.getcolors() == [(gap.width * gap.height, (251, 247, 239))]


def test_the_font_has_the_letters_of_other_alphabets() -> None:
    font = font_of(14)
    missing = font.getmask("\ufffe").getbbox(), font.getlength("\ufffe")
    for letter in "éßŁЖ":
        assert (font.getmask(letter).getbbox(), font.getlength(letter)) != missing


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(StoryForgeError, match=r"cannot read the picture `.*a\.png`"):
        write_contact_sheet([("", [Cell(tmp_path / "a.png")])], tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()


def test_a_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a picture"):
        contact_sheet([("pip", [])])
