"""Writing LoRAs as kohya's scripts do: what AUTOMATIC1111, ComfyUI, Forge and InvokeAI read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file

from storyforge.headers.names import BUNDLE
from storyforge.model.lora import Delta

_TEXT: Final = {"text_encoder": "lora_te", "text_encoder_2": "lora_te2"}


def key_of(linear: str, *, two: bool = False) -> str:
    """kohya's name of a layer, of the name that `family.linears` has.

    two  whether the base has two text encoders, which are then numbered
    """
    part, path = linear.split(".", 1)
    if part in _TEXT:
        prefix = "lora_te1" if two and part == "text_encoder" else _TEXT[part]
        # Others know CLIP as it was before transformers 5.6.
        return f"{prefix}_text_model_{path.removeprefix('text_model.')}".replace(".", "_")
    return f"lora_unet_{path}".replace(".", "_")


def write_lora(
    deltas: Mapping[str, Delta],
    path: Path,
    metadata: Mapping[str, str],
    bundle: Mapping[str, torch.Tensor] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write changes, each with an alpha of its rank, so that the scale is 1 for every reader.

    bundle  token -> (n, d), for those who read words from a LoRA
    """
    tensors: dict[str, torch.Tensor] = {}
    two = any(linear.startswith("text_encoder_2.") for linear in deltas)
    for linear, delta in deltas.items():
        key = key_of(linear, two=two)
        tensors[f"{key}.lora_down.weight"] = delta.down.to(dtype).cpu().contiguous()
        tensors[f"{key}.lora_up.weight"] = (delta.scale * delta.up).to(dtype).cpu().contiguous()
        tensors[f"{key}.alpha"] = torch.tensor(float(delta.rank), dtype=dtype)
    for token, words in (bundle or {}).items():
        tensors[f"{BUNDLE}{token}.string_to_param.*"] = words.float().cpu().contiguous()
    ranks = [delta.rank for delta in deltas.values()]
    rank = str(max(ranks, default=0))
    own = {"ss_network_module": "networks.lora", "ss_network_dim": rank, "ss_network_alpha": rank}
    save_file(tensors, path, {**own, **metadata})
