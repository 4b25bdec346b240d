"""What simulated workers do with an order: sleep, and make a picture of its key."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Final

from storyforge.store.parcels import parcel_of_file

SLEEP: Final = "STORYFORGE_BENCHMARK_SLEEP"
"""Names the seconds that a task takes."""


def bytes_of(key: str) -> bytes:
    """What the picture with this key consists of."""
    return hashlib.sha256(key.encode()).digest() * 20


def slept(text: str, *given: bytes) -> bytes:
    """Take as long as a picture would, and need no processor for it."""
    time.sleep(float(os.environ.get(SLEEP, "0.25")))
    key = str(json.loads(text)["task"]["key"])
    return parcel_of_file("panels", key, bytes_of(key))


def own_process() -> int:
    """The process that does this worker's work."""
    return os.getpid()


def is_right(path: Path, key: str) -> bool:
    """Whether the picture is there and has the bytes that it must have."""
    return path.is_file() and path.read_bytes() == bytes_of(key)
