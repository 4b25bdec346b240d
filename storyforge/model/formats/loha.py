"""LoHa: the entrywise product of two low-rank matrices, `(a₁ b₁) ∘ (a₂ b₂)` (FedPara)."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def rank_of(parts: Mapping[str, torch.Tensor]) -> int:
    """Of each of the two factors."""
    return int(parts["hada_w1_b"].shape[0])


def change(parts: Mapping[str, torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
    """The change of a weight at scale 1, in the weight's shape.

    hada_w1_a  (out, r); of a Tucker form (r, out)
    hada_w1_b  (r, in)
    hada_t1    (r, r, h, w), of a Tucker form
    """
    first, second = _half(parts, "1"), _half(parts, "2")
    return fitted(first * second, weight)


def factors(parts: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """(out, r²) and (r², in), whose product the change is; None for a Tucker form."""
    if "hada_t1" in parts:
        return None
    a, b = parts["hada_w1_a"].float(), parts["hada_w2_a"].float()
    c, d = parts["hada_w1_b"].float(), parts["hada_w2_b"].float()
    up = torch.einsum("or,os->ors", a, b).flatten(1)
    return up, torch.einsum("ri,si->rsi", c, d).flatten(0, 1)


def _half(parts: Mapping[str, torch.Tensor], which: str) -> torch.Tensor:
    a, b = parts[f"hada_w{which}_a"].float(), parts[f"hada_w{which}_b"].float()
    if f"hada_t{which}" not in parts:
        return a @ b
    return torch.einsum("ijhw,jr,ip->prhw", parts[f"hada_t{which}"].float(), b, a)


def fitted(made: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A change whose kernel is spread along its second axis, in the weight's shape."""
    if made.shape[0] != weight.shape[0] or made.numel() != weight.numel():
        raise ValueError(f"it is {tuple(made.shape)}")
    return made.reshape(weight.shape)
