"""Concepts and fused models on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.model.base import BaseModel, open_base
from storyforge.model.concept import Concept, FusedModel, plain
from storyforge.model.formats.export import TARGETS, Target, export_concept
from storyforge.model.formats.textual_inversion import read_words
from storyforge.model.lora import Delta
from storyforge.model.tokens import ConceptTokens


def half(x: Tensor) -> Tensor:
    return x.half().float()


@pytest.fixture
def concept(base: BaseModel, deltas: dict[str, Delta], pip: ConceptTokens) -> Concept:
    recipe = {"steps": 3, "rank": 2}
    return Concept(
        "pip", "character", "red fox", pip, deltas, "pocket", base.hash, recipe, "CC0-1.0"
    )


def test_a_concept_comes_back_as_it_was_saved_in_half_precision(
    concept: Concept, tmp_path: Path
) -> None:
    path = tmp_path / "pip.safetensors"
    concept.save(path)
    back = Concept.load(path)
    assert (back.name, back.kind, back.class_phrase) == ("pip", "character", "red fox")
    assert (back.base, back.base_hash, back.licence) == ("pocket", concept.base_hash, "CC0-1.0")
    assert dict(back.recipe) == dict(concept.recipe)
    assert torch.equal(back.tokens.words, half(concept.tokens.words))
    assert set(back.deltas) == set(concept.deltas)
    for name, delta in back.deltas.items():
        assert torch.equal(delta.down, half(concept.deltas[name].down))
        assert torch.equal(
            delta.up * delta.scale, half(concept.deltas[name].up * concept.deltas[name].scale)
        )


def test_what_was_loaded_is_saved_without_further_loss(concept: Concept, tmp_path: Path) -> None:
    concept.save(tmp_path / "one.safetensors")
    Concept.load(tmp_path / "one.safetensors").save(tmp_path / "two.safetensors")
    one, two = (safe_open(tmp_path / f"{n}.safetensors", "pt") for n in ("one", "two"))
    assert one.metadata() == two.metadata()
    for key in concept.deltas:
        ending = f"{key}.lora_B.weight"
        assert torch.equal(one.get_tensor(ending), two.get_tensor(ending))


def test_a_concept_says_what_it_is_in_its_metadata(concept: Concept, tmp_path: Path) -> None:
    concept.save(tmp_path / "pip.safetensors")
    with safe_open(tmp_path / "pip.safetensors", "pt") as file:
        meta = file.metadata()
    assert meta["modelspec.trigger_phrase"] == "<pip>"
    assert meta["modelspec.title"] == "pip"
    assert json.loads(meta["recipe"]) == {"steps": 3, "rank": 2}


@pytest.mark.parametrize(
    ("linear", "width", "said"),
    [
        ("unet.mid_block.attn2.to_q", 768, "stable-diffusion-v1"),
        ("unet.mid_block.attn2.to_q", 1024, "stable-diffusion-v2"),
        ("unet.mid_block.attn2.to_q", 2048, "stable-diffusion-xl-v1-base"),
        ("unet.mid_block.attn2.to_q", 160, None),
        ("transformer.single_transformer_blocks.3.attn.to_out", 1024, "flux-2-klein"),
        ("transformer.layers.3.attention.to_q", 768, "z-image"),
        ("transformer.blocks.3.to_q", 768, None),
    ],
)
def test_a_concept_names_the_kind_of_its_base_and_no_other(
    linear: str, width: int, said: str | None, tmp_path: Path
) -> None:
    deltas = {linear: Delta(torch.ones(4, 1), torch.ones(1, 4))}
    words = ConceptTokens("pip", torch.ones(2, 1, width))
    made = Concept("pip", "object", "fox", words, deltas, "somebody's", "hash")
    made.save(tmp_path / "pip.safetensors")
    export_concept(made, "diffusers", tmp_path / "out")
    for path, ending in (
        (tmp_path / "pip.safetensors", "storyforge-concept"),
        (tmp_path / "out" / "pytorch_lora_weights.safetensors", "lora"),
    ):
        with safe_open(path, "pt") as file:
            told = file.metadata().get("modelspec.architecture")
        assert told == (said and f"{said}/{ending}")


@pytest.mark.parametrize("to", TARGETS)
def test_words_alone_of_no_known_text_encoder_are_not_exported(to: Target, tmp_path: Path) -> None:
    words = ConceptTokens("pip", torch.ones(2, 1, 2560))
    learnt = Concept("pip", "object", "fox", words, {}, "a transformer", "hash")
    with pytest.raises(StoryForgeError, match=f"`{to}` has no place for `pip`: it is words alone"):
        export_concept(learnt, to, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_words_alone_of_stable_diffusion_are_exported(tmp_path: Path) -> None:
    words = ConceptTokens("pip", torch.ones(2, 1, 768))
    learnt = Concept("pip", "object", "fox", words, {}, "somebody's", "hash")
    (made,) = export_concept(learnt, "ti", tmp_path).files
    (read,) = read_words(load_file(made)).values()
    assert torch.equal(read, torch.ones(2, 768))


def test_a_renamed_concept_changes_its_name_alone(concept: Concept) -> None:
    other = concept.renamed("fips")
    assert other.name == other.tokens.name == "fips"
    assert torch.equal(other.tokens.words, concept.tokens.words)
    assert other.deltas is concept.deltas
    assert other.renamed("pip") == concept


def test_a_concept_of_this_base_fits_and_no_other(concept: Concept, base: BaseModel) -> None:
    concept.fits(base)
    with pytest.raises(EnvironmentProblem):
        replace(concept, base_hash="0ther" * 8).fits(base)


def test_a_concept_of_another_base_is_refused_by_name(base: BaseModel, pip: ConceptTokens) -> None:
    stranger = Concept("pip", "character", "fox", pip, {}, "elsewhere", "0ther" * 8)
    with pytest.raises(EnvironmentProblem, match=r"`pip`.*0ther") as caught:
        stranger.fits(base)
    assert caught.value.hint


def garbage(path: Path) -> None:
    path.write_bytes(b"\x89PNG not a model at all" * 20)


def truncated(path: Path) -> None:
    save_file({"concept.words": torch.zeros(2, 3, 400)}, path, {"storyforge.format": "1"})
    path.write_bytes(path.read_bytes()[:500])


def foreign(path: Path) -> None:
    save_file({"lora.weight": torch.zeros(2)}, path, {"format": "pt"})


def bare(path: Path) -> None:
    save_file({"concept.words": torch.zeros(2)}, path, {"storyforge.format": "1"})


def missing(path: Path) -> None:
    """Write nothing."""


def test_what_is_kept_may_be_named_by_a_path_or_by_its_text(
    base: BaseModel, concept: Concept, tmp_path: Path
) -> None:
    concept.save(str(tmp_path / "pip.safetensors"))
    assert Concept.load(str(tmp_path / "pip.safetensors")).class_phrase == "red fox"
    plain(base).save(str(tmp_path))
    assert FusedModel.load(str(tmp_path)).base_hash == base.hash


@pytest.mark.parametrize("write", [garbage, truncated, foreign, bare, missing])
def test_a_file_that_is_no_concept_is_an_environment_problem(write, tmp_path: Path) -> None:
    write(tmp_path / "pip.safetensors")
    with pytest.raises(EnvironmentProblem, match=r"pip\.safetensors"):
        Concept.load(tmp_path / "pip.safetensors")


def test_a_concept_of_a_kind_that_there_is_not_is_refused(concept: Concept, tmp_path: Path) -> None:
    replace(concept, kind="mood").save(tmp_path / "pip.safetensors")
    with pytest.raises(EnvironmentProblem, match="`mood` is no kind of concept"):
        Concept.load(tmp_path / "pip.safetensors")


def test_a_fused_model_comes_back_as_it_was_saved(
    base: BaseModel, deltas: dict[str, Delta], pip: ConceptTokens, tmp_path: Path
) -> None:
    juna = ConceptTokens("juna", -pip.words)
    model = FusedModel("pocket", base.hash, {"pip": pip, "juna": juna}, deltas, {"residual": 0.5})
    model.save(tmp_path)
    back = FusedModel.load(tmp_path)
    assert (back.base, back.base_hash, list(back.tokens)) == ("pocket", base.hash, ["pip", "juna"])
    assert dict(back.report) == {"residual": 0.5}
    assert torch.equal(back.tokens["juna"].words, half(juna.words))
    for name, delta in back.deltas.items():
        torch.testing.assert_close(delta.weight(), deltas[name].weight(), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("damage", ["{", "{}", None])
def test_a_fused_model_with_a_damaged_manifest_is_an_environment_problem(
    base: BaseModel, tmp_path: Path, damage: str | None
) -> None:
    FusedModel("pocket", base.hash, {}, {"x": Delta(torch.ones(2, 1), torch.ones(1, 2))}).save(
        tmp_path
    )
    manifest = tmp_path / "manifest.json"
    manifest.unlink() if damage is None else manifest.write_text(damage)
    with pytest.raises(EnvironmentProblem, match="damaged"):
        FusedModel.load(tmp_path)


def test_a_base_without_concepts_is_a_fused_model_of_nothing(base: BaseModel) -> None:
    model = plain(base)
    assert model.base_hash == base.hash
    assert not model.tokens
    assert not model.deltas


def test_a_folder_without_a_model_is_an_environment_problem(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"holds no model_index\.json"):
        open_base(str(tmp_path), "hash")


def test_a_damaged_single_file_is_an_environment_problem(tmp_path: Path) -> None:
    garbage(tmp_path / "model.safetensors")
    with pytest.raises(EnvironmentProblem, match="cannot open the base model"):
        open_base(str(tmp_path / "model.safetensors"), "hash")
