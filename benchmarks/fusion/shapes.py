"""Stable Diffusion 1.5's attention layers, what the published code records of each, and stand-ins.

No weights of that model are needed: names and sizes come from the architecture, and features are
drawn so that their energies fall as recorded ones do. Along common directions every concept has its
own energies, those of a recorded concept. Not covered: what the model's own features would be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from storyforge.model.family import Family, Stage, linear_modules

RANK = 4

STEPS = 20
"""Denoising steps that the published code records, all of them (Mix-of-Show `main`)."""

TEXT_ROWS = 16 * (7 + 4)
"""Two prompts, unpadded, one encoding for each of sixteen layers."""

KV_ROWS = 2 * 3
"""Two prompts: the two words and the end of the text."""

SIDE = 64
"""Cells along a picture of 512 pixels, at the finest level."""

FAINTEST = 1e-10
"""Share of the largest energy below which recorded ones are rounding."""


@dataclass(frozen=True, slots=True)
class Input:
    """One distinct input of the model.

    linears  those that read it, and how wide what they say is
    rows     that the published code records of it, for each concept
    """

    source: str
    stage: Stage
    width: int
    linears: tuple[tuple[str, int], ...]
    rows: int

    @property
    def kind(self) -> str:
        """What the input is of: `qkv`, `q`, `kv` or `out`, with its stage."""
        return f"{self.stage} {self.source.rpartition('.')[2]}"


def stable_diffusion(shrink: int = 1) -> tuple[Input, ...]:
    """Every distinct input; `shrink` divides widths, and the squared number of rows."""
    widths = tuple(count // shrink for count in (320, 640, 1280, 1280))
    text_width = 768 // shrink
    config = CLIPTextConfig(
        hidden_size=text_width,
        intermediate_size=4 * text_width,
        num_hidden_layers=12,
        num_attention_heads=12,
    )
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=widths,
            cross_attention_dim=text_width,
            norm_num_groups=32 // min(shrink, 4),
        )
        text_encoder = CLIPTextModel(config)
    family = Family.of(unet, text_encoder)
    modules = linear_modules(family, unet, text_encoder)
    return tuple(
        Input(
            source,
            family.stage(source),
            modules[readers[0]].in_features,
            tuple((name, modules[name].out_features) for name in readers),
            max(1, recorded_rows(source, len(widths)) // shrink**2),
        )
        for source, readers in family.inputs.items()
    )


def recorded_rows(source: str, levels: int) -> int:
    """Rows that the published code records of an input of one concept."""
    stage = Family.stage(source)
    if stage != "spatial":
        return TEXT_ROWS if stage == "text" else KV_ROWS
    part, index = source.split(".")[1:3]
    level = levels - 1
    if part != "mid_block":
        level = int(index) if part == "down_blocks" else level - int(index)
    return STEPS * (SIDE >> level) ** 2


def energies(grams: Sequence[Tensor], width: int) -> Tensor:
    """(N, width): the energies of N recorded Grams along common directions, at another width."""
    mean = torch.stack(list(grams)).mean(0)
    vectors = torch.linalg.eigh(mean).eigenvectors.flip(1)
    own = torch.stack([((vectors.T @ gram) * vectors.T).sum(1) for gram in grams])
    own = own.clamp_min(FAINTEST * own.max())
    stretched = F.interpolate(own.log()[None], size=width, mode="linear", align_corners=True)
    return stretched[0].exp().float()


def directions(width: int, generator: torch.Generator) -> Tensor:
    """(width, width): random, at right angles."""
    axes: Tensor = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    return axes


def features(count: int, strengths: Tensor, axes: Tensor, generator: torch.Generator) -> Tensor:
    """(count, d) rows of these energies (d,) along these axes (d, d)."""
    rows = torch.randn(count, len(strengths), generator=generator)
    return (rows * strengths.sqrt()) @ axes.T


def factors(
    seen: Tensor, out: int, size: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """B (out, r) and A (r, d) of Frobenius norm `size`; A lies in the span of what was seen.

    seen  (n, d)
    """
    down = torch.randn(RANK, len(seen), generator=generator) @ seen
    up = torch.randn(out, RANK, generator=generator)
    return up * (size / (up @ down).norm()), down
