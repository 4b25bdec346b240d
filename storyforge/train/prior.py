"""Ordinary pictures drawn by the base itself, mixed into every batch.

A concept that leaves other prompts alone does not fight the other concepts when they are fused
(prior preservation, DreamBooth §3.3; here without a class-specific set). Made once per base.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file

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
    """What the base draws of the prompts, read from files beside `path` or drawn and kept there.

    Processes that ask for the same draw some each, and none waits before all is begun.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    starts, count = range(0, len(prompts), _BATCH), len(prompts)
    parts = {start: path.with_name(f"{path.stem}-{start}.safetensors") for start in starts}
    if not all(part.is_file() for part in parts.values()):
        for patience, (start, part) in product((0, -1), parts.items()):
            with suppress(Timeout), FileLock(part.with_suffix(".lock"), timeout=patience):
                if not part.is_file():
                    done = _BATCH * sum(each.is_file() for each in parts.values())
                    on_progress("drawing ordinary pictures", done, count)
                    _draw(base, part, prompts[start : start + _BATCH], start)
        on_progress("drawing ordinary pictures", count, count)
    latents = torch.cat([load_file(part)["latents"].float() for part in parts.values()])
    return PriorSet(latents, tuple(prompts))


def _draw(base: BaseModel, path: Path, prompts: Sequence[str], first: int) -> None:
    """Draw some of the prompts into a file, from the first one's seed on."""
    text = encode(base, [""] * len(prompts) + list(prompts), {})
    start = start_latents(base, list(range(first, first + len(prompts))))
    made = denoise(base, AttentionContext(text), start).cpu()
    part = path.with_suffix(".part")
    save_file({"latents": made.half().contiguous()}, part)
    part.replace(path)
