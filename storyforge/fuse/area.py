"""Where in a picture a concept is, so that what is seen there can count more than the rest.

The concept's own words tell: cells count as they read them, over all steps and sites of a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from storyforge.model.attention import AttentionContext, sites_of
from storyforge.model.attention_maps import attention_map, by_heads, hearing, words_read
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
    count, sites, attention = len(where), sites_of(base), AttentionContext(text)
    words = torch.tensor(where, device=base.device)
    sums: dict[int, Tensor] = {}

    def look(site: str, queries: Tensor) -> None:
        """Add up where one site looks for the words; the prompts are the last of its batch."""
        keys, _ = attention.keys_and_values(base.unet.get_submodule(site), sites[site], -1)
        asking = by_heads(base, site, queries[-count:].float())
        read = words_read(attention_map(asking, keys[-count:].float()), words).mean(2)
        sums[read.shape[1]] = sums.get(read.shape[1], torch.zeros_like(read)) + read

    noise = start_latents(base, list(range(count)))
    with hearing(base, sites, to_q=look):
        denoise(base, attention, noise, steps=steps, on_step=on_step)
    return {
        cells: REST + (1 - REST) * read / read.amax(1, keepdim=True) for cells, read in sums.items()
    }
