"""From noise to latents: classifier-free guidance around a diffusers scheduler.

Used by training previews, prior pictures, fusion statistics and the sampler alike, so that all of
them see the same model.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    SchedulerMixin,
    TCDScheduler,
    UniPCMultistepScheduler,
)

from storyforge.errors import StoryForgeError
from storyforge.model.attention import AttentionContext, Residuals, attending, predict
from storyforge.model.base import BaseModel
from storyforge.model.dit.flow import FlowScheduler

SCHEDULERS: dict[str, type[SchedulerMixin]] = {
    "ddim": DDIMScheduler,
    "ddim-trailing": DDIMScheduler,
    "dpm++2m": DPMSolverMultistepScheduler,
    "euler": EulerDiscreteScheduler,
    "euler-trailing": EulerDiscreteScheduler,
    "lcm": LCMScheduler,
    "tcd": TCDScheduler,
    "unipc": UniPCMultistepScheduler,
}
_TRAILING = "-trailing"
"""Begins with noise alone, as adapters for few steps were trained, whatever the base's spacing."""

_NOISY = (LCMScheduler, TCDScheduler)
"""Those that draw new noise at every step."""

OnStep = Callable[[int, int, torch.Tensor], None]
"""Hears (step, steps, latents) after every step; what it raises ends the drawing."""

BeforeStep = Callable[[int, int, torch.Tensor, torch.Tensor], torch.Tensor | None]
"""Given (step from 0, steps, timestep, latents as the U-Net takes them): what is added to them."""

Watch = Callable[[float, AttentionContext], AbstractContextManager[None]]
"""Given (part of the steps done after a call of the model, what it reads): open during the call."""

Conditions = Callable[[float, torch.Tensor, torch.Tensor], Residuals | None]
"""Given (part of the steps done, latents as the U-Net takes them, timestep): what is added."""


@dataclass(frozen=True, slots=True)
class Extras:
    """What a drawing may have beside its text.

    seeds       of noise that the scheduler draws itself, one for each picture
    over        (n, c, h, w) clean latents that are drawn over; None to begin with noise alone
    strength    of drawing over: the part of the steps that is done
    steer       what is added to the latents before a step
    conditions  what spatial conditions add to the U-Net
    watch       looks on while the model is called
    """

    seeds: tuple[int, ...] = ()
    over: torch.Tensor | None = None
    strength: float = 1.0
    steer: BeforeStep | None = None
    conditions: Conditions | None = None
    watch: Watch | None = None


def make_scheduler(base: BaseModel, name: str | None) -> SchedulerMixin:
    """The scheduler `name`, or the base's habit, in the base's own noise schedule.

    Raises:
      StoryForgeError: if there is none of that name.
    """
    name = name or base.defaults.scheduler
    if name not in SCHEDULERS:
        raise StoryForgeError(
            f"there is no scheduler `{name}`", hint="known: " + ", ".join(SCHEDULERS)
        )
    # Schedulers of bases that do not name it do not clip, but those here would; a latent of Stable
    # Diffusion goes far beyond 1. `StableDiffusionPipeline` does not clip either.
    spaced = {"timestep_spacing": "trailing"} if name.endswith(_TRAILING) else {}
    config = {"clip_sample": False, **base.scheduler_config}
    # Beside the configuration: what is a default there would be taken for one of the new class.
    return SCHEDULERS[name].from_config(config, **spaced)


def begun_schedule(
    base: BaseModel, name: str | None, steps: int | None, latents: torch.Tensor
) -> SchedulerMixin:
    """The scheduler with its timesteps for latents of this size; None for the base's habits.

    Raises:
      StoryForgeError: if there is none of that name, or a transformer is asked for one.
    """
    if base.door is None:
        made = make_scheduler(base, name)
    else:
        base.check_asked({"scheduler": name not in {None, base.defaults.scheduler}})
        tokens = latents.shape[-2] * latents.shape[-1]
        made = FlowScheduler.of(base.door, base.scheduler_config, tokens)
    made.set_timesteps(steps or base.defaults.steps, device=latents.device)
    return made


def start_latents(
    base: BaseModel, seeds: list[int], size: tuple[int, int] | None = None
) -> torch.Tensor:
    """(n, c, h, w) noise, one CPU generator per seed; `size` is (width, height) in pixels."""
    width, height = size or (base.side, base.side)
    shape = (
        base.channels,
        height // base.vae_scale,
        width // base.vae_scale,
    )
    # On the CPU, one by one: a seed gives the same noise on every device and in any batch.
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds]
    return torch.stack(noise).to(base.device)


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
    attention: AttentionContext,
    latents: torch.Tensor,
    *,
    steps: int | None = None,
    guidance_scale: float | torch.Tensor | None = None,
    guidance_rescale: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    scheduler: str | None = None,
    extras: Extras = Extras(),
    on_step: OnStep | None = None,
) -> torch.Tensor:
    """Sample.

    Args:
      base: the model, with whatever is attached to it.
      attention: text of batch 2n, the n negative prompts first.
      latents: (n, c, h, w) from `start_latents`.
      steps: how many; None for the base's habit, as for the next four.
      guidance_scale: 1 is no guidance; a tensor that multiplies (n, c, h, w) varies it by cell.
      guidance_rescale: see `rescaled`.
      guidance_interval: the part of the whole schedule in which there is guidance; outside of it
        the prompts alone are asked, at half of the price (Kynkäänniemi et al. 2024).
      scheduler: one of `SCHEDULERS`.
      extras: what the drawing has beside its text.
      on_step: hears every step.

    Returns:
      (n, c, h, w) clean latents.
    """
    maker, defaults = begun_schedule(base, scheduler, steps, latents), base.defaults
    scale = defaults.guidance_scale if guidance_scale is None else guidance_scale
    share = defaults.guidance_rescale if guidance_rescale is None else guidance_rescale
    first, last = guidance_interval or (defaults.guidance_start, defaults.guidance_stop)
    latents, timesteps = _begun(maker, latents, extras)
    noise = _generators(maker, extras.seeds)
    total, whole = len(timesteps), len(maker.timesteps)
    # A scale of 1 asks for the prompts alone, at half of the price.
    alike = not isinstance(scale, torch.Tensor) and scale == 1
    alone = attention.positive()
    with attention.keeping(), alone.keeping():
        for index, t in enumerate(timesteps):
            if extras.steer:
                latents = _steered(extras.steer, maker, latents, (index, total), t)
            guided = not alike and first <= (whole - total + index) / whole < last
            asked = attention if guided else alone
            seen = maker.scale_model_input(torch.cat([latents] * (2 if guided else 1)), t)
            added = extras.conditions(index / total, seen, t) if extras.conditions else None
            watched = extras.watch((index + 1) / total, asked) if extras.watch else nullcontext()
            with attending(base, asked), watched:
                said = predict(base, seen, t, asked.text, added)
            if guided:
                said = _guided(said, scale, share)
            latents = maker.step(said, t, latents, **noise).prev_sample
            if on_step:
                on_step(index + 1, total, latents)
    return latents


def _guided(both: torch.Tensor, scale: float | torch.Tensor, share: float) -> torch.Tensor:
    """Away from the negative prompts, which come first, and towards the prompts."""
    negative, positive = both.chunk(2)
    return rescaled(negative + scale * (positive - negative), positive, share)


def _steered(
    steer: BeforeStep,
    maker: SchedulerMixin,
    latents: torch.Tensor,
    place: tuple[int, int],
    timestep: torch.Tensor,
) -> torch.Tensor:
    scaled = maker.scale_model_input(latents, timestep)
    change = steer(*place, timestep, scaled)
    # The change is meant for the scaled latents; brought back to the scale that the solver keeps.
    return latents if change is None else latents + change * (latents.std() / scaled.std())


def _begun(
    maker: SchedulerMixin, noise: torch.Tensor, extras: Extras
) -> tuple[torch.Tensor, torch.Tensor]:
    """The latents to begin with and the timesteps to go: all of them, or those of `strength`."""
    timesteps: torch.Tensor = maker.timesteps
    if extras.over is None:
        return noise * maker.init_noise_sigma, timesteps
    # Schedulers of second order list a timestep twice; those here do not.
    count = max(1, round(extras.strength * len(timesteps)))
    first = len(timesteps) - count
    if hasattr(maker, "set_begin_index"):
        maker.set_begin_index(first)
    begun: torch.Tensor = maker.add_noise(extras.over, noise, timesteps[first : first + 1])
    return begun, timesteps[first:]


def _generators(maker: SchedulerMixin, seeds: tuple[int, ...]) -> dict[str, list[torch.Generator]]:
    """What draws the step's own noise; not the noise that the picture began with."""
    if not seeds or not isinstance(maker, _NOISY):
        return {}
    return {"generator": [torch.Generator().manual_seed(~seed % 2**63) for seed in seeds]}
