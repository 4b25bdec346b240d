"""What a denoiser is asked for: the noise, a velocity, or the clean latents; and how it counts.

All three say the same of a noisy picture x = α·x₀ + σ·ε, but an error of one is not an error of
another: |Δv|² = |Δx₀|² / σ² and |Δε|² = |Δx₀|² · α² / σ².
"""

from __future__ import annotations

from typing import Final, TypeAlias

import torch
from diffusers import DDPMScheduler

from storyforge.errors import EnvironmentProblem
from storyforge.model.base import BaseModel
from storyforge.model.dit.flow import TIMES, FlowScheduler

KINDS: Final = ("epsilon", "v_prediction", "sample")
"""Noise ε, velocity v = α·ε − σ·x₀, and the clean latents x₀, as schedulers name them."""

Noising: TypeAlias = DDPMScheduler | FlowScheduler
"""How pictures become noise while a model learns."""

MOST: Final = 10.0
"""What an error of clean latents counts at most: those that are nearly clean would drown others."""


def kind_of(scheduler: DDPMScheduler) -> str:
    """What the model of a scheduler predicts.

    Raises:
      EnvironmentProblem: if that is none of `KINDS`.
    """
    kind = str(scheduler.config.prediction_type)
    if kind not in KINDS:
        raise EnvironmentProblem(
            f"the base predicts `{kind}`, which storyforge does not know",
            hint=f"`prediction_type` in its scheduler's configuration is one of {', '.join(KINDS)}",
        )
    return kind


def noising_of(base: BaseModel) -> Noising:
    """How a base's pictures become noise."""
    if base.door is not None:
        return FlowScheduler.of(base.door, base.scheduler_config, base.cells**2)
    made: DDPMScheduler = DDPMScheduler.from_config(base.scheduler_config)
    return made


def random_times(scheduler: Noising, count: int, generator: torch.Generator) -> torch.Tensor:
    """(count,) timesteps of training: all alike; of a flow, those in the middle more often.

    Logit-normal, as Stable Diffusion 3 was trained (Esser et al. 2024, §3.1).
    """
    if isinstance(scheduler, FlowScheduler):
        return TIMES * torch.randn(count, generator=generator).sigmoid()
    total = int(scheduler.config.num_train_timesteps)
    return torch.randint(0, total, (count,), generator=generator)


def target(
    scheduler: Noising, clean: torch.Tensor, noise: torch.Tensor, times: torch.Tensor
) -> torch.Tensor:
    """What the model is to say of `clean` with `noise` added, both (b, c, h, w); times (b,)."""
    if isinstance(scheduler, FlowScheduler):
        return noise - clean
    match kind_of(scheduler):
        case "sample":
            return clean
        case "v_prediction":
            velocity: torch.Tensor = scheduler.get_velocity(clean, noise, times)
            return velocity
        case _:
            return noise


def error_weights(
    scheduler: Noising, times: torch.Tensor, gamma: float | None = None
) -> torch.Tensor:
    """(b,) what the mean square error of each picture's prediction counts.

    Without `gamma` noise and velocities count alike at all timesteps, and clean latents as their
    velocities would, but no more than `MOST`. With it they all count min(SNR, γ) of an error of
    clean latents (min-SNR, Hang et al. 2023, §3.4). Along a flow all count alike.
    """
    if isinstance(scheduler, FlowScheduler):
        return torch.ones_like(times, dtype=torch.float32)
    kind = kind_of(scheduler)
    signal = scheduler.alphas_cumprod.to(times.device)[times].float()
    snr: torch.Tensor = signal / (1 - signal)
    if kind == "sample":
        weights: torch.Tensor = (snr + 1).clamp(max=MOST) if gamma is None else snr.clamp(max=gamma)
    elif gamma is None:
        weights = torch.ones_like(snr)
    else:
        weights = (gamma / snr).clamp(max=1)
        weights = weights * snr / (snr + 1) if kind == "v_prediction" else weights
    return weights
