"""IA³: inputs or outputs of a layer, each multiplied by a number of its own.

LyCORIS keeps what is added to 1 and says of which side; PEFT keeps the whole factor, (1, in) for
inputs and (out, 1) for outputs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch


def change(parts: Mapping[str, torch.Tensor], weight: torch.Tensor, *, whole: bool) -> torch.Tensor:
    """The change of a weight.

    ia3    as the file has it
    whole  whether the factor is kept, not what is added to 1
    """
    more = factor(parts, whole=whole)
    axis = 1 if on_inputs(parts) else 0
    if len(more) != weight.shape[axis]:
        raise ValueError(f"it has {len(more)} factors for {weight.shape[axis]} numbers")
    view = [1] * weight.dim()
    view[axis] = -1
    return weight.float() * more.reshape(view)


def factor(parts: Mapping[str, torch.Tensor], *, whole: bool) -> torch.Tensor:
    """(n,): what is added to each number's factor of 1."""
    kept = parts["ia3"].float().flatten()
    return kept - 1 if whole else kept


def on_inputs(parts: Mapping[str, torch.Tensor]) -> bool:
    """Whether inputs are multiplied, not outputs."""
    if "on_input" in parts:
        return bool(parts["on_input"])
    return parts["ia3"].dim() > 1 and parts["ia3"].shape[0] == 1
