"""What a denoiser is asked for: the noise, a velocity, or the clean latents; and how it counts.

All three say the same of a noisy picture x = α·x₀ + σ·ε, but an error of one is not an error of
another: |Δv|² = |Δx₀|² / σ² and |Δε|² = |Δx₀|² · α² / σ².
"""

from __future__ import annotations

from typing import Final

import torch
from diffusers import DDPMScheduler

from storyforge.errors import EnvironmentProblem

KINDS: Final = ("epsilon", "v_prediction", "sample")
"""Noise ε, velocity v = α·ε − σ·x₀, and the clean latents x₀, as schedulers name them."""

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


def target(
    scheduler: DDPMScheduler, clean: torch.Tensor, noise: torch.Tensor, times: torch.Tensor
) -> torch.Tensor:
    """What the model is to say of `clean` with `noise` added, both (b, c, h, w); times (b,)."""
    match kind_of(scheduler):
        case "sample":
            return clean
        case "v_prediction":
            velocity: torch.Tensor = scheduler.get_velocity(clean, noise, times)
            return velocity
        case _:
            return noise


def error_weights(
    scheduler: DDPMScheduler, times: torch.Tensor, gamma: float | None = None
) -> torch.Tensor:
    """(b,) what the mean square error of each picture's prediction counts.

    Without `gamma` noise and velocities count alike at all timesteps, and clean latents as their
    velocities would, but no more than `MOST`. With it they all count min(SNR, γ) of an error of
    clean latents (min-SNR, Hang et al. 2023, §3.4).
    """
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
