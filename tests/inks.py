"""A printer's profile, small enough to be made in a test."""

from __future__ import annotations

import struct
from pathlib import Path

from PIL import ImageCms


def press_profile(path: Path) -> Path:
    """The smallest CMYK printer's profile: tables of two steps, no ink but what is lacking."""

    def tag(content: bytes) -> bytes:
        return content + bytes(-len(content) % 4)

    def lut(inputs: int, outputs: int, grid: bytes) -> bytes:
        head = b"mft1\0\0\0\0" + bytes([inputs, outputs, 2, 0])
        matrix = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
        ramp = bytes(range(256))
        return tag(head + matrix + ramp * inputs + grid + ramp * outputs)

    to_lab = b"".join(
        bytes([0 if k else max(0, 255 - 85 * (c + m + y)), 128, 128])
        for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)
    )  # fmt: skip
    to_inks = b"".join(bytes([0, 0, 0, 255 - light]) for light in (0, 255) for _ in range(4))
    text = tag(b"desc\0\0\0\0" + struct.pack(">I", 6) + b"press\0" + bytes(90))
    white = tag(b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061))
    tags = {b"desc": text, b"cprt": tag(b"text\0\0\0\0free\0"), b"wtpt": white}
    tags |= {name: lut(4, 3, to_lab) for name in (b"A2B0", b"A2B1")}
    tags |= {name: lut(3, 4, to_inks) for name in (b"B2A0", b"B2A1")}
    at = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content
    head = struct.pack(
        ">I4sI4s4s4s", at + len(body), b"lcms", 0x02100000, b"prtr", b"CMYK", b"Lab "
    )
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", 63190, 65536, 54061)
    path.write_bytes(head.ljust(128, b"\0") + table + body)
    ImageCms.ImageCmsProfile(str(path))
    return path
