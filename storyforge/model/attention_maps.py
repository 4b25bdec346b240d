"""What attention looks at: maps of who reads whom, made of what is recorded in a U-Net call.

Used to hold a concept's attention to its masks while it is learnt, to find where in a picture it is
when it is fused, and to guide subjects into their regions while they are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from storyforge.model.base import BaseModel


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(b, n, h · w) to (b, h, n, w)."""
    b, n, d = x.shape
    return x.view(b, n, heads, d // heads).transpose(1, 2)


def attention_map(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """(b, n, T): how queries (b, h, n, w) share their attention among keys, mean of the heads."""
    return torch.softmax(q @ k.transpose(2, 3) / q.shape[3] ** 0.5, 3).mean(1)


class AttentionRecorder:
    """Records queries and keys of attention sites, to see afterwards who read what.

    What is recorded keeps its gradients: maps are made outside the attention modules, so that
    nothing is computed twice where activations are.
    """

    def __init__(
        self, base: BaseModel, sites: Sequence[str] | None = None, cells: int | None = None
    ) -> None:
        """Record nothing yet.

        sites  names of attention modules; those of cross-attention if None
        cells  record sites of so many cells alone; all if None
        """
        self.base, self.cells = base, cells
        self.sites = base.family.cross_sites if sites is None else sites
        self.queries: dict[str, torch.Tensor] = {}
        self.keys: dict[str, torch.Tensor] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record while the block runs; later hooks than the deltas', and so with them."""
        handles = []
        for site in self.sites:
            for part, kept in (("to_q", self.queries), ("to_k", self.keys)):
                linear = self.base.unet.get_submodule(f"{site}.{part}")
                handles.append(linear.register_forward_hook(_Recorder(site, kept, self.cells)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def heads(self, site: str, x: torch.Tensor) -> torch.Tensor:
        """(b, n, d) of a site, by its heads."""
        heads = self.base.unet.get_submodule(site).heads
        assert isinstance(heads, int)
        return split_heads(x, heads)

    def maps(self, rows: Sequence[int], words: torch.Tensor) -> Iterator[torch.Tensor]:
        """How much each cell reads each word, at every site in turn; 1 where it does so most.

        Each map is the softmax over the text, averaged over the heads and divided by its largest
        value (Mix-of-Show's regulariser, there by the batch's).

        rows   of the batch, n
        words  (n, words) their places in the texts of these rows

        Yields (n, cells, words).
        """
        for site, queries in self.queries.items():
            both = queries[rows], self.keys[site][rows]
            read = attention_map(*(self.heads(site, x.float()) for x in both))
            picked = read.gather(-1, words[:, None].expand(-1, read.shape[1], -1))
            yield picked / picked.amax(1, keepdim=True).clamp(min=1e-6)


class _Recorder:
    def __init__(self, site: str, kept: dict[str, torch.Tensor], cells: int | None) -> None:
        self.site, self.kept, self.cells = site, kept, cells

    def __call__(
        self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        if self.cells is None or output.shape[1] == self.cells:
            self.kept[self.site] = output
