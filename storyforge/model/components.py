"""The components of a base: from a folder of diffusers, or from one file of weights.

A folder may have its weights as one variant only (`*.fp16.safetensors`), and a single file is read
without a network by configurations that come with storyforge. Read are Stable Diffusion 1.x, 2.x
and XL, and as folders FLUX.2-klein and Z-Image; what is of another kind is refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors import safe_open
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from storyforge.errors import EnvironmentProblem
from storyforge.headers.parts import schedule_file, schedule_trouble, words_trouble
from storyforge.model.autoencoders import Vae, check_vae, vae_in
from storyforge.model.dit.door import Door, stock_pipeline
from storyforge.model.dit.doors import DOORS
from storyforge.model.heap import trim_heap
from storyforge.model.hub import INDEX, TAKEN
from storyforge.model.kept_weights import SIXTEEN, keep_model
from storyforge.model.vocabulary import CONFIGS, TOKENS, clip_vocabulary
from storyforge.model.weights import chosen_in, chosen_weights, json_in, unet_in, weighed

_CHANNELS: Final = {
    9: "an inpainting model",
    8: "a model that edits pictures",
    5: "a depth-guided model",
}
_PREDICTIONS: Final = {"epsilon": "epsilon", "v": "v_prediction", "sample": "sample"}
"""What an author calls what a U-Net predicts, and what diffusers calls it."""


@dataclass(frozen=True, slots=True)
class Components:
    """What a base is put together from.

    text_encoder_2, tokenizer_2  of SDXL; None in models with one text encoder
    empty_is_zero                the empty prompt is not read: its features are zeros
    door                         of a transformer, which then stands in `unet`; else None
    """

    unet: UNet2DConditionModel
    vae: Vae
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler_config: dict[str, object]
    text_encoder_2: CLIPTextModelWithProjection | None = None
    tokenizer_2: CLIPTokenizer | None = None
    empty_is_zero: bool = False
    door: Door | None = None


def components_of(
    path: Path,
    dtype: torch.dtype,
    prediction: str | None = None,
    *,
    kept: torch.dtype | None = None,
) -> Components:
    """Open a folder or a `.safetensors` file; the VAE is in float32.

    Args:
      path: where it lies.
      dtype: precision of U-Net and text encoders.
      prediction: `epsilon`, `v` or `sample`, where the base itself does not say it rightly.
      kept: how the weights of U-Net and text encoders are kept, if in fewer bits; from a folder
        of one file for each part they are while they are read.

    Raises:
      EnvironmentProblem: if it cannot be read, or is of another kind.
    """
    # What is kept in 16 bits is best read in them, from the variant that has no more.
    read = SIXTEEN if kept == SIXTEEN else dtype
    made = _of_folder(path, read, kept) if path.is_dir() else _of_file(path, read, prediction)
    check_vae(made.vae, made.unet, made.door, str(path))
    if kept is not None:
        for model in filter(None, (made.unet, made.text_encoder, made.text_encoder_2)):
            keep_model(model, kept, dtype)
    if prediction is None:
        return made
    said = {"prediction_type": _PREDICTIONS[prediction]}
    return replace(made, scheduler_config=made.scheduler_config | said)


def _of_folder(folder: Path, dtype: torch.dtype, kept: torch.dtype | None) -> Components:
    index = json_in(folder / INDEX)
    if str(index.get("_class_name")) in DOORS:
        return _of_transformer(folder, DOORS[str(index["_class_name"])], dtype)
    second = "text_encoder_2" in index and index["text_encoder_2"] != [None, None]
    _check_kind(folder, index, second=second)
    text_encoder = weighed(CLIPTextModel, folder / "text_encoder", dtype)
    text_encoder_2 = tokenizer_2 = None
    if second:
        text_encoder_2 = weighed(CLIPTextModelWithProjection, folder / "text_encoder_2", dtype)
        tokenizer_2 = CLIPTokenizer.from_pretrained(folder / "tokenizer_2")
    if kept is not None:
        for encoder in filter(None, (text_encoder, text_encoder_2)):
            keep_model(encoder, kept, dtype)
        trim_heap()  # before the U-Net comes
    return Components(
        unet=unet_in(folder / "unet", dtype, kept=kept),
        vae=vae_in(folder / "vae"),
        text_encoder=text_encoder,
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        scheduler_config=scheduler_config_in(folder / "scheduler", None),
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
        empty_is_zero=second and bool(index.get("force_zeros_for_empty_prompt", True)),
    )


def _of_transformer(folder: Path, door: Door, dtype: torch.dtype) -> Components:
    """A transformer and what belongs to it, in the places of a U-Net and a CLIP."""
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    _check_whole(folder, parts)
    for part in parts[:3]:
        chosen_in(folder / part)
    whole = stock_pipeline(door).from_pretrained(
        folder,
        dtype={"default": dtype, "vae": torch.float32},
        variant=_variant_in(folder),
        use_safetensors=True,
        local_files_only=True,
    )
    return Components(
        unet=whole.transformer,
        vae=whole.vae,
        text_encoder=whole.text_encoder,
        tokenizer=whole.tokenizer,
        scheduler_config=scheduler_config_in(folder / "scheduler", door),
        door=door,
    )


def _variant_in(folder: Path) -> str | None:
    """The variant of a transformer's weights, where there are no others."""
    chosen = chosen_weights(file.name for file in (folder / "transformer").iterdir())
    return chosen.variant if chosen else None


def _check_whole(folder: Path, parts: Sequence[str]) -> None:
    if lacking := [part for part in parts if not (folder / part).is_dir()]:
        named = ", ".join(f"`{part}`" for part in lacking)
        raise EnvironmentProblem(f"`{folder}` lacks {named}", hint="get the whole model anew")
    for part in parts:
        # A tokenizer opens without a vocabulary, too, and knows no word.
        trouble = words_trouble(folder / part) if part.startswith("tokenizer") else None
        if trouble is not None:
            raise EnvironmentProblem(f"`{folder}` {trouble.what}", hint=trouble.remedy)


def _check_kind(folder: Path, index: dict[str, object], *, second: bool) -> None:
    """Refuse what is not of Stable Diffusion's kind, or not whole."""
    kind = str(index.get("_class_name", "no pipeline"))
    if not index:
        raise EnvironmentProblem(
            f"`{folder}` holds no {INDEX}",
            hint="name the folder that diffusers saved, or a .safetensors file",
        )
    parts = ["unet", "vae", "text_encoder", "tokenizer", "scheduler"]
    if second:
        parts += ["text_encoder_2", "tokenizer_2"]
    if "unet" not in index or not kind.startswith("StableDiffusion"):
        raise EnvironmentProblem(f"`{folder}` is a {kind}", hint=TAKEN)
    _check_whole(folder, parts)
    unet, vae = json_in(folder / "unet" / "config.json"), json_in(folder / "vae" / "config.json")
    _check_channels(str(folder), unet.get("in_channels", 4), vae.get("latent_channels", 4))


def _check_channels(name: str, channels: object, latents: object) -> None:
    if channels != latents:
        kind = _CHANNELS.get(channels, "another kind of model") if isinstance(channels, int) else ""
        raise EnvironmentProblem(
            f"`{name}` is {kind}: its U-Net reads {channels} channels, not {latents}", hint=TAKEN
        )


def scheduler_config_in(path: Path, door: Door | None) -> dict[str, object]:
    """The noise schedule that a file, or the `scheduler_config.json` in a folder, says.

    Raises EnvironmentProblem if there is none, or none for this kind of base.
    """
    trouble = schedule_trouble(path, joint=door is not None)
    if trouble is not None:
        raise EnvironmentProblem(f"`{path}` {trouble.what}", hint=trouble.remedy)
    return json_in(schedule_file(path))


def clip_tokenizer(pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """The tokenizer of every Stable Diffusion; what fills a prompt up differs between encoders."""
    vocabulary, merges = clip_vocabulary()
    return CLIPTokenizer(vocabulary, merges, pad_token=pad, model_max_length=TOKENS)


def _of_file(path: Path, dtype: torch.dtype, prediction: str | None) -> Components:
    family, said = _family_of_file(path, prediction)
    folder = CONFIGS / family
    tokenizers = {"tokenizer": clip_tokenizer()}
    if family == "sd2":
        tokenizers = {"tokenizer": clip_tokenizer(pad="!")}
    if family == "sdxl":
        tokenizers["tokenizer_2"] = clip_tokenizer(pad="!")
    kind = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    told = {"config": str(folder), "local_files_only": True}
    # Apart from the rest, as the largest: what a file is mapped to stays until all of it is read.
    unet = UNet2DConditionModel.from_single_file(str(path), subfolder="unet", dtype=dtype, **told)
    trim_heap()
    # Apart from the rest, too: in half of its precision first, it would be rounded.
    vae = AutoencoderKL.from_single_file(str(path), subfolder="vae", dtype=torch.float32, **told)
    pipe: DiffusionPipeline = kind.from_single_file(
        str(path), unet=unet, vae=vae, dtype=dtype, **told, **tokenizers
    )
    return Components(
        unet=unet,
        vae=vae,
        text_encoder=pipe.text_encoder,
        tokenizer=pipe.tokenizer,
        scheduler_config=scheduler_config_in(folder / "scheduler", None) | said,
        text_encoder_2=getattr(pipe, "text_encoder_2", None),
        tokenizer_2=getattr(pipe, "tokenizer_2", None),
        empty_is_zero=family == "sdxl",
    )


_UNET: Final = "model.diffusion_model."
_MARKS: Final = {
    "conditioner.embedders.1.model.": "sdxl",
    "cond_stage_model.model.": "sd2",
    "cond_stage_model.transformer.": "sd1",
}
"""Beginning of the text encoder's names -> the family in whose files they stand."""

_OTHERS: Final = {
    "double_blocks": "FLUX",
    "joint_blocks": "Stable Diffusion 3",
    "cap_embedder": "Z-Image or Lumina",
    "conditioner.embedders.0.model.": "the refiner of SDXL",
    "lora": "a LoRA",
}


def _family_of_file(path: Path, prediction: str | None) -> tuple[str, dict[str, object]]:
    """Which configurations a file belongs to, and what it says of its noise schedule."""
    if path.suffix != ".safetensors":
        raise EnvironmentProblem(
            f"`{path}` is not a .safetensors file",
            hint="other files can hold code, which nobody should run: get it as .safetensors",
        )
    with safe_open(path, "pt") as file:
        names = set(file.keys())
        first = f"{_UNET}input_blocks.0.0.weight"
        channels = file.get_slice(first).get_shape()[1] if first in names else 4
    family = next((f for m, f in _MARKS.items() if any(n.startswith(m) for n in names)), None)
    if family is None or not any(name.startswith(_UNET) for name in names):
        other = next((k for m, k in _OTHERS.items() if any(m in n for n in names)), None)
        what = f"is {other}" if other else "holds no U-Net with a text encoder"
        raise EnvironmentProblem(f"`{path}` {what}", hint=TAKEN)
    _check_channels(str(path), channels, 4)
    said: dict[str, object] = {}
    if "v_pred" in names:  # two marks that trainers of SDXL leave
        said["prediction_type"] = "v_prediction"
    if "ztsnr" in names:
        said |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    if family == "sd2" and prediction is None:
        said["prediction_type"] = _said_beside(path)
    return family, said


def _said_beside(path: Path) -> str:
    """What a file of SD 2.x predicts, which only the configuration beside it can tell."""
    beside = path.with_suffix(".yaml")
    if not beside.is_file():
        raise EnvironmentProblem(
            f"`{path}` is a Stable Diffusion 2.x, and does not say what it predicts",
            hint=f"write `base: {{model: {path.name}, prediction: v}}` for those of 768 pixels, "
            "`prediction: epsilon` for those of 512",
        )
    text = beside.read_text(encoding="utf-8", errors="replace")
    return "v_prediction" if re.search(r"parameterization:\s*[\"']?v\b", text) else "epsilon"
