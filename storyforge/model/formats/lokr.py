"""LoKr: a Kronecker product of two small matrices, each whole or of low rank."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from storyforge.model.formats.loha import fitted


def rank_of(parts: Mapping[str, torch.Tensor]) -> int | None:
    """Of the second factor, else of the first; None if both are whole."""
    for name in ("lokr_w2_b", "lokr_w1_b"):
        if name in parts:
            return int(parts[name].shape[0])
    return None


def change(parts: Mapping[str, torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
    """The change of a weight at scale 1.

    lokr_w1  (o₁, i₁), or lokr_w1_a (o₁, r) and lokr_w1_b (r, i₁)
    lokr_w2  (o₂, i₂, …), or lokr_w2_a and lokr_w2_b likewise; lokr_t2 (r, r, h, w) between them
    """
    first = _factor(parts, "1")
    second = _factor(parts, "2")
    if second.dim() == 4:
        first = first[:, :, None, None]
    return fitted(torch.kron(first, second.contiguous()), weight)


def _factor(parts: Mapping[str, torch.Tensor], which: str) -> torch.Tensor:
    if f"lokr_w{which}" in parts:
        return parts[f"lokr_w{which}"].float()
    a, b = parts[f"lokr_w{which}_a"].float(), parts[f"lokr_w{which}_b"].float()
    if f"lokr_t{which}" in parts:
        return torch.einsum("ijhw,ip,jr->prhw", parts[f"lokr_t{which}"].float(), a, b)
    return a @ b
