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
        names = f"{between}.down", f"{between}.up"
        if part == "transformer":  # PEFT's names, which all readers of transformers know
            names = "lora_A", "lora_B"
        for name, made in zip(names, (delta.down, delta.scale * delta.up), strict=True):
            tensors[f"{part}.{layer}.{name}.weight"] = made.to(dtype).cpu().contiguous()
    save_file(tensors, path, {"format": "pt", **metadata})
