"""What older programs want of a folder that diffusers saved, and what makes it half as large.

Text encoders are called as they were before transformers 5.6, the vocabulary stands in two files of
its own, and weights are in half precision.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

_PREFIX: Final = "text_model."
_OUTSIDE: Final = "text_projection"


def made_readable(folder: Path, dtype: torch.dtype) -> None:
    """Write the weights of a pipeline's folder anew: in this precision, by the older names."""
    for file in folder.rglob("*.safetensors"):
        clip = file.parent.name.startswith("text_encoder") and _is_clip(file.parent)
        made = {}
        for name, weight in load_file(file).items():
            own = clip and not name.startswith((_PREFIX, _OUTSIDE))
            kept = weight.to(dtype) if weight.is_floating_point() else weight
            made[f"{_PREFIX}{name}" if own else name] = kept.contiguous()
        save_file(made, file, {"format": "pt"})


def _is_clip(folder: Path) -> bool:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return str(config.get("model_type", "")).startswith("clip")


def write_vocabulary(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write `vocab.json`, `merges.txt` and the words that were added, beside `tokenizer.json`."""
    said = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(
        json.dumps(said["vocab"], ensure_ascii=False), encoding="utf-8"
    )
    pairs = (" ".join(each) if isinstance(each, list) else each for each in said["merges"])
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(f"{pair}\n" for pair in pairs), encoding="utf-8"
    )
    added = {
        word: n for word, n in tokenizer.get_added_vocab().items() if word not in said["vocab"]
    }
    (folder / "added_tokens.json").write_text(
        json.dumps(added, ensure_ascii=False), encoding="utf-8"
    )
