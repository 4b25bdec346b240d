"""An encoder's embedding table with concepts' words after its end; the vocabulary never grows."""

from __future__ import annotations

import re
from typing import Final

import torch
import torch.nn.functional as F
from torch import nn

PLACEHOLDER: Final = re.compile(r"<([\w-]+)>")
"""How a concept stands in a prompt."""


class WordTable(nn.Module):
    """The encoder's embedding table with concept words after its end."""

    def __init__(self, table: nn.Module, words: torch.Tensor, groups: torch.Tensor) -> None:
        """Stand in for a table.

        words   (n, G, d)  after its end, for each of G groups
        groups  (rows,)    which of them each row of ids reads
        """
        super().__init__()
        self.table, self.words, self.groups = table, words, groups

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(rows, T) ids to (rows, T, d)."""
        weight: torch.Tensor = self.table.weight  # type: ignore[assignment]
        first = weight.shape[0]
        plain: torch.Tensor = self.table(ids.clamp(max=first - 1))
        if not self.words.numel():
            return plain
        slots = (ids - first).clamp(min=0)
        # Not plain indexing: its backward pass adds up in any order on several threads.
        flat = slots * self.words.shape[1] + self.groups[:, None]
        own = F.embedding(flat, self.words.flatten(0, 1))
        return torch.where((ids >= first)[..., None], own.to(plain), plain)
