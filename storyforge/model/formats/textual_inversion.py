"""Textual inversions: a few vectors that stand for a word, in every layer the same.

AUTOMATIC1111's files (`emb_params`, or a pickle with `string_to_param`), diffusers' (the token is
the key), those bundled with a LoRA (`bundle_emb.…`), and the two-headed ones of SDXL (`clip_l`,
`clip_g`), which are read as one vector, one half behind the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from storyforge.headers.kinds import CLIP_FILE
from storyforge.headers.names import BUNDLE

_PICKLED = re.compile(r"string_to_param/(.+)")
_BUNDLED = re.compile(re.escape(BUNDLE) + r"(.+)\.(?:string_to_param\.\*|clip_l|emb_params)")


def read_words(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Token -> (n, d), in the order of the file; the token is empty where the file has no name."""
    found: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        name = None
        if key in {"emb_params", "clip_l"}:
            name = ""
            tensor = _whole(tensor, tensors.get("clip_g"))
        elif match := _PICKLED.fullmatch(key):
            name = "" if match[1] == "*" else match[1]
        elif match := _BUNDLED.fullmatch(key):
            name = match[1]
            tensor = _whole(tensor, tensors.get(f"{BUNDLE}{name}.clip_g"))
        elif re.fullmatch(r"<[^<>]+>", key):
            name = key
        if name is not None:
            found[name] = tensor.float().reshape(-1, tensor.shape[-1])
    return found


def _whole(first: torch.Tensor, second: torch.Tensor | None) -> torch.Tensor:
    return first if second is None else torch.cat([first.float(), second.float()], -1)


def write_words(
    words: torch.Tensor,
    path: Path,
    metadata: Mapping[str, str],
    widths: Sequence[int] | None = None,
) -> None:
    """Write the mean over layers of `words` (n, G, d), as AUTOMATIC1111 and ComfyUI read it.

    widths  of each text encoder's part of d; None for one text encoder
    """
    whole = collapsed(words).float()
    tensors = {"emb_params": whole}
    if widths is not None and len(widths) == len(CLIP_FILE):
        parts = torch.split(whole, list(widths), -1)
        tensors = {key: part.contiguous() for key, part in zip(CLIP_FILE, parts, strict=True)}
    save_file(tensors, path, dict(metadata))


def collapsed(words: torch.Tensor) -> torch.Tensor:
    """(n, d): one vector for all layers, the mean."""
    return words.float().mean(1).contiguous()


def spread(words: torch.Tensor) -> float:
    """How far the layers' vectors lie from their mean, as a share of their length (RMS)."""
    whole = words.float()
    apart = whole - whole.mean(1, keepdim=True)
    return float((apart.square().sum() / whole.square().sum()).sqrt())
