"""What a step is judged by: the error of the prediction, and where the concept's words look."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import nn

from storyforge.model.attention import levels
from storyforge.model.base import BaseModel
from storyforge.model.family import token_table
from storyforge.model.tokens import WORDS, token_ids


def picture_losses(made: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(b,) mean square error over the weighted cells *and* all channels, picture by picture.

    made, wanted  (b, c, h, w)
    weights       (b, 1, h, w) in [0, 1]
    """
    error = (made.float() - wanted.float()).square().mean(1, keepdim=True)
    return (error * weights).sum((1, 2, 3)) / weights.sum((1, 2, 3)).clamp(min=1e-6)


def masked_loss(made: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The mean of `picture_losses`: a small mask weighs as much as a large one."""
    return picture_losses(made, wanted, weights).mean()


def snr_weights(scheduler: DDPMScheduler, times: torch.Tensor, gamma: float) -> torch.Tensor:
    """(b,) min(SNR, γ) / SNR of each timestep, for v over SNR + 1 (Hang et al. 2023, §3.4)."""
    signal = scheduler.alphas_cumprod.to(times.device)[times].float()
    snr = signal / (1 - signal)
    weights: torch.Tensor = (gamma / snr).clamp(max=1)
    if scheduler.config.prediction_type == "v_prediction":
        weights = weights * snr / (snr + 1)
    return weights


class Gaze:
    """Records queries and keys of every cross-attention site, to see where words are looked for."""

    def __init__(self, base: BaseModel) -> None:
        """Record nothing yet."""
        self.base = base
        self.queries: dict[str, torch.Tensor] = {}
        self.keys: dict[str, torch.Tensor] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record while the block runs; later hooks than the deltas', and so with them."""
        handles = []
        for site in self.base.family.cross_sites:
            for part, kept in (("to_q", self.queries), ("to_k", self.keys)):
                linear = self.base.unet.get_submodule(f"{site}.{part}")
                handles.append(linear.register_forward_hook(_Recorder(site, kept)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def outside(
        self, name: str, prompts: Sequence[str], masks: torch.Tensor, pointed: Sequence[bool]
    ) -> torch.Tensor:
        """How much of the gaze of a concept's words lies outside its masks, from 0 to 1.

        Each map is the softmax over the text, averaged over the heads and divided by its largest
        value (Mix-of-Show's regulariser, there by the batch's). Mean over sites, words, pictures.

        name     of the concept
        prompts  of the b pictures
        masks    (b, 1, h, w) in the cells of the latents
        pointed  which pictures have a mask and count
        """
        first = len(token_table(self.base.text_encoder))
        places = [token_ids(self.base, prompt, [name]) for prompt in prompts]
        rows = [i for i, ids in enumerate(places) if pointed[i] and first in ids]
        if not rows:
            return masks.new_zeros(())
        shapes = {r * c: (r, c) for r, c in levels(self.base, *masks.shape[-2:])}
        starts = [places[row].index(first) for row in rows]
        words = torch.tensor([[start + k for k in range(WORDS)] for start in starts])
        total = []
        for site, queries in self.queries.items():
            seen = self._maps(site, queries[rows], self.keys[site][rows], words.to(masks.device))
            inside = F.adaptive_max_pool2d(masks[rows], shapes[seen.shape[1]]).flatten(1)
            total.append((seen * (1 - inside)[..., None]).mean())
        return torch.stack(total).mean()

    def _maps(
        self, site: str, queries: torch.Tensor, keys: torch.Tensor, words: torch.Tensor
    ) -> torch.Tensor:
        """(b, cells, words): how much each cell reads each word, at most 1."""
        heads = self.base.unet.get_submodule(site).heads
        assert isinstance(heads, int)
        width = queries.shape[-1] // heads
        q, k = (x.float().view(*x.shape[:2], heads, width) for x in (queries, keys))
        scores = torch.einsum("bnhw,bthw->bhnt", q, k) / math.sqrt(width)
        read = scores.softmax(-1).mean(1)
        picked = read.gather(-1, words[:, None].expand(-1, read.shape[1], -1))
        highest: torch.Tensor = picked.amax(1, keepdim=True).clamp(min=1e-6)
        return picked / highest


class _Recorder:
    def __init__(self, site: str, kept: dict[str, torch.Tensor]) -> None:
        self.site, self.kept = site, kept

    def __call__(
        self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        self.kept[self.site] = output
