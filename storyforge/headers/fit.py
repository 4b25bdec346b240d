"""Whether a file belongs to a base: its family, its width, and every layer's shape."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Final

from storyforge.headers.bases import BaseHeader
from storyforge.headers.header import Shape
from storyforge.headers.kinds import ADAPTERS, Described
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


def unwhole(told: Described) -> str | None:
    """Which layer of an adapter cannot be put together of its parts; None if nothing says so."""
    for name, parts in told.layers.items() if told.kind in ADAPTERS else ():
        by_role = {part.role: told.header.shapes[key] for key, part in parts.items()}
        if by_role.keys() & _OTHERWISE:
            continue
        up, down = by_role.get("up", ()), by_role.get("down", ())
        if not up and not down and "bias" in by_role:
            continue
        if len(up) < _SIDES or len(down) < _SIDES:
            return f"`{name}` lacks one of its two matrices"
        inner = by_role.get("mid", (up[1], up[1]))
        if inner[:2] != (up[1], down[0]):
            fit = f"{_sides(up)} and {_sides(down)}"
            return f"the two matrices of `{name}` do not fit each other: {fit}"
    return None


_OTHERWISE: Final = {"hada_w1_a", "lokr_w1", "lokr_w1_a", "ia3", "diff"}
"""Parts of changes that are no product of two matrices."""
_SIDES: Final = 2


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
