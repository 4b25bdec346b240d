"""What every protocol comes to: figures with their origin, in one JSON file and on one page."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np

from storyforge import __version__
from storyforge.modelref import ModelRef
from storyforge.store import write_whole

DIGITS: Final = 4
"""After the point, of every figure: what lies beyond means nothing."""


_LIBRARIES: Final = ("torch", "diffusers", "transformers")
"""Packages whose versions decide about figures."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All results of a protocol as plain JSON, and where they were written.

    drawn    pictures that were not there before
    seconds  that it took
    """

    content: Mapping[str, object]
    drawn: int
    seconds: float
    folder: Path


def origin(base: ModelRef, clip: str, command: str) -> dict[str, object]:
    """What figures come from, for whoever compares them with others: models, versions, the run."""
    return {
        "base": base.reference,
        "base_hash": base.hash,
        "clip": clip,
        "versions": {
            "storyforge": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _LIBRARIES},
        },
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
    }


def write_results(folder: Path, content: Mapping[str, object], page: str) -> None:
    """Write `evaluation.json` and `index.html`, each whole or not at all."""
    told = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_whole(folder / "evaluation.json", told.encode())
    write_whole(folder / "index.html", page.encode())


def plain(content: Mapping[str, object]) -> dict[str, object]:
    """The same as JSON knows it; see `finite`."""
    return {name: finite(each) for name, each in content.items()}


def finite(value: object) -> object:
    """The same with NaN, which JSON does not know, as None, and rounded to what means something."""
    if isinstance(value, float):
        return round(value, DIGITS) if np.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value
