"""Weights that are kept in fewer bits than are computed in: in 8, or in the 16 of their files.

In 8 bits every row of a linear layer or convolution is whole steps of its own size, W ≈ s ⊙ Q. In
16, which is for processors that compute in 32 alone, it is what files have, and nothing is lost.
Either is put together when it is asked for. Unlike in diffusers' layerwise casting to fp8, which
takes the room of 8 bits, gradients pass; and of the embedded model's latents 1.4 % were other than
in full precision, where fp8 had 6.6 % and bfloat16 0.4 % (four pictures of ten steps). Not covered:
computing in 8 bits, which would be faster; norms, embeddings and what is outside of blocks are not
kept so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import nn
from torch.nn.utils import parametrize

_BLOCKS: Final = re.compile(r"(^|\.)(\w*blocks?|layers|\w+_refiner)\.")
"""In the name of a layer that is repeated: first and last layers are few, and count for more."""

_MOST: Final = 127
"""Steps to either side of nothing."""

EIGHT, SIXTEEN = torch.int8, torch.float16
"""How weights may be kept. Not as bfloat16: most files are in float16, which has three bits more,
and weights are nowhere near its ends."""


class _Steps(nn.Module):
    """A weight as whole steps (out, …) int8 and their sizes (out, 1, …)."""

    def forward(self, steps: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
        """The weight, in the precision of the sizes."""
        return steps.to(size.dtype) * size

    def right_inverse(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Steps and sizes of a weight."""
        return _steps_of(weight)


class _Halved(nn.Module):
    """A weight in 16 bits."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight in full precision."""
        return weight.float()

    def right_inverse(self, weight: torch.Tensor) -> tuple[torch.Tensor]:
        """What is kept of a weight."""
        # Of one tensor alone, PyTorch insists that it has the type of the weight.
        return (weight.to(SIXTEEN),)


class _Change(nn.Module):
    """What is added to a weight, in steps of its own."""

    steps: torch.Tensor
    size: torch.Tensor

    def __init__(self, more: torch.Tensor) -> None:
        super().__init__()
        steps, size = _steps_of(more)
        self.register_buffer("steps", steps)
        self.register_buffer("size", size)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The changed weight."""
        made: torch.Tensor = weight + self.steps.to(weight) * self.size.to(weight)
        return made


def _steps_of(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    largest = weight.flatten(1).abs().amax(1).reshape(-1, *[1] * (weight.ndim - 1))
    size = torch.where(largest > 0, largest / _MOST, 1)
    # By the sizes as they are kept, so that their own rounding counts.
    return (weight / size).round().clamp(-_MOST, _MOST).to(torch.int8), size


def keep_model(model: nn.Module, kept: torch.dtype, dtype: torch.dtype) -> None:
    """Freeze a model, and keep the weights of its blocks in so many bits from now on.

    kept   `EIGHT` or `SIXTEEN`
    dtype  in which the others are, and all are computed
    """
    model.requires_grad_(False)
    for name, layer in list(model.named_modules()):
        keep_layer(layer, name, kept)
    for name, part in model.named_parameters():
        if ".parametrizations." not in name:
            part.data = part.data.to(dtype)


def keep_layer(layer: nn.Module, name: str, kept: torch.dtype) -> None:
    """Keep the weight of one frozen layer so, if it has one in a block, by its name."""
    weighty = isinstance(layer, nn.Linear | nn.Conv2d) and not is_kept(layer)
    if weighty and _BLOCKS.search(name):
        way = _Steps() if kept == EIGHT else _Halved()
        # Unsafe: what is kept has another type than the weight, and shall have.
        parametrize.register_parametrization(layer, "weight", way, unsafe=True)


def is_kept(layer: nn.Module) -> bool:
    """Whether a layer's weight is kept so; what is added to it in place would be lost."""
    return parametrize.is_parametrized(layer, "weight")


@contextmanager
def changed(layer: nn.Module, more: torch.Tensor) -> Iterator[None]:
    """Add to a weight that is kept in fewer bits while the block runs.

    In 8 bits of the change's own: in the weight's, a small change would not be one.
    """
    parts = layer.get_submodule("parametrizations.weight")
    assert isinstance(parts, nn.ModuleList)
    parts.append(_Change(more).to(next(parts.parameters()).device))
    try:
        yield
    finally:
        del parts[-1]
