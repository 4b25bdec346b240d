"""Ordinary pictures drawn by the base itself, mixed into every batch.

A concept that leaves other prompts alone does not fight the other concepts when they are fused
(prior preservation, DreamBooth §3.3; here without a class-specific set). Made once per base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import save_file

from storyforge.executor import OnProgress
from storyforge.model.attention import AttentionContext
from storyforge.model.base import BaseModel
from storyforge.model.denoising import denoise, start_latents
from storyforge.model.tokens import encode

_BATCH = 8


@dataclass(frozen=True, slots=True)
class PriorSet:
    """(n, c, h, w) latents that the base drew, and the n prompts it drew them from."""

    latents: torch.Tensor
    prompts: tuple[str, ...]


def prior_set(base: BaseModel, folder: Path, on_progress: OnProgress) -> PriorSet:
    """The prior pictures of `base`, read from `folder` or drawn and kept there."""
    count, texts = base.defaults.prior_pictures, base.defaults.prior_prompts
    prompts = [texts[i % len(texts)] for i in range(count)]
    return own_pictures(base, folder / "prior.safetensors", prompts, on_progress)


def own_pictures(
    base: BaseModel, path: Path, prompts: Sequence[str], on_progress: OnProgress
) -> PriorSet:
    """What the base draws of the prompts, read from the file or drawn and kept there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            _draw(base, path, prompts, on_progress)
    with safe_open(path, "pt") as file:
        drawn = tuple(file.metadata()["prompts"].split("\n"))
        return PriorSet(file.get_tensor("latents").float(), drawn)


def _draw(base: BaseModel, path: Path, prompts: Sequence[str], on_progress: OnProgress) -> None:
    made, count = [], len(prompts)
    for start in range(0, count, _BATCH):
        on_progress("drawing ordinary pictures", start, count)
        some = list(prompts[start : start + _BATCH])
        text = encode(base, [""] * len(some) + some, {})
        seeds = list(range(start, start + len(some)))
        made.append(denoise(base, AttentionContext(text), start_latents(base, seeds)).cpu())
    on_progress("drawing ordinary pictures", count, count)
    part = path.with_suffix(".part")
    save_file(
        {"latents": torch.cat(made).half().contiguous()}, part, {"prompts": "\n".join(prompts)}
    )
    part.replace(path)
