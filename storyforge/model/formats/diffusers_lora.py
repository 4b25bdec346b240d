"""Writing LoRAs under diffusers' names, for `load_lora_weights`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from storyforge.model.lora import Delta


def write_lora(
    deltas: Mapping[str, Delta],
    path: Path,
    metadata: Mapping[str, str],
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write changes. Without `lora_adapter_metadata`, readers take alpha for the rank: scale 1."""
    tensors: dict[str, torch.Tensor] = {}
    for linear, delta in deltas.items():
        part, layer = linear.split(".", 1)
        between = "lora"
        if part.startswith("text_encoder"):
            layer, between = f"text_model.{layer.removeprefix('text_model.')}", "lora_linear_layer"
        down, up = delta.down, delta.scale * delta.up
        tensors[f"{part}.{layer}.{between}.down.weight"] = down.to(dtype).cpu().contiguous()
        tensors[f"{part}.{layer}.{between}.up.weight"] = up.to(dtype).cpu().contiguous()
    save_file(tensors, path, {"format": "pt", **metadata})
