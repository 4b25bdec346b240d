"""What attention looks at: maps of who reads whom, made of what is recorded in a U-Net call.

Used to hold a concept's attention to its masks while it is learnt, to find where in a picture it is
when it is fused, and to guide subjects into their regions while they are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from storyforge.model.base import BaseModel


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(b, n, h · w) to (b, h, n, w)."""
    b, n, d = x.shape
    return x.view(b, n, heads, d // heads).transpose(1, 2)


def by_heads(base: BaseModel, site: str, x: torch.Tensor) -> torch.Tensor:
    """(b, n, d) of a site to (b, h, n, w)."""
    heads = base.unet.get_submodule(site).heads
    assert isinstance(heads, int)
    return split_heads(x, heads)


def attention_map(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """(b, n, T): how queries (b, h, n, w) share their attention among keys, mean of the heads."""
    return torch.softmax(q @ k.transpose(2, 3) / q.shape[3] ** 0.5, 3).mean(1)


def words_read(read: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """(n, cells, words): how much each cell reads some words, 1 where it does so most.

    read   (n, cells, T)
    words  (n, words) their places in each text
    """
    picked = read.gather(-1, words[:, None].expand(-1, read.shape[1], -1))
    return picked / picked.amax(1, keepdim=True).clamp(min=1e-6)


Hear = Callable[[str, torch.Tensor], None]
"""Given a site and what one of its linears says of this call, (b, n, d)."""


@contextmanager
def hearing(base: BaseModel, sites: Iterable[str], **heard: Hear) -> Iterator[None]:
    """Hear what linears of attention sites say while the block runs, site by site.

    Later hooks than the deltas', and so with them.

    heard  by the names of linears, such as `to_q`
    """
    with ExitStack() as stack:
        for site in sites:
            for part, hear in heard.items():
                linear = base.unet.get_submodule(f"{site}.{part}")
                stack.callback(linear.register_forward_hook(_Hearing(site, hear)).remove)
        yield


class _Hearing:
    def __init__(self, site: str, hear: Hear) -> None:
        self.site, self.hear = site, hear

    def __call__(
        self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        self.hear(self.site, output)


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
        """Record while the block runs."""

        def kept(into: dict[str, torch.Tensor]) -> Hear:
            """Keeps what sites of the right size say."""

            def hear(site: str, said: torch.Tensor) -> None:
                """Of the same site the last."""
                if self.cells is None or said.shape[1] == self.cells:
                    into[site] = said

            return hear

        with hearing(self.base, self.sites, to_q=kept(self.queries), to_k=kept(self.keys)):
            yield

    def heads(self, site: str, x: torch.Tensor) -> torch.Tensor:
        """(b, n, d) of a site, by its heads."""
        return by_heads(self.base, site, x)

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
            yield words_read(attention_map(*(self.heads(site, x.float()) for x in both)), words)
