"""What the weights of a prompt's words do to its features.

The features of a token are multiplied by its weight, and the whole is brought back to the mean that
it had. How weights are written is `prompt_weights`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def emphasised(features: torch.Tensor, weights: Sequence[Sequence[float]]) -> torch.Tensor:
    """Text features whose tokens count as they are weighed.

    features  (rows, T, d)
    weights   rows × T
    """
    if all(weight == 1 for row in weights for weight in row):
        return features
    factors = torch.tensor(weights, device=features.device, dtype=torch.float32)[..., None]
    whole = features.float()
    made = whole * factors
    before, after = whole.mean((1, 2), keepdim=True), made.mean((1, 2), keepdim=True)
    own = (factors != 1).any(1, keepdim=True)  # rows without weights stay as they are, to the bit
    return torch.where(own, (made * (before / after)).to(features), features)
