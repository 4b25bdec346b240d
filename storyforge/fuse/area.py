"""Where in a picture a concept is, so that what is seen there can count more than the rest.

The concept's own words tell: cells count as they read them, over all steps and sites of a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from storyforge.model.attention import AttentionContext
from storyforge.model.attention_maps import AttentionRecorder
from storyforge.model.base import BaseModel
from storyforge.model.denoising import OnStep, denoise, start_latents
from storyforge.model.tokens import PromptEmbeds

REST: Final = 0.1
"""What a cell counts where the words are looked for least: were it nothing, the rest of the picture
could become anything."""

Area = dict[int, Tensor]
"""Cells of a level -> (n, cells) in [REST, 1], what each cell of n pictures counts."""


@torch.no_grad()
def subject_area(
    base: BaseModel,
    text: PromptEmbeds,
    where: Sequence[tuple[int, ...]],
    steps: int,
    on_step: OnStep | None = None,
) -> Area:
    """Draw, with whatever is merged into the base, and see where some words are looked for.

    text   of 2n prompts, the n negative ones first
    where  places of the words in each of n prompts
    """
    recorder, count = AttentionRecorder(base), len(where)
    words = torch.tensor(where, device=base.device)
    sums: dict[int, Tensor] = {}

    def look(step: int, total: int, latents: Tensor) -> None:
        """Add up where the words are looked for at one step."""
        for seen in recorder.maps(range(count, 2 * count), words):
            read = seen.mean(2)
            sums[read.shape[1]] = sums.get(read.shape[1], torch.zeros_like(read)) + read
        if on_step is not None:
            on_step(step, total, latents)

    noise = start_latents(base, list(range(count)))
    with recorder.watching():
        denoise(base, AttentionContext(text), noise, steps=steps, on_step=look)
    return {
        cells: REST + (1 - REST) * read / read.amax(1, keepdim=True) for cells, read in sums.items()
    }
