"""Several texts beside one picture in joint attention: who may read whom.

Texts never read each other. In every second layer a cell reads a text as much as it listens to it,
and a text the cells that listen; in the others cells and texts are free, so that the picture stays
one (as InvokeAI does it). A text that nobody listens to is left out: one region over everything is
the plain picture of its prompt, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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


Seen = Callable[[Mapping[int, torch.Tensor]], None]
"""Given the number of each text that is heard -> (cells, T), how much each cell reads each word."""


class JointRecorder:
    """Sees who reads whom in layers that attend to text and picture at once.

    By what they ask and offer before it is turned by its place: how a word suits a cell, wherever
    both are. Every layer is seen as it passes, and what it asks and offers is not kept: that of all
    layers would be gigabytes.
    """

    def __init__(self, layers: Sequence[nn.Module], whole: int | None = None) -> None:
        """Look at some layers.

        whole  where the picture comes first: it is filled up to a multiple of so many cells; None
               where its texts come first
        """
        self.layers, self.whole = layers, whole

    @contextmanager
    def watching(
        self, texts: Sequence[JointText], cells: int, seen: Seen, *, filled: bool
    ) -> Iterator[None]:
        """Tell layer by layer what the last picture's cells read while the block runs.

        filled  whether what fills a text up is read as well
        """
        lengths = {
            number: text.features.shape[1] if filled else text.length(-1)
            for number, text in enumerate(texts)
            if heard([text])
        }
        total = sum(lengths.values())
        picture = 0 if self.whole else total
        said = cells + -cells % self.whole if self.whole else 0
        places = slice(picture, picture + cells), slice(said, said + total)

        def tell(read: torch.Tensor) -> None:
            """(cells, words) of one layer, as each text has it."""
            parts = torch.split(read, list(lengths.values()), 1)
            seen(dict(zip(lengths, parts, strict=True)))

        rows = len(texts[0].features)
        with ExitStack() as stack:
            for layer in self.layers:
                one = _Layer(rows, places, tell)
                for part, hear in (("norm_q", one.asks), ("norm_k", one.offers)):
                    handle = layer.get_submodule(part).register_forward_hook(hear)
                    stack.callback(handle.remove)
            yield


class _Layer:
    """What one layer asks, until it is known what it offers."""

    def __init__(
        self, rows: int, places: tuple[slice, slice], tell: Callable[[torch.Tensor], None]
    ) -> None:
        self.rows, self.places, self.tell = rows, places, tell
        self.asked: torch.Tensor | None = None

    def asks(
        self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        """(b, n, heads, d); pictures may come at once or one after the other."""
        self.rows -= len(output)
        self.asked = output[-1, self.places[0]] if self.rows == 0 else None

    def offers(
        self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        """(b, n, heads, d), after what the same cells and words ask."""
        asked, self.asked = self.asked, None
        if asked is not None:
            self.tell(_read(asked, output[-1, self.places[1]]))


def _read(asked: torch.Tensor, offered: torch.Tensor) -> torch.Tensor:
    """(cells, words): how much each cell reads each word, mean of the heads."""
    _, heads, width = asked.shape
    read = torch.zeros(len(asked), len(offered), device=asked.device)
    # One after the other: scores of all heads are many times what the layer itself asks and offers.
    for head in range(heads):
        scores = asked[:, head].float() @ offered[:, head].float().T
        read += torch.softmax(scores / width**0.5, 1)
    return read / heads
