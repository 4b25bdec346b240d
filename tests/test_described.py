"""A concept from words: what is asked of the base, who is chosen, and that nothing is lost."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import save_base
from tinymodel import open_tiny
from typer.testing import CliRunner

from storyforge.cli.program import app
from storyforge.errors import StoryForgeError
from storyforge.metrics.consistency import tightest
from storyforge.model.concept import plain
from storyforge.pictures import picture_names, sources
from storyforge.project.candidates import FOLDER, choose, drawn_at, mask_at, read_candidates
from storyforge.project.described import Description, describe
from storyforge.sample.candidates import draw_candidate, mask_of
from storyforge.sample.control import Rack
from storyforge.sample.sampler import picture
from storyforge.story.concept import read_concept
from storyforge.story.described import class_in, pictures_of
from storyforge.tasks import PanelTask


@pytest.mark.parametrize(
    ("words", "word"),
    [
        ("a mint fox with a golden horn", "fox"),
        ("an old lighthouse by the sea", "lighthouse"),
        ("the little red engine that could", "engine"),
        ("Füchslein, grün", "Füchslein"),
        ("a", None),
        ("", None),
    ],
)
def test_the_word_for_it_stands_before_what_is_said_of_it(words: str, word: str | None) -> None:
    assert class_in(words) == word


def test_views_and_poses_vary_and_captions_say_only_what_varies() -> None:
    asked = pictures_of("character", "mint fox", "soft light", 16)
    assert len({(each.pose, each.facing) for each in asked[:8]}) == 8
    assert len({each.prompt for each in asked}) == 16
    assert asked[0].prompt == "a mint fox, standing, on a white ground, soft light"
    assert asked[0].caption == "a [trigger], standing, on a white ground"


@pytest.mark.parametrize("kind", ["object", "scene"])
def test_what_has_no_body_has_no_pose(kind: str) -> None:
    asked = pictures_of(kind, "an old mill", "", 9)
    assert len(asked) == 9
    assert not any(each.pose for each in asked)
    assert all("mill" not in each.caption for each in asked)


@pytest.mark.parametrize("seed", range(8))
def test_no_group_is_tighter_than_the_tightest(seed: int) -> None:
    chance = np.random.default_rng(seed)
    rows = chance.normal(size=(9, 4)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)

    def pairs(group: tuple[int, ...]) -> float:
        return sum(float(rows[a] @ rows[b]) for a, b in combinations(group, 2))

    best = max(combinations(range(9), 4), key=pairs)
    assert pairs(tightest(rows, 4)) == pytest.approx(pairs(best), abs=1e-5)


def test_a_planted_group_is_chosen() -> None:
    chance = np.random.default_rng(1)
    rows = chance.normal(size=(20, 16)).astype(np.float32)
    rows[[3, 7, 11, 19]] = rows[3] + 0.1 * chance.normal(size=(4, 16))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert tightest(rows, 4) == (3, 7, 11, 19)


def test_a_group_of_all_is_all() -> None:
    assert tightest(np.eye(3, dtype=np.float32), 5) == (0, 1, 2)


def test_a_mask_is_white_where_the_word_is_looked_for() -> None:
    seen = torch.zeros(8, 8)
    seen[2:6, 2:6], seen[0, 7] = 1.0, 1.0
    mask = np.asarray(mask_of(seen, (64, 64)))
    assert mask[32, 32] == 255
    assert mask[0, 63] == mask[60, 60] == 0


@pytest.mark.parametrize(
    "said",
    [
        {"guidance_scale": 1.5},
        {"guidance_rescale": 0.7},
        {"guided": (0.3, 0.6)},
        {"scheduler": "euler"},
        {"negative": "an owl"},
    ],
)
def test_a_candidate_is_the_picture_that_its_task_asks_for(said: dict[str, object]) -> None:
    tiny, side = open_tiny(), 8 * open_tiny().vae_scale
    usual = ("", "one", 1, tiny.reference, tiny.hash, None, "a fox", "")
    task = PanelTask(*usual, (), (side, side), 3, None, None, 1.0, 5, None)
    asked = replace(task, **said)
    drawn = [
        np.asarray(draw_candidate(tiny, Rack(tiny), each, "fox", lambda *_: None).picture)
        for each in (asked, task)
    ]
    assert (drawn[0] == picture(tiny, plain(tiny), asked)).all()
    assert (drawn[0] != drawn[1]).any()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def asked(base: Path, clip: Path, tmp_path: Path) -> Description:
    words = "a mint fox with a golden horn"
    few = {"candidates": 4, "keep": 2, "steps": 1}
    return Description(tmp_path / "pip", words, base=str(base), clip=str(clip), **few)


def told(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_words_become_a_concept_that_can_be_learnt(asked: Description) -> None:
    made = describe(asked, lambda *_: None)
    spec = read_concept(asked.folder)
    assert (spec.class_, spec.kind, spec.description) == ("fox", "character", asked.words)
    chosen = [each for each in made.seen if each.chosen]
    found = sources(asked.folder, picture_names(asked.folder))
    assert [each.file for each in found] == [f"{each.number:03d}.png" for each in chosen]
    assert [each.mask for each in found] == [f"{each.number:03d}-mask.png" for each in chosen]
    assert [each.written[0].words for each in found] == [each.caption for each in chosen]
    assert made.drawn == 4
    assert made.sheet.is_file()


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 3])
def test_a_run_that_is_killed_goes_on_where_it_was(asked: Description, after: int) -> None:
    def kill(what: str, done: int, total: int) -> None:
        if done == after and "candidate" in what:
            raise Killed

    with pytest.raises(Killed):
        describe(asked, kill)
    made = describe(asked, lambda *_: None)
    assert made.drawn == 4 - after
    whole = replace(asked, folder=asked.folder.parent / "again")
    describe(whole, lambda *_: None)
    both = told(asked.folder), told(whole.folder)
    sheet = f"{FOLDER}/sheet.png"  # it has the folder's name on it
    assert both[0].pop(sheet)
    assert both[1].pop(sheet)
    assert both[0] == both[1]


def test_what_is_done_is_not_done_again(asked: Description) -> None:
    describe(asked, lambda *_: None)
    before = told(asked.folder)
    assert describe(asked, lambda *_: None).drawn == 0
    assert told(asked.folder) == before


def test_other_words_do_not_go_on_with_it(asked: Description) -> None:
    describe(asked, lambda *_: None)
    with pytest.raises(StoryForgeError, match="other words"):
        describe(replace(asked, words="a red fox"), lambda *_: None)


def test_a_try_that_came_to_no_choice_does_not_keep_the_name(asked: Description) -> None:
    def kill(what: str, done: int, total: int) -> None:
        if done == 2 and "candidate" in what:
            raise Killed

    with pytest.raises(Killed):
        describe(asked, kill)
    made = describe(replace(asked, words="a red fox"), lambda *_: None)
    assert made.drawn == 4
    assert all("red fox" in each.prompt for each in made.seen)


@pytest.mark.parametrize("wrong", [{"clip": "none/such/clip"}, {"adapter": "none/such/adapter"}])
def test_a_try_that_draws_nothing_leaves_nothing(asked: Description, wrong: dict[str, str]) -> None:
    with pytest.raises(StoryForgeError):
        describe(replace(asked, **wrong), lambda *_: None)
    assert not asked.folder.exists()


@pytest.fixture
def other_clip(clip: Path, tmp_path: Path) -> str:
    """A CLIP that thinks otherwise."""
    folder = shutil.copytree(clip, tmp_path / "other")
    (weights,) = folder.glob("*.safetensors")
    tensors = load_file(weights)
    chance = torch.Generator().manual_seed(1)
    changed = {
        name: torch.randn(value.shape, generator=chance).to(value.dtype)
        if value.ndim > 1
        else value
        for name, value in tensors.items()
    }
    save_file(changed, weights, metadata={"format": "pt"})
    return str(folder)


def test_another_clip_chooses_anew_among_what_is_drawn(asked: Description, other_clip: str) -> None:
    first = describe(asked, lambda *_: None)
    second = describe(replace(asked, clip=other_clip), lambda *_: None)
    assert second.drawn == 0
    assert [each.text for each in second.seen] != [each.text for each in first.seen]
    assert read_candidates(asked.folder) == second.seen
    assert describe(replace(asked, clip=None), lambda *_: None) == second


def test_a_choice_by_hand_is_not_undone_by_another_clip(
    asked: Description, other_clip: str
) -> None:
    first = describe(asked, lambda *_: None)
    choose(asked.folder, [each.number for each in first.seen if not each.chosen])
    before = told(asked.folder)
    with pytest.raises(StoryForgeError, match="chosen by hand"):
        describe(replace(asked, clip=other_clip), lambda *_: None)
    assert told(asked.folder) == before


def test_a_folder_of_the_authors_is_left_alone(asked: Description) -> None:
    asked.folder.mkdir()
    (asked.folder / "1.png").write_bytes(b"mine")
    with pytest.raises(StoryForgeError, match="not empty"):
        describe(asked, lambda *_: None)
    assert told(asked.folder) == {"1.png": b"mine"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three candidates, of which the first is chosen; nothing was drawn for them."""
    made = tmp_path / "pip"
    (made / FOLDER).mkdir(parents=True)
    for number in (1, 2, 3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(drawn_at(made, number))
        Image.new("L", (8, 8), 255).save(mask_at(made, number))
    seen = [
        {"number": n, "caption": f"a [trigger], {n}", "prompt": "x", "text": 1.0, "alike": 1.0}
        for n in (1, 2, 3)
    ]
    (made / FOLDER / "candidates.json").write_text(json.dumps(seen))
    choose(made, [1])
    return made


def test_the_author_chooses_others(folder: Path) -> None:
    choose(folder, [2, 3])
    assert picture_names(folder) == ("002.png", "003.png")
    assert [each.number for each in read_candidates(folder) if each.chosen] == [2, 3]


def test_what_the_author_painted_or_added_stays(folder: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(folder / "001.png")
    Image.new("RGB", (8, 8), "blue").save(folder / "mine.png")
    line = '{"file_name": "mine.png", "text": "a [trigger] of mine"}'
    with (folder / "metadata.jsonl").open("a") as file:
        file.write(f"{line}\n")
    choose(folder, [2])
    assert picture_names(folder) == ("001.png", "002.png", "mine.png")
    assert line in (folder / "metadata.jsonl").read_text().splitlines()


def test_a_caption_that_the_author_wrote_outlives_another_choice(folder: Path) -> None:
    path = folder / "metadata.jsonl"
    line = json.dumps({"file_name": "001.png", "text": "a [trigger] that I drew", "mask": "m.png"})
    path.write_text(f"{line}\n")
    choose(folder, [1, 3])
    lines = path.read_text().splitlines()
    assert lines[0] == line
    assert [json.loads(each)["file_name"] for each in lines] == ["001.png", "003.png"]


@pytest.mark.parametrize("numbers", [[], [4], [1, 0]])
def test_who_is_not_there_is_not_chosen(folder: Path, numbers: list[int]) -> None:
    before = told(folder)
    with pytest.raises(StoryForgeError):
        choose(folder, numbers)
    assert told(folder) == before


def test_the_verbs_tell_machines_what_they_did(
    asked: Description, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(asked.folder.parent)
    said = ["concept", "new", "pip", "--describe", asked.words, "--base", asked.base, "--json"]
    said += ["--clip", str(asked.clip), "--candidates", "3", "--keep", "2", "--steps", "1"]
    result = CliRunner().invoke(app, said)
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert (content["folder"], content["class"], content["drawn"]) == ("concepts/pip", "fox", 3)
    assert sum(each["chosen"] for each in content["candidates"]) == 2
    result = CliRunner().invoke(app, ["concept", "choose", "concepts/pip", "1", "--json"])
    assert json.loads(result.stdout)["chosen"] == [1]


@pytest.mark.parametrize(
    "more", [["--kind", "charakter"], ["--keep", "9", "--candidates", "8"], ["--base", "none/x/y"]]
)
def test_a_mistaken_wish_is_told(tmp_path: Path, more: list[str]) -> None:
    said = ["concept", "new", "pip", "--describe", "a fox", "--out", str(tmp_path), *more]
    assert CliRunner().invoke(app, said).exit_code in {1, 2, 3}
    assert not (tmp_path / "pip").exists()


def test_a_name_that_no_prompt_could_say_is_refused(tmp_path: Path) -> None:
    said = ["concept", "new", "../x", "--describe", "a fox", "--out", str(tmp_path)]
    assert CliRunner().invoke(app, said).exit_code != 0
