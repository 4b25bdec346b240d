"""A sound copy of a file: no layer with numbers that are none, no pickle, alpha where it counts."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from storyforge.errors import StoryForgeError
from storyforge.headers.header import Header
from storyforge.headers.kinds import ADAPTERS, describe
from storyforge.headers.names import part_of
from storyforge.model.formats.adapter import scale_of
from storyforge.model.formats.tensors import finite, raw_tensors

_PREFIXES = {"unet": "lora_unet_", "text": "lora_te_text_model_", "text_2": "lora_te2_text_model_"}
_ROLES = {"down": "lora_down.weight", "up": "lora_up.weight", "mid": "lora_mid.weight"}


def repaired(path: Path, out: Path) -> tuple[str, ...]:
    """Write the sound part of a file, and say what was changed."""
    header, tensors = raw_tensors(path)
    told, changed = describe(header), []
    broken = {name for name, tensor in tensors.items() if not finite(tensor)}
    if told.kind in ADAPTERS:
        made, lines = _adapter(header, tensors, broken)
        changed += lines
    else:
        made = {k.replace("/", "."): v for k, v in tensors.items() if k not in broken}
        changed += [f"left out `{name}`, which is not finite" for name in sorted(broken)]
        if told.kind == "textual inversion" and header.pickled:
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
    for name, keys in told.layers.items():
        parts = {part.role: tensors[key] for key, part in keys.items()}
        if broken & keys.keys():
            lines.append(f"left out `{name}`, which is not finite")
            continue
        if "up" not in parts or "down" not in parts:
            made |= {key: tensors[key] for key in keys}
            continue
        dotted = next(iter(keys.values()))
        model, layer = name.split(" ", 1)
        stem = f"{_PREFIXES.get(model, model + '_')}{layer}"
        scale = scale_of(header, dotted.dotted, parts)
        made |= {f"{stem}.{end}": parts[role] for role, end in _ROLES.items() if role in parts}
        made |= {f"{stem}.{r}": parts[r] for r in ("dora_scale", "scalar") if r in parts}
        if "magnitude" in parts:
            made[f"{stem}.dora_scale"] = parts["magnitude"].reshape(-1, 1)
        made[f"{stem}.alpha"] = torch.tensor(scale * parts["down"].shape[0])
        if "alpha" not in parts and scale != 1:
            stated[scale] = stated.get(scale, 0) + 1
    for scale, count in stated.items():
        lines.append(f"a strength of {scale:g} is written down as alpha in {count} layers")
    spare = {k: v for k, v in tensors.items() if part_of(k) is None and k not in told.strange}
    return made | {k: v for k, v in spare.items() if k not in broken}, lines
