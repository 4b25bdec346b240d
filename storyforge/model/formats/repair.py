"""A sound copy of a file: no layer with numbers that are none, no pickle, alpha where it counts."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from storyforge.errors import StoryForgeError
from storyforge.headers.header import Header
from storyforge.headers.kinds import ADAPTERS, Described, describe
from storyforge.headers.names import Part, part_of
from storyforge.headers.whole import counted, unknown_layers, unsound
from storyforge.model.formats.adapter import scale_of
from storyforge.model.formats.tensors import finite, raw_tensors

_PREFIXES = {
    "unet": "lora_unet_",
    "text": "lora_te_text_model_",
    "text_2": "lora_te2_text_model_",
    "transformer": "lora_transformer_",
}
_ROLES = {"down": "lora_down.weight", "up": "lora_up.weight", "mid": "lora_mid.weight"}


def repaired(path: Path, out: Path) -> tuple[str, ...]:
    """Write the sound part of a file, and say what was changed."""
    header, tensors = raw_tensors(path)
    told, changed = describe(header), []
    _check_known(told)
    broken = {name for name, tensor in tensors.items() if not finite(tensor)}
    if told.kind in ADAPTERS:
        made, lines = _adapter(header, tensors, broken)
        changed += lines
    else:
        made = {k.replace("/", "."): v for k, v in tensors.items() if k not in broken}
        changed += [f"left out `{name}`, which is not finite" for name in sorted(broken)]
        if told.kind == "textual inversion" and header.pickled and made:
            made = {"emb_params": next(iter(made.values())).reshape(-1, told.width or 1)}
    if not made:
        raise StoryForgeError(f"nothing of `{path}` can be saved")
    if header.pickled:
        changed.append("written as safetensors")
    kept = {} if header.pickled else dict(header.metadata)
    kept.pop("lora_adapter_metadata", None)
    save_file({k: v.contiguous() for k, v in made.items()}, out, kept)
    return tuple(changed) or ("nothing had to be mended",)


def _adapter(
    header: Header, tensors: dict[str, torch.Tensor], broken: set[str]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Every sound layer under kohya's names, with an alpha that any reader takes right."""
    told, lines = describe(header), list[str]()
    made: dict[str, torch.Tensor] = {}
    stated: dict[float, int] = {}
    wrong, renamed = unsound(told), 0
    for name, keys in told.layers.items():
        parts = {part.role: tensors[key] for key, part in keys.items()}
        if broken & keys.keys():
            lines.append(f"left out `{name}`, which is not finite")
            continue
        if name in wrong:
            lines.append(f"left out `{name}`, which {wrong[name]}")
            continue
        first = next(iter(keys.values()))
        if "up" not in parts or first.model == "unknown":
            made |= {key: tensors[key] for key in keys}
            continue
        stem = _stem(first, told)
        renamed += stem != first.dotted
        scale = scale_of(header, first.dotted, parts)
        made |= {f"{stem}.{end}": parts[role] for role, end in _ROLES.items() if role in parts}
        made |= {f"{stem}.{r}": parts[r] for r in ("dora_scale", "scalar") if r in parts}
        if "magnitude" in parts:
            made[f"{stem}.dora_scale"] = parts["magnitude"].reshape(-1, 1)
        made[f"{stem}.alpha"] = torch.tensor(scale * parts["down"].shape[0])
        if "alpha" not in parts:
            stated[scale] = stated.get(scale, 0) + 1
    for scale, count in stated.items():
        layers = f"{count} layer{'' if count == 1 else 's'}"
        lines.append(f"a strength of {scale:g} is written down as alpha in {layers}")
    if renamed:
        lines.append(f"layers are named as kohya names them, {renamed} of them anew")
    lines += [f"left out `{key}`, which belongs to nothing that is known" for key in told.strange]
    if unknown := unknown_layers(told):
        lines.append(f"{counted(unknown)} of no model that is known, and stay so")
    spare = {k: v for k, v in tensors.items() if part_of(k) is None and k not in told.strange}
    return made | {k: v for k, v in spare.items() if k not in broken}, lines


def _stem(part: Part, told: Described) -> str:
    """A layer as kohya names it; as it is, if the file does so."""
    if part.dotted.startswith("lora_"):
        return part.dotted
    prefix = _PREFIXES[part.model]
    if part.model == "text" and told.family == "SDXL":
        prefix = prefix.replace("lora_te_", "lora_te1_")
    return f"{prefix}{part.layer}"


def _check_known(told: Described) -> None:
    """Raise StoryForgeError if nothing is known of what is in a file."""
    path, unknown = told.header.path, unknown_layers(told)
    if told.kind == "unknown":
        message = f"`{path}` is of an unknown kind, and what it lacks cannot be told"
        raise StoryForgeError(message, hint="`--repair` mends LoRAs and textual inversions")
    if unknown and len(unknown) == len(told.layers):
        message = f"`{path}` cannot be mended: {counted(unknown)} of no model that is known"
        hint = "layers begin with `lora_unet_`, `lora_te_` or `unet.`; save it anew with such names"
        raise StoryForgeError(message, hint=hint)
