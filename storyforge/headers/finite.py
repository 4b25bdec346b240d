"""Whether a safetensors file is whole, and every number one, by its exponent's bits: no torch."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Final

import numpy as np

from storyforge.headers.checked import head_of
from storyforge.headers.header import file_in

_EXPONENTS: Final = {
    # type -> as which whole number its bits are read, and the bits that are all set if it is none
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F32": ("<u4", 0x7F800000),
    "F64": ("<u8", 0x7FF0000000000000),
}


def broken_in(path: Path) -> str | None:
    """What is broken in a safetensors file, as the end of a sentence; None if nothing is."""
    try:
        head_of(file_in(path))
    except (OSError, ValueError) as exc:
        return str(exc)
    name = broken_tensor(path)
    return None if name is None else f"`{name}` holds numbers that are not finite"


def broken_tensor(path: Path) -> str | None:
    """The first tensor with NaN or infinity in it; None if all are finite, or it cannot be read."""
    path = file_in(path)
    try:
        with path.open("rb") as file:
            length = struct.unpack("<Q", file.read(8))[0]
            said = json.loads(file.read(length))
        said.pop("__metadata__", None)
        for name, told in said.items():
            kind = _EXPONENTS.get(told["dtype"])
            start, end = told["data_offsets"]
            if kind is None or start == end:
                continue
            # Mapped, so that a checkpoint of gigabytes is looked through and not held.
            shape = ((end - start) // np.dtype(kind[0]).itemsize,)
            bits = np.memmap(path, kind[0], "r", 8 + length + start, shape)
            if bool(((bits & kind[1]) == kind[1]).any()):
                return str(name)
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None
    return None
