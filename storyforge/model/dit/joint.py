"""Several texts beside one picture in joint attention: who may read whom.

Texts never read each other. In every second layer a cell reads a text as much as it listens to it,
and a text the cells that listen; in the others cells and texts are free, so that the picture stays
one (as InvokeAI does it). A text that nobody listens to is left out: one region over everything is
the plain picture of its prompt, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class JointText:
    """One text, for each of n pictures.

    features  (n, T, d); rows of zeros at the end are no tokens, one between others is
    share     (cells,) in [0, 1] how much each cell listens to it; None for wholly
    """

    features: torch.Tensor
    share: torch.Tensor | None = None

    def length(self, row: int) -> int:
        """Tokens of the text of one picture."""
        tokens = self.features[row].any(-1).nonzero()
        return int(tokens[-1]) + 1 if len(tokens) else 0


def heard(texts: Sequence[JointText]) -> list[JointText]:
    """The texts that some cell listens to."""
    return [each for each in texts if each.share is None or bool(each.share.any())]


def shares_mask(
    texts: Sequence[tuple[int, torch.Tensor | None]], cells: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """What is added to the scores of attention in a sequence of texts and then cells.

    texts  of each its tokens, and how much each cell listens to it

    Returns (s, s) for layers in which cells listen to their own texts, and for the others.
    """
    lengths = [length for length, _ in texts]
    total = sum(lengths)
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    free = torch.zeros(total + cells, total + cells)
    free[:total, :total].masked_fill_(owner[:, None] != owner, -torch.inf)
    bound = free.clone()
    begun = 0
    for length, share in texts:
        if share is not None:
            here, there = slice(begun, begun + length), slice(total, total + cells)
            # Its logarithm: a text of half a share is as if half of it were there.
            said = share.detach().float().cpu().log()
            bound[there, here], bound[here, there] = said[:, None], said
        begun += length
    return bound, free


@contextmanager
def masked(layers: Sequence[nn.Module], masks: Sequence[torch.Tensor]) -> Iterator[None]:
    """Let attention layers read by the masks in turn while the block runs.

    A hook and not the model's own argument, which is one for all layers, where there is any.
    """
    # One hook for all layers of a mask, which comes to the layers' device once.
    hooks = [_Masking(mask) for mask in masks]
    with ExitStack() as stack:
        for number, layer in enumerate(layers):
            hook = hooks[number % len(hooks)]
            stack.callback(layer.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


class _Masking:
    def __init__(self, mask: torch.Tensor) -> None:
        self.mask = mask

    def __call__(
        self, module: nn.Module, inputs: tuple[torch.Tensor, ...], named: dict[str, object]
    ) -> tuple[tuple[torch.Tensor, ...], dict[str, object]]:
        seen = inputs[0] if inputs else named["hidden_states"]
        assert isinstance(seen, torch.Tensor)
        self.mask = self.mask.to(seen)  # once: device and precision stay
        return inputs, named | {"attention_mask": self.mask[None, None]}


class JointRecorder:
    """Records what layers that attend to text and picture at once ask and offer.

    As they are before they are turned by their places: how a word suits a cell, wherever both are.
    """

    def __init__(self, layers: Sequence[nn.Module], whole: int | None = None) -> None:
        """Record nothing yet.

        whole  where the picture comes first: it is filled up to a multiple of so many cells; None
               where its texts come first
        """
        self.layers, self.whole = layers, whole
        self.queries: dict[int, torch.Tensor] = {}
        self.keys: dict[int, torch.Tensor] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record while the block runs; of pictures that come one after the other, the last."""
        with ExitStack() as stack:
            for number, layer in enumerate(self.layers):
                for part, kept in (("norm_q", self.queries), ("norm_k", self.keys)):
                    hook = _Keeping(number, kept)
                    handle = layer.get_submodule(part).register_forward_hook(hook)
                    stack.callback(handle.remove)
            yield

    def maps(
        self, texts: Sequence[JointText], cells: int, *, filled: bool
    ) -> Iterator[Mapping[int, torch.Tensor]]:
        """How much each cell of the last picture reads each word, layer by layer.

        filled  whether what fills a text up is read as well

        Yields the number of each text that is heard -> (cells, T).
        """
        lengths = {
            number: text.features.shape[1] if filled else text.length(-1)
            for number, text in enumerate(texts)
            if heard([text])
        }
        total = sum(lengths.values())
        picture = 0 if self.whole else total
        said = cells + -cells % self.whole if self.whole else 0
        for number, queries in self.queries.items():
            # (heads, n, d) of the last row of the batch.
            q, k = (x[-1].float().transpose(0, 1) for x in (queries, self.keys[number]))
            q, k = q[:, picture : picture + cells], k[:, said : said + total]
            read = torch.softmax(q @ k.transpose(1, 2) / q.shape[2] ** 0.5, 2).mean(0)
            parts = torch.split(read, list(lengths.values()), 1)
            yield dict(zip(lengths, parts, strict=True))


class _Keeping:
    def __init__(self, number: int, kept: dict[int, torch.Tensor]) -> None:
        self.number, self.kept = number, kept

    def __call__(
        self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        self.kept[self.number] = output
