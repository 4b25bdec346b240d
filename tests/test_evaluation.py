"""The numbers of `evaluate` on vectors one can check by hand, and the verb on a small story."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from storyforge.cli.program import app
from storyforge.metrics.alignment import (
    RegionScore,
    among_themselves,
    image_alignment,
    text_alignment,
    together,
)
from storyforge.metrics.clip import open_clip
from storyforge.metrics.prompts import prompts_for
from storyforge.plan.plan import base_of, draw_up
from storyforge.store import Store
from storyforge.story import story as stories

ROOT = Path(__file__).parents[1]
EAST, NORTH = np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 1.0]], np.float32)
BOTH = np.concatenate([EAST, NORTH])


def test_alignment_is_the_mean_cosine() -> None:
    assert image_alignment(EAST, EAST) == 1
    assert image_alignment(EAST, BOTH) == 0.5
    assert np.isnan(image_alignment(EAST, EAST[:0]))
    assert text_alignment(EAST, EAST) == 2.5
    assert text_alignment(BOTH, np.concatenate([EAST, -NORTH])) == 1.25
    assert among_themselves(BOTH) == 0
    assert np.isnan(among_themselves(EAST))


def seen(panel: str, region: str, concept: str, pip: float, juna: float) -> RegionScore:
    return RegionScore(panel, region, concept, {"pip": pip, "juna": juna})


def test_a_region_is_found_if_no_other_concept_is_more_alike() -> None:
    sightings = [
        seen("a", "left", "pip", 0.9, 0.1),
        seen("a", "right", "juna", 0.8, 0.6),
        seen("b", "left", "pip", 0.7, 0.2),
        seen("b", "right", "juna", 0.1, 0.9),
        seen("c", "centre", "pip", 0.2, 0.1),
    ]
    told = together(sightings, {"pip": 0.5, "juna": 0.5})
    assert told.regions == 5
    assert told.found == pytest.approx(4 / 5)
    assert told.complete == pytest.approx(1 / 2)
    assert told.missing == pytest.approx(1 / 5)
    assert told.leakage["juna"]["pip"] == pytest.approx((0.8 + 0.1) / 2)
    assert told.leakage["pip"]["pip"] == pytest.approx((0.9 + 0.7 + 0.2) / 3)


def test_nothing_seen_is_not_a_result() -> None:
    told = together([], {})
    assert told.regions == 0
    assert np.isnan(told.found)


@pytest.mark.parametrize("kind", ["character", "object", "scene"])
@pytest.mark.parametrize("pocket", [True, False])
def test_every_kind_has_four_times_five_prompts(kind: str, pocket: bool) -> None:
    prompts = prompts_for(kind, pocket=pocket)
    assert list(prompts) == ["recontextualise", "restyle", "interact", "property"]
    every = [prompt for group in prompts.values() for prompt in group]
    assert len(set(every)) == 20
    assert all(prompt.count("{}") == 1 for prompt in every)


def test_vectors_are_of_length_one_and_in_the_order_given(clip: Path) -> None:
    opened = open_clip(str(clip))
    red, blue = Image.new("RGB", (40, 60), "red"), Image.new("RGB", (200, 90), "blue")
    rows = opened.pictures([red, blue, red])
    assert rows.shape == (3, opened.width)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.allclose(rows[0], rows[2], atol=1e-6)
    assert not np.allclose(rows[0], rows[1], atol=1e-3)
    assert opened.words([]).shape == (0, opened.width)
    assert opened.words(["a fox", "a bear in the snow"]).shape == (2, opened.width)


STORY = """
storyforge: 1
title: Small
size: [64, 64]
sampling: {steps: 1}
fuse: {solver: average}
characters:
  pip: ../concepts/pip
pages:
  - panels:
      - id: one
        layout: one-centre
        regions:
          centre: {concept: pip}
        alt: Pip.
"""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A story of one concept that is learnt already."""
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "concepts" / "pip", project / "concepts" / "pip")
    path = project / "stories" / "small.yaml"
    path.parent.mkdir()
    path.write_text(STORY)
    read = stories.read(path)
    (task,) = draw_up(read, base=base_of(read)).train
    fixture = golden.folder_of(ROOT / "stories" / "fox-and-lantern.yaml") / "concepts"
    with Store(path.parent / ".storyforge").make("concepts", task.key) as out:
        shutil.copyfile(fixture / "pip.safetensors", out)
    return path


def judged(line: str, story: Path, clip: Path) -> Any:
    """What a command line says of the story."""
    options = ["--clip", str(clip), "--prompts", "1", "--json"]
    meant = {"STORY": [str(story)], "OPTIONS": options}
    words = [each for word in line.split() for each in meant.get(word, [word])]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def first(story: Path, clip: Path) -> Any:
    """What is said of the story when nothing is drawn yet."""
    return judged("evaluate STORY OPTIONS", story, clip)


def test_the_verb_judges_and_keeps_its_pictures(first: Any) -> None:
    told = first
    assert told["drawn"] == 12
    scores = told["concepts"]["pip"]["conditions"]
    assert {name: score["pictures"] for name, score in scores.items()} == {
        "base": 4,
        "single": 4,
        "fused": 4,
    }
    assert scores["single"] == scores["fused"], "the mean of one concept is that concept"
    assert told["panels"]["regions"] == 1
    folder = Path(told["folder"])
    assert json.loads((folder / "evaluation.json").read_text())["concepts"] == told["concepts"]
    page = (folder / "index.html").read_text()
    pictures = sorted((folder / "pictures").glob("*.png"))
    assert len(pictures) == 12
    assert len({Image.open(path).tobytes() for path in pictures}) == 8
    assert all(f"pictures/{picture.name}" in page for picture in pictures)


@pytest.mark.parametrize("line", ["evaluate OPTIONS STORY", "evaluate story STORY OPTIONS"])
def test_a_story_goes_on_after_evaluate_or_evaluate_story(
    first: Any, story: Path, clip: Path, line: str
) -> None:
    shown = min((Path(first["folder"]) / "pictures").glob("*.png"))
    (story.parent / ".storyforge" / "panels" / shown.name).unlink()
    again = judged(line, story, clip)
    assert again["drawn"] == 1
    assert again["concepts"] == first["concepts"]


def test_takes_are_judged_as_panels_are(first: Any, story: Path, clip: Path) -> None:
    words = ["render", str(story), "one", "--takes", "2", "--clip", str(clip), "--json"]
    judged = json.loads(CliRunner().invoke(app, words).stdout)
    told, ranked = judged["likeness"]["one"], judged["ranking"]["one"]
    assert set(judged["obedience"]["one"]) == set(judged["eyes"]["one"]) == {"0", "1"}
    (score,) = first["region_scores"]
    assert told["0"] == pytest.approx(score["image_alignment"]["pip"], abs=1e-4)
    assert told["1"] != told["0"]
    said = CliRunner().invoke(app, words[:-1]).stderr
    assert f"one: first take {ranked[0]} (likeness {told[str(ranked[0])]:.2f}, obedience" in said
    assert f"one: then take {ranked[1]}" in said


def test_evaluate_alone_and_its_help_name_what_can_be_judged() -> None:
    for words in (["evaluate"], ["evaluate", "--help"]):
        said = " ".join(CliRunner().invoke(app, words).output.split())
        assert "Judge every concept alone and fused" in said


def test_an_unknown_concept_gets_a_guess(story: Path, clip: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", str(story), "pipp", "--clip", str(clip)])
    assert done.exit_code == 1
    assert "did you mean `pip`" in done.stderr


def test_a_folder_that_is_no_clip_is_one_clear_error(story: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", str(story), "--clip", str(tmp_path)])
    assert done.exit_code == 3
    assert "cannot open the CLIP" in done.stderr


def test_without_a_clip_of_its_own_the_embedded_base_says_so(
    story: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("storyforge.metrics.clip.POCKET_CLIP", tmp_path / "none")
    done = CliRunner().invoke(app, ["evaluate", str(story)])
    assert done.exit_code == 3
    assert "CLIP is not in this installation" in done.stderr
