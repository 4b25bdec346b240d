"""Where words are looked for: the cross-attention maps of some words, at every site of the U-Net.

Used to hold a concept's attention to its masks while it is learnt, and to find where in a picture
it is when it is fused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from storyforge.model.base import BaseModel


class AttentionRecorder:
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

    def maps(self, rows: Sequence[int], words: torch.Tensor) -> Iterator[torch.Tensor]:
        """How much each cell reads each word, at every site in turn; 1 where it does so most.

        Each map is the softmax over the text, averaged over the heads and divided by its largest
        value (Mix-of-Show's regulariser, there by the batch's).

        rows   of the batch, n
        words  (n, words) their places in the texts of these rows

        Yields (n, cells, words).
        """
        for site, queries in self.queries.items():
            heads = self.base.unet.get_submodule(site).heads
            assert isinstance(heads, int)
            width = queries.shape[-1] // heads
            both = queries[rows], self.keys[site][rows]
            q, k = (x.float().view(*x.shape[:2], heads, width) for x in both)
            scores = torch.einsum("bnhw,bthw->bhnt", q, k) / math.sqrt(width)
            read = scores.softmax(-1).mean(1)
            picked = read.gather(-1, words[:, None].expand(-1, read.shape[1], -1))
            yield picked / picked.amax(1, keepdim=True).clamp(min=1e-6)


class _Recorder:
    def __init__(self, site: str, kept: dict[str, torch.Tensor]) -> None:
        self.site, self.kept = site, kept

    def __call__(
        self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        self.kept[self.site] = output
