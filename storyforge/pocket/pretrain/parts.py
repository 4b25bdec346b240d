"""The blueprint of the embedded model: stock diffusers and transformers classes and sizes."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

PICTURE = 256
LATENT_CHANNELS = 12
TEXT_WIDTH = 160
POSITIONS = 77
WIDTHS = (64, 112, 128)
HEADS = (4, 7, 8)
DOWNSCALE = 16
"""Pixels a side of one latent cell."""
COLOUR_PAIRS = 6
"""Channels +R −R +G −G +B −B that the VAE passes through at the start of training."""


def new_vae() -> AutoencoderKL:
    """An f16 autoencoder whose first pictures are already right in colour (pass-through start)."""
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 5,
        up_block_types=("UpDecoderBlock2D",) * 5,
        block_out_channels=(16, 32, 64, 96, 128),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=PICTURE,
        scaling_factor=1.0,
        force_upcast=False,
    )
    _pass_through(vae)
    return vae


@torch.no_grad()
def _pass_through(vae: AutoencoderKL) -> None:
    for name, module in vae.named_modules():
        if name.endswith("conv2"):
            module.weight.mul_(0.1)
            module.bias.zero_()
        elif name.endswith("conv_shortcut"):
            module.weight.mul_(0.1)
            module.bias.zero_()
            _carry(module, torch.ones(1, 1))
        elif name.endswith("downsamplers.0.conv"):
            module.weight.mul_(0.1)
            box = torch.zeros(3, 3)
            box[:2, :2] = 0.25
            _carry(module, box)
        elif name.endswith("upsamplers.0.conv"):
            module.weight.mul_(0.1)
            tent = torch.tensor([1.0, 2.0, 1.0])
            _carry(module, torch.outer(tent, tent) / 16)
    signs = torch.tensor([1.0, -1.0]).repeat(3)
    for channel in range(COLOUR_PAIRS):
        for conv in (vae.encoder.conv_in, vae.decoder.conv_in):
            conv.weight[channel] = 0
            conv.bias[channel] = 0
            conv.weight[channel, channel // 2, 1, 1] = signs[channel]
    for conv, gain in ((vae.encoder.conv_out, 1.0), (vae.decoder.conv_out, 0.5)):
        conv.weight[:3] *= 0.1
        conv.bias[:3] = 0
        for channel in range(COLOUR_PAIRS):
            conv.weight[channel // 2, channel, 1, 1] = signs[channel] * gain
    for conv in (vae.quant_conv, vae.post_quant_conv):
        conv.weight[:] = 0
        conv.bias[:] = 0
        for channel in range(LATENT_CHANNELS):
            conv.weight[channel, channel] = 1
    vae.quant_conv.bias[LATENT_CHANNELS:] = -6.0


def _carry(conv: nn.Module, kernel: torch.Tensor) -> None:
    weight = conv.weight
    assert isinstance(weight, torch.Tensor)
    weight[:COLOUR_PAIRS] = 0
    for channel in range(COLOUR_PAIRS):
        weight[channel, channel] = kernel


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A small CLIP text model for `tokenizer`."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=4,
            num_attention_heads=TEXT_WIDTH // 32,
            max_position_embeddings=POSITIONS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_unet() -> UNet2DConditionModel:
    """Three levels (16, 8, 4 cells), two layers each: 16 cross-attention sites, as in SD 1.5."""
    return UNet2DConditionModel(
        sample_size=PICTURE // DOWNSCALE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=WIDTHS,
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        attention_head_dim=HEADS,
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=16,
    )


def new_controlnet() -> ControlNetModel:
    """The U-Net's encoder with attention at its coarsest level alone, to stay under 6 MB.

    It adds nothing as it begins, but what it reads is in its features from the first step on:
    where both ends of it are zero (ControlNet, §3.1), hundreds of steps pass before it is heard.
    """
    net = ControlNetModel(
        in_channels=LATENT_CHANNELS,
        block_out_channels=WIDTHS,
        layers_per_block=2,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2D",
        attention_head_dim=HEADS,
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=16,
        conditioning_embedding_out_channels=(8, 16, 24, 32, 64),
    )
    for name, weight in net.controlnet_cond_embedding.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(weight)
        else:
            # SiLU halves what is small; this gain keeps the spread of faint lines to the end.
            nn.init.normal_(weight, std=1.7 / weight[0].numel() ** 0.5)
    return net


def new_scheduler() -> DDIMScheduler:
    """v-prediction on a schedule that ends in pure noise."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        steps_offset=1,
    )


def weights_folder() -> Path:
    """Where the package keeps its weights."""
    return Path(__file__).parents[1] / "weights"


def adapters_folder() -> Path:
    """Where the package keeps its adapters."""
    return Path(__file__).parents[1] / "adapters"


def clip_folder() -> Path:
    """Where the package keeps its CLIP."""
    return Path(__file__).parents[1] / "clip"


def part_folder(folder: Path, part: str) -> Path:
    """Where to start `part` from: what this run trained, else what the package ships."""
    return folder / part if (folder / part).is_dir() else weights_folder() / part
