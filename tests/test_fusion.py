"""Fusion on a tiny diffusion model of random weights: plumbing and algebra, not pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from storyforge.errors import EnvironmentProblem
from storyforge.fuse import fusion, solve, statistics
from storyforge.model.base import BaseModel, Habits
from storyforge.model.concept import Concept, FusedModel
from storyforge.model.lora import Delta
from storyforge.model.tokens import encode, new_tokens
from storyforge.plan import FuseTask
from storyforge.story import FuseSettings

WIDTH, RANK = 8, 2
ENDS = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}


def silent(what: str, done: int, total: int) -> None:
    """Hear nothing."""


def tiny_tokenizer() -> CLIPTokenizer:
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), *ENDS.values()]
    vocab = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(
        vocab=vocab, merges=[], pad_token=ENDS["eos_token"], unk_token=ENDS["eos_token"], **ENDS
    )


def tiny_pipeline() -> StableDiffusionPipeline:
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    unet = UNet2DConditionModel(
        sample_size=4,
        block_out_channels=(WIDTH, 2 * WIDTH),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=WIDTH,
        norm_num_groups=4,
    )
    return StableDiffusionPipeline(
        vae=AutoencoderKL(block_out_channels=(4,), norm_num_groups=2),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    return tiny_pipeline()


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
        habits=Habits(),
    )


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "STEPS", 2)


def concept(
    base: BaseModel,
    name: str,
    class_phrase: str,
    *,
    seed: int,
    only: str = "",
    kind: str = "object",
) -> Concept:
    dice = torch.Generator().manual_seed(seed)
    deltas = {
        linear: Delta(
            0.1 * torch.randn(module.out_features, RANK, generator=dice),
            0.1 * torch.randn(RANK, module.in_features, generator=dice),
            scale=0.5,
        )
        for linear, module in base.linears.items()
        if only in linear
    }
    tokens = new_tokens(base, name, class_phrase, dice)
    return Concept(name, "object", class_phrase, tokens, deltas, base.reference, base.hash)


def pair(base: BaseModel) -> list[Concept]:
    return [
        concept(base, "pip", "red fox", seed=1),
        concept(base, "lamp", "lamp", seed=2),
    ]


def drift(change: Tensor, ordinary: Tensor) -> float:
    """Energy of a change (m, d) on ordinary inputs of Gram (d, d)."""
    return torch.trace(change.double() @ ordinary @ change.double().T).item()


def test_every_distinct_input_has_a_gram_of_mean_diagonal_one(base: BaseModel) -> None:
    grams = statistics.of_base(base)
    assert set(grams) == set(base.family.inputs)
    for name, gram in grams.items():
        width = base.linears[base.family.inputs[name][0]].in_features
        assert gram.shape == (width, width)
        assert gram.dtype == torch.float64
        torch.testing.assert_close(gram, gram.T)
        torch.testing.assert_close(gram.diagonal().mean(), torch.ones((), dtype=torch.float64))
        assert torch.linalg.eigvalsh(gram).min() > -1e-9


def test_keys_and_values_see_the_text_of_both_guidance_branches(base: BaseModel) -> None:
    pip = concept(base, "pip", "fox", seed=1, only="unet.")
    prompts = ["<pip> in a wood", "a fox"]
    model = FusedModel(base.reference, base.hash, {"pip": pip.tokens}, pip.deltas)
    grams = statistics.of_model(base, model, prompts)
    with torch.no_grad():
        said = encode(base, [*prompts, "", ""], model.tokens)
    for group, site in enumerate(base.family.cross_sites):
        rows = said[group].flatten(0, 1).double()
        torch.testing.assert_close(grams[f"unet.{site}.kv"], solve.normalised(rows.T @ rows))


def test_in_text_layers_each_guidance_branch_counts_half(base: BaseModel) -> None:
    pip = concept(base, "pip", "fox", seed=1)
    bare = FusedModel(base.reference, base.hash, {"pip": pip.tokens}, {})
    first = "text_encoder." + next(n for n in base.family.inputs if n.endswith("qkv"))[13:]
    unsaid = statistics.of_model(base, bare, [""])[first]
    rows: list[Tensor] = []
    with torch.no_grad():
        layer = base.linears[base.family.inputs[first][0]]
        handle = layer.register_forward_pre_hook(lambda _, seen: rows.append(seen[0].flatten(0, 1)))
        encode(base, ["<pip> waving"], bare.tokens)
        handle.remove()
    said = solve.normalised(rows[0].double().T @ rows[0].double())
    both = statistics.of_model(base, bare, ["<pip> waving"])[first]
    torch.testing.assert_close(both, (said + unsaid) / 2)


def test_statistics_repeat_to_the_bit(base: BaseModel) -> None:
    lamp = concept(base, "lamp", "lamp", seed=1)
    one, other = statistics.of_concept(base, lamp), statistics.of_concept(base, lamp)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", ["character", "object", "scene"])
def test_a_concept_is_watched_in_at_least_eight_prompts(kind: str) -> None:
    prompts = statistics.CONCEPT_PROMPTS[kind]
    assert len(set(prompts)) >= 8
    assert all(prompt.count("<it>") == 1 for prompt in prompts)


def test_watching_leaves_the_base_as_it_was(base: BaseModel) -> None:
    before = {name: module.weight.clone() for name, module in base.linears.items()}
    statistics.of_concept(base, concept(base, "lamp", "lamp", seed=1))
    for name, module in base.linears.items():
        assert torch.equal(module.weight, before[name])
        assert not module._forward_pre_hooks
        assert not module._forward_hooks


def test_the_fused_model_is_low_rank_and_knows_everybody(base: BaseModel) -> None:
    fused = fusion.fuse(base, pair(base), FuseSettings(), silent)
    assert set(fused.deltas) == set(base.linears)
    assert {delta.rank for delta in fused.deltas.values()} == {2 * RANK}
    assert list(fused.tokens) == ["pip", "lamp"]
    assert fused.base_hash == base.hash


def test_every_layer_solves_its_least_squares(base: BaseModel) -> None:
    cast = pair(base)
    fused = fusion.fuse(base, cast, FuseSettings(ridge=1e-2, preservation=0.5), silent)
    seen = [statistics.of_concept(base, each) for each in cast]
    ordinary = statistics.of_base(base)
    for source, linears in base.family.inputs.items():
        grams = [grams[source] for grams in seen]
        held = solve.pull(grams, 1e-2, ordinary[source], 0.5)
        for linear in linears:
            change = fused.deltas[linear].weight().double().requires_grad_()
            wanted = [each.deltas[linear].weight() for each in cast]
            cost = solve.objective(change, wanted, grams, held)
            cost.backward()  # type: ignore[no-untyped-call]
            assert change.grad is not None
            assert change.grad.norm() < 1e-4 * cost.sqrt()


def test_the_average_is_the_mean_of_the_weights(base: BaseModel) -> None:
    cast = pair(base)
    fused = fusion.fuse(base, cast, FuseSettings(solver="average"), silent)
    for linear, delta in fused.deltas.items():
        mean = (cast[0].deltas[linear].weight() + cast[1].deltas[linear].weight()) / 2
        torch.testing.assert_close(delta.weight(), mean)


def test_a_concept_alone_keeps_its_own_delta(base: BaseModel) -> None:
    pip = concept(base, "pip", "fox", seed=1)
    fused = fusion.fuse(base, [pip], FuseSettings(), silent)
    for linear, delta in fused.deltas.items():
        torch.testing.assert_close(delta.weight(), pip.deltas[linear].weight())
    assert fused.report["residuals"] == {"pip": {"text": 0.0, "kv": 0.0, "spatial": 0.0}}


def test_preservation_asked_for_holds_a_concept_alone_too(base: BaseModel) -> None:
    pip = concept(base, "pip", "fox", seed=1)
    fused = fusion.fuse(base, [pip], FuseSettings(preservation=1e6), silent)
    for source, ordinary in statistics.of_base(base).items():
        for linear in base.family.inputs[source]:
            held, free = fused.deltas[linear].weight(), pip.deltas[linear].weight()
            assert drift(held, ordinary) < 1e-4 * drift(free, ordinary)


def test_the_story_may_set_the_ridge(base: BaseModel) -> None:
    fused = fusion.fuse(base, pair(base), FuseSettings(ridge=1e9), silent)
    assert max(delta.weight().abs().max() for delta in fused.deltas.values()) < 1e-6


def test_the_order_of_concepts_changes_no_weight(base: BaseModel) -> None:
    one = fusion.fuse(base, pair(base), FuseSettings(), silent)
    other = fusion.fuse(base, pair(base)[::-1], FuseSettings(), silent)
    for linear, delta in one.deltas.items():
        torch.testing.assert_close(delta.weight(), other.deltas[linear].weight())


def test_layers_that_no_concept_changes_stay_out(base: BaseModel) -> None:
    cast = [
        concept(base, "pip", "fox", seed=1, only="attn2.to_k"),
        concept(base, "lamp", "lamp", seed=2, only="attn2"),
    ]
    fused = fusion.fuse(base, cast, FuseSettings(), silent)
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
    warnings = fusion.fuse(base, cast, FuseSettings(), silent).report["warnings"]
    assert isinstance(warnings, list)
    named = [warning for warning in warnings if "class" in warning]
    assert len(named) == 1
    assert all(word in named[0] for word in ("`pip`", "`rust`", "`fox`"))


def test_a_loud_concept_is_named_as_the_one_that_leaks(base: BaseModel) -> None:
    cast = pair(base)
    loud = {
        linear: Delta(20 * delta.up, delta.down, delta.scale)
        for linear, delta in cast[0].deltas.items()
    }
    pip = Concept("pip", "object", "fox", cast[0].tokens, loud, base.reference, base.hash)
    warnings = fusion.fuse(base, [pip, cast[1]], FuseSettings(), silent).report["warnings"]
    assert isinstance(warnings, list)
    assert [w for w in warnings if w.startswith("`pip` leaks into `lamp`")]
    assert not [w for w in warnings if w.startswith("`lamp` leaks")]


def test_progress_goes_from_first_to_last(base: BaseModel) -> None:
    heard: list[tuple[str, int, int]] = []
    fusion.fuse(base, pair(base), FuseSettings(), lambda *told: heard.append(told))
    watching = [(done, total) for what, done, total in heard if what.startswith("watching")]
    assert watching == [(done, 6) for done in range(1, 7)]


def test_concepts_of_one_name_are_refused(base: BaseModel) -> None:
    with pytest.raises(ValueError, match="own name"):
        fusion.fuse(base, [pair(base)[0]] * 2, FuseSettings(), silent)


def task(folder: Path, identity: str) -> FuseTask:
    return FuseTask("key", str(folder), identity, (("fox", "k1"), ("lamp", "k2")), FuseSettings())


def test_a_task_becomes_a_folder_that_loads(
    base: BaseModel, pipeline: StableDiffusionPipeline, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path / "base")
    files = {}
    for name, each in zip(("fox", "lamp"), pair(base), strict=True):
        files[name] = tmp_path / f"{name}.safetensors"
        each.save(files[name])
    fusion.perform(task(tmp_path / "base", base.hash), files, tmp_path / "out", silent)
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


def test_a_concept_of_another_base_is_refused(
    base: BaseModel, pipeline: StableDiffusionPipeline, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path / "base")
    files = {}
    for name, each in zip(("fox", "lamp"), pair(base), strict=True):
        files[name] = tmp_path / f"{name}.safetensors"
        each.save(files[name])
    with pytest.raises(EnvironmentProblem, match="another base"):
        fusion.perform(task(tmp_path / "base", "other"), files, tmp_path / "out", silent)
    assert not (tmp_path / "out").exists()
