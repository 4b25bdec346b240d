"""A base of others is drawn with as stock diffusers draws with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from tiny import save_base

from storyforge.model.attention import AttentionContext
from storyforge.model.base import BaseModel, open_base
from storyforge.model.denoising import denoise, start_latents
from storyforge.model.tokens import encode

STEPS, SCALE = 6, 5.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base whose scheduler's configuration does not name `clip_sample`."""
    folder = save_base(tmp_path / "base")
    assert "clip_sample" not in json.loads(
        (folder / "scheduler" / "scheduler_config.json").read_text()
    )
    return folder


def latents(base: BaseModel) -> torch.Tensor:
    texts = encode(base, ["", "a red fox"], {})
    noise = start_latents(base, [1])
    return denoise(base, AttentionContext(texts), noise, steps=STEPS, guidance_scale=SCALE)


def test_latents_are_not_clipped_unless_the_base_says_so(folder: Path) -> None:
    free = latents(open_base(str(folder), "a" * 64))
    assert free.abs().max() > 3
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"clip_sample": False}))
    assert torch.equal(latents(open_base(str(folder), "a" * 64)), free)


def test_a_plain_prompt_is_the_picture_of_the_stock_pipeline(folder: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    pipe.set_progress_bar_config(disable=True)
    base = open_base(str(folder), "a" * 64)
    wanted = pipe(
        "a red fox",
        num_inference_steps=STEPS,
        guidance_scale=SCALE,
        latents=start_latents(base, [1]),
        output_type="np",
    ).images[0]
    texts = encode(base, ["", "a red fox"], {})
    noise = start_latents(base, [1])
    made = base.decode(
        denoise(base, AttentionContext(texts), noise, steps=STEPS, guidance_scale=SCALE)
    )
    np.testing.assert_allclose(made[0].permute(1, 2, 0).numpy(), wanted, atol=1 / 255)
