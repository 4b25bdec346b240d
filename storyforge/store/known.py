"""Sums of large files of others, computed once on a machine: a base's weights do not change.

A file is known again by its size, its time of change and samples of its content. `check_known`
reads all of it: what turned on the disk without a trace in these is found by `cache verify`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from storyforge.errors import StoryForgeError
from storyforge.store.durable import write_whole

LARGE: Final = 8 << 20
"""Bytes from which a sum is worth remembering."""

_SAMPLES: Final = 32
_SAMPLE: Final = 1 << 14
"""How many pieces of a file are looked at, and bytes in each."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is remembered of a file: how it is known again, and the SHA-256 of all of it."""

    path: str
    size: int
    changed: int
    samples: str
    sha256: str


def known_sum(path: Path) -> str:
    """The SHA-256 of a file, from memory if it is the file that was read then.

    Raises OSError if it cannot be read.
    """
    path = path.resolve()
    state = path.stat()
    if state.st_size < LARGE:
        return _whole_sum(path)
    memory, samples = _memory_of(path), _samples_of(path, state.st_size)
    known = _recalled(memory)
    if known and (known.path, known.size, known.changed, known.samples) == (
        str(path),
        state.st_size,
        state.st_mtime_ns,
        samples,
    ):
        return known.sha256
    made = _Known(str(path), state.st_size, state.st_mtime_ns, samples, _whole_sum(path))
    if path.stat().st_mtime_ns == state.st_mtime_ns:
        # Whoever cannot remember computes it again.
        with suppress(StoryForgeError):
            write_whole(memory, json.dumps(asdict(made)).encode())
    return made.sha256


def check_known() -> Iterator[Path]:
    """Read every remembered file over; those that are not any more what they were."""
    for memory in sorted(folder().glob("*.json")):
        known = _recalled(memory)
        path = None if known is None else Path(known.path)
        if known is None or path is None or not path.is_file():
            memory.unlink(missing_ok=True)
            continue
        state = path.stat()
        if (state.st_size, state.st_mtime_ns) != (known.size, known.changed):
            memory.unlink(missing_ok=True)  # somebody changed it, and may: it is read anew
        elif _whole_sum(path) != known.sha256:
            memory.unlink(missing_ok=True)
            yield path


def user_cache() -> Path:
    """What this user's machine remembers beside any story; nothing is lost with it."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "storyforge"


def folder() -> Path:
    """Where sums are remembered."""
    return user_cache() / "sums"


def _memory_of(path: Path) -> Path:
    return folder() / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:24]}.json"


def _recalled(memory: Path) -> _Known | None:
    """What a memory says; None if it is none."""
    try:
        match json.loads(memory.read_bytes()):
            case {
                "path": str(path),
                "size": int(size),
                "changed": int(changed),
                "samples": str(samples),
                "sha256": str(whole),
            } if len(whole) == 64:
                return _Known(path, size, changed, samples, whole)
    except (OSError, ValueError, RecursionError):
        pass
    return None


def _samples_of(path: Path, size: int) -> str:
    """Pieces of the file from its beginning to its end, in one sum."""
    whole = hashlib.sha256()
    with path.open("rb") as file:
        for number in range(_SAMPLES):
            file.seek(number * (size - _SAMPLE) // (_SAMPLES - 1))
            whole.update(file.read(_SAMPLE))
    return whole.hexdigest()


def _whole_sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
