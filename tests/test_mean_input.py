"""Files that nobody vouches for: told what is wrong, at no risk, and without a traceback."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support import bomb
from typer.testing import CliRunner

from storyforge import pictures
from storyforge.cli import app
from storyforge.errors import EnvironmentProblem, Mark, Report, StoryForgeError
from storyforge.headers.checked import check_font, head_of, json_of, sort_head
from storyforge.model.card import Card
from storyforge.model.concept import Concept
from storyforge.model.lora import Delta
from storyforge.model.tokens import ConceptTokens
from storyforge.pictures import ConceptPicture, caption_lines, files_read, mask_of, metadata
from storyforge.project.project import Project
from storyforge.story import scaffold as scaffolding
from storyforge.story.lint.paths import check_pictures


@pytest.fixture
def concept(tmp_path: Path) -> Path:
    """A concept's file, with words of two groups and one change."""
    path = tmp_path / "pip.safetensors"
    words, delta = torch.ones(2, 2, 4), Delta(torch.ones(3, 2), torch.ones(2, 5), 1.0)
    tokens = ConceptTokens("pip", words)
    made = Concept("pip", "character", "fox", tokens, {"unet.a": delta}, "pocket", "5eed")
    made.save(path)
    return path


def rewritten(path: Path, change: str, value: object) -> Path:
    """The same file with one thing in its head changed."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + length])
    if change in head["__metadata__"]:
        head["__metadata__"][change] = value
    else:
        head[change] |= value  # type: ignore[operator]
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    return path


@pytest.mark.parametrize(
    ("change", "value", "words"),
    [
        ("recipe", "[" * 100_000, "nested too deep"),
        ("recipe", "[]", "no list of settings"),
        ("concept.words", {"shape": [16]}, "not words × groups × width"),
        ("concept.words", {"shape": [4, 4]}, "not words × groups × width"),
        ("unet.a.lora_A.weight", {"shape": [5, 2]}, "its other half does not fit"),
        ("unet.a.lora_A.weight", {"shape": [99]}, "not of the size that it claims"),
        ("unet.a.lora_A.weight", {"shape": [10**300]}, "not of the size that it claims"),
        ("unet.a.lora_A.weight", {"dtype": "F99"}, "not of the size that it claims"),
        ("unet.a.lora_A.weight", {"data_offsets": [-4, 16]}, "overlap, or leave gaps"),
        ("unet.a.lora_A.weight", {"data_offsets": []}, "is not described"),
    ],
)
def test_a_concept_that_lies_is_told_by_show_without_a_traceback(
    concept: Path, change: str, value: object, words: str
) -> None:
    done = CliRunner().invoke(app, ["concept", "show", str(rewritten(concept, change, value))])
    assert done.exit_code == 3
    assert words in done.stderr


@pytest.mark.parametrize("cut", [0, 7, 8, 20, -1])
def test_a_concept_that_is_cut_is_told(concept: Path, cut: int) -> None:
    concept.write_bytes(concept.read_bytes()[:cut])
    with pytest.raises(EnvironmentProblem, match="cannot read"):
        Card.read(concept)


def test_a_pickle_is_refused_by_its_first_bytes(concept: Path) -> None:
    torch.save({"concept.words": torch.ones(2, 2, 4)}, concept)
    with pytest.raises(EnvironmentProblem, match="may run code"):
        Card.read(concept)


def test_shapes_that_do_not_fit_are_refused_before_they_are_used(concept: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="is damaged"):
        Concept.load(rewritten(concept, "concept.words", {"shape": [4, 4]}))


def test_the_same_concept_is_the_same_bytes(concept: Path) -> None:
    before = concept.read_bytes()
    for _ in range(5):
        Concept.load(concept).save(concept)
        assert concept.read_bytes() == before


def test_an_ordered_head_says_what_it_said(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    notes = {f"key {n}": 'Ünï \x01 "q" \u2028 😀 \\' for n in range(9)}
    save_file({"b": torch.arange(6.0), "é": torch.ones(2, 2)}, path, notes)
    sort_head(path)
    assert dict(head_of(path).metadata) == notes
    assert set(head_of(path).tensors) == {"b", "é"}


@pytest.mark.parametrize("text", ["[" * 100_000, "", "{", "1" * 5000])
def test_json_that_is_none_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        json_of(text)


def test_metadata_of_brackets_without_end_is_a_finding(tmp_path: Path) -> None:
    Image.effect_noise((300, 300), 80).save(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text("[" * 100_000)
    done = CliRunner().invoke(app, ["concept", "check", str(tmp_path)])
    assert done.exit_code == 1
    assert "SF606" in done.output


def test_a_caption_that_a_link_leads_out_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the words of another")
    folder = tmp_path / "pip"
    folder.mkdir()
    (folder / "a.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(StoryForgeError, match="leads out of its folder"):
        caption_lines(folder, "a.txt")


def test_a_mask_that_a_link_leads_out_is_not_opened(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "mask.png")
    folder = tmp_path / "pip"
    folder.mkdir()
    (folder / "a-mask.png").symlink_to(tmp_path / "mask.png")
    with pytest.raises(StoryForgeError, match="leads out of its folder"):
        mask_of(folder, ConceptPicture("a.png", "a-mask.png", ()), Image.new("RGB", (8, 8)))


@pytest.mark.parametrize("mask", ["../m.png", "/etc/passwd", "b/../../m.png"])
def test_a_mask_outside_of_the_folder_is_refused_by_its_line(tmp_path: Path, mask: str) -> None:
    line = {"file_name": "a.png", "mask": mask}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(line))
    with pytest.raises(StoryForgeError, match="leads out of the folder"):
        metadata(tmp_path)


def test_more_files_than_a_concept_has_are_refused(tmp_path: Path) -> None:
    for n in range(4):
        (tmp_path / f"{n}.png").touch()
    with pytest.raises(StoryForgeError, match="more than 3 pictures"):
        files_read(tmp_path, 3)


def test_check_counts_the_pictures_of_a_concept(tmp_path: Path) -> None:
    from storyforge.errors import Mark, Report

    for n in range(4):
        (tmp_path / f"{n}.png").touch()
    report = Report("story.yaml")
    check_pictures(tmp_path, Mark(), report, 3)
    assert [finding.code for finding in report.findings()] == ["SF303"]


def test_a_picture_that_would_fill_the_memory_is_not_unpacked(tmp_path: Path) -> None:
    Image.new("1", (9000, 9000)).save(tmp_path / "a.png")
    with pytest.raises(pictures.PictureTooLarge):
        pictures.open_picture(tmp_path / "a.png")


STORY = """
storyforge: 1
title: A
pages: [{text: Once upon a time.}]
"""


@pytest.mark.parametrize("language", ["../../../escaped", "xx", "%2e", ""])
def test_a_proof_is_of_a_language_that_the_story_has(tmp_path: Path, language: str) -> None:
    story = tmp_path / "book" / "story.yaml"
    story.parent.mkdir()
    story.write_text(STORY)
    with pytest.raises(StoryForgeError, match="no text is in") as caught:
        Project(story, out=tmp_path / "out").preview(["html"], language=language)
    assert ("locales/" in str(caught.value.hint)) == (language == "xx")
    assert [path.name for path in tmp_path.iterdir()] == ["book"]


def test_a_folder_that_could_not_be_filled_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = shutil.copyfile

    def full(source: Path, target: Path, **how: bool) -> Path:
        if Path(source).suffix == ".png":
            raise OSError(28, "No space left on device", str(target))
        return plain(source, target, **how)

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(EnvironmentProblem, match="cannot write `.*demo`: .*No space left"):
        scaffolding.scaffold(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert scaffolding.scaffold(tmp_path / "demo").is_file()


@pytest.mark.parametrize("data", [b"", b"<html>", b"\x00\x01\x00\x00", b"OTTO" + b"\xff" * 60])
def test_what_is_no_font_is_told(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "f.ttf").write_bytes(data)
    with pytest.raises(ValueError, match="font"):
        check_font(tmp_path / "f.ttf")


FILES = """\
storyforge: 1
title: Small
pages:
  - panels:
      - id: a
        prompt: in the snow
        alt: Snow.
        regions: {one: {prompt: a fox, MASK}}
        control: [{adapter: pocket/sketch, CONTROL}]
        refine: {REFINE}
"""


@pytest.mark.parametrize(
    ("named", "file", "code"),
    [
        ("MASK", "mask: x.png", "SF328"),
        ("CONTROL", "picture: x.png", "SF328"),
        ("REFINE", "picture: x.png", "SF328"),
    ],
)
@pytest.mark.parametrize("content", [b"<html>", b"", b"\x89PNG\r\n\x1a\n" + bytes(30)])
def test_a_picture_that_a_panel_names_is_looked_into_by_check(
    named: str, file: str, code: str, content: bytes, tmp_path: Path
) -> None:
    others = {"MASK": "at: left", "CONTROL": "draw: sketch", "REFINE": "scale: 2"}
    text = FILES.replace(named, file)
    for name, plain in others.items():
        text = text.replace(name, plain)
    (tmp_path / "x.png").write_bytes(content)
    (tmp_path / "story.yaml").write_text(text)
    (found,) = [each for each in Project(tmp_path / "story.yaml").check() if each.code == code]
    line = next(n for n, said in enumerate(text.splitlines(), start=1) if "x.png" in said)
    assert (found.line, found.column) == (line, text.splitlines()[line - 1].index("x.png") + 1)


@pytest.mark.parametrize(
    ("named", "file"),
    [("MASK", "mask: x.png"), ("CONTROL", "picture: x.png"), ("REFINE", "picture: x.png")],
)
def test_a_bomb_that_a_panel_names_is_not_unpacked_by_check(
    named: str, file: str, tmp_path: Path
) -> None:
    others = {"MASK": "at: left", "CONTROL": "draw: sketch", "REFINE": "scale: 2"}
    text = FILES.replace(named, file)
    for name, plain in others.items():
        text = text.replace(name, plain)
    bomb(tmp_path / "x.png")
    (tmp_path / "story.yaml").write_text(text)
    assert "SF328" in {each.code for each in Project(tmp_path / "story.yaml").check()}


def test_what_would_move_the_cursor_is_shown_as_an_escape() -> None:
    report = Report("story.yaml")
    report.error(Mark(), "SF303", "no mask at `a\x1b[2J\nb\x07\u202e.png`")
    assert report.findings()[0].message == r"no mask at `a\x1b[2J\nb\x07\u202e.png`"


def test_control_characters_in_a_story_are_told_and_not_repeated(tmp_path: Path) -> None:
    text = FILES.replace("MASK", 'mask: "a\\e[2J\\nb\\a.png"')
    text = text.replace("CONTROL", "draw: sketch").replace("REFINE", "scale: 2")
    (tmp_path / "story.yaml").write_text(text)
    said = CliRunner().invoke(app, ["check", str(tmp_path / "story.yaml")]).output
    assert "SF101 control character U+001B" in said
    assert not set("\x1b\x07") & set(said)


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_a_name_that_is_no_text_is_told_without_a_traceback(
    extra: list[str], tmp_path: Path
) -> None:
    (tmp_path / "concept.yaml").write_text("kind: character\nclass: fox\n")
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(b"no picture")
    done = CliRunner().invoke(app, ["concept", "check", str(tmp_path), *extra])
    assert done.exit_code == 1, done.output
    assert r"\udcff.png" in done.output
