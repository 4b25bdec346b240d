"""LoRA, LoCon and Tucker LoCon: the change is `scale · up · down`, of a kernel as two in a row.

Tucker LoCon has a small kernel between two matrices: `up · mid · down`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch


def rank_of(parts: Mapping[str, torch.Tensor]) -> int:
    """r."""
    return int(parts["down"].shape[0])


def change(parts: Mapping[str, torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
    """The change of a weight at scale 1.

    down    (r, in, …)  a Tucker LoCon's is (r, in, 1, 1)
    up      (out, r, …)
    mid     (r, r, h, w), if there is one
    weight  (out, in, …)
    """
    down, up = parts["down"].float(), parts["up"].float()
    if "mid" in parts:
        mid = parts["mid"].float()
        return torch.einsum("mnhw,om,ni->oihw", mid, up.flatten(1), down.flatten(1))
    if up.shape[1] != down.shape[0] or up.flatten(1).shape[1] != up.shape[1]:
        raise ValueError("its two matrices do not fit each other")
    made = up.flatten(1) @ down.flatten(1)
    shape = (up.shape[0], *down.shape[1:])
    return made.reshape(shape)
