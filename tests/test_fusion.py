"""Fusion on a tiny diffusion model of random weights: plumbing and algebra, not pictures."""

from __future__ import annotations

import json
from pathlib import Path

import lxml.html
import pytest
import torch
from diffusers import StableDiffusionPipeline
from support import random_deltas
from tiny import smallest_pipeline
from torch import Tensor

from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.executor import silent
from storyforge.fuse import fusion, solve, statistics
from storyforge.fuse.checkpoint import write_checkpoint
from storyforge.fuse.emphasis import EMPHASIS
from storyforge.fuse.report import write_report
from storyforge.fuse.statistics import Statistics, Viewing
from storyforge.fuse.terms import Terms
from storyforge.model.base import BaseModel
from storyforge.model.concept import Concept, FusedModel, plain
from storyforge.model.family import linear_modules, token_table
from storyforge.model.lora import Delta, attached, merged
from storyforge.model.tokens import ConceptTokens, encode, new_tokens, token_ids
from storyforge.modelref import Defaults
from storyforge.settings import FuseSettings, Solver
from storyforge.store import Store
from storyforge.tasks import FuseTask

WIDTH, RANK = 8, 2
AS_USUAL = FuseSettings()
IN_FP32 = {"rtol": 1e-5, "atol": 1e-5}


def as_it_is(gram: Tensor) -> Tensor:
    """Keep a whole Gram."""
    return gram


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return smallest_pipeline()


@pytest.fixture(scope="module")
def base(pipeline: StableDiffusionPipeline) -> BaseModel:
    return BaseModel(
        reference="tiny",
        hash="tiny-hash",
        unet=pipeline.unet,
        vae=pipeline.vae,
        text_encoder=pipeline.text_encoder,
        tokenizer=pipeline.tokenizer,
        scheduler_config=dict(pipeline.scheduler.config),
        defaults=Defaults(),
    )


FEW = Viewing(steps=2)


def concept(
    base: BaseModel,
    name: str,
    class_phrase: str,
    *,
    seed: int,
    only: str = "",
    kind: str = "object",
) -> Concept:
    generator = torch.Generator().manual_seed(seed)
    deltas = random_deltas(base, generator, RANK, 0.5, only)
    tokens = new_tokens(base, name, class_phrase, generator)
    return Concept(name, "object", class_phrase, tokens, deltas, base.reference, base.hash)


def pair(base: BaseModel) -> list[Concept]:
    return [
        concept(base, "pip", "red fox", seed=1),
        concept(base, "lamp", "lamp", seed=2),
    ]


WATCHED_ONCE: dict[tuple[str, float], Statistics] = {}


def seen_of(base: BaseModel, each: Concept) -> Statistics:
    """What is seen of a concept; tests that share one do not wait for it twice."""
    key = (each.name, sum(d.up.sum().item() * d.down.sum().item() for d in each.deltas.values()))
    if key not in WATCHED_ONCE:
        WATCHED_ONCE[key] = statistics.of_concept(base, each, viewing=FEW)
    return WATCHED_ONCE[key]


def seen_of_base(base: BaseModel) -> Statistics:
    """What is ordinarily seen."""
    if ("", 0.0) not in WATCHED_ONCE:
        WATCHED_ONCE["", 0.0] = statistics.of_base(base, viewing=FEW)
    return WATCHED_ONCE["", 0.0]


def fused_from(
    base: BaseModel,
    cast: list[Concept],
    settings: FuseSettings = AS_USUAL,
) -> FusedModel:
    """Fuse concepts, everything watched anew."""
    seen = [seen_of(base, each) for each in cast]
    terms = Terms.of(settings, {each.name: each.kind for each in cast})
    return fusion.fuse(cast, seen, seen_of_base(base), terms, silent, base, FEW)


def drift(change: Tensor, ordinary: Tensor) -> float:
    """Energy of a change (m, d) on ordinary inputs of Gram (d, d)."""
    return torch.trace(change.double() @ ordinary @ change.double().T).item()


def test_every_distinct_input_has_a_gram_of_mean_diagonal_one(base: BaseModel) -> None:
    grams, _ = statistics.watch(base, plain(base), ["a fox", "a lamp"], as_it_is)
    assert set(grams) == set(base.family.inputs)
    for name, gram in grams.items():
        width = base.linears[base.family.inputs[name][0]].in_features
        assert gram.shape == (width, width)
        assert gram.dtype == torch.float64
        torch.testing.assert_close(gram, gram.T)
        torch.testing.assert_close(gram.diagonal().mean(), torch.ones((), dtype=torch.float64))
        # Summed in fp32, far finer than the steps in which it is kept.
        assert torch.linalg.eigvalsh(gram).min() > -1e-6


def test_keys_and_values_see_the_text_of_both_guidance_branches(base: BaseModel) -> None:
    pip = concept(base, "pip", "fox", seed=1, only="unet.")
    prompts = ["<pip> in a wood", "a fox"]
    model = FusedModel(base.reference, base.hash, {"pip": pip.tokens}, pip.deltas)
    grams = statistics.watch(base, model, prompts, as_it_is)[0]
    with torch.no_grad():
        said = encode(base, [*prompts, "", ""], model.tokens)
    for group, site in enumerate(base.family.cross_sites):
        rows = said.features[group].flatten(0, 1).double()
        wanted = solve.normalised(rows.T @ rows)
        torch.testing.assert_close(grams[f"unet.{site}.kv"], wanted, **IN_FP32)


def test_in_text_layers_each_guidance_branch_counts_half(base: BaseModel) -> None:
    pip = concept(base, "pip", "fox", seed=1)
    bare = FusedModel(base.reference, base.hash, {"pip": pip.tokens}, {})
    first = "text_encoder." + next(n for n in base.family.inputs if n.endswith("qkv"))[13:]
    unsaid = statistics.watch(base, bare, [""], as_it_is)[0][first]
    rows: list[Tensor] = []
    with torch.no_grad():
        layer = base.linears[base.family.inputs[first][0]]
        handle = layer.register_forward_pre_hook(lambda _, seen: rows.append(seen[0].flatten(0, 1)))
        encode(base, ["<pip> waving"], bare.tokens)
        handle.remove()
    said = solve.normalised(rows[0].double().T @ rows[0].double())
    both = statistics.watch(base, bare, ["<pip> waving"], as_it_is)[0][first]
    torch.testing.assert_close(both, (said + unsaid) / 2, **IN_FP32)


def test_a_concepts_words_count_more_than_others_where_text_is_read(base: BaseModel) -> None:
    pip = concept(base, "pip", "fox", seed=1)
    bare = FusedModel(base.reference, base.hash, {"pip": pip.tokens}, {})
    prompts, where = ["<pip> in a wood", "a <pip>"], [(1, 2), (2, 3)]
    grams = statistics.watch(base, bare, prompts, as_it_is, where=where)[0]
    plainly = statistics.watch(base, bare, prompts, as_it_is)[0]
    with torch.no_grad():
        said = encode(base, [*prompts, "", ""], bare.tokens)
    for group, site in enumerate(base.family.cross_sites):
        rows = said.features[group].double()
        for row, places in enumerate(where):
            rows[row, list(places)] *= EMPHASIS**0.5
        rows = rows.flatten(0, 1)
        wanted = solve.normalised(rows.T @ rows)
        torch.testing.assert_close(grams[f"unet.{site}.kv"], wanted, **IN_FP32)
    for name in grams:
        same = torch.allclose(grams[name], plainly[name], rtol=1e-3)
        assert same == (base.family.stage(name) == "spatial"), name


def test_in_the_text_encoder_every_group_has_the_emphasis_on_its_own_prompts_words(
    base: BaseModel,
) -> None:
    pip = concept(base, "pip", "fox", seed=1)
    bare = FusedModel(base.reference, base.hash, {"pip": pip.tokens}, {})
    prompts, where = ["<pip> in a wood", "a <pip>"], [(1, 2), (2, 3)]
    first = "text_encoder." + next(n for n in base.family.inputs if n.endswith("qkv"))[13:]
    rows: list[Tensor] = []
    layer = base.linears[base.family.inputs[first][0]]
    handle = layer.register_forward_pre_hook(lambda _, seen: rows.append(seen[0].double()))
    with torch.no_grad():
        encode(base, prompts, bare.tokens)
        encode(base, [""], bare.tokens)
    handle.remove()
    said, groups = rows[0].clone(), base.family.groups
    assert len(said) == 2 * groups
    for row, places in enumerate(where):
        for group in range(groups):
            said[row * groups + group, list(places)] *= EMPHASIS**0.5
    halves = [each.flatten(0, 1) for each in (said, rows[1])]
    wanted = sum(solve.normalised(half.T @ half) for half in halves) / 2
    made = statistics.watch(base, bare, prompts, as_it_is, where=where)[0][first]
    torch.testing.assert_close(made, wanted, **IN_FP32)


def test_statistics_repeat_to_the_bit(base: BaseModel) -> None:
    lamp = concept(base, "lamp", "lamp", seed=1)
    one, other = (
        statistics.of_concept(base, lamp, viewing=FEW),
        statistics.of_concept(base, lamp, viewing=FEW),
    )
    assert all(torch.equal(one.gram(name), other.gram(name)) for name in one.readers)


@pytest.mark.parametrize("kind", ["character", "object", "scene"])
def test_a_concept_is_watched_in_at_least_eight_prompts(kind: str) -> None:
    prompts = statistics.CONCEPT_PROMPTS[kind]
    assert len(set(prompts)) >= 8
    assert all(prompt.count("<it>") == 1 for prompt in prompts)


def test_watching_leaves_the_base_as_it_was(base: BaseModel) -> None:
    before = {name: module.weight.clone() for name, module in base.linears.items()}
    statistics.of_concept(base, concept(base, "lamp", "lamp", seed=1), viewing=FEW)
    for name, module in base.linears.items():
        assert torch.equal(module.weight, before[name])
        assert not module._forward_pre_hooks
        assert not module._forward_hooks


def test_the_fused_model_is_low_rank_and_knows_everybody(base: BaseModel) -> None:
    fused = fused_from(base, pair(base))
    assert set(fused.deltas) == set(base.linears)
    assert {delta.rank for delta in fused.deltas.values()} == {2 * RANK}
    assert list(fused.tokens) == ["pip", "lamp"]
    assert fused.base_hash == base.hash


def test_every_layer_solves_its_least_squares(base: BaseModel) -> None:
    cast = pair(base)
    fused = fused_from(base, cast, FuseSettings(ridge=1e-2, preservation=0.5))
    seen = [seen_of(base, each) for each in cast]
    ordinary = seen_of_base(base)
    for source, linears in base.family.inputs.items():
        grams = [each.gram(source) for each in seen]
        held = solve.pull(grams, 1e-2, ordinary.gram(source), 0.5)
        for linear in linears:
            change = fused.deltas[linear].weight().double().requires_grad_()
            wanted = [each.deltas[linear].weight() for each in cast]
            cost = solve.objective(change, wanted, grams, held)
            cost.backward()  # type: ignore[no-untyped-call]
            assert change.grad is not None
            assert change.grad.norm() < 1e-4 * cost.sqrt()


def test_the_average_is_the_mean_of_the_weights(base: BaseModel) -> None:
    cast = pair(base)
    fused = fused_from(base, cast, FuseSettings(solver="average"))
    for linear, delta in fused.deltas.items():
        mean = (cast[0].deltas[linear].weight() + cast[1].deltas[linear].weight()) / 2
        torch.testing.assert_close(delta.weight(), mean)


def test_a_concept_alone_keeps_its_own_delta(base: BaseModel) -> None:
    pip = concept(base, "pip", "fox", seed=1)
    fused = fused_from(base, [pip])
    for linear, delta in fused.deltas.items():
        torch.testing.assert_close(delta.weight(), pip.deltas[linear].weight())
    assert fused.report["residuals"] == {"pip": {"text": 0.0, "kv": 0.0, "spatial": 0.0}}


def test_preservation_asked_for_holds_a_concept_alone_too(base: BaseModel) -> None:
    pip = concept(base, "pip", "fox", seed=1)
    fused = fused_from(base, [pip], FuseSettings(preservation=1e6))
    watched = seen_of_base(base)
    for source, linears in watched.readers.items():
        ordinary = watched.gram(source)
        for linear in linears:
            held, free = fused.deltas[linear].weight(), pip.deltas[linear].weight()
            assert drift(held, ordinary) < 1e-4 * drift(free, ordinary)


def test_the_story_may_set_the_ridge(base: BaseModel) -> None:
    fused = fused_from(base, pair(base), FuseSettings(ridge=1e9))
    assert max(delta.weight().abs().max() for delta in fused.deltas.values()) < 1e-6


def test_the_order_of_concepts_changes_no_weight(base: BaseModel) -> None:
    one = fused_from(base, pair(base))
    other = fused_from(base, pair(base)[::-1])
    for linear, delta in one.deltas.items():
        torch.testing.assert_close(delta.weight(), other.deltas[linear].weight())


def test_layers_that_no_concept_changes_stay_out(base: BaseModel) -> None:
    cast = [
        concept(base, "pip", "fox", seed=1, only="attn2.to_k"),
        concept(base, "lamp", "lamp", seed=2, only="attn2"),
    ]
    fused = fused_from(base, cast)
    assert set(fused.deltas) == {linear for linear in base.linears if "attn2" in linear}
    assert {d.rank for linear, d in fused.deltas.items() if "to_k" in linear} == {2 * RANK}
    assert {d.rank for linear, d in fused.deltas.items() if "to_q" in linear} == {RANK}
    residuals = fused.report["residuals"]
    assert isinstance(residuals, dict)
    assert set(residuals["pip"]) == {"kv", "spatial"}
    assert residuals["pip"]["spatial"] is None


def test_two_concepts_of_one_class_are_warned_about(base: BaseModel) -> None:
    cast = [
        concept(base, "pip", "red fox", seed=1),
        concept(base, "rust", "Fox", seed=2),
        concept(base, "lamp", "lamp", seed=3),
    ]
    warnings = fused_from(base, cast).report["warnings"]
    assert isinstance(warnings, list)
    named = [warning for warning in warnings if "of the class" in warning]
    assert len(named) == 1
    assert all(word in named[0] for word in ("`pip`", "`rust`", "`fox`"))


def test_a_loud_concept_is_named_as_the_one_that_leaks(base: BaseModel) -> None:
    cast = pair(base)
    loud = {
        linear: Delta(20 * delta.up, delta.down, delta.scale)
        for linear, delta in cast[0].deltas.items()
    }
    pip = Concept("pip", "object", "fox", cast[0].tokens, loud, base.reference, base.hash)
    warnings = fused_from(base, [pip, cast[1]]).report["warnings"]
    assert isinstance(warnings, list)
    (warning,) = [w for w in warnings if "collide" in w]
    assert warning.startswith("`pip` and `lamp` collide: `pip` moves")
    assert "weights: {lamp: 2}" in warning


def test_one_concept_under_two_names_collides(base: BaseModel) -> None:
    fox = concept(base, "fox", "fox", seed=1)
    twins = [fox, fox.renamed("twin")]
    told = fused_from(base, twins, FuseSettings(preservation=0, ridge=1e-9)).report["warnings"]
    assert isinstance(told, list)
    assert any("`fox` and `twin` collide" in warning for warning in told)


def test_concepts_of_one_name_are_refused(base: BaseModel) -> None:
    with pytest.raises(ValueError, match="own name"):
        fused_from(base, [pair(base)[0]] * 2)


WATCHED = (("fox", "s1"), ("lamp", "s2"))


def task(folder: Path, identity: str, **settings: object) -> FuseTask:
    return FuseTask(
        "key",
        str(folder),
        identity,
        (("fox", "k1"), ("lamp", "k2")),
        FuseSettings.model_validate(settings),
        WATCHED,
        "s0",
    )


@pytest.fixture(scope="module")
def folder(pipeline: StableDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base on disk."""
    folder = tmp_path_factory.mktemp("base")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def files(base: BaseModel, tmp_path: Path) -> dict[str, Path]:
    """Concept files by their names in the story."""
    files = {}
    for name, each in zip(("fox", "lamp"), pair(base), strict=True):
        files[name] = tmp_path / f"{name}.safetensors"
        each.save(files[name])
    return files


def test_a_task_becomes_a_folder_that_loads(
    base: BaseModel, folder: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    fusion.fuse_concepts(
        lambda: base,
        task(folder, base.hash),
        files,
        store,
        tmp_path / "out",
        silent,
        FEW,
    )
    fused = FusedModel.load(tmp_path / "out")
    assert list(fused.tokens) == ["fox", "lamp"]
    assert set(fused.deltas) == set(base.linears)
    manifest = (tmp_path / "out" / "manifest.json").read_text(encoding="utf-8")
    assert "NaN" not in manifest
    report = json.loads(manifest)["report"]
    assert set(report["residuals"]) == {"fox", "lamp"}
    assert report["parameters"] == sum(
        delta.up.numel() + delta.down.numel() for delta in fused.deltas.values()
    )


def test_progress_goes_from_first_to_last(
    base: BaseModel, folder: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    heard: list[tuple[str, int, int]] = []
    store = Store(tmp_path / "store")
    fusion.fuse_concepts(
        lambda: base,
        task(folder, base.hash),
        files,
        store,
        tmp_path / "out",
        lambda *told: heard.append(told),
        FEW,
    )
    watching = [(done, total) for what, done, total in heard if what.startswith("watching")]
    assert watching == [(done, 6) for done in range(1, 7)]


def test_what_was_watched_once_is_not_watched_again(
    base: BaseModel,
    folder: Path,
    files: dict[str, Path],
    tmp_path: Path,
) -> None:
    store = Store(tmp_path / "store")
    fusion.fuse_concepts(
        lambda: base,
        task(folder, base.hash),
        files,
        store,
        tmp_path / "one",
        silent,
        FEW,
    )
    assert {product.key for product in store.ls()} == {"s0", "s1", "s2"}
    asked = task(folder, base.hash, weights={"fox": 2.0})
    fusion.fuse_concepts(pytest.fail, asked, files, store, tmp_path / "two", silent, FEW)
    one, two = FusedModel.load(tmp_path / "one"), FusedModel.load(tmp_path / "two")
    assert any(not torch.equal(two.deltas[n].down, d.down) for n, d in one.deltas.items())


def test_statistics_from_the_store_fuse_to_the_same_bits(
    base: BaseModel, folder: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    store, asked = Store(tmp_path / "store"), task(folder, base.hash)
    for name in ("one", "two"):
        fusion.fuse_concepts(lambda: base, asked, files, store, tmp_path / name, silent, FEW)
    one, two = (tmp_path / name / "deltas.safetensors" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_damaged_statistics_are_refused_by_name(
    base: BaseModel, folder: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    with store.make("statistics", "s1") as path:
        path.write_bytes(b"no safetensors")
    with pytest.raises(EnvironmentProblem, match="s1.safetensors"):
        fusion.fuse_concepts(
            lambda: base,
            task(folder, base.hash),
            files,
            store,
            tmp_path / "out",
            silent,
            FEW,
        )


def test_a_concept_of_another_base_is_refused(
    folder: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(EnvironmentProblem, match="another base"):
        fusion.fuse_concepts(
            lambda: base,
            task(folder, "other"),
            files,
            store,
            tmp_path / "out",
            silent,
            FEW,
        )
    assert not (tmp_path / "out").exists()


def test_statistics_come_back_from_their_file(base: BaseModel, tmp_path: Path) -> None:
    seen = statistics.of_concept(base, pair(base)[0], viewing=FEW)
    seen.save(tmp_path / "s.safetensors")
    back = Statistics.load(tmp_path / "s.safetensors")
    assert back.readers == seen.readers
    assert back.base_hash == base.hash
    assert set(back.words) == {f"unet.{site}.kv" for site in base.family.cross_sites}
    for source in seen.readers:
        assert torch.equal(back.gram(source), seen.gram(source))


def test_words_are_what_the_concepts_words_say_to_keys_and_values(base: BaseModel) -> None:
    pip = concept(base, "pip", "fox", seed=1, only="unet.")
    seen = statistics.of_concept(base, pip, viewing=FEW)
    prompts = [line.replace("<it>", "<pip>") for line in statistics.CONCEPT_PROMPTS["object"]]
    with torch.no_grad():
        text = encode(base, prompts, {"pip": pip.tokens})
    vocabulary = len(token_table(base.text_encoder))
    ids = torch.tensor([token_ids(base, prompt, ["pip"]) for prompt in prompts])
    for group, site in enumerate(base.family.cross_sites):
        for word in range(2):
            rows = text.features[group][ids == vocabulary + word]
            assert len(rows) == len(prompts)
            torch.testing.assert_close(seen.words[f"unet.{site}.kv"][word], rows.mean(0))


@pytest.mark.parametrize("solver", ["closed-form", "lbfgs", "average", "sum", "custom-diffusion"])
def test_every_solver_keeps_the_rank_and_everybodys_tokens(base: BaseModel, solver: Solver) -> None:
    cast = [concept(base, n, n, seed=i, only="mid_block") for i, n in enumerate(("pip", "lamp"))]
    fused = fused_from(base, cast, FuseSettings(solver=solver))
    assert {delta.rank for delta in fused.deltas.values()} == {2 * RANK}
    assert fused.report["solver"] == solver
    assert all(delta.weight().isfinite().all() for delta in fused.deltas.values())


def test_lbfgs_comes_close_to_the_closed_form_from_above(base: BaseModel) -> None:
    cast = [concept(base, n, n, seed=i, only="mid_block") for i, n in enumerate(("pip", "lamp"))]
    exact = fused_from(base, cast)
    searched = fused_from(base, cast, FuseSettings(solver="lbfgs"))
    for linear, delta in exact.deltas.items():
        difference = (searched.deltas[linear].weight() - delta.weight()).norm()
        assert difference < 0.1 * delta.weight().norm()


def test_the_sum_is_the_sum_of_the_weights(base: BaseModel) -> None:
    cast = pair(base)
    fused = fused_from(base, cast, FuseSettings(solver="sum", strengths={"lamp": 0.5}))
    for linear, delta in fused.deltas.items():
        expected = cast[0].deltas[linear].weight() + cast[1].deltas[linear].weight() / 2
        torch.testing.assert_close(delta.weight(), expected)


def test_custom_diffusion_keeps_what_every_word_says(base: BaseModel) -> None:
    cast = pair(base)
    seen = [seen_of(base, each) for each in cast]
    fused = fused_from(base, cast, FuseSettings(solver="custom-diffusion"))
    for each, watched in zip(cast, seen, strict=True):
        for source, words in watched.words.items():
            for linear in watched.readers[source]:
                said = words @ fused.deltas[linear].weight().T
                wanted = words @ each.deltas[linear].weight().T
                torch.testing.assert_close(said, wanted, atol=1e-4, rtol=1e-3)


def test_a_concept_that_counts_more_loses_less(base: BaseModel) -> None:
    cast = pair(base)
    plainly = residuals(fused_from(base, cast))
    favoured = residuals(fused_from(base, cast, FuseSettings(weights={"pip": 10.0})))
    for stage in ("text", "kv", "spatial"):
        assert favoured["pip"][stage] < plainly["pip"][stage]
        assert favoured["lamp"][stage] > plainly["lamp"][stage]


def residuals(fused: FusedModel) -> dict[str, dict[str, float]]:
    told = fused.report["residuals"]
    assert isinstance(told, dict)
    return told


def test_a_weight_for_all_changes_nothing(base: BaseModel) -> None:
    cast = pair(base)
    one = fused_from(base, cast)
    other = fused_from(base, cast, FuseSettings(weights={"pip": 3.0, "lamp": 3.0}))
    for linear, delta in one.deltas.items():
        torch.testing.assert_close(delta.weight(), other.deltas[linear].weight())


def test_a_concept_of_no_strength_is_as_good_as_without_deltas(base: BaseModel) -> None:
    pip, lamp = pair(base)
    fused = fused_from(base, [pip, lamp], FuseSettings(strengths={"lamp": 0.0}))
    silenced = Concept("lamp", "object", "lamp", lamp.tokens, {}, base.reference, base.hash)
    terms = Terms.of(FuseSettings(), {"pip": "character", "lamp": "object"})
    seen = [seen_of(base, each) for each in (pip, lamp)]
    other = fusion.fuse([pip, silenced], seen, seen_of_base(base), terms, silent)
    for linear, delta in other.deltas.items():
        torch.testing.assert_close(fused.deltas[linear].weight(), delta.weight())


def test_a_ridge_may_be_one_stages_own(base: BaseModel) -> None:
    fused = fused_from(base, pair(base), FuseSettings(ridges={"kv": 1e9}))
    for linear, delta in fused.deltas.items():
        assert (delta.weight().abs().max() < 1e-6) == (base.family.stage(linear) == "kv")


def test_adding_a_concept_and_removing_it_again_gives_the_same_bits(base: BaseModel) -> None:
    cast = [*pair(base), concept(base, "tree", "tree", seed=3)]
    seen = [seen_of(base, each) for each in cast]
    ordinary = seen_of_base(base)

    def fused(count: int) -> FusedModel:
        terms = Terms.of(FuseSettings(), {each.name: each.kind for each in cast[:count]})
        return fusion.fuse(cast[:count], seen[:count], ordinary, terms, silent)

    before, more, after = fused(2), fused(3), fused(2)
    assert {delta.rank for delta in more.deltas.values()} == {3 * RANK}
    assert all(torch.equal(before.deltas[n].down, d.down) for n, d in after.deltas.items())


def test_attaching_and_detaching_a_fused_model_leaves_every_bit(base: BaseModel) -> None:
    fused = fused_from(base, pair(base))
    before = {name: module.weight.clone() for name, module in base.linears.items()}
    with attached(base, fused.deltas), merged(base, fused.deltas):
        assert any(not torch.equal(base.linears[n].weight, w) for n, w in before.items())
    for name, module in base.linears.items():
        assert torch.equal(module.weight, before[name])
        assert not module._forward_hooks


def test_the_chain_fuses_text_as_before_and_the_rest_anew(base: BaseModel) -> None:
    cast = pair(base)
    single, chained = fused_from(base, cast), fused_from(base, cast, FuseSettings(stages="chain"))
    for linear, delta in single.deltas.items():
        equal = torch.equal(delta.down, chained.deltas[linear].down)
        assert equal == linear.startswith("text_encoder.")
    assert chained.report["chain"] is True


def test_refining_watches_the_fused_model(base: BaseModel) -> None:
    cast = pair(base)
    once = fused_from(base, cast)
    again = fused_from(base, cast, FuseSettings(refine=1))
    seen = []
    for each in cast:
        model = FusedModel(base.reference, base.hash, once.tokens, once.deltas)
        seen.append(statistics.through(base, each, model, viewing=FEW))
    terms = Terms.of(FuseSettings(), {"pip": "character", "lamp": "object"})
    expected = fusion.fuse(cast, seen, seen_of_base(base), terms, silent)
    for linear, delta in expected.deltas.items():
        torch.testing.assert_close(again.deltas[linear].weight(), delta.weight())
    assert any(not torch.equal(d.down, once.deltas[n].down) for n, d in expected.deltas.items())


def test_a_smaller_rank_is_kept_and_its_price_told(base: BaseModel) -> None:
    cast = pair(base)
    whole, cut = fused_from(base, cast), fused_from(base, cast, FuseSettings(rank=2))
    assert {delta.rank for delta in cut.deltas.values()} == {2}
    assert cut.report["rank"] == 2
    errors = cut.report["rank_error"]
    assert isinstance(errors, dict)
    assert all(0 < error < 1 for error in errors.values())
    assert whole.report["rank_error"] is None


def test_without_a_base_there_is_no_chain(base: BaseModel) -> None:
    cast = pair(base)
    seen = [seen_of(base, each) for each in cast]
    terms = Terms.of(FuseSettings(stages="chain"), {each.name: each.kind for each in cast})
    with pytest.raises(ValueError, match="not open"):
        fusion.fuse(cast, seen, seen_of_base(base), terms, silent)


def test_a_merged_folder_opens_in_stock_diffusers_with_the_fused_weights(
    base: BaseModel, tmp_path: Path
) -> None:
    fused = fused_from(base, pair(base))
    before = {name: module.weight.clone() for name, module in base.linears.items()}
    write_checkpoint(base, fused, tmp_path / "merged", half=False)
    assert all(torch.equal(module.weight, before[n]) for n, module in base.linears.items())
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "merged")
    modules = linear_modules(base.family, pipe.unet, pipe.text_encoder)
    for linear, module in modules.items():
        expected = before[linear] + fused.deltas[linear].weight()
        torch.testing.assert_close(module.weight, expected)
    assert len(base.tokenizer) == len(token_table(base.text_encoder))
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]


def test_a_stock_prompt_reads_the_mean_of_a_words_embeddings(
    base: BaseModel, tmp_path: Path
) -> None:
    fused = fused_from(base, pair(base))
    write_checkpoint(base, fused, tmp_path / "merged", half=False)
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "merged")
    written = pipe.maybe_convert_prompt("a <pip> b", pipe.tokenizer)
    ids = pipe.tokenizer(written, add_special_tokens=False).input_ids
    first = len(token_table(base.text_encoder))
    assert ids[1:3] == [first, first + 1]
    rows = token_table(pipe.text_encoder)[first : first + 2]
    torch.testing.assert_close(rows, fused.tokens["pip"].words.mean(1))
    flat = {
        n: ConceptTokens(n, t.words.mean(1, keepdim=True).expand_as(t.words))
        for n, t in fused.tokens.items()
    }
    with torch.no_grad(), merged(base, fused.deltas):
        ours = encode(base, ["a <pip> b"], flat).features[0]
        stock, _ = pipe.encode_prompt("a <pip> b", "cpu", 1, False)
    torch.testing.assert_close(stock, ours, atol=1e-5, rtol=1e-4)


def test_a_merged_folder_says_what_a_stock_user_gets(base: BaseModel, tmp_path: Path) -> None:
    write_checkpoint(base, fused_from(base, pair(base)), tmp_path / "merged", half=False)
    words = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    assert "`<pip>`, `<lamp>`" in words
    assert 'from_pretrained("merged")' in words
    assert "from their mean" in words


def test_a_merged_model_replaces_nothing(base: BaseModel, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(StoryForgeError, match="not empty"):
        write_checkpoint(base, fused_from(base, pair(base)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_the_report_shows_every_concept_and_number(base: BaseModel, tmp_path: Path) -> None:
    cast = [concept(base, "pip", "red fox", seed=1), concept(base, "rust", "fox", seed=2)]
    fused = fused_from(base, cast, FuseSettings(rank=3, weights={"pip": 2.0}))
    page, data = write_report(fused, {"fused model": 1_500_000}, tmp_path / "report")
    told = json.loads(data.read_text(encoding="utf-8"))
    assert told["residuals"] == fused.report["residuals"]
    assert told["bytes"] == {"fused model": 1_500_000}
    words = page.read_text(encoding="utf-8")
    lxml.html.document_fromstring(words)
    for expected in ("weight of pip 2", "rank 3", "1.50 MB", "of the class <code>fox</code>"):
        assert expected in words
    share = fused.report["residuals"]["rust"]["kv"]  # type: ignore[index]
    assert f">{share:.2f}</td>" in words
