"""From noise to latents: classifier-free guidance around a diffusers scheduler.

Used by training previews, prior pictures, fusion statistics and the sampler alike, so that all of
them see the same model.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)

from storyforge.errors import StoryForgeError
from storyforge.model.attention import Reader, predict, reading
from storyforge.model.base import BaseModel

SCHEDULERS: dict[str, type[SchedulerMixin]] = {
    "ddim": DDIMScheduler,
    "dpm++2m": DPMSolverMultistepScheduler,
    "euler": EulerDiscreteScheduler,
    "unipc": UniPCMultistepScheduler,
}
OnStep = Callable[[int, int, torch.Tensor], None]
"""Hears (step, steps, latents) after every step."""


def make_scheduler(base: BaseModel, name: str | None) -> SchedulerMixin:
    """The scheduler `name`, or the base's habit, in the base's own noise schedule.

    Raises:
      StoryForgeError: if there is none of that name.
    """
    name = name or base.habits.scheduler
    if name not in SCHEDULERS:
        raise StoryForgeError(
            f"there is no scheduler `{name}`", hint="known: " + ", ".join(SCHEDULERS)
        )
    return SCHEDULERS[name].from_config(base.scheduler_config)


def start_latents(
    base: BaseModel, seeds: list[int], size: tuple[int, int] | None = None
) -> torch.Tensor:
    """(n, c, h, w) noise, one CPU generator per seed; `size` is (width, height) in pixels."""
    width, height = size or (base.side, base.side)
    shape = (
        int(base.unet.config.in_channels),
        height // base.vae_scale,
        width // base.vae_scale,
    )
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
    return torch.stack(noise).to(base.device, base.dtype)


def rescaled(guided: torch.Tensor, positive: torch.Tensor, share: float) -> torch.Tensor:
    """Bring the spread of a guided prediction back (Lin et al. 2023, §3.4); `share` in [0, 1]."""
    if share == 0:
        return guided
    dims = list(range(1, guided.ndim))
    like = guided * (positive.std(dims, keepdim=True) / guided.std(dims, keepdim=True))
    return share * like + (1 - share) * guided


@torch.no_grad()
def denoise(
    base: BaseModel,
    reader: Reader,
    latents: torch.Tensor,
    *,
    steps: int | None = None,
    guidance_scale: float | None = None,
    scheduler: str | None = None,
    on_step: OnStep | None = None,
) -> torch.Tensor:
    """Sample.

    Args:
      base: the model, with whatever is attached to it.
      reader: text of batch 2n, the n negative prompts first.
      latents: (n, c, h, w) from `start_latents`.
      steps: how many; None for the base's habit, as for the next two.
      guidance_scale: 1 is no guidance.
      scheduler: one of `SCHEDULERS`.
      on_step: hears every step.

    Returns:
      (n, c, h, w) clean latents.
    """
    maker = make_scheduler(base, scheduler)
    maker.set_timesteps(steps or base.habits.steps, device=latents.device)
    scale = base.habits.guidance_scale if guidance_scale is None else guidance_scale
    latents = latents * maker.init_noise_sigma
    timesteps = maker.timesteps
    with reading(base, reader), reader.keeping():
        for index, t in enumerate(timesteps):
            doubled = maker.scale_model_input(torch.cat([latents, latents]), t)
            negative, positive = predict(base, doubled, t, reader.text).chunk(2)
            guided = negative + scale * (positive - negative)
            guided = rescaled(guided, positive, base.habits.guidance_rescale)
            latents = maker.step(guided, t, latents).prev_sample
            if on_step:
                on_step(index + 1, len(timesteps), latents)
    return latents
