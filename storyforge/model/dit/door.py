"""What a diffusion transformer is asked for; each family of them is one door.

Text and picture are one sequence there, and every layer reads both. So a concept has one embedding
a word and not one a layer, there are no keys and values of the text alone, and no levels. Latents
are here as the transformer reads them: one cell a token, the channels of 2×2 cells of the
autoencoder together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Final, Protocol, TypeAlias

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    DiffusionPipeline,
    Flux2Transformer2DModel,
    ZImageTransformer2DModel,
)

from storyforge.model.dit.joint import JointRecorder, JointText

Transformer: TypeAlias = Flux2Transformer2DModel | ZImageTransformer2DModel
Autoencoder: TypeAlias = AutoencoderKL | AutoencoderKLFlux2

PATCH: Final = 2
"""Cells of the autoencoder along a side of a token."""

LONGEST: Final = 512
"""Tokens of a prompt, its frame included: what the pipelines of diffusers read."""


class Door(Protocol):
    """One family of transformers."""

    @property
    def name(self) -> str:
        """What its makers call it."""

    @property
    def pipeline(self) -> str:
        """The class of diffusers' own pipeline of it."""

    @property
    def autoencoder(self) -> type[Autoencoder]:
        """The class of its autoencoder."""

    def stock_scale(self, scale: float) -> float:
        """A guidance scale as that pipeline counts it."""

    def said(self, scale: float) -> dict[str, bool]:
        """What else that pipeline is told of a base that is drawn with this guidance scale."""

    @property
    def thinks(self) -> bool:
        """Whether the prompt is framed so that its reader might think aloud first."""

    @property
    def filled(self) -> bool:
        """Whether what fills a prompt up is read as well."""

    def inputs(self, transformer: Transformer) -> dict[str, tuple[str, ...]]:
        """Distinct input of attention -> the linears that read it, both by their paths."""

    def recorder(self, transformer: Transformer) -> JointRecorder:
        """What records who reads whom where text and picture are one sequence."""

    def channels(self, transformer: Transformer) -> int:
        """Of a token's latents."""

    def features(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """(n, T, d) what is read of a text encoder's states before and after every layer."""

    def velocity(
        self,
        transformer: Transformer,
        latents: torch.Tensor,
        noise: torch.Tensor,
        texts: Sequence[JointText],
    ) -> torch.Tensor:
        """(n, c, h, w): from the picture to the noise, of pictures on their way.

        noise  (n,) how much of each is noise, in (0, 1]
        texts  each of n prompts; all of them are read together
        """

    def shift(self, config: Mapping[str, object], tokens: int, steps: int) -> float:
        """How far the schedule moves towards noise for a picture of so many tokens."""

    def unpacked(self, vae: Autoencoder, latents: torch.Tensor) -> torch.Tensor:
        """Tokens' latents as the autoencoder has them."""

    def packed(self, vae: Autoencoder, latents: torch.Tensor) -> torch.Tensor:
        """The autoencoder's latents as tokens'."""


def stock_pipeline(door: Door) -> type[DiffusionPipeline]:
    """diffusers' own pipeline of a family."""
    # Late: pipelines bring libraries along that nobody else needs.
    found: type[DiffusionPipeline] = getattr(import_module("diffusers"), door.pipeline)
    return found


def together(latents: torch.Tensor) -> torch.Tensor:
    """(n, c, h, w) to (n, 4c, h/2, w/2): four cells as one token."""
    n, c, h, w = latents.shape
    parts = latents.reshape(n, c, h // PATCH, PATCH, w // PATCH, PATCH)
    return parts.permute(0, 1, 3, 5, 2, 4).reshape(n, c * PATCH**2, h // PATCH, w // PATCH)


def apart(latents: torch.Tensor) -> torch.Tensor:
    """The way back."""
    n, c, h, w = latents.shape
    parts = latents.reshape(n, c // PATCH**2, PATCH, PATCH, h, w)
    return parts.permute(0, 1, 4, 2, 5, 3).reshape(n, c // PATCH**2, h * PATCH, w * PATCH)
