"""Bases from wherever authors have them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from support import hub_of
from tinybases import tiny_pipeline
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from storyforge.errors import EnvironmentProblem
from storyforge.headers.autoencoders import vae_trouble
from storyforge.headers.bases import look_at_base
from storyforge.model.base import open_base
from storyforge.model.components import clip_tokenizer
from storyforge.model.hub import wanted_files
from storyforge.model.vocabulary import CONFIGS
from storyforge.modelref import BaseParts, base_at

PARTS = ("unet", "vae", "text_encoder")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SD 1.x as diffusers saves it."""
    made = tmp_path_factory.mktemp("sd1")
    tiny_pipeline("sd1").save_pretrained(made)
    return made


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_a_folder_opens_as_it_was_saved(kind: str, tmp_path: Path) -> None:
    pipe = tiny_pipeline(kind)
    pipe.save_pretrained(tmp_path)
    base = open_base(str(tmp_path), "hash")
    for part in PARTS:
        assert same_weights(getattr(base, part), getattr(pipe, part))
    assert base.scheduler_config["prediction_type"] == pipe.scheduler.config.prediction_type
    assert (base.text_encoder_2 is not None) == (kind == "sdxl") == base.empty_is_zero


def test_a_folder_of_a_half_precision_variant_opens(tmp_path: Path) -> None:
    tiny_pipeline("sd1").to(torch.float16).save_pretrained(tmp_path, variant="fp16")
    base = open_base(str(tmp_path), "hash")
    assert base.dtype == torch.float32
    assert base.unet.conv_in.weight.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_folder_opens_in_another_precision_with_the_same_numbers(
    folder: Path, dtype: torch.dtype
) -> None:
    full, half = open_base(str(folder), "hash"), open_base(str(folder), "hash", dtype=dtype)
    pairs = zip(full.unet.state_dict().items(), half.unet.state_dict().items(), strict=True)
    for (name, wanted), (same, made) in pairs:
        assert name == same
        assert torch.equal(wanted.to(dtype), made)
    assert half.unet.dtype == half.text_encoder.dtype == dtype


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_pickle_in_a_base_is_refused_by_name_and_never_opened(part: str, tmp_path: Path) -> None:
    tiny_pipeline("sd1").save_pretrained(tmp_path)
    for weights in (tmp_path / part).glob("*.safetensors"):
        weights.unlink()
        (tmp_path / part / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(EnvironmentProblem, match="only a pickle in") as caught:
        open_base(str(tmp_path), "hash")
    assert "save_pretrained" in str(caught.value.hint)
    trouble = look_at_base(tmp_path).trouble
    assert trouble is not None
    assert trouble.what.startswith(f"has only a pickle in `{part}/`")


def test_an_inpainting_model_is_refused_by_its_kind(folder: Path, tmp_path: Path) -> None:
    pipe = tiny_pipeline("sd1")
    pipe.save_pretrained(tmp_path)
    config = tmp_path / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"in_channels": 9}))
    with pytest.raises(EnvironmentProblem, match="an inpainting model"):
        open_base(str(tmp_path), "hash")


def test_a_pipeline_of_another_kind_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(EnvironmentProblem, match="is a FluxPipeline") as caught:
        open_base(str(tmp_path), "hash")
    assert "1.x, 2.x, XL, FLUX.2-klein and Z-Image" in str(caught.value.hint)


def test_a_part_that_lacks_is_named(folder: Path, tmp_path: Path) -> None:
    tiny_pipeline("sd1").save_pretrained(tmp_path)
    (tmp_path / "scheduler").rename(tmp_path / "elsewhere")
    with pytest.raises(EnvironmentProblem, match="lacks `scheduler`"):
        open_base(str(tmp_path), "hash")


@pytest.mark.parametrize("kind", ["sd1", "sdxl", "z-image"])
def test_a_tokenizer_without_its_vocabulary_is_not_opened(kind: str, tmp_path: Path) -> None:
    tiny_pipeline(kind).save_pretrained(tmp_path)
    part = "tokenizer_2" if kind == "sdxl" else "tokenizer"
    for file in (tmp_path / part).iterdir():
        file.unlink()
    with pytest.raises(EnvironmentProblem, match=f"has no vocabulary in `{part}/`") as caught:
        open_base(str(tmp_path), "hash")
    assert "vocab.json and merges.txt" in str(caught.value.hint)
    trouble = look_at_base(tmp_path).trouble
    assert trouble is not None
    assert trouble.what == f"has no vocabulary in `{part}/`"


def test_a_folder_without_weights_names_the_part(tmp_path: Path) -> None:
    tiny_pipeline("sd1").save_pretrained(tmp_path)
    for file in tmp_path.glob("unet/*.safetensors"):
        file.unlink()
    with pytest.raises(EnvironmentProblem, match="no weights in .*unet"):
        open_base(str(tmp_path), "hash")


COUNTS = {
    ("sd1", "unet"): 859_520_964,
    ("sd2", "unet"): 865_910_724,
    ("sdxl", "unet"): 2_567_463_684,
    ("sd1", "text_encoder"): 123_060_480,
    ("sd2", "text_encoder"): 340_387_840,
    ("sdxl", "text_encoder"): 123_060_480,
    ("sdxl", "text_encoder_2"): 694_659_840,
    ("sd1", "vae"): 83_653_863,
    ("sdxl", "vae"): 83_653_863,
}
"""Parameters of the published models."""


@pytest.mark.parametrize(("family", "part"), COUNTS)
def test_the_shipped_configurations_are_the_published_models(family: str, part: str) -> None:
    folder = CONFIGS / family / part
    with torch.device("meta"):
        if part == "unet":
            made = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder))
        elif part == "vae":
            made = AutoencoderKL.from_config(AutoencoderKL.load_config(folder))
        else:
            kind = CLIPTextModelWithProjection if part.endswith("2") else CLIPTextModel
            made = kind(CLIPTextConfig.from_pretrained(folder))
    assert sum(weight.numel() for weight in made.parameters()) == COUNTS[family, part]


def test_the_tokenizer_is_clips() -> None:
    words = clip_tokenizer()
    assert len(words) == 49408
    assert words("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert words.decode(words("Füchse, ☃!").input_ids, skip_special_tokens=True) == "füchse , ☃!"


def test_sdxl_fills_prompts_up_with_another_token() -> None:
    ids = clip_tokenizer(pad="!")("a", padding="max_length").input_ids
    assert ids == [49406, 320, 49407, *[0] * 74]


def test_a_pickle_is_not_opened_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"anything")
    with pytest.raises(EnvironmentProblem, match="not a .safetensors"):
        open_base(str(tmp_path / "model.ckpt"), "hash")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("model.diffusion_model.double_blocks.0.x", "FLUX"),
        ("lora_unet_down_blocks_0.lora_up.weight", "a LoRA"),
        ("conditioner.embedders.0.model.x", "refiner"),
        ("something.else", "no U-Net"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_its_kind(
    name: str, what: str, tmp_path: Path
) -> None:
    save_file({name: torch.zeros(1)}, tmp_path / "m.safetensors")
    with pytest.raises(EnvironmentProblem, match=what):
        open_base(str(tmp_path / "m.safetensors"), "hash")


def test_an_inpainting_file_is_refused_by_its_kind(tmp_path: Path) -> None:
    tensors = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 9, 3, 3),
        "cond_stage_model.transformer.text_model.x": torch.zeros(1),
    }
    save_file(tensors, tmp_path / "m.safetensors")
    with pytest.raises(EnvironmentProblem, match="an inpainting model"):
        open_base(str(tmp_path / "m.safetensors"), "hash")


def test_a_file_of_sd2_asks_what_it_predicts(tmp_path: Path) -> None:
    tensors = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 4, 3, 3),
        "cond_stage_model.model.x": torch.zeros(1),
    }
    save_file(tensors, tmp_path / "m.safetensors")
    with pytest.raises(EnvironmentProblem, match="does not say what it predicts") as caught:
        open_base(str(tmp_path / "m.safetensors"), "hash")
    assert "prediction: v" in str(caught.value.hint)


def test_a_vae_and_a_schedule_may_come_from_elsewhere(folder: Path, tmp_path: Path) -> None:
    other = tiny_pipeline("sdxl")
    other.vae.save_pretrained(tmp_path / "vae")
    tiny_pipeline("sd2").scheduler.save_pretrained(tmp_path / "noise")
    parts = BaseParts(str(folder), str(tmp_path / "vae"), str(tmp_path / "noise"))
    base = open_base(parts.reference, "hash")
    assert same_weights(base.vae, other.vae)
    assert base.vae.config.scaling_factor == 0.13025
    assert base.scheduler_config["prediction_type"] == "v_prediction"


def test_a_schedule_may_come_from_the_folder_of_a_model(folder: Path, tmp_path: Path) -> None:
    tiny_pipeline("sd2").save_pretrained(tmp_path)
    base = open_base(BaseParts(str(folder), scheduler=str(tmp_path)).reference, "hash")
    assert base.scheduler_config["prediction_type"] == "v_prediction"


def test_a_schedule_that_is_none_is_refused(folder: Path) -> None:
    other = str(folder / "vae" / "config.json")
    with pytest.raises(EnvironmentProblem, match="is an AutoencoderKL, and this base") as caught:
        open_base(BaseParts(str(folder), scheduler=other).reference, "hash")
    assert caught.value.hint == "name another"


@pytest.mark.parametrize(
    ("kind", "name"),
    [("sd1", "FlowMatchEulerDiscrete"), ("sdxl", "EDMDPMSolverMultistep"), ("flux2", "PNDM")],
)
def test_a_schedule_of_another_kind_is_not_read_as_one_of_its_own(
    kind: str, name: str, tmp_path: Path
) -> None:
    tiny_pipeline(kind).save_pretrained(tmp_path)
    schedule = getattr(diffusers, f"{name}Scheduler")()
    schedule.save_pretrained(tmp_path / "scheduler")
    with pytest.raises(EnvironmentProblem, match=rf"is an? {name}Scheduler, and this base takes"):
        open_base(str(tmp_path), "hash")
    trouble = look_at_base(tmp_path).trouble
    assert trouble is not None
    assert f"{name}Scheduler in `scheduler/`, and this base takes" in trouble.what


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_cut_are_refused_by_their_file(part: str, tmp_path: Path) -> None:
    tiny_pipeline("sd1").save_pretrained(tmp_path)
    (file,) = (tmp_path / part).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    said = f"has a broken `{file.name}`: it is cut"
    with pytest.raises(EnvironmentProblem, match=said) as caught:
        open_base(str(tmp_path), "hash")
    assert caught.value.hint == "get that file again"


def test_a_vae_of_other_latents_is_refused(folder: Path, tmp_path: Path) -> None:
    vae = AutoencoderKL(latent_channels=8, block_out_channels=(32,), norm_num_groups=8)
    vae.save_pretrained(tmp_path)
    with pytest.raises(EnvironmentProblem, match="latents of 8 channels, and this base draws in 4"):
        open_base(BaseParts(str(folder), vae=str(tmp_path)).reference, "hash")


def makers(name: str) -> str:
    """A name in a checkpoint of the makers'."""
    return f"first_stage_model.{name}"


@pytest.mark.parametrize("named", [str, makers])
def test_a_vae_in_one_file_of_other_latents_is_refused_in_one_line(
    named: Callable[[str], str], folder: Path, tmp_path: Path
) -> None:
    like = open_base(str(folder), "hash").vae
    vae = AutoencoderKL.from_config({**like.config, "latent_channels": 8})
    save_file({named(k): v for k, v in vae.state_dict().items()}, tmp_path / "vae.safetensors")
    said = "latents of 8 channels, and this base draws in 4"
    with pytest.raises(EnvironmentProblem, match=said) as caught:
        open_base(BaseParts(str(folder), vae=str(tmp_path / "vae.safetensors")).reference, "hash")
    assert caught.value.hint == "name one that was made for this kind of base"
    base = look_at_base(folder)
    trouble = vae_trouble(tmp_path / "vae.safetensors", base)
    assert trouble is not None
    assert said in trouble.what


@pytest.mark.parametrize("lacking", ["encoder.conv_in.weight", ""])
def test_a_vae_in_one_file_of_other_sizes_is_refused_in_one_line(
    lacking: str, folder: Path, tmp_path: Path
) -> None:
    like = open_base(str(folder), "hash").vae
    vae = AutoencoderKL.from_config({**like.config, "block_out_channels": (32, 32)})
    weights = {name: weight for name, weight in vae.state_dict().items() if name != lacking}
    save_file(weights, tmp_path / "vae.safetensors")
    with pytest.raises(EnvironmentProblem, match="an autoencoder like the base's own$"):
        open_base(BaseParts(str(folder), vae=str(tmp_path / "vae.safetensors")).reference, "hash")


def unet_of(folder: Path, copy: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    """A copy of a base whose U-Net's numbers are written otherwise."""
    shutil.copytree(folder, copy)
    (file,) = (copy / "unet").glob("*.safetensors")
    save_file({name: change(tensor) for name, tensor in load_file(file).items()}, file)
    return file


@pytest.mark.parametrize("dtype", [torch.float64, torch.float8_e4m3fn, torch.float8_e5m2])
def test_numbers_of_any_type_are_read_into_the_wanted_one(
    dtype: torch.dtype, folder: Path, tmp_path: Path
) -> None:
    file = unet_of(folder, tmp_path / "base", lambda tensor: tensor.to(dtype))
    made = open_base(str(tmp_path / "base"), "hash", dtype=torch.bfloat16).unet.state_dict()
    for name, wanted in load_file(file).items():
        assert torch.equal(made[name], wanted.to(torch.bfloat16))


@pytest.mark.parametrize("head", [b"", b"\x10", (2).to_bytes(8, "little") + b"[]", b"\xff" * 64])
def test_a_broken_file_of_weights_is_said_in_words(
    head: bytes, folder: Path, tmp_path: Path
) -> None:
    unet_of(folder, tmp_path / "base", torch.clone).write_bytes(head)
    with pytest.raises(EnvironmentProblem, match="no safetensors file"):
        open_base(str(tmp_path / "base"), "hash", dtype=torch.bfloat16)


def test_an_author_may_say_what_a_base_predicts(folder: Path) -> None:
    base = open_base(BaseParts(str(folder), prediction="v").reference, "hash")
    assert base.scheduler_config["prediction_type"] == "v_prediction"


def test_a_line_and_its_parts_are_the_same(tmp_path: Path) -> None:
    parts = BaseParts("a/b@v1", "/x y/ä&b", prediction="v")
    assert BaseParts.of(parts.reference) == parts
    assert BaseParts.of("odd?name").model == "odd?name"


def test_a_base_with_another_vae_is_another_base(folder: Path, tmp_path: Path) -> None:
    tiny_pipeline("sdxl").vae.save_pretrained(tmp_path / "vae")
    plain = base_at(str(folder), tmp_path)
    other = base_at(f"{folder}?vae=vae", tmp_path)
    assert plain.hash != other.hash
    assert BaseParts.of(other.reference).vae == str(tmp_path / "vae")


def test_a_vae_that_is_not_there_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="no vae for the base"):
        base_at(f"{folder}?vae=./vae", tmp_path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub of our own, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


def test_a_hub_id_that_was_fetched_opens_offline(folder: Path, hub: Path) -> None:
    hub_of(folder, hub)
    assert open_base("owner/tiny", "hash").family.groups > 0


@pytest.mark.usefixtures("hub")
def test_a_hub_id_that_was_not_fetched_says_so_offline() -> None:
    with pytest.raises(EnvironmentProblem, match="the hub cannot be reached") as caught:
        open_base("owner/tiny@v1", "hash")
    assert "hf download owner/tiny" in str(caught.value.hint)


def test_one_variant_of_each_part_is_fetched_and_nothing_else() -> None:
    files = [
        "model_index.json",
        "README.md",
        "LICENSE.md",
        "docs/README.md",
        "v1-5-pruned.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "text_encoder/config.json",
        "text_encoder/model.fp16-00001-of-00002.safetensors",
        "text_encoder/model.fp16-00002-of-00002.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "safety_checker/model.safetensors",
        "vae/diffusion_pytorch_model.bin",
    ]
    assert wanted_files(files) == sorted(
        [
            "model_index.json",
            "README.md",
            "LICENSE.md",
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
            "text_encoder/config.json",
            "text_encoder/model.fp16-00001-of-00002.safetensors",
            "text_encoder/model.fp16-00002-of-00002.safetensors",
            "tokenizer/merges.txt",
            "tokenizer/vocab.json",
            "vae/diffusion_pytorch_model.bin",
        ]
    )
    assert wanted_files(["README.md", "LICENSE", "model.safetensors"]) == []
