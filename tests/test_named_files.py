"""Files that a story names, wherever it names them: one rule says where they lie, for everybody."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest
from PIL import Image
from pinning import edit
from test_continuity import written

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


@pytest.mark.parametrize("key", ["font", "title_font", "upscale", "print.profile"])
def test_another_file_of_the_same_name_is_another_book(tmp_path: Path, key: str) -> None:
    story = written(tmp_path)
    name = "f.ttf" if "font" in key else "f.bin"
    shutil.copyfile(ANDIKA.path, tmp_path / name)
    outer, _, inner = key.partition(".")
    said = f"{{{inner}: {name}}}" if inner else name
    edit(story, "title:", f"book: {{{outer}: {said}}}\ntitle:")
    before = Project(story).plan().books[0].key
    shutil.copyfile(COMIC_NEUE.path, tmp_path / name)
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
