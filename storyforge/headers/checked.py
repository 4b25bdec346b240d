"""The heads of files that nobody vouches for: enough to know what they are, at no risk.

Reads safetensors and fonts by their first bytes; no tensor is loaded and nothing is unpacked.
Whatever is wrong is a ValueError, whose words say what.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

_LONGEST: Final = 16_000_000
"""Bytes of a safetensors head; that of the largest model has a tenth."""

_BITS: Final = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16,
    "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"""Of a number, by the name of its type."""

_PICKLES: Final = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How files begin that run code when they are opened: torch's own, and plain pickles."""

_FONTS: Final = (b"\x00\x01\x00\x00", b"OTTO", b"true")

_TABLES: Final = (b"cmap", b"head", b"hhea", b"hmtx", b"maxp", b"name")
"""What a font must have to set a line of text."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file, by the name of its type, its shape and the byte where it begins."""

    dtype: str
    shape: tuple[int, ...]
    begin: int

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return prod(self.shape) * _BITS[self.dtype] // 8


@dataclass(frozen=True, slots=True)
class CheckedHeader:
    """What a safetensors file says it holds."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def json_of(text: str | bytes) -> object:
    """JSON as plain values; ValueError for whatever is wrong, nesting without end included."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def head_of(path: Path) -> CheckedHeader:
    """The head of a safetensors file, whose tensors fill the rest of it exactly.

    Raises OSError if it cannot be read, and ValueError, which says why, if it is no such file.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(8)
        if first.startswith(_PICKLES):
            raise ValueError("a pickle, which may run code when it is opened")
        length = int.from_bytes(first, "little")
        if len(first) < 8 or not 2 <= length <= min(size - 8, _LONGEST):
            raise ValueError("no safetensors file")
        text = file.read(length)
    try:
        said = json_of(text)
    except ValueError as exc:
        raise ValueError("no safetensors file: its head is no JSON") from exc
    if not isinstance(said, dict):
        raise ValueError("no safetensors file: its head is no list of tensors")
    metadata = said.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("no safetensors file: what it says of itself is no text")
    return CheckedHeader(_tensors(said, 8 + length, size), metadata)


def _tensors(said: Mapping[str, object], first: int, end: int) -> dict[str, Tensor]:
    """Every tensor, none overlapping another; they fill the bytes from `first` to `end`."""
    tensors: dict[str, Tensor] = {}
    parts: list[tuple[int, int]] = []
    for name, each in said.items():
        match each:
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(a), int(b)]}:
                sides = tuple(side for side in shape if isinstance(side, int) and side >= 0)
            case _:
                raise ValueError(f"its tensor `{name}` is not described")
        bits = _BITS.get(dtype)
        if bits is None or len(sides) != len(shape) or prod(sides) * bits != (b - a) * 8:
            raise ValueError(f"its tensor `{name}` is not of the size that it claims")
        tensors[name] = Tensor(dtype, sides, first + a)
        parts.append((first + a, first + b))
    reached = first
    for a, b in sorted(parts):
        if a != reached:
            raise ValueError("its tensors overlap, or leave gaps")
        reached = b
    if reached != end:
        raise ValueError("it is cut" if reached > end else "something follows its tensors")
    return tensors


def sort_head(path: Path) -> None:
    """Bring what a safetensors file says of itself into order: same tensors, same bytes.

    The library writes its metadata in an order of its own, another one each time.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        said = json.loads(file.read(length))
        metadata = said.pop("__metadata__", None)
        if metadata is None:
            return
        ordered = {"__metadata__": dict(sorted(metadata.items())), **said}
        text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > length:
            raise ValueError(f"the head of `{path}` cannot be put in order")
        file.seek(8)
        file.write(text.ljust(length))


def check_font(path: Path) -> None:
    """Look at a font's list of tables.

    Raises OSError if it cannot be read, and ValueError, which says why, if it is no font.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(12)
        if len(first) < 12 or first[:4] not in _FONTS:
            raise ValueError("no TrueType or OpenType font")
        (count,) = struct.unpack(">H", first[4:6])
        rows = file.read(16 * count)
    if len(rows) < 16 * count:
        raise ValueError("a font that is cut")
    tables = {}
    for number in range(count):
        tag, _, start, length = struct.unpack_from(">4sIII", rows, 16 * number)
        tables[tag] = start + length
    lacking = [tag.decode() for tag in _TABLES if tag not in tables]
    if lacking:
        raise ValueError(f"a font without its table `{lacking[0]}`")
    if max(tables.values()) > size:
        raise ValueError("a font that is cut")
