"""The straight way from noise to a picture: x = (1 − σ)·x₀ + σ·ε, and the velocity ε − x₀."""

from __future__ import annotations

from typing import Final, Self

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from storyforge.model.dit.door import Door

TIMES: Final = 1000
"""Timesteps from a picture to noise alone."""


class FlowScheduler(FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """diffusers' Euler steps along a flow, with the face of its other schedulers."""

    init_noise_sigma = 1.0
    door: Door
    tokens: int

    @classmethod
    def of(cls, door: Door, config: dict[str, object], tokens: int) -> Self:
        """The schedule of pictures of so many tokens."""
        made: Self = cls.from_config(config)
        made.door, made.tokens = door, tokens
        return made

    def set_timesteps(
        self, num_inference_steps: int, device: torch.device | str | None = None
    ) -> None:
        """As the pipelines of transformers do it: equal steps, moved by the picture's size."""
        sigmas = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps)
        shift = self.door.shift(self.config, self.tokens, num_inference_steps)
        super().set_timesteps(sigmas=sigmas, device=device, mu=shift)

    def scale_model_input(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Latents are read as they are."""
        return sample

    def add_noise(
        self, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """Somewhere on the way; timesteps (n,) count from 0 to `TIMES`."""
        share = timesteps.to(clean) / TIMES
        share = share.reshape(-1, *[1] * (clean.ndim - 1))
        return share * noise + (1 - share) * clean
