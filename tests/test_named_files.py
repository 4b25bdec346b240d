"""Files that a story names, wherever it names them: one rule says where they lie, for everybody."""

from __future__ import annotations

import contextlib
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from clothing import written
from inks import press_profile
from PIL import Image, ImageCms
from pinning import edit

from storyforge.book.typeface import ANDIKA, COMIC_NEUE
from storyforge.errors import Severity, StoryForgeError
from storyforge.project.project import Project
from storyforge.story.story import check

KEYS = {
    "base": ("title:", "base: NAME\ntitle:"),
    "base model": ("title:", "base: {model: NAME}\ntitle:"),
    "autoencoder": ("title:", "base: {model: pocket, vae: NAME}\ntitle:"),
    "schedule": ("title:", "base: {model: pocket, scheduler: NAME}\ntitle:"),
    "concept": ("concepts/pond}", "NAME}"),
    "layout": ("{id: dry,", "{id: dry, layout: NAME,"),
    "mask": ("at: left, outfit: raincoat", "mask: NAME, outfit: raincoat"),
    "picture": ("{id: dry,", "{id: dry, picture: NAME,"),
    "control": ("{id: dry,", "{id: dry, control: [{picture: NAME, adapter: NAME}],"),
    "refine": ("{id: dry,", "{id: dry, refine: {picture: NAME},"),
    "lora": ("title:", "sampling: {lora: [{file: NAME}]}\ntitle:"),
    "font": ("title:", "book: {font: NAME.ttf, title_font: NAME.otf}\ntitle:"),
    "upscale": ("title:", "book: {upscale: NAME}\ntitle:"),
    "profile": ("title:", "book: {print: {profile: NAME}}\ntitle:"),
    "portrait": ("title:", "book: {people: [{name: A, life: B, picture: NAME}]}\ntitle:"),
    "narration": ("  - panels:\n      - {id: dry", "  - narration: NAME\n    panels: [{id: dry"),
    "cache": ("title:", "cache: NAME\ntitle:"),
}
NAMES = {
    "long": "n" * 5000,
    "long folders": "/".join(["n" * 200] * 40) + "/a.safetensors",
    "nobody's": '"~nobody-lives-here/a.png"',
    "a zero": r'"a\0b.png"',
    "up and up": "../" * 3000 + "a.png",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize(("old", "new"), KEYS.values(), ids=KEYS)
def test_no_name_makes_check_or_plan_raise(tmp_path: Path, old: str, new: str, name: str) -> None:
    story = written(tmp_path)
    if "narration" in new:
        edit(story, "alt: A.}", "alt: A.}]")
    edit(story, old, new.replace("NAME", name))
    assert story.read_text().count(name.strip('"')) >= 1
    found = Project(story).check()
    if not any(each.severity is Severity.ERROR for each in found):
        with contextlib.suppress(StoryForgeError):
            Project(story).plan()


@pytest.mark.parametrize("key", ["font", "title_font", "upscale"])
def test_another_file_of_the_same_name_is_another_book(tmp_path: Path, key: str) -> None:
    story = written(tmp_path)
    name = "f.ttf" if "font" in key else "f.bin"
    shutil.copyfile(ANDIKA.path, tmp_path / name)
    edit(story, "title:", f"book: {{{key}: {name}}}\ntitle:")
    before = Project(story).plan().books[0].key
    shutil.copyfile(COMIC_NEUE.path, tmp_path / name)
    assert Project(story).plan().books[0].key != before


def test_another_profile_of_the_same_name_is_another_book(tmp_path: Path) -> None:
    story = written(tmp_path)
    profile = press_profile(tmp_path / "p.icc")
    edit(story, "title:", "book: {print: {profile: p.icc}}\ntitle:")
    before = Project(story).plan().books[0].key
    profile.write_bytes(profile.read_bytes().replace(b"press\0", b"other\0"))
    assert Project(story).plan().books[0].key != before


def test_what_lies_in_the_home_folder_is_found_and_told_to_be_out_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Image.new("RGB", (8, 8)).save(tmp_path / "home" / "a.png")
    story = written(tmp_path)
    edit(story, "{id: dry,", "{id: dry, picture: ~/a.png,")
    assert [found.code for found in check(story)] == ["SF407"]
    assert [task.panel for task in Project(story).plan().own] == ["dry"]


def own(folder: Path, name: str = "a.png") -> Path:
    """A story whose first panel is a picture of its author's."""
    story = written(folder)
    edit(story, "{id: dry,", f"{{id: dry, picture: {name},")
    return story


def cut_jpeg(path: Path) -> None:
    """A photograph of which the second half is lost."""
    Image.effect_noise((400, 300), 90).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbled_png(path: Path) -> None:
    """A PNG whose every sum is right, and whose pixels are none."""

    def chunk(name: bytes, content: bytes) -> bytes:
        sums = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + sums

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"no pixels" * 99) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("name", "spoil"), [("a.jpg", cut_jpeg), ("a.png", garbled_png)])
@pytest.mark.parametrize("key", ["picture", "mask", "portrait"])
def test_a_picture_that_is_cut_off_is_found_by_check(
    tmp_path: Path, key: str, name: str, spoil: Callable[[Path], None]
) -> None:
    spoil(tmp_path / name)
    story = written(tmp_path)
    old, new = KEYS[key]
    edit(story, old, new.replace("NAME", name))
    assert "SF328" in [found.code for found in check(story)]
    Image.new("RGB", (64, 64), "white").save(tmp_path / name)
    assert "SF328" not in [found.code for found in check(story)]


def test_a_mask_has_the_shape_of_the_authors_own_picture(tmp_path: Path) -> None:
    story = own(tmp_path)
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    Image.new("L", (200, 100), "white").save(tmp_path / "mask.png")
    edit(story, "{concept: pip, at: left}}, alt: A.", "{concept: pip, mask: mask.png}}, alt: A.")
    assert [found.code for found in check(story)] == []
    Image.new("L", (100, 100), "white").save(tmp_path / "mask.png")
    assert "SF438" in [found.code for found in check(story)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("time: at night", "time: at the hour of <nobody>"),
        ("weather: in the rain", "weather: under <nobody>"),
        ("raincoat: in a yellow raincoat", "raincoat: in the coat of <nobody>"),
        ("prompt: in shining armour", "prompt: in the armour of <nobody>"),
        ("reeds: seen from the reeds", "reeds: seen by <nobody>"),
    ],
)
def test_a_concept_that_is_none_is_found_wherever_the_model_reads_it(
    tmp_path: Path, old: str, new: str
) -> None:
    story = written(tmp_path)
    edit(story, old, new)
    assert [found.code for found in check(story)] == ["SF311"]
    edit(story, "<nobody>", "<pond>")
    assert [found.code for found in check(story)] == []


def test_a_profile_of_no_press_is_found_by_check(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    story = written(tmp_path)
    edit(story, "title:", "book: {print: {profile: a.icc}}\ntitle:")
    for content in (srgb, b"no profile", b""):
        (tmp_path / "a.icc").write_bytes(content)
        assert [found.code for found in check(story)] == ["SF336"]
    press_profile(tmp_path / "a.icc")
    assert [found.code for found in check(story)] == []
