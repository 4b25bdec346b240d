"""The concepts of Mix-of-Show's own code: a pickle of layer-wise words and low-rank changes.

Its alpha multiplies the change as it is, not over the rank, and is not in the file; it is 1 in
every configuration that was published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from storyforge.headers.names import part_of
from storyforge.model.formats.adapter import LayerParts

_KEY = re.compile(r"(?:params(?:_ema)?/)?(new_concept_embedding|text_encoder|unet)/(.+)")


@dataclass(frozen=True, slots=True)
class EdLora:
    """What a file holds.

    words   token -> (G, d), in the order of the file
    layers  layer -> its change
    """

    words: dict[str, torch.Tensor]
    layers: dict[str, LayerParts]


def read(tensors: Mapping[str, torch.Tensor]) -> EdLora:
    """Sort the tensors of a file.

    Raises ValueError, naming the first tensor that belongs to nothing.
    """
    words: dict[str, torch.Tensor] = {}
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is not None and match[1] == "new_concept_embedding":
            words[match[2]] = tensor.float().reshape(-1, tensor.shape[-1])
            continue
        part = part_of(f"{match[1]}.{match[2]}") if match else None
        if part is None:
            raise ValueError(f"it holds `{key}`, which belongs to nothing that is known")
        parts.setdefault(part.name, {})[part.role] = tensor.float()
    layers = {name: LayerParts(own, 1.0, whole=False) for name, own in parts.items()}
    return EdLora(words, layers)


def write(
    name: str,
    words: torch.Tensor,
    deltas: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    path: Path,
) -> None:
    """Write a concept as `edlora_model-latest.pth` has it.

    words   (n, G, d)
    deltas  linear, as `family.linears` names it -> up (out, r) and down (r, in)
    """
    text: dict[str, torch.Tensor] = {}
    unet: dict[str, torch.Tensor] = {}
    for linear, (up, down) in deltas.items():
        part, layer = linear.split(".", 1)
        layer = f"text_model.{layer}" if part == "text_encoder" else layer
        own = text if part == "text_encoder" else unet
        own[f"{layer}.lora_down.weight"] = down.float().contiguous()
        own[f"{layer}.lora_up.weight"] = up.float().contiguous()
    tokens = {f"<{name}{i + 1}>": word.float().contiguous() for i, word in enumerate(words)}
    torch.save(
        {"params": {"new_concept_embedding": tokens, "text_encoder": text, "unet": unet}}, path
    )
