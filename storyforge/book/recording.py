"""Recordings of a page's words: what kind of file they are, and how long they last.

MP3 and MPEG-4 audio are read, which every e-book and browser plays. Speech is made by `project`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storyforge.errors import StoryForgeError

MIME: Final = {".mp3": "audio/mpeg", ".m4a": "audio/mp4"}
"""The kinds that are read, by their ending."""

_BIT_RATES: Final[dict[tuple[int, int], tuple[int, ...]]] = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Kilobits a second by MPEG version (2.5 is as 2) and layer (ISO/IEC 11172-3, 13818-3)."""

_SAMPLE_RATES: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""By the two bits for the version."""

_TAG: Final = 10
"""Bytes of an ID3 tag's head."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A page's words, spoken: the file, and its length in seconds."""

    path: Path
    seconds: float

    @property
    def mime(self) -> str:
        """Its media type."""
        return MIME[self.path.suffix.lower()]


def recording(path: Path) -> Recording:
    """The recording in a file.

    Raises StoryForgeError if it cannot be read, or is neither MP3 nor MPEG-4 audio.
    """
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise StoryForgeError(f"cannot read the recording `{path}`: {exc.strerror}") from exc
    read = {".mp3": _mp3_seconds, ".m4a": _m4a_seconds}.get(path.suffix.lower())
    seconds = read(content) if read else 0.0
    if seconds <= 0:
        hint = "save it as MP3 (.mp3) or AAC (.m4a)"
        raise StoryForgeError(f"`{path}` is no recording that can be read", hint=hint)
    return Recording(path, seconds)


def _mp3_seconds(content: bytes) -> float:
    """The sum of its frames' lengths; nothing if there are none."""
    at = 0
    if content[:3] == b"ID3" and len(content) > _TAG:
        size = 0
        for byte in content[6:10]:
            size = size << 7 | byte & 0x7F
        at = _TAG + size
    seconds = 0.0
    while frame := _frame_at(content, at):
        length, lasts = frame
        seconds += lasts
        at += length
    return seconds


def _frame_at(content: bytes, at: int) -> tuple[int, float] | None:
    """Bytes and seconds of the MPEG frame that begins here; None if none does."""
    head = content[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate, sampling = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or not 0 < rate < 15 or sampling == 3:
        return None
    kind = 1 if version == 3 else 2
    bits = 1000 * _BIT_RATES[kind, layer][rate - 1]
    samples = _SAMPLE_RATES[version][sampling]
    count = 384 if layer == 1 else 576 if layer == 3 and kind == 2 else 1152
    slot = 4 if layer == 1 else 1
    length = count // 8 // slot * bits // samples * slot + (head[2] >> 1 & 1) * slot
    return (length, count / samples) if length > 4 else None


def _m4a_seconds(content: bytes) -> float:
    """What the movie's header says; nothing if there is none."""
    for name, body in _atoms(content):
        if name != b"moov":
            continue
        for inner, head in _atoms(body):
            if inner == b"mvhd" and len(head) >= 32:
                long = head[0] == 1
                form, at = (">IQ", 20) if long else (">II", 12)
                scale, duration = struct.unpack_from(form, head, at)
                return float(duration / scale) if scale else 0.0
    return 0.0


def _atoms(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(content):
        size, name = struct.unpack_from(">I4s", content, at)
        if size == 1 and at + 16 <= len(content):
            (size,) = struct.unpack_from(">Q", content, at + 8)
        size = size or len(content) - at
        if size < 8:
            return
        yield name, content[at + 8 : at + size]
        at += size
