"""A tiny base of random weights, which may predict noise, a velocity or clean latents."""

from __future__ import annotations

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from tinybases import tokenizer
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from storyforge.model.base import BaseModel
from storyforge.model.cell_decoder import DRAWN, PATCH
from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.modelref import Defaults

CONFIG = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "timestep_spacing": "trailing",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
}
"""A schedule that ends just before pure noise: there clean latents would not follow from noise."""

CELLS = 8
"""Along a side of its own picture, each of `DRAWN` pixels."""


class Saying(UNet2DConditionModel):
    """One denoiser of clean latents, that says them as noise or as a velocity if it is told to."""

    kind = "sample"

    def forward(self, sample: Tensor, timestep: Tensor, *rest: object, **named: object) -> object:
        """What the kind asks for."""
        clean = super().forward(sample, timestep, *rest, **named, return_dict=True).sample
        times = torch.as_tensor(timestep).expand(len(sample)).long()
        signal = scheduler(self.kind).alphas_cumprod[times][:, None, None, None]
        noise = (sample - signal.sqrt() * clean) / (1 - signal).sqrt()
        velocity = signal.sqrt() * noise - (1 - signal).sqrt() * clean
        said = {"sample": clean, "epsilon": noise, "v_prediction": velocity}
        return UNet2DConditionOutput(sample=said[self.kind])


def scheduler(kind: str) -> DDPMScheduler:
    """The noise schedule of a model that predicts this."""
    return DDPMScheduler.from_config({**CONFIG, "prediction_type": kind})


def open_tiny(kind: str = "sample") -> BaseModel:
    """The model; those of different kinds differ by nothing but what they predict."""
    words = tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = Saying(
            sample_size=CELLS,
            in_channels=8,
            out_channels=8,
            block_out_channels=(16, 16),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            attention_head_dim=2,
            cross_attention_dim=16,
            norm_num_groups=4,
        )
        unet.kind = kind
        vae = PatchAutoencoder(
            latent_channels=8,
            told=5,
            reading=(8, 8, 8, 8, 8),
            widths=(8, 8, 8),
            depths=(1, 1, 1),
            sample_size=DRAWN * CELLS,
        )
        basis, _ = torch.linalg.qr(torch.randn(3 * PATCH**2, 3))
        vae.set_code(torch.zeros(3 * PATCH**2), basis, torch.tensor(4.0))
        encoder = CLIPTextModel(text)
    config: dict[str, object] = {**CONFIG, "prediction_type": kind}
    return BaseModel("tiny", kind, unet, vae, encoder, words, config, Defaults(steps=4))
