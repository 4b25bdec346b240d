"""The blueprint of the embedded model: stock diffusers and transformers classes and sizes."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from storyforge.model.cell_decoder import DRAWN
from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.pocket import world

PICTURE = 256
COMPONENTS = 54
LATENT_CHANNELS = COMPONENTS + world.MEANINGS
FIRST = 20
"""Of the channels that tell. As many components stand before them as there once were, so that the
same noise makes the same picture as then."""
TOLD = slice(FIRST, FIRST + world.MEANINGS)
READ = [*range(TOLD.start), *range(TOLD.stop, LATENT_CHANNELS)]
"""The channels of components, which only an encoder knows."""
SPOT = (FIRST + world.SPOT, FIRST + world.SPOT + 1)
TEXT_WIDTH = 160
POSITIONS = 77
WIDTHS = (96, 128, 192)
HEADS = (6, 8, 12)
DOWNSCALE = 16
"""Pixels a side of one latent cell."""
LEAN = 4.0
"""How far timesteps lean towards noise: half of them have more than four fifths of the usual."""


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


@torch.no_grad()
def silence_components(unet: UNet2DConditionModel) -> None:
    """Let it say and hear nothing of the components of patches: the decoder makes what goes with
    the rest.

    Where pictures are made there are none to be heard. A U-Net that heard them where it learns
    would read off them what it is to tell, and so would all that learns beside it, concepts and
    adapters. No gradient passes here, in or out.
    """
    unet.conv_in.weight[:, READ] = 0
    unet.conv_out.weight[READ] = 0
    unet.conv_out.bias[READ] = 0


def unheard(latents: torch.Tensor) -> torch.Tensor:
    """Latents (b, c, h, w) without their components, as a U-Net in training is to hear them."""
    return unread(latents[:, TOLD])


def unread(told: torch.Tensor) -> torch.Tensor:
    """What is told (n, t, h, w), as latents (n, c, h, w) of a picture that nobody has read."""
    return F.pad(told, (0, 0, 0, 0, FIRST, COMPONENTS - FIRST))


def new_autoencoder() -> PatchAutoencoder:
    """Cells of 16 pixels a side as they are read; untrained."""
    (points, minding), frames = world.landmarks(), world.frames()
    model: PatchAutoencoder = PatchAutoencoder(
        latent_channels=LATENT_CHANNELS,
        told=world.MEANINGS,
        first=FIRST,
        fields=tuple(world.FIELDS.values())[2:],
        sizes=world.SIZE_LAW,
        mirror=world.MIRROR,
        landmarks=len(points),
        places=world.landmark_groups()["places"],
        alone=world.landmark_groups()["arrangement"][0],
        frames=len(frames[0]),
        atlases=world.atlases(),
        colours=world.COLOURS_TOLD,
        solved=world.SOLVED,
        tried=world.tried(),
        names=world.named(),
        faces=world.face_frame(),
        shadow=world.shadow(),
        sample_size=PICTURE // DOWNSCALE * DRAWN,
    )
    model.set_landmarks(torch.from_numpy(points), torch.from_numpy(minding))
    model.set_frames(*map(torch.from_numpy, frames))
    return model


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
        conditioning_embedding_out_channels=(4, 8, 16, 24, 32, 64),
    )
    for name, weight in net.controlnet_cond_embedding.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(weight)
        else:
            # SiLU halves what is small; this gain keeps the spread of faint lines to the end.
            nn.init.normal_(weight, std=1.7 / weight[0].numel() ** 0.5)
    return net


def new_scheduler() -> DDIMScheduler:
    """Clean latents are predicted, on a schedule that leans towards noise and ends in nothing else.

    It is Stable Diffusion's, its terminal signal taken away, run through sooner where there is
    little noise: at those a narrow network passes noise on, and what is told is decided long
    before (Esser et al. 2024, Scaling Rectified Flow Transformers, §5.3.2, lean alike).
    """
    usual = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        rescale_betas_zero_snr=True,
    )
    signal = usual.alphas_cumprod.double().sqrt().numpy()
    done = np.arange(1, len(signal) + 1) / len(signal)
    leaning = LEAN * done / (1 + (LEAN - 1) * done)
    power = np.interp(leaning, done, signal) ** 2
    betas = 1 - power / np.concatenate([[1.0], power[:-1]])
    return DDIMScheduler(
        trained_betas=[round(float(beta), 9) for beta in betas],
        clip_sample=False,
        prediction_type="sample",
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


def start_folder() -> Path:
    """What only training needs, and weights in training that are not shipped yet, if there are any;
    no package carries them."""
    return Path(__file__).parent / "start"


def part_folder(folder: Path, part: str) -> Path:
    """Where to start `part` from: what this run trained, what earlier ones did, what is shipped."""
    for known in (folder / part, start_folder() / part):
        if known.exists():
            return known
    return weights_folder() / part


def take_over(module: nn.Module, path: Path) -> None:
    """Load the weights in `path`, where there are any and their shapes are the module's."""
    weights = load_file(path) if path.is_file() else {}
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    if {name: value.shape for name, value in weights.items()} == shapes:
        module.load_state_dict({name: value.float() for name, value in weights.items()})
