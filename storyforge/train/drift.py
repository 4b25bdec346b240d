"""How much a concept changes prompts that never mention it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch

from storyforge.model.attention import AttentionContext, attending, predict
from storyforge.model.base import BaseModel
from storyforge.model.concept import Concept
from storyforge.model.denoising import begun_schedule, start_latents
from storyforge.model.lora import Delta, attached
from storyforge.model.tokens import encode

STEPS: Final = 6
"""Denoising steps of the path along which predictions are compared."""

_SEED: Final = 4711

_PROMPTS: Final = ("a {}", "a picture of a {} in the snow", "a house by the water", "a girl", "")
"""The class itself, which suffers first, and what has nothing to do with it."""


def drift_of(base: BaseModel, concept: Concept) -> float:
    """How much a concept changes its class in two sentences, two others, and none.

    None of these prompts is among those of the prior pictures as such; see `drift`.
    """
    return drift(base, concept.deltas, [each.format(concept.class_phrase) for each in _PROMPTS])


@torch.no_grad()
def drift(
    base: BaseModel, deltas: Mapping[str, Delta], prompts: Sequence[str], steps: int = STEPS
) -> float:
    """The mean of ‖ε − ε₀‖ / ‖ε₀‖ over prompts that mention no concept; 0 is none.

    ε₀ is the prediction of the base and ε that with the deltas attached, both at the same latents:
    those that the base itself passes through, without guidance, on its way from a fixed seed for
    each prompt, in so many steps.
    """
    seeds = list(range(_SEED, _SEED + len(prompts)))
    plain = AttentionContext(encode(base, prompts, {}))
    with attached(base, deltas):
        changed = AttentionContext(encode(base, prompts, {}))
    latents = start_latents(base, seeds)
    # Of a transformer, whose way is another one, its own.
    scheduler = begun_schedule(base, "ddim" if base.door is None else None, steps, latents)
    latents, found = latents * scheduler.init_noise_sigma, []
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, t)
        with attending(base, plain):
            ordinary = predict(base, scaled, t, plain.text)
        with attached(base, deltas), attending(base, changed):
            other = predict(base, scaled, t, changed.text)
        difference = (other - ordinary).float().flatten(1).norm(dim=1)
        found.append(difference / ordinary.float().flatten(1).norm(dim=1).clamp(min=1e-12))
        latents = scheduler.step(ordinary, t, latents).prev_sample
    return torch.stack(found).mean().item()
