"""What latents look like in a moment, for whoever watches a picture come.

A large autoencoder takes as long as several steps. A tiny one (TAESD) is asked instead where the
hub's cache has it; nothing is fetched. Else each cell is given its colour: latents are nearly
linear in it, and least squares on pictures that the base's own encoder sees tell how (ridge, as
everywhere).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from storyforge.headers.bases import LARGE
from storyforge.model.base import BaseModel

Decode = Callable[[torch.Tensor], torch.Tensor]
"""(b, c, h, w) latents to (b, 3, H, W) in [0, 1]."""

_TINY: Final = {1: "madebyollin/taesd", 2: "madebyollin/taesdxl"}
"""Text encoders of a base -> the tiny autoencoder of its family."""

_CHANNELS: Final = 4
"""Of the latents that those read."""

_CELLS: Final = 16
_FIELDS: Final = 6
"""Cells along a side of the pictures that the encoder is shown, and their patches of colour."""

_PICTURES: Final = 2
_RIDGE: Final = 1e-3


class Glance:
    """How a base's latents are looked at while they are drawn; small bases decode them whole."""

    def __init__(self, base: BaseModel) -> None:
        """Nothing is made before the first look."""
        self.base = base
        self._decode: Decode | None = None

    def pictures(self, latents: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) latents to (b, 3, H, W) in [0, 1], as large as the picture will be."""
        if self._decode is None:
            self._decode = self._chosen()
        return self._decode(latents)

    def _chosen(self) -> Decode:
        if sum(weight.numel() for weight in self.base.unet.parameters()) < LARGE:
            return self.base.decode
        return tiny_decoder(self.base) or colours_of(self.base)


def tiny_decoder(base: BaseModel) -> Decode | None:
    """A tiny autoencoder of the base's family; None where there is none in the hub's cache."""
    if base.door is not None or base.channels != _CHANNELS:
        return None
    try:
        folder = snapshot_download(_TINY[len(base.encoders)], local_files_only=True)
        made = AutoencoderTiny.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    except (LocalEntryNotFoundError, OSError):
        return None
    tiny = made.to(base.device).eval().requires_grad_(False)

    @torch.no_grad()
    def decode(latents: torch.Tensor) -> torch.Tensor:
        """See `Decode`; it reads latents as the denoiser has them."""
        pictures: torch.Tensor = tiny.decode(latents.to(tiny.dtype)).sample
        return (pictures.float() / 2 + 0.5).clamp(0, 1)

    return decode


@torch.no_grad()
def colours_of(base: BaseModel) -> Decode:
    """The colour of every cell: min ‖Z W − Y‖² + λ‖W‖² over cells Z, with one for the constant,
    and their mean colours Y.
    """
    scale = base.scales[0]
    shown = _shown(_CELLS * scale)
    cells = _rows(base.encode(shown).cpu())
    colours = F.avg_pool2d(shown, scale).double().movedim(1, -1).reshape(-1, 3)
    pull = _RIDGE * len(cells) * torch.eye(cells.shape[1], dtype=torch.float64)
    pull[-1, -1] = 0
    linear = torch.linalg.solve(cells.T @ cells + pull, cells.T @ colours)

    def decode(latents: torch.Tensor) -> torch.Tensor:
        """See `Decode`."""
        told = (_rows(latents.cpu()) @ linear).reshape(len(latents), *latents.shape[2:], 3)
        large = F.interpolate(told.movedim(-1, 1).float(), scale_factor=base.vae_scale)
        return large.clamp(0, 1)

    return decode


def _rows(latents: torch.Tensor) -> torch.Tensor:
    """(b, c, h, w) to (b h w, c + 1), fp64."""
    return F.pad(latents.double().movedim(1, -1).flatten(0, 2), (0, 1), value=1.0)


def _shown(side: int) -> torch.Tensor:
    """(n, 3, side, side) in [0, 1]: soft patches of all colours."""
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(_PICTURES, 3, _FIELDS, _FIELDS, generator=generator)
    return F.interpolate(patches, (side, side), mode="bilinear", align_corners=True)
