"""Merged models in the forms of others: one file of the makers' names, folders for old tools.

The second road is diffusers' own `from_single_file`, through which storyforge opens such files:
what it makes of them are the weights that were written.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file
from support import random_deltas
from tinybases import JOINT, KINDS, base_of, tiny_pipeline
from transformers import CLIPTokenizer

from storyforge.errors import StoryForgeError
from storyforge.fuse.checkpoint import write_checkpoint
from storyforge.fuse.modelspec import architecture_of
from storyforge.headers.bases import look_at_base
from storyforge.headers.header import read_header
from storyforge.model import components
from storyforge.model.base import BaseModel, open_base
from storyforge.model.concept import FusedModel
from storyforge.model.formats.textual_inversion import read_words
from storyforge.model.lora import merged
from storyforge.model.tokens import new_tokens

FAMILIES = {"sd1": "sd1", "sd2": "sd2", "sdxl": "sdxl", "sdxl-v": "sdxl"}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Of Stable Diffusion."""
    return str(request.param)


@pytest.fixture(scope="module")
def pipeline(kind: str) -> DiffusionPipeline:
    return tiny_pipeline(kind)


@pytest.fixture(scope="module")
def base(pipeline: DiffusionPipeline) -> BaseModel:
    return base_of(pipeline)


def fused_of(base: BaseModel) -> FusedModel:
    """A concept that changes every attention layer."""
    generator = torch.Generator().manual_seed(0)
    deltas = random_deltas(base, generator)
    words = {"pip": new_tokens(base, "pip", "fox", generator)}
    return FusedModel(base.reference, base.hash, words, deltas)


@pytest.fixture(scope="module")
def fused(base: BaseModel) -> FusedModel:
    return fused_of(base)


def test_one_file_opens_as_the_weights_that_were_merged(
    kind: str,
    pipeline: DiffusionPipeline,
    base: BaseModel,
    fused: FusedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline.save_pretrained(tmp_path / "configs" / FAMILIES[kind])
    monkeypatch.setattr(components, "CONFIGS", tmp_path / "configs")
    write_checkpoint(base, fused, tmp_path / "out", "single-file", half=False)
    file = tmp_path / "out" / "model.safetensors"
    said = "?prediction=v" if kind == "sd2" else ""
    there = open_base(f"{file}{said}", "a" * 64)
    with merged(base, fused.deltas):
        for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
            ours, theirs = getattr(base, part), getattr(there, part)
            if ours is None:
                assert theirs is None
                continue
            wanted, found = ours.state_dict(), theirs.state_dict()
            assert wanted.keys() == found.keys()
            assert all(torch.equal(weight, found[name]) for name, weight in wanted.items())
    predicts = "v_prediction" if kind in {"sd2", "sdxl-v"} else "epsilon"
    assert there.scheduler_config["prediction_type"] == predicts


def test_one_file_is_in_half_precision_and_has_the_words_beside_it(
    base: BaseModel, fused: FusedModel, tmp_path: Path
) -> None:
    write_checkpoint(base, fused, tmp_path / "out", "single-file")
    whole = load_file(tmp_path / "out" / "model.safetensors")
    assert {each.dtype for each in whole.values() if each.numel()} == {torch.float16}
    table = next(w for n, w in whole.items() if n.endswith("token_embedding.weight"))
    assert len(table) == len(base.tokenizer)
    (words,) = read_words(load_file(tmp_path / "out" / "embeddings" / "pip.safetensors")).values()
    torch.testing.assert_close(words, fused.tokens["pip"].words.mean(1))
    assert "`pip`" in (tmp_path / "out" / "README.md").read_text()
    assert look_at_base(tmp_path / "out" / "model.safetensors").trouble is None


def test_one_file_says_what_it_is_by_modelspecs_names(
    kind: str, base: BaseModel, fused: FusedModel, tmp_path: Path
) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model_index.json").write_text("{}")
    (tmp_path / "base" / "README.md").write_text("---\nlicense: openrail++\n---\n")
    here = replace(base, reference=str(tmp_path / "base"))
    licences = {"pip": "CC-BY-NC-4.0"}
    write_checkpoint(here, fused, tmp_path / "out", "single-file", licences=licences)
    told = read_header(tmp_path / "out" / "model.safetensors").metadata
    assert told["format"] == "pt"
    said = {key.removeprefix("modelspec."): value for key, value in told.items()}
    assert said["license"] == "base: openrail++; pip: CC-BY-NC-4.0"
    assert (said["title"], said["trigger_phrase"]) == ("pip", "pip")
    assert said["merged_from"] == "base, pip"
    assert said["prediction_type"] == ("v" if kind in {"sd2", "sdxl-v"} else "epsilon")
    assert "architecture" not in said  # the tiny ones' words are of no known width
    assert look_at_base(tmp_path / "out" / "model.safetensors").licence == said["license"]


@pytest.mark.parametrize(
    ("widths", "predicts", "named"),
    [
        ([768], "epsilon", "stable-diffusion-v1"),
        ([1024], "epsilon", "stable-diffusion-v2-512"),
        ([1024], "v_prediction", "stable-diffusion-v2-768-v"),
        ([768, 1280], "epsilon", "stable-diffusion-xl-v1-base"),
        ([32], "epsilon", None),
    ],
)
def test_modelspec_has_a_name_for_every_family(
    widths: list[int], predicts: str, named: str | None
) -> None:
    assert architecture_of(widths, predicts) == named


def test_a_folder_is_in_half_precision_and_by_the_older_names(
    base: BaseModel, fused: FusedModel, tmp_path: Path
) -> None:
    write_checkpoint(base, fused, tmp_path / "out")
    for file in (tmp_path / "out").rglob("*.safetensors"):
        whole = load_file(file)
        floats = {each.dtype for each in whole.values() if each.is_floating_point()}
        assert floats == {torch.float16}
        if file.parent.name.startswith("text_encoder"):
            assert all(name.startswith(("text_model.", "text_projection")) for name in whole)
    pipe = DiffusionPipeline.from_pretrained(tmp_path / "out")
    with merged(base, fused.deltas):
        for name, weight in base.unet.state_dict().items():
            assert torch.equal(pipe.unet.state_dict()[name], weight.half().float())


def test_the_vocabulary_in_two_files_is_the_same(
    base: BaseModel, fused: FusedModel, tmp_path: Path
) -> None:
    write_checkpoint(base, fused, tmp_path / "out")
    folder = tmp_path / "out" / "tokenizer"
    two = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    said = "a red fox in the snow"
    assert two(said).input_ids == base.tokenizer(said).input_ids
    assert '"<pip>": ' in (folder / "added_tokens.json").read_text()


@pytest.mark.parametrize("kind", JOINT)
def test_a_transformer_has_no_form_in_one_file(kind: str, tmp_path: Path) -> None:
    base = base_of(tiny_pipeline(kind))
    with pytest.raises(StoryForgeError, match="no form in one file"):
        write_checkpoint(base, fused_of(base), tmp_path / "out", "single-file")
    assert list(tmp_path.iterdir()) == []
