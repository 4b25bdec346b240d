"""Noise becomes a panel's latents, in the steps and with the guidance and scheduler of its task."""

from __future__ import annotations

import torch

from storyforge.model.attention import AttentionContext
from storyforge.model.base import BaseModel
from storyforge.model.denoising import Extras, OnStep, denoise
from storyforge.tasks import PanelTask


def denoised(
    base: BaseModel,
    attention: AttentionContext,
    noise: torch.Tensor,
    task: PanelTask,
    *,
    extras: Extras,
    on_step: OnStep,
    guidance_scale: float | torch.Tensor | None = None,
) -> torch.Tensor:
    """Sample as a panel asks.

    noise           (n, c, h, w), of panels that ask for the same
    guidance_scale  where regions have their own; None for the task's

    Returns:
      (n, c, h, w) clean latents.
    """
    return denoise(
        base,
        attention,
        noise,
        steps=task.steps,
        guidance_scale=task.guidance_scale if guidance_scale is None else guidance_scale,
        guidance_rescale=task.guidance_rescale,
        guidance_interval=task.guided,
        scheduler=task.scheduler,
        extras=extras,
        on_step=on_step,
    )
