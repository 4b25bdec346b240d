"""Models of Stable Diffusion's classes that are saved and opened, and the smallest of all.

Bases of every family are in `tinybases`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tinybases import BETAS, WIDTH, text_config, tokenizer, unet
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer


def text_encoder() -> CLIPTextModel:
    return CLIPTextModel(text_config("quick_gelu", WIDTH, layers=2))


def sixteen() -> UNet2DConditionModel:
    """With the sixteen cross-attention layers of Stable Diffusion 1.x, each as narrow as can be."""
    return unet(
        down_block_types=(*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
        block_out_channels=(32, 32, 32, 32),
        layers_per_block=2,
    )


def vae() -> AutoencoderKL:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=(32, 32),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=32,
    )


def pipeline(seed: int = 0, **parts: object) -> StableDiffusionPipeline:
    """A whole pipeline of random weights, always the same for a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        usual: dict[str, object] = {
            "vae": vae(),
            "text_encoder": text_encoder(),
            "tokenizer": tokenizer(),
            "unet": unet(),
            "scheduler": PNDMScheduler(
                **BETAS,
                set_alpha_to_one=False,
                skip_prk_steps=True,
                steps_offset=1,
            ),
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        }
        return StableDiffusionPipeline(**usual | parts)


def save_base(folder: Path, **parts: object) -> Path:
    """Write a pipeline as a folder that can be a base."""
    pipeline(**parts).save_pretrained(folder)
    return folder


NARROW = 8
ENDS = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}


def letter_tokenizer() -> CLIPTokenizer:
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), *ENDS.values()]
    vocab = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(
        vocab=vocab, merges=[], pad_token=ENDS["eos_token"], unk_token=ENDS["eos_token"], **ENDS
    )


def smallest_pipeline() -> StableDiffusionPipeline:
    """A pipeline that knows single letters, a few numbers wide."""
    torch.manual_seed(0)
    letters = letter_tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(letters),
        hidden_size=NARROW,
        intermediate_size=NARROW,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=letters.bos_token_id,
        eos_token_id=letters.eos_token_id,
        pad_token_id=letters.pad_token_id,
    )
    denoiser = UNet2DConditionModel(
        sample_size=4,
        block_out_channels=(NARROW, 2 * NARROW),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=NARROW,
        norm_num_groups=4,
    )
    return StableDiffusionPipeline(
        vae=AutoencoderKL(block_out_channels=(4,), norm_num_groups=2),
        text_encoder=CLIPTextModel(text),
        tokenizer=letters,
        unet=denoiser,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
