"""DoRA: direction and length of the weights apart, `m · (W + ΔW) / ‖W + ΔW‖` (DoRA, eq. 5).

PEFT keeps a length for every output; LyCORIS for every input, or every output if asked to.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch


def change(
    parts: Mapping[str, torch.Tensor], weight: torch.Tensor, inner: torch.Tensor
) -> torch.Tensor:
    """The whole change of a weight.

    weight  (out, in, …)  before the change
    inner   (out, in, …)  scale · up · down
    """
    turned = weight.float() + inner
    if "magnitude" in parts:
        length, per_output = parts["magnitude"].float().flatten(), True
    else:
        scale = parts["dora_scale"].float()
        length, per_output = scale.flatten(), scale.shape[0] == weight.shape[0]
    axis = 0 if per_output else 1
    if len(length) != weight.shape[axis]:
        raise ValueError(f"it has {len(length)} lengths for {weight.shape[axis]} directions")
    view = [1] * turned.dim()
    view[axis] = -1
    norms: torch.Tensor = turned.transpose(0, axis).flatten(1).norm(dim=1)
    norms = norms + torch.finfo(torch.float32).eps
    made: torch.Tensor = turned * (length / norms).reshape(view) - weight.float()
    return made
