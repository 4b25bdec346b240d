"""Ordinary LoRA files of other tools, merged into a base as they are: styles, few-step adapters.

Reads what kohya's scripts write (`lora_unet_…`, `lora_te_…`), and diffusers and PEFT (`unet.…`,
`text_encoder.…`). Files whose alpha or rank differs from layer to layer are read right: the scale
is taken into the change of each. Not covered: DoRA, LoHa, LoKr, and files that bring tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from storyforge.errors import EnvironmentProblem
from storyforge.model.base import BaseModel
from storyforge.model.family import text_core

_PART: Final = re.compile(
    r"(?P<layer>.+?)"
    r"(?:\.lora_(?P<down>down|A)\.weight|\.lora_(?P<up>up|B)\.weight|\.(?P<alpha>alpha)"
    r"|\.lora\.(?P<older>down|up)\.weight)"
)
_UNET: Final = ("lora_unet_", "unet_")
_TEXT: Final = ("lora_te1_", "lora_te_", "text_encoder_")


@dataclass(slots=True)
class _Change:
    """One layer's part of a file; `down` (r, in, …), `up` (out, r, …)."""

    down: torch.Tensor | None = None
    up: torch.Tensor | None = None
    alpha: float | None = None

    def weight(self, like: torch.Tensor) -> torch.Tensor | None:
        """The change in full, in the weight's shape; None if it has another or is not whole."""
        if self.down is None or self.up is None or self.down.shape[0] != self.up.shape[1]:
            return None
        rank = self.down.shape[0]
        scale = 1.0 if self.alpha is None else self.alpha / rank
        made = scale * self.up.float().flatten(1) @ self.down.float().flatten(1)
        return made.reshape(like.shape) if made.numel() == like.numel() else None


def changes_of(base: BaseModel, path: Path) -> dict[nn.Module, torch.Tensor]:
    """Layer -> the change of its weight.

    Raises:
      EnvironmentProblem: if the file cannot be read, or does not fit the base.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as exc:
        raise EnvironmentProblem(f"cannot read the LoRA `{path}`") from exc
    layers, found = _layers(base), _parts(tensors)
    made: dict[nn.Module, torch.Tensor] = {}
    for name, change in found.items():
        layer = layers.get(name)
        weight = None if layer is None else change.weight(layer.get_parameter("weight"))
        if layer is None or weight is None:
            raise EnvironmentProblem(
                f"the LoRA `{path}` does not fit the base `{base.reference}`: it changes `{name}`",
                hint="a LoRA belongs to the kind of model that it was trained with",
            )
        made[layer] = weight
    if not made:
        raise EnvironmentProblem(f"`{path}` holds no LoRA")
    return made


def _layers(base: BaseModel) -> dict[str, nn.Module]:
    """Linear and convolution layers by the one name that all tools' names come down to."""
    found: dict[str, nn.Module] = {}
    for part, root in (("unet", base.unet), ("text", text_core(base.text_encoder))):
        for name, module in root.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                found[f"{part} {name.replace('.', '_')}"] = module
    return found


def _parts(tensors: Mapping[str, torch.Tensor]) -> dict[str, _Change]:
    found: dict[str, _Change] = {}
    for key, tensor in tensors.items():
        match = _PART.fullmatch(key)
        change = found.setdefault(_named(match["layer"] if match else key), _Change())
        if match is None:
            continue
        if match["alpha"]:
            change.alpha = float(tensor)
        elif match["down"] or match["older"] == "down":
            change.down = tensor
        else:
            change.up = tensor
    return found


def _named(layer: str) -> str:
    """As `_layers` names it; what is of neither model keeps its own name."""
    name = layer.replace(".", "_").replace("_processor_", "_")
    for part, prefixes in (("unet", _UNET), ("text", _TEXT)):
        for prefix in prefixes:
            if name.startswith(prefix):
                return f"{part} {name.removeprefix(prefix).removeprefix('text_model_')}"
    return layer


@contextmanager
def loras_merged(base: BaseModel, files: Mapping[Path, float]) -> Iterator[None]:
    """Change the weights by files of given strengths while the block runs, and then not a bit."""
    kept: dict[nn.Module, torch.Tensor] = {}
    try:
        with torch.no_grad():
            for path, strength in files.items():
                for layer, change in changes_of(base, path).items():
                    weight = layer.get_parameter("weight")
                    kept.setdefault(layer, weight.detach().clone())
                    weight.add_((strength * change).to(weight))
        yield
    finally:
        with torch.no_grad():
            for layer, before in kept.items():
                layer.get_parameter("weight").copy_(before)
