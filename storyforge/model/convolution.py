"""Convolutions that the encoder and the decoder of the embedded model are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

WIDER = 3
"""How many times as many numbers a block or a point thinks in as it reads."""


def silence(conv: nn.Conv2d | nn.Linear) -> None:
    """Let a layer begin with nothing to say."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


class Block(nn.Module):
    """What stands around a cell, then what to think of it, beside the identity (Liu et al. 2022, A
    ConvNet for the 2020s). Normed over channels alone, so that a crop is decoded as a whole."""

    def __init__(self, width: int) -> None:
        """(n, width, h, w) to the same."""
        super().__init__()
        self.around = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, WIDER * width)
        self.back = nn.Linear(WIDER * width, width)
        silence(self.back)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add what is found."""
        seen = self.norm(self.around(x).permute(0, 2, 3, 1))
        found: torch.Tensor = self.back(F.gelu(self.wide(seen), approximate="tanh"))
        return x + found.permute(0, 3, 1, 2)


class Halving(nn.Sequential):
    """Half as high and half as wide."""

    def __init__(self, before: int, after: int) -> None:
        """`before` channels become `after`."""
        super().__init__(
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        )


class Residual(nn.Module):
    """Two convolutions beside the identity (He et al. 2015, Deep Residual Learning)."""

    def __init__(self, width: int) -> None:
        """(n, width, h, w) to the same."""
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add what is found."""
        return F.relu(x + self.convs(x))
