"""Layer-wise words of others: kohya's XTI, a key for each of sixteen layers, and P+'s pickles.

Both are in the order of the data through the U-Net: down, middle, up.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from storyforge.errors import StoryForgeError
from storyforge.headers.kinds import XTI_SITES


def read_words(tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(n, 16, d)."""
    return torch.stack(
        [tensors[site].float().reshape(-1, _width(tensors)) for site in XTI_SITES], 1
    )


def read_plus(tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(n, G, d) of a pickle of P+, a token for each layer."""
    return torch.stack([one.float().reshape(-1, one.shape[-1]) for one in tensors.values()], 1)


def write_words(words: torch.Tensor, path: Path, metadata: Mapping[str, str]) -> None:
    """Write `words` (n, 16, d) as kohya reads them.

    Raises StoryForgeError if they are for another number of layers.
    """
    if words.shape[1] != len(XTI_SITES):
        raise StoryForgeError(
            f"XTI has words for {len(XTI_SITES)} layers, and the concept for {words.shape[1]}",
            hint="`--to ti` writes one vector for all layers",
        )
    tensors = {site: words[:, i].float().contiguous() for i, site in enumerate(XTI_SITES)}
    save_file(tensors, path, dict(metadata))


def _width(tensors: Mapping[str, torch.Tensor]) -> int:
    return int(tensors[XTI_SITES[0]].shape[-1])
