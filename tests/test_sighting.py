"""Where figures stand is seen in the drawn picture, and words keep off them."""

from __future__ import annotations

from pathlib import Path

import pytest
from bookmaking import written
from PIL import Image, ImageDraw

from storyforge.book import balloon, compose
from storyforge.book.faces import Marks, check_faces
from storyforge.book.leaf import Art, Book, Rect
from storyforge.book.page import bind
from storyforge.book.placing import Figure
from storyforge.book.sighting import sighted
from storyforge.engine.books import art_of
from storyforge.errors import Report
from storyforge.story.story import read

REGION = Rect(0.05, 0.2, 0.4, 0.8)
"""Where the figure was asked for; it is drawn further to the right, and higher."""

DRAWN = (84, 30, 148, 190)
"""Pixels of a picture 256 wide."""


def drawing(path: Path, *figures: tuple[int, int, int, int]) -> Path:
    """Orange figures on a blue ground with a green meadow."""
    picture = Image.new("RGB", (256, 256), (120, 170, 230))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 180, 256, 256), fill=(90, 160, 80))
    for figure in figures:
        pen.ellipse(figure, fill=(240, 140, 40))
    picture.save(path)
    return path


def test_a_figure_is_seen_where_it_was_drawn(tmp_path: Path) -> None:
    (seen,) = sighted(drawing(tmp_path / "a.png", DRAWN), 1, (REGION,))
    assert seen is not None
    wanted = Rect(*(side / 256 for side in (84, 30, 64, 160)))
    assert seen.covered(wanted) > 0.9
    assert wanted.covered(seen) > 0.75


def test_nothing_is_seen_where_nothing_stands_out(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    Image.new("RGB", (64, 64), (90, 90, 90)).save(path)
    assert sighted(path, 1, (Rect(0.3, 0.2, 0.4, 0.8),)) == (None,)


def test_nothing_is_seen_in_a_file_that_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "story.yaml"
    path.write_text("title: none")
    assert sighted(path, 1, (REGION, REGION)) == (None, None)


def test_a_picture_that_is_drawn_anew_is_looked_at_anew(tmp_path: Path) -> None:
    path = drawing(tmp_path / "a.png", DRAWN)
    (before,) = sighted(path, 1, (REGION,))
    (after,) = sighted(drawing(path, (10, 90, 60, 250)), 2, (REGION,))
    assert before is not None
    assert after is not None
    assert after.right < before.x + 0.1


STORY = """\
storyforge: 1
title: Hello
characters: {pip: concepts/pip, owl: concepts/owl}
book: {trim: square-8.5}
pages:
  - kind: KIND
    text: Good night, they said, and the sea was as loud as ever all that night.
    panels:
      - id: one
        alt: Both.
        regions:
          a: {concept: pip, box: [0.05, 0.25, 0.4, 1.0]}
          b: {concept: owl, box: [0.6, 0.25, 0.95, 1.0]}
        say: [{who: pip, text: Good night!}, {who: owl, text: Sleep well.}]
"""


def bound(folder: Path, kind: str, *figures: tuple[int, int, int, int]) -> Book:
    path = drawing(folder / "one.png", *figures)
    story = written(folder, STORY.replace("KIND", kind))
    return bind(story, {"one": Art("one", path, 256, 256)})


@pytest.mark.parametrize("shift", [-10, 0, 24])
def test_balloons_keep_off_faces_wherever_these_were_drawn(tmp_path: Path, shift: int) -> None:
    book = bound(
        tmp_path,
        "full-bleed",
        (20 + shift, 70, 90 + shift, 240),
        (160 - shift, 90, 230 - shift, 250),
    )
    (page,) = [leaf for leaf in book.leaves if any(item.balloons for item in leaf.pictures)]
    (item,) = page.pictures
    assert len(item.heads) == 2
    for said in item.balloons:
        body = balloon.padded(said.text, said.size, said.kind)
        assert all(head.face.covered(body) < 0.07 for head in item.heads)
        assert said.tip is not None
        assert not any(head.face.inset(4).holds(said.tip) for head in item.heads)


@pytest.mark.parametrize("kind", ["art-over-text", "text-beside-art"])
def test_a_cropped_picture_shows_everybody_whole(tmp_path: Path, kind: str) -> None:
    book = bound(tmp_path, kind, (4, 70, 70, 250), (180, 70, 250, 250))
    (page,) = [leaf for leaf in book.leaves if leaf.kind == "story"]
    (item,) = page.pictures
    assert [head.shown for head in item.heads] == [1.0, 1.0]


def test_where_there_is_no_room_for_all_one_is_shown_whole() -> None:
    left, right = Rect(0.05, 0.2, 0.3, 0.8), Rect(0.65, 0.2, 0.3, 0.8)
    figures = tuple(Figure("pip", body, body, alive=True) for body in (left, right))
    crop = compose.crop_to(Rect(0, 0, 100, 100), compose.FramedPicture(2.0, figures))
    assert [body.covered(crop) for body in (left, right)] == [pytest.approx(1), 0.0]
    beside = Rect(0.25, 0.2, 0.2, 0.8), Rect(0.55, 0.2, 0.2, 0.8)
    near = tuple(Figure("pip", body, body, alive=True) for body in beside)
    crop = compose.crop_to(Rect(0, 0, 100, 100), compose.FramedPicture(2.0, near))
    assert crop.centre().x == pytest.approx(0.5)


def test_a_picture_with_nobody_in_it_may_be_cropped() -> None:
    empty = compose.FramedPicture(1.0, ())
    assert empty.kept == (compose.KEPT, compose.KEPT)


@pytest.mark.parametrize("name", ["the-sneeze", "fox-and-lantern", "good-night"])
def test_words_and_tails_leave_every_face_of_the_samples_free(name: str) -> None:
    story = read(Path(__file__).parents[1] / "stories" / f"{name}.yaml")
    drawn = Path(__file__).parent / "goldens" / name / "panels"
    art = {p.id: art_of(p.id, drawn / f"{p.id}.png") for _, p in story.panels()}
    report = Report(name)
    for leaf in bind(story, art, phones=False).leaves:
        check_faces(leaf, Marks(), report)
    found = [str(each) for each in report.findings() if each.code in {"SF530", "SF531"}]
    assert found == []
