"""Whether a file belongs to a base: its family, its width, and every layer's shape."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from storyforge.headers.bases import BaseHeader
from storyforge.headers.header import Shape
from storyforge.headers.kinds import OTHER, Described
from storyforge.headers.names import Part


def misfit(told: Described, base: BaseHeader) -> str | None:
    """Why the file is not for the base; None if nothing says so."""
    if told.width is not None and base.width is not None and told.width != base.width:
        return f"it is for {_named(told.family, told.width)}, and the base is " + _named(
            base.family, base.width
        )
    if base.joint and told.words:
        return f"it brings words for a text encoder of CLIP, and the base is {base.family}"
    if told.family == "SDXL" and base.family != "SDXL":
        return f"it is for SDXL, and the base is {_named(base.family, base.width)}"
    joint = any(name.startswith("transformer ") for name in told.layers)
    if joint and not (base.joint and told.family in {base.family, OTHER}):
        return f"it is for {told.family}, and the base is {_named(base.family, base.width)}"
    if not base.layers:
        return None
    groups = sum(name.endswith("_attn2_to_k") for name in base.layers)
    if told.groups not in (None, 1, groups):
        return f"it has words for {told.groups} layers, and the base has {groups}"
    for name, parts in told.layers.items():
        if name not in base.layers:
            return f"it changes `{name}`, and the base has no such layer"
        made = _shape(told.header.shapes, parts)
        own = base.layers[name]
        if made is not None and (made[0] != own[0] or prod(made) != prod(own)):
            return f"`{name}` is {_sides(own)} in the base, and {_sides(made)} in the file"
    return None


def _named(family: str | None, width: int | None) -> str:
    return family or f"a model whose words have {width} numbers"


def _sides(shape: Shape) -> str:
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return "×".join(map(str, shape))


def _shape(shapes: Mapping[str, Shape], parts: Mapping[str, Part]) -> Shape | None:
    """(out, in, …) of what the parts of a plain LoRA make; None for other kinds."""
    by_role = {part.role: shapes[key] for key, part in parts.items()}
    if "mid" in by_role or "up" not in by_role or "down" not in by_role:
        return by_role.get("diff")
    return (by_role["up"][0], *by_role["down"][1:])
