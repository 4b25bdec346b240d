"""What fusing costs: its arithmetic by hand, and the verb on two concepts that are learnt."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from storyforge.cli.program import app
from storyforge.evaluate.concept_set import ConceptSet, read_concept_set
from storyforge.evaluate.fusion import ROUTES, FusionConfig, Route, evaluate_fusion
from storyforge.evaluate.questions import DrawingStyle, Question
from storyforge.evaluate.report.fusion import charts, fusion_table
from storyforge.executor import silent
from storyforge.metrics.ensemble import Views, tally, upper_bound
from storyforge.model.base import BaseModel
from storyforge.model.card import Card
from storyforge.model.concept import FusedModel
from storyforge.model.tokens import ConceptTokens
from storyforge.modelref import ModelRef, base_at
from storyforge.plan.plan import base_of, draw_up
from storyforge.sample.sampler import picture
from storyforge.settings import FuseSettings
from storyforge.store.tidying import gc
from storyforge.story import story as stories

ROOT = Path(__file__).parents[1]
EAST, NORTH = np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 1.0]], np.float32)
BOTH = np.concatenate([EAST, NORTH])


def test_every_concept_counts_the_same_however_many_pictures_it_has() -> None:
    looks = {"pip": Views(EAST, EAST), "juna": Views(BOTH, np.concatenate([NORTH, NORTH]))}
    told = tally(looks, {"pip": EAST, "juna": NORTH})
    assert told.image == pytest.approx((1 + 0.5) / 2)
    assert told.text == pytest.approx((2.5 + 1.25) / 2)
    assert told.identified == pytest.approx((1 + 0.5) / 2)


def test_a_picture_as_much_like_another_concept_is_not_identified() -> None:
    told = tally({"pip": Views(EAST, EAST)}, {"pip": EAST, "twin": EAST})
    assert told.identified == 0


def test_the_upper_bound_leaves_out_concepts_of_one_picture() -> None:
    assert upper_bound({"pip": BOTH, "juna": EAST}) == 0
    assert np.isnan(upper_bound({"juna": EAST}))


def figures(image: float | None) -> dict[str, float | None]:
    names = ("image_single", "image_fused", "image_drop", "text_single", "text_fused")
    return {**dict.fromkeys((*names, "identified_fused"), image)}


def test_curves_run_from_the_smallest_to_the_largest_number_of_concepts() -> None:
    bounds = {"image_lower": 0.1, "image_upper": 0.9, "text_lower": 0.2, "identified_lower": 0.5}
    counts = ("2", "8", "14")
    content = {
        "n": {
            n: {"p-plus": figures(value)} for n, value in zip(counts, (0.8, 0.6, 0.4), strict=True)
        },
        "bounds": dict.fromkeys(counts, bounds),
    }
    first = charts(content)[0]
    assert [said for _, said in first.across] == ["2", "8", "14"]
    (fused, lower, upper) = first.curves
    (x0, y0), (x1, y1), (x2, y2) = fused.points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 < y1 < y2
    assert lower.dashed
    assert max(y for _, y in upper.points) < y0
    assert [said for _, said in first.up] == ["0.2", "0.4", "0.6", "0.8"]
    assert [row[:3] for row in fusion_table(content)[1]] == [
        ("2", "p-plus", "0.800"),
        ("8", "p-plus", "0.600"),
        ("14", "p-plus", "0.400"),
    ]


def test_a_figure_that_could_not_be_measured_is_a_gap() -> None:
    bounds = {"image_lower": 0.1, "image_upper": None, "text_lower": 0.2, "identified_lower": 0.5}
    content = {"n": {"2": {"p-plus": figures(None)}}, "bounds": {"2": bounds}}
    assert charts(content)[0].curves[0].points == ()
    assert fusion_table(content)[1][0][2] == "–"


def test_words_side_by_side_draw_what_each_draws_alone(base: BaseModel, pip: ConceptTokens) -> None:
    generator = torch.Generator().manual_seed(5)
    juna = ConceptTokens(
        "juna", pip.words + 0.1 * torch.randn(pip.words.shape, generator=generator)
    )
    question = Question("pip", "property", "a fox", "a <pip> sitting", 0, seed=7)
    task = DrawingStyle(ModelRef(base.reference, base.hash), steps=1, size=(64, 64)).task(
        question, "words"
    )
    single = FusedModel(base.reference, base.hash, {"pip": pip}, {})
    joined = FusedModel(base.reference, base.hash, {"juna": juna, "pip": pip}, {})
    assert np.array_equal(picture(base, single, task), picture(base, joined, task))


def opened(folder: Path) -> ConceptSet:
    return read_concept_set(folder, base_at("pocket", Path.cwd()))


def asked(folder: Path, clip: Path, *more: str) -> list[str]:
    methods = "ed-lora+closed-form,ed-lora+averaging"
    words = ["evaluate", "fusion", "--concepts", str(folder), "--methods", methods]
    return [*words, "--clip", str(clip), "--prompts", "1", "--steps", "1", *more]


def test_concepts_are_taken_in_the_order_that_is_written(learnt_pair: Path) -> None:
    assert [task.concept for task in opened(learnt_pair).tasks("lora", 2)] == ["pip", "juna"]
    assert [task.concept for task in opened(learnt_pair).tasks("lora", 1)] == ["pip"]


def test_what_a_story_has_learnt_is_found(learnt_pair: Path, tmp_path: Path) -> None:
    spec = (learnt_pair / "pip" / "concept.yaml").read_text(encoding="utf-8")
    (tmp_path / "pip").mkdir()
    where = f"images: {learnt_pair / 'pip'}\ntrain: {{method: lora}}\n"
    (tmp_path / "pip" / "concept.yaml").write_text(spec + where, encoding="utf-8")
    path = tmp_path / "story.yaml"
    told = "storyforge: 1\ntitle: A\ncharacters: {pip: pip}\npages: [{text: Once.}]\n"
    path.write_text(told, encoding="utf-8")
    read = stories.read(path)
    (task,) = draw_up(read, base=base_of(read)).train
    cast = opened(learnt_pair)
    assert task.key == cast.tasks("lora", 1)[0].key
    assert task.key != cast.tasks("ed-lora", 1)[0].key


def test_the_verb_compares_keeps_its_pictures_and_goes_on(learnt_pair: Path, clip: Path) -> None:
    for drawn in (learnt_pair / ".storyforge" / "panels").glob("*.png"):
        drawn.unlink()  # by whichever test came before
    first = CliRunner().invoke(app, asked(learnt_pair, clip, "--json"))
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    assert list(told["n"]) == ["2"]
    assert list(told["n"]["2"]) == ["ed-lora+closed-form", "ed-lora+averaging"]
    singles = {row["image_single"] for row in told["n"]["2"].values()}
    assert len(singles) == 1, "both are compared with the same pictures"
    for row in told["n"]["2"].values():
        assert row["image_drop"] == pytest.approx(
            row["image_single"] - row["image_fused"], abs=2e-4
        )
        assert list(row["kinds"]) == ["character"]
        assert list(row["concepts"]) == ["pip", "juna"]
    for name, concept in told["concepts"].items():
        drift = Card.read(opened(learnt_pair).file("ed-lora", name)).drift
        assert concept["train"] == {}, "what was asked for, and nothing else"
        assert concept["single"]["ed-lora"]["drift"] == pytest.approx(drift, abs=1e-4)
    assert {"base", "clip", "prompts", "seeds", "steps", "versions", "date", "command"} <= set(told)
    assert "drew 32 pictures" in first.stderr, "base, alone, twice fused: 2 concepts, 4 prompts"
    counted = [int(n) for n in re.findall(r"drawing pictures (\d+)/32", first.stderr)]
    assert counted == sorted(counted), "progress goes forward"
    assert max(counted) <= 32, "progress counts pictures, not their steps"
    out = learnt_pair / "evaluation"
    assert json.loads((out / "evaluation.json").read_text())["n"] == told["n"]
    pictures = sorted((out / "pictures").glob("*.png"))
    assert len(pictures) == 32
    page = (out / "index.html").read_text()
    assert page.count("<svg") == 4
    assert all(f"pictures/{picture.name}" in page for picture in pictures)

    (learnt_pair / ".storyforge" / "panels" / pictures[0].name).unlink()
    again = CliRunner().invoke(app, asked(learnt_pair, clip, "--n", "1,2"))
    assert again.exit_code == 0, again.output
    assert "drew 9 pictures" in again.stderr, "the lost one, and one concept fused by two methods"
    assert "ed-lora+averaging" in again.stdout


def test_what_is_not_learnt_yet_is_learnt_and_words_cost_nothing_to_fuse(
    clip: Path, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "concepts" / "pip", tmp_path / "pip")
    spec = tmp_path / "pip" / "concept.yaml"
    text, _, _ = spec.read_text(encoding="utf-8").partition("\ntrain:")
    spec.write_text(text + "\ntrain: {steps: 1, batch_size: 1, prior_share: 0}\n", encoding="utf-8")
    quickly = Route("custom-diffusion", FuseSettings(solver="custom-diffusion", steps=1))
    config = FusionConfig(
        concepts=tmp_path,
        counts=(1,),
        routes={"p-plus": ROUTES["p-plus"], "custom-diffusion": quickly},
        clip=str(clip),
        prompts=1,
        steps=1,
    )
    done = evaluate_fusion(config, silent)
    told: Any = done.content
    assert told["n"]["1"]["p-plus"]["image_drop"] == 0
    assert told["methods"]["p-plus"]["fuse"] is None
    pip = told["concepts"]["pip"]
    assert pip["train"] == {"steps": 1, "batch_size": 1, "prior_share": 0}
    assert pip["single"]["p-plus"]["drift"] == 0, "its words alone change nothing else"
    assert done.drawn == 16, "base, twice alone, and keys and values fused"
    learnt = opened(tmp_path)
    assert all(
        learnt.store.has("concepts", learnt.tasks(training, 1)[0].key)
        for training in ("p-plus", "custom-diffusion")
    )
    assert not [w for w in gc(learnt.store, dry=True) if w.product.shelf == "concepts"], (
        "none is rubbish"
    )


def test_more_concepts_than_there_are_is_one_clear_error(learnt_pair: Path, clip: Path) -> None:
    done = CliRunner().invoke(app, asked(learnt_pair, clip, "--n", "2,3"))
    assert done.exit_code == 1
    assert "cannot fuse 3 concepts" in done.stderr
    assert "holds 2" in done.stderr


def test_an_unknown_method_gets_a_guess(learnt_pair: Path) -> None:
    words = ["evaluate", "fusion", "--concepts", str(learnt_pair), "--methods", "ed-lora+average"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "did you mean `ed-lora+averaging`" in done.stderr


@pytest.mark.parametrize(
    ("order", "said"),
    [("pip\njunna\n", "did you mean `juna`"), (None, "no concepts in")],
)
def test_a_folder_that_cannot_be_read_is_one_clear_error(
    learnt_pair: Path, tmp_path: Path, order: str | None, said: str
) -> None:
    if order is not None:
        shutil.copytree(learnt_pair, tmp_path, dirs_exist_ok=True)
        (tmp_path / "order.txt").write_text(order, encoding="utf-8")
    done = CliRunner().invoke(app, ["evaluate", "fusion", "--concepts", str(tmp_path)])
    assert done.exit_code == 1
    assert said in done.stderr


def test_the_methods_have_the_papers_names() -> None:
    learnt = {name: route.train for name, route in ROUTES.items()}
    assert learnt == {
        "ed-lora+closed-form": "ed-lora",
        "ed-lora+lbfgs": "ed-lora",
        "ed-lora+averaging": "ed-lora",
        "lora+averaging": "lora",
        "p-plus": "p-plus",
        "custom-diffusion": "custom-diffusion",
    }
