"""Whether an exported concept draws in stock diffusers what it draws here."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file

from storyforge.errors import EnvironmentProblem
from storyforge.headers.kinds import CLIP_FILE
from storyforge.headers.names import BUNDLE
from storyforge.model.attention import AttentionContext
from storyforge.model.base import BaseModel
from storyforge.model.concept import Concept
from storyforge.model.denoising import denoise, make_scheduler, start_latents
from storyforge.model.lora import merged
from storyforge.model.tokens import encode

STEPS: Final = 4
_SCALE: Final = 5.0


def drawn_here(base: BaseModel, concept: Concept, steps: int = STEPS) -> torch.Tensor:
    """(3, h, w) in [0, 1]: the concept alone, by storyforge."""
    prompts = ["", f"a picture of <{concept.name}>"]
    with merged(base, concept.deltas):
        texts = encode(base, prompts, {concept.name: concept.tokens})
        noise = start_latents(base, [1])
        clean = denoise(base, AttentionContext(texts), noise, steps=steps, guidance_scale=_SCALE)
    return base.decode(clean)[0]


def drawn_by_stock(
    base: BaseModel, name: str, files: Sequence[Path], steps: int = STEPS
) -> torch.Tensor:
    """(3, h, w) in [0, 1]: the same from files, by diffusers' own pipeline.

    files  a LoRA, or none, and then the words

    Raises:
      EnvironmentProblem: if diffusers cannot read them, or PEFT is not installed.
    """
    pipe = _stock(base)
    pipe.set_progress_bar_config(disable=True)
    *loras, words = files
    try:
        for lora in loras:
            # Words that a LoRA brings along are the web UI's to read; diffusers refuses them.
            changes = {k: v for k, v in load_file(lora).items() if not k.startswith(BUNDLE)}
            pipe.load_lora_weights(changes)
        for state, encoder in _words(pipe, words):
            pipe.load_textual_inversion(state, token=f"<{name}>", **encoder)
    except (ValueError, OSError, RuntimeError, ImportError) as exc:
        raise EnvironmentProblem(
            f"stock diffusers does not read `{files[0]}`: {exc}",
            hint="it needs PEFT for LoRAs: pip install peft",
        ) from exc
    side = base.side
    picture = pipe(
        f"a picture of <{name}>",
        num_inference_steps=steps,
        guidance_scale=_SCALE,
        latents=start_latents(base, [1]),
        height=side,
        width=side,
        output_type="pt",
    ).images[0]
    return torch.as_tensor(picture).float()


def _stock(base: BaseModel) -> DiffusionPipeline:
    """diffusers' own pipeline, of copies of what is changed in it."""
    parts = {
        "vae": base.vae,
        "text_encoder": copy.deepcopy(base.text_encoder),
        "tokenizer": copy.deepcopy(base.tokenizer),
        "unet": copy.deepcopy(base.unet),
        "scheduler": make_scheduler(base, None),
    }
    if base.text_encoder_2 is None:
        return StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    return StableDiffusionXLPipeline(
        **parts,
        text_encoder_2=copy.deepcopy(base.text_encoder_2),
        tokenizer_2=copy.deepcopy(base.tokenizer_2),
        force_zeros_for_empty_prompt=base.empty_is_zero,
        add_watermarker=False,
    )


def _words(
    pipe: DiffusionPipeline, file: Path
) -> Iterator[tuple[Path | torch.Tensor, dict[str, object]]]:
    """What of a file of words each text encoder learns."""
    if not hasattr(pipe, "text_encoder_2"):
        yield file, {}
        return
    whole = load_file(file)
    for key, number in zip(CLIP_FILE, ("", "_2"), strict=True):
        parts = {each: getattr(pipe, f"{each}{number}") for each in ("text_encoder", "tokenizer")}
        yield whole[key], parts


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of two pictures, of 255."""
    return float((one - other).abs().max()) * 255
