"""What the benchmark of training makes of its figures, and that it times what it says it times."""

from __future__ import annotations

from argparse import ArgumentTypeError
from pathlib import Path

import pytest
import torch

pytest.importorskip("skia")

from benchmarks import cast, recipes, training
from benchmarks.methods import Bounds, Figures, Variant, seed_of, variant
from benchmarks.official import with_room
from benchmarks.pace import Watchman, steps_to
from benchmarks.trainspeed import ratios
from storyforge.evaluate.concept_set import read_concept_set
from storyforge.modelref import ModelRef, base_at
from storyforge.train.config import METHODS

BASE = ModelRef("pocket", "5eed" * 16)


def test_the_concepts_are_two_of_each_kind_and_one_species(cast_folder: Path) -> None:
    kinds = [variant(cast_folder / name, BASE, "lora").task.kind for name in training.CONCEPTS]
    assert sorted(kinds) == ["character", "character", "object", "object", "scene", "scene"]
    one, other = (cast.CHARACTERS[name].species for name in training.CONCEPTS[:2])
    assert one == other


def test_every_training_has_a_key_of_its_own_and_by_its_settings_alone(
    cast_folder: Path,
) -> None:
    made = [
        variant(cast_folder / "ember", BASE, method, prior=prior, seed=seed)
        for method in METHODS
        for prior in (True, False)
        for seed in (0, 1)
    ]
    assert len({each.task.key for each in made}) == len(made)
    assert variant(cast_folder / "ember", BASE, "lora").task.settings.prior_share is None


def found(folder: Path, rows: dict[tuple[str, str, bool, int], float]) -> dict[Variant, Figures]:
    return {
        variant(folder / name, BASE, method, prior=prior, seed=seed): Figures(
            image, 0.5, image / 2, 0.6, 0.1, 100
        )
        for (name, method, prior, seed), image in rows.items()
    }


def test_a_method_is_the_mean_over_concepts_of_the_mean_over_seeds(cast_folder: Path) -> None:
    figures = found(
        cast_folder,
        {
            ("ember", "lora", True, 0): 0.2,
            ("ember", "lora", True, 1): 0.4,
            ("sorrel", "lora", True, 0): 0.9,
            ("sorrel", "lora", False, 0): 0.7,
            ("sorrel", "ed-lora", True, 0): 0.8,
        },
    )
    told = training.summed(figures, prior=True)
    assert told["image_alignment"] == {"ed-lora": 0.8, "lora": 0.6}
    assert told["embedding_only"] == {"ed-lora": 0.4, "lora": 0.3}
    assert told["trainings"] == {"ed-lora": 1, "lora": 3}
    assert told["spread_of_seeds"] == {"ed-lora": None, "lora": pytest.approx(0.1)}
    assert training.summed(figures, prior=False)["image_alignment"] == {"lora": 0.7}
    bounds = {name: Bounds(0.1, 0.2, 0.9) for name in ("ember", "sorrel")}
    told = training.per_concept(figures, bounds)
    assert set(told["sorrel"]) == {
        "bounds",
        "lora, seed 0",
        "lora without prior, seed 0",
        "ed-lora, seed 0",
    }


def test_the_time_to_most_of_the_identity_lies_between_two_checks() -> None:
    assert steps_to([(0, 0.5), (10, 0.7), (20, 0.9)], 0.5) == 10
    assert steps_to([(0, 0.5), (10, 0.7), (20, 0.9)], 0.75) == pytest.approx(15)
    assert steps_to([(0, 0.5), (10, 1.0), (20, 0.9)], 1.0) == pytest.approx(8)
    assert steps_to([(0, 0.5), (10, 0.4)]) is None


def test_only_steps_are_timed() -> None:
    clock = iter([0.0, 1, 5, 6, 9, 100])
    heard = Watchman(clock=lambda: next(clock))
    for what, done in [
        ("drawing", 0),
        ("learning", 0),
        ("judging", 1),
        ("learning", 1),
        ("learning", 2),
        ("measuring drift", 0),
    ]:
        heard(what, done, 2)
    assert heard.walls == [4, 3]


def test_ratios_say_how_many_steps_in_the_time_of_one_and_how_much_less_memory() -> None:
    loops = {
        "official": {"seconds": 6.0, "cpu_seconds": 5.0, "peak_bytes": 100.0},
        "ours": {"seconds": 3.0, "cpu_seconds": 2.0, "peak_bytes": 60.0},
    }
    assert ratios(loops, "ours") == {
        "steps_ratio": 2.0,
        "cpu_steps_ratio": 2.5,
        "memory_ratio": 0.6,
    }


def test_a_table_with_room_keeps_its_rows() -> None:
    table = torch.nn.Embedding(5, 3)
    wider = with_room(table, 4)
    assert wider.weight.shape == (9, 3)
    assert torch.equal(wider.weight[:5], table.weight)


def test_all_draw_a_prompt_from_the_same_noise() -> None:
    assert seed_of("a {} in the snow") == seed_of("a {} in the snow") != seed_of("a {} by night")


def test_a_recipe_is_what_stands_in_a_concepts_file(cast_folder: Path) -> None:
    plain = variant(cast_folder / "ember", BASE, "lora")
    asked = variant(cast_folder / "ember", BASE, "lora", recipe=training.settings("{steps: 50}"))
    assert (plain.task.settings.steps, asked.task.settings.steps) == (None, 50)
    assert plain.task.key != asked.task.key
    for wrong in ("{stepz: 50}", "{steps: -1}", "fifty", "", "{steps: ["):
        with pytest.raises(ArgumentTypeError):
            training.settings(wrong)


def test_concepts_by_another_recipe_are_the_same_but_for_it(
    cast_folder: Path, tmp_path: Path
) -> None:
    base = base_at("pocket", Path.cwd())
    own = read_concept_set(cast_folder, base)
    for again in (1, 2):
        same = read_concept_set(recipes.by_recipe(cast_folder, {}, tmp_path / "a"), base)
        assert [task.key for task in same.tasks("ed-lora", 3)] == [
            task.key for task in own.tasks("ed-lora", 3)
        ], f"the same order, pictures and settings, time {again}"
    short = read_concept_set(recipes.by_recipe(cast_folder, {"steps": 50}, tmp_path / "b"), base)
    assert {task.settings.steps for task in short.tasks("ed-lora", 3)} == {50}
    cut = read_concept_set(recipes.by_recipe(cast_folder, {"composed": 0.3}, tmp_path / "c"), base)
    shares = {task.kind: task.settings.composed for task in cut.tasks("ed-lora", len(cut.members))}
    assert shares == {"character": 0.3, "object": 0.3, "scene": None}, "nobody cuts out a scene"
