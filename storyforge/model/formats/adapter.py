"""Adapters of every kind that has an exact formula: what they do to each layer of a base.

The second road of every formula is PEFT's own layer, in the tests.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import nn

from storyforge.errors import EnvironmentProblem
from storyforge.headers.header import Header
from storyforge.headers.kinds import ADAPTERS, UNREAD, Described, describe
from storyforge.model.base import BaseModel
from storyforge.model.family import text_core
from storyforge.model.formats import dora, ia3, loha, lokr, lora
from storyforge.model.formats.tensors import read_tensors

_STARTED: Final = ("pissa", "olora", "corda", "loftq", "lora_ga", "eva_residual")
"""Beginnings of PEFT's ways to start that change the base's own weights as well."""

_LAYERS: Final = (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True, slots=True)
class LayerParts:
    """What a file has for one layer.

    parts  role -> tensor
    scale  alpha / rank
    whole  whether an IA³'s factor is PEFT's, which is kept whole
    """

    parts: dict[str, torch.Tensor]
    scale: float
    whole: bool

    def change(self, weight: torch.Tensor) -> torch.Tensor | None:
        """The change of the layer's weight, in its shape; None if only its bias changes.

        Raises ValueError, KeyError or RuntimeError if the tensors make none.
        """
        parts = self.parts
        if "hada_w1_a" in parts:
            made = self.scale * loha.change(parts, weight)
        elif "lokr_w1" in parts or "lokr_w1_a" in parts:
            made = self.scale * lokr.change(parts, weight)
        elif "ia3" in parts:
            return ia3.change(parts, weight, whole=self.whole)
        elif "diff" in parts:
            made = _same(parts["diff"].float(), weight)
        elif "up" in parts or "down" in parts:
            made = _same(self.scale * lora.change(parts, weight), weight)
        elif "bias" in parts:
            return None
        else:
            raise ValueError("it is not whole")
        if "scalar" in parts:
            made = made * parts["scalar"].float()
        if "magnitude" in parts or "dora_scale" in parts:
            return dora.change(parts, weight, made)
        return made

    def bias(self, bias: torch.Tensor) -> torch.Tensor | None:
        """The change of the layer's bias; None if it has none."""
        if "bias" in self.parts:
            return _same(self.parts["bias"].float(), bias)
        if self.whole and "ia3" in self.parts and not ia3.on_inputs(self.parts):
            return bias.float() * ia3.factor(self.parts, whole=True)
        return None

    def factors(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """(out, r) and (r, in) of a matrix, whose product the change is; None if it has none."""
        plain = not self.parts.keys() & {"magnitude", "dora_scale", "mid", "bias", "scalar"}
        if plain and "hada_w1_a" in self.parts and (found := loha.factors(self.parts)):
            return self.scale * found[0], found[1]
        if plain and "up" in self.parts and self.parts["down"].flatten(1).shape[1:]:
            up, down = self.parts["up"].float(), self.parts["down"].float()
            if down.flatten(1).shape[1] == down.shape[1]:
                return self.scale * up.flatten(1), down.flatten(1)
        return None


def _same(made: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A change in the weight's shape: kernels of 1×1 and matrices are the same."""
    shape = tuple(made.shape)
    shorter = shape[:2] if all(n == 1 for n in shape[2:]) else shape
    own = tuple(weight.shape)
    if shorter != (own[:2] if all(n == 1 for n in own[2:]) else own):
        raise ValueError(f"it is {_sides(shape)}")
    return made.reshape(own)


def _sides(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """A file of changes.

    layers  layer, as `names` has it -> what the file has for it
    """

    described: Described
    layers: dict[str, LayerParts]
    tensors: dict[str, torch.Tensor]

    @property
    def path(self) -> Path:
        """The file."""
        return self.described.header.path


def read_adapter(path: Path) -> AdapterFile:
    """Read an adapter.

    Raises:
      EnvironmentProblem: if it cannot be read, is of a kind without a formula here, or is broken.
    """
    header, tensors = read_tensors(path)
    told = describe(header)
    if why := unreadable(told):
        raise EnvironmentProblem(why[0], hint=why[1])
    layers = {}
    for name, keys in told.layers.items():
        parts = {part.role: tensors[key].detach() for key, part in keys.items()}
        dotted = next(iter(keys.values())).dotted
        scale = scale_of(header, dotted, parts)
        layers[name] = LayerParts(parts, scale, bool(header.config))
    return AdapterFile(told, layers, tensors)


def unreadable(told: Described) -> tuple[str, str] | None:
    """Why a file cannot be merged as an adapter, and the remedy; None if it can."""
    path, started = told.header.path, str(told.header.config.get("init_lora_weights", ""))
    if told.kind in UNREAD:
        why = UNREAD[told.kind]
        return f"`{path}` is {told.named}, which is not read: {why}", "use it as a LoRA or LoHa"
    if told.kind not in ADAPTERS:
        return f"`{path}` holds no LoRA: it is {told.named}", "name a LoRA"
    if told.strange:
        message = f"`{path}` holds `{told.strange[0]}`, which belongs to no layer that is known"
        return message, "`storyforge doctor FILE` says which of it is read"
    if started.lower().startswith(_STARTED):
        message = f"`{path}` began as {started}, which changes the base as well"
        return message, "save it with `path_initial_model_for_weight_conversion`"
    return None


def scale_of(header: Header, dotted: str, parts: Mapping[str, torch.Tensor]) -> float:
    """alpha / rank of one layer: by its own alpha, else by what the writer said, else 1."""
    rank: int | None = None
    if "down" in parts:
        rank = lora.rank_of(parts)
    elif "hada_w1_b" in parts:
        rank = loha.rank_of(parts)
    elif "lokr_w1" in parts or "lokr_w1_a" in parts:
        rank = lokr.rank_of(parts)
    if "alpha" in parts:
        return float(parts["alpha"].float().flatten()[0]) / rank if rank else 1.0
    said, path = _said(header, dotted)
    return 1.0 if said is None else _said_scale(said, path, rank)


def _said(header: Header, dotted: str) -> tuple[Mapping[str, object] | None, str]:
    """What PEFT's config says of the model that a layer is of, and the layer's path in it."""
    if header.config:
        return header.config, dotted
    text = header.metadata.get("lora_adapter_metadata")
    if text is None:
        return None, dotted
    try:
        whole = json.loads(text)
    except ValueError:
        return None, dotted
    for part in ("unet", "text_encoder_2", "text_encoder", "transformer"):
        own = {k.removeprefix(f"{part}."): v for k, v in whole.items() if k.startswith(f"{part}.")}
        if dotted.startswith(f"{part}.") and own:
            return own, dotted.removeprefix(f"{part}.")
    return whole if "r" in whole else None, dotted


def _said_scale(said: Mapping[str, object], path: str, rank: int | None) -> float:
    """As PEFT computes it: alpha over the rank or its root, each by a pattern or for all."""
    alpha = _patterned(said, "alpha_pattern", path, said.get("lora_alpha", said.get("alpha")))
    r = _patterned(said, "rank_pattern", path, said.get("r")) or rank
    if alpha is None or not r:
        return 1.0
    return alpha / (math.sqrt(r) if said.get("use_rslora") else r)


def _patterned(said: Mapping[str, object], name: str, path: str, usual: object) -> float | None:
    patterns = said.get(name)
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        if re.match(rf"(.*\.)?({pattern})$", path):
            return float(value)
    return float(usual) if isinstance(usual, int | float) else None


def layers_of(base: BaseModel) -> dict[str, nn.Module]:
    """Layers that an adapter may change, by the one name that all tools' names come down to."""
    found: dict[str, nn.Module] = {}
    denoiser = "unet" if base.door is None else "transformer"
    roots = {denoiser: base.unet, "text": text_core(base.text_encoder)}
    if base.text_encoder_2 is not None:
        roots["text_2"] = text_core(base.text_encoder_2)
    for part, root in roots.items():
        for name, module in root.named_modules():
            if isinstance(module, _LAYERS):
                found[f"{part} {name.replace('.', '_')}"] = module
    return found


@dataclass(frozen=True, slots=True)
class WeightChange:
    """What happens to one layer: (out, in, …) added to its weight, (out,) to its bias."""

    weight: torch.Tensor | None
    bias: torch.Tensor | None


def change_of(
    base: BaseModel, adapter: AdapterFile, name: str, layer: nn.Module | None
) -> WeightChange:
    """What a file does to one layer, of the weights that the layer has now.

    Raises:
      EnvironmentProblem: if the base does not have the layer, or has it in another shape.
    """
    if layer is None:
        raise _misfit(base, adapter, f"it changes `{name}`, and there is no such layer")
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    assert isinstance(weight, torch.Tensor)
    parts = adapter.layers[name]
    try:
        return WeightChange(parts.change(weight), None if bias is None else parts.bias(bias))
    except (ValueError, KeyError, RuntimeError) as exc:
        said = exc.args[0] if isinstance(exc, ValueError) else "it is not whole"
        said = f"`{name}` is {_sides(tuple(weight.shape))} in the base; in the file {said}"
        raise _misfit(base, adapter, said) from exc


def _misfit(base: BaseModel, adapter: AdapterFile, why: str) -> EnvironmentProblem:
    told = adapter.described
    of = f", which is for {told.family}," if told.family else ""
    return EnvironmentProblem(
        f"the {told.kind} `{adapter.path}`{of} does not fit the base `{base.reference}`: {why}",
        hint="an adapter belongs to the kind of model that it was trained with",
    )
