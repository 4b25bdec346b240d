"""Whether every layer of an adapter has all of its parts, and whether these fit each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from storyforge.headers.header import Shape
from storyforge.headers.kinds import Described

_PAIRS: Final = (
    # (out, r) and (r, in), and the kernel between them with which they are laid out otherwise
    ("up", "down", "mid"),
    ("hada_w1_a", "hada_w1_b", "hada_t1"),
    ("hada_w2_a", "hada_w2_b", "hada_t2"),
    ("lokr_w1_a", "lokr_w1_b", "lokr_t1"),
    ("lokr_w2_a", "lokr_w2_b", "lokr_t2"),
)
_BOTH: Final = (
    # the two halves of a product, each whole or in two factors
    (("hada_w1_a",), ("hada_w2_a",)),
    (("lokr_w1", "lokr_w1_a"), ("lokr_w2", "lokr_w2_a")),
)
_RANKED: Final = frozenset({"down", "hada_w1_b", "lokr_w1_b", "lokr_w2_b"})
_BY_ITSELF: Final = frozenset({"alpha", "scalar", "dora_scale", "magnitude"})
"""Roles that only say something of the others."""


def unsound(told: Described) -> dict[str, str]:
    """Layers that no formula can make a change of -> why."""
    found = {}
    for name, keys in told.layers.items():
        why = _why({part.role: told.header.shapes[key] for key, part in keys.items()})
        if why is not None:
            found[name] = why
    return found


def _why(shapes: Mapping[str, Shape]) -> str | None:
    if shapes.keys() <= _BY_ITSELF:
        return f"has `{next(iter(shapes))}` and nothing that it belongs to"
    for first, second, kernel in _PAIRS:
        here = shapes.keys() & {first, second, kernel}
        if here and not {first, second} <= here:
            missing = second if second not in here else first
            return f"has `{min(here - {missing})}` and no `{missing}`"
        if not here or (kernel in here and kernel != "mid"):
            continue
        out, into = shapes[first], shapes[second]
        if len(out) < 2 or len(into) < 2:
            return f"has `{first}` and `{second}`, and one is no matrix"
        if kernel in here:
            if shapes[kernel][:2] != (out[1], into[0]):
                sides = " and ".join(map(str, shapes[kernel][:2]))
                return f"has `mid` for ranks {sides} between {out[1]} and {into[0]}"
        elif out[1] != into[0]:
            return f"has `{first}` of rank {out[1]} and `{second}` of rank {into[0]}"
    for one, other in _BOTH:
        if bool(shapes.keys() & set(one)) != bool(shapes.keys() & set(other)):
            return "has one half of a product"
    return None


def without_alpha(told: Described) -> tuple[str, ...]:
    """Layers with a rank for which neither an alpha nor the writer's settings say how strong."""
    if told.header.config or "lora_adapter_metadata" in told.header.metadata:
        return ()
    roles = {name: {part.role for part in keys.values()} for name, keys in told.layers.items()}
    return tuple(name for name, own in roles.items() if own & _RANKED and "alpha" not in own)


def unknown_layers(told: Described) -> tuple[str, ...]:
    """Layers, as the file names them, of which nothing says of what model they are."""
    first = {name: next(iter(keys.values())) for name, keys in told.layers.items()}
    return tuple(part.dotted for part in first.values() if part.model == "unknown")


def counted(names: Sequence[str]) -> str:
    """`NAME is`, or `NAME and 7 more layers are`, for a sentence about them."""
    more = len(names) - 1
    if not more:
        return f"`{names[0]}` is"
    return f"`{names[0]}` and {more} more layer{'' if more == 1 else 's'} are"
