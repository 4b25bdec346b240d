"""Writing LoRAs as kohya's scripts do: what AUTOMATIC1111, ComfyUI, Forge and InvokeAI read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
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


def _recognised(deltas: Mapping[str, Delta]) -> list[tuple[str, Delta]]:
    """A change of nothing, where diffusers would not know a text encoder's part without it.

    It tells the form of the part by `out_proj`, and refuses a file that does not change one.
    """
    text = [name for name in deltas if name.startswith("text_encoder.")]
    if not text or any(name.endswith(".out_proj") for name in text):
        return []
    first = deltas[text[0]]
    width = first.down.shape[1]
    nothing = Delta(torch.zeros(width, 1), torch.zeros(1, width))
    return [(f"{text[0].rpartition('.')[0]}.out_proj", nothing)]


def write_lora(
    deltas: Mapping[str, Delta],
    path: Path,
    metadata: Mapping[str, str],
    bundle: Mapping[str, torch.Tensor] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write changes, all of one rank and with that as alpha: the scale is 1 for every reader.

    One rank for all, because diffusers gives every layer the alpha that most of them have.

    bundle  token -> (n, d), for those who read words from a LoRA
    """
    tensors: dict[str, torch.Tensor] = {}
    two = any(linear.startswith("text_encoder_2.") for linear in deltas)
    most = max((delta.rank for delta in deltas.values()), default=0)
    for linear, delta in (*deltas.items(), *_recognised(deltas)):
        key, more = key_of(linear, two=two), most - delta.rank
        down, up = delta.down.to(dtype).cpu(), (delta.scale * delta.up).to(dtype).cpu()
        tensors[f"{key}.lora_down.weight"] = F.pad(down, (0, 0, 0, more)).contiguous()
        tensors[f"{key}.lora_up.weight"] = F.pad(up, (0, more)).contiguous()
        tensors[f"{key}.alpha"] = torch.tensor(float(most), dtype=dtype)
    for token, words in (bundle or {}).items():
        tensors[f"{BUNDLE}{token}.string_to_param.*"] = words.float().cpu().contiguous()
    rank = str(most)
    own = {"ss_network_module": "networks.lora", "ss_network_dim": rank, "ss_network_alpha": rank}
    save_file(tensors, path, {**own, **metadata})
