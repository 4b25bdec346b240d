"""Pictures of the author's own: taken as they are, told from drawn ones, and no model for them."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pikepdf
import pytest
from PIL import Image, ImageCms, ImageDraw
from pinning import edit, made_story
from typer.testing import CliRunner

from storyforge.book.own import ready
from storyforge.book.picture import tones
from storyforge.cli.program import app
from storyforge.engine.books import art_of
from storyforge.errors import StoryForgeError
from storyforge.plan.lockfile import lock_path
from storyforge.plan.plan import Order
from storyforge.project.project import Project
from storyforge.provenance.xmp import SOURCES, told_by
from storyforge.story.story import check, read

STORY = """\
storyforge: 1
title: By Hand
author: A. Painter
pages:
  - text: A day by the sea.
    panels: [{id: sea, picture: art/sea.png, alt: The sea.}]
  - text: A night in the hills.
    panels: [{id: hill, picture: art/hill.jpg, fit: contain, alt: A hill.}]
"""


def painted(folder: Path) -> Path:
    (folder / "art").mkdir()
    sea = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    ImageDraw.Draw(sea).rectangle((0, 150, 300, 300), fill=(30, 90, 200, 255))
    sea.save(folder / "art" / "sea.png")
    Image.new("RGB", (400, 200), (60, 120, 60)).save(folder / "art" / "hill.jpg")
    story = folder / "story.yaml"
    story.write_text(STORY)
    return story


def pixels(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_a_book_of_own_pictures_is_bound_without_torch(tmp_path: Path) -> None:
    story = painted(tmp_path)
    code = (
        "import sys; from storyforge.project.project import Project\n"
        f"made = Project({str(story)!r}).render()\n"
        "assert not made.troubles and made.made.panels == 2, made\n"
        "assert 'torch' not in sys.modules, 'torch'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert (tmp_path / "build" / f"{tmp_path.name}.pdf").is_file()


def test_what_is_clear_shows_the_paper_of_its_page(tmp_path: Path) -> None:
    painted(tmp_path)
    path = tmp_path / "ready.png"
    path.write_bytes(ready(tmp_path / "art" / "sea.png", None))
    shown = Image.open(path).getpixel((10, 10))
    paper = tones(art_of("sea", path)).paper
    assert shown == tuple(bytes.fromhex(paper[1:]))
    assert min(shown) > 220


def test_a_profile_is_obeyed(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # sRGB with red and green changed places: what is red in the file is to be seen as green.
    swapped = srgb.replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ")
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "swapped.png", icc_profile=swapped)
    red, green, blue = pixels(ready(tmp_path / "swapped.png", None)).getpixel((0, 0))
    assert (red < 60, green > 200, blue < 60) == (True, True, True)


@pytest.mark.parametrize(
    ("mode", "color", "name", "seen"),
    [
        ("CMYK", (0, 255, 255, 0), "red.jpg", (254, 0, 0)),
        ("I;16", 65535, "white.png", (255, 255, 255)),
        ("I;16", 32896, "grey.tif", (128, 128, 128)),
        ("1", 1, "white.tif", (255, 255, 255)),
        ("P", 0, "black.gif", (0, 0, 0)),
    ],
)
def test_every_kind_of_picture_becomes_rgb(
    tmp_path: Path, mode: str, color: object, name: str, seen: tuple[int, int, int]
) -> None:
    Image.new(mode, (8, 8), color).save(tmp_path / name)  # type: ignore[arg-type]
    found = pixels(ready(tmp_path / name, None))
    assert found.mode == "RGB"
    assert max(abs(a - b) for a, b in zip(found.getpixel((4, 4)), seen, strict=True)) < 3


def test_a_picture_lies_as_its_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "side.jpg", exif=exif)
    assert pixels(ready(tmp_path / "side.jpg", None)).size == (20, 40)


def test_the_file_says_who_made_it_and_the_author_knows_better(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    (tmp_path / "drawn.png").write_bytes(ready(tmp_path / "plain.png", "model"))
    told = [
        ready(tmp_path / "plain.png", None),
        ready(tmp_path / "drawn.png", None),
        ready(tmp_path / "drawn.png", "retouched"),
    ]
    out = tmp_path / "out.png"
    found = []
    for content in told:
        out.write_bytes(content)
        found.append(told_by(out))
    assert found == ["hand", "model", "retouched"]


def test_a_book_by_hand_says_so_everywhere(tmp_path: Path) -> None:
    story = painted(tmp_path)
    books = Project(story).render(formats=("pdf", "html", "epub", "cbz")).books
    told = {book.suffix: said_in(book) for book in books}
    assert sorted(told) == [".cbz", ".epub", ".html", ".pdf"]
    for text in told.values():
        assert "made by hand" in text or SOURCES["hand"] in text
        assert SOURCES["model"] not in text
        assert "AI image model" not in text
        assert "Base model" not in text


def said_in(book: Path) -> str:
    """All that a book says of itself in words or metadata."""
    if book.suffix == ".pdf":
        with pikepdf.open(book) as opened:
            return opened.Root.Metadata.read_bytes().decode()
    if book.suffix == ".html":
        return re.sub(r"\s+", " ", book.read_text())
    with zipfile.ZipFile(book) as archive:
        names = [name for name in archive.namelist() if not name.endswith((".jpg", ".woff2"))]
        texts = [archive.read(name).decode("utf-8", "replace") for name in names]
    return re.sub(r"\s+", " ", " ".join(texts))


def test_a_picture_that_shows_whole_stands_inside_the_margins(tmp_path: Path) -> None:
    project = Project(painted(tmp_path))
    project.render(formats=("pdf",))
    from storyforge.book.page import bind

    story, plan = project.story, project.plan(Order(formats=("pdf",)))
    art = {t.panel: art_of(t.panel, project.store.path("panels", t.key)) for t in plan.own}
    (hill,) = [
        p for leaf in bind(story, art).leaves for p in leaf.pictures if p.art.panel == "hill"
    ]
    assert (hill.crop.width, hill.crop.height) == pytest.approx((1, 1))
    assert hill.frame.width / hill.frame.height == pytest.approx(2)


def test_a_cover_shows_a_picture_whole_that_is_to_show_whole(tmp_path: Path) -> None:
    story = painted(tmp_path)
    edit(story, "author: A. Painter", "author: A. Painter\nbook: {cover: {panel: hill}}")
    from storyforge.book.page import bind, undrawn

    (cover,) = bind(read(story), undrawn(read(story))).leaves[0].pictures
    assert (cover.crop.width, cover.crop.height) == pytest.approx((1, 1))
    assert not [found for found in check(story) if found.code == "SF440"]


@pytest.mark.parametrize(
    ("old", "new", "place", "remedy"),
    [
        (
            "  - text: A night",
            "  - kind: blank\n  - kind: spread\n    text: A night",
            "fit: contain",
            "take it out, or choose another `kind`",
        ),
        (
            "author: A. Painter",
            "book: {cover: {panel: hill, design: band}}",
            "design: band",
            "choose `design: framed`, or another panel",
        ),
        (
            "author: A. Painter",
            "book: {cover: {panel: sea, back: hill}}",
            "back: hill",
            "choose another panel",
        ),
    ],
)
def test_check_says_where_a_picture_cannot_show_whole(
    tmp_path: Path, old: str, new: str, place: str, remedy: str
) -> None:
    story = painted(tmp_path)
    edit(story, old, new)
    (found,) = [found for found in check(story) if found.code == "SF440"]
    assert story.read_text().splitlines()[found.line - 1].find(place) == found.column - 1
    assert found.message.endswith(f"; {remedy}")


def test_a_cover_that_names_no_panel_crops_the_first(tmp_path: Path) -> None:
    story = painted(tmp_path)
    text = story.read_text().replace(", fit: contain", "")
    text = text.replace("id: sea,", "id: sea, fit: contain,")
    story.write_text(text.replace("author: A. Painter", "book: {cover: {design: overlay}}"))
    assert "SF440" in [found.code for found in check(story)]


@pytest.mark.parametrize(
    ("said", "codes"),
    [
        ("text_place: top", []),
        ("kind: text-beside-art\n    text_place: top", ["SF413"]),
        ("gutter: 5", ["SF413"]),
    ],
)
def test_check_says_where_there_is_nothing_to_place(
    tmp_path: Path, said: str, codes: list[str]
) -> None:
    story = painted(tmp_path)
    edit(story, "text: A day by the sea.", f"text: A day by the sea.\n    {said}")
    assert [found.code for found in check(story)] == codes


def test_drawn_and_own_pictures_stand_in_one_book(tmp_path: Path) -> None:
    story = made_story(tmp_path)
    Image.new("RGB", (64, 64), "red").save(story.parent / "own.png")
    edit(story, 'id: end, prompt: "7", ', "id: end, picture: own.png, ")
    plan = Project(story).plan()
    assert [task.panel for task in plan.panels] == ["found"]
    assert [task.panel for task in plan.own] == ["end"]
    assert [name for name, _ in plan.books[0].panels] == ["found", "end"]
    # Nobody who stands in a picture of one's own has to be learnt for it.
    assert plan.fuse is not None
    assert [name for name, _ in plan.fuse.concepts] == ["pip"]


def test_an_own_picture_is_nothing_to_draw(tmp_path: Path) -> None:
    project = Project(painted(tmp_path))
    with pytest.raises(StoryForgeError, match="picture of your own"):
        project.render(["sea"])


def test_a_changed_picture_is_taken_anew(tmp_path: Path) -> None:
    story = painted(tmp_path)
    Project(story).render(formats=("html",))
    assert not Project(story).status(Order(formats=("html",))).stale
    Image.new("RGB", (300, 300), "red").save(tmp_path / "art" / "sea.png")
    stale = [line.subject for line in Project(story).status(Order(formats=("html",))).stale]
    assert stale == ["panel sea", "book html en"]


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("art/sea.png", "art/see.png", "SF303"),
        ("art/sea.png", "story.yaml", "SF328"),
        ("art/sea.png,", "art/sea.png, seed: 3,", "SF435"),
        ("picture: art/hill.jpg", "prompt: a hill", "SF435"),
    ],
)
def test_check_says_what_is_wrong_with_it(tmp_path: Path, old: str, new: str, code: str) -> None:
    story = painted(tmp_path)
    edit(story, old, new)
    assert [found.code for found in check(story)] == [code]


@pytest.mark.parametrize(
    ("speech", "codes"),
    [
        ("{who: dog, tail: [0.2, 0.7], text: Woof.}", []),
        ("{who: Grandma, from: left, text: Supper!}", []),
        ("{who: dog, text: Woof.}", ["SF300"]),
        ("{who: dog, from: left, tail: [0, 0], text: Woof.}", ["SF202"]),
        ("{who: dog, from: behind, text: Woof.}", ["SF202"]),
    ],
)
def test_whoever_is_pointed_at_may_speak(tmp_path: Path, speech: str, codes: list[str]) -> None:
    story = painted(tmp_path)
    edit(story, "alt: The sea.", f"alt: The sea., say: [{speech}]")
    assert [found.code for found in check(story)] == codes


def test_a_pinned_picture_is_painted_over_and_kept(tmp_path: Path) -> None:
    story = made_story(tmp_path)
    Project(story).pin_picture("found", _painting(tmp_path))
    (copy,) = (story.parent / "pins").glob("found-*.png")
    Image.new("RGB", (64, 64), "blue").save(copy)
    result = CliRunner().invoke(app, ["check", str(story)])
    assert "SF701" in result.output
    assert "--picture FILE" in result.output
    result = CliRunner().invoke(app, ["pin", str(story), "found", "--picture", str(copy)])
    assert result.exit_code == 0, result.output
    pin = Project(story).pins["found"]
    assert Image.open(pin.picture).getpixel((0, 0)) == (0, 0, 255)
    assert told_by(pin.picture) == "retouched"
    assert [line.state for line in Project(story).status().lines if "found" in line.subject] == [
        "pinned"
    ]


def test_a_picture_for_what_was_never_drawn_is_by_hand(tmp_path: Path) -> None:
    story = made_story(tmp_path)
    edit(story, 'prompt: "7"', 'prompt: "8"')
    lock_path(story).unlink(missing_ok=True)
    for ledger in (story.parent / ".storyforge").rglob("*.json"):
        ledger.unlink()
    done = Project(story).pin_picture("end", _painting(tmp_path))
    assert told_by(done.picture) == "hand"


def _painting(folder: Path) -> Path:
    path = folder / "painting.png"
    Image.new("RGB", (64, 64), "green").save(path)
    return path
