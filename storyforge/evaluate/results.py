"""Where results go: one JSON file and one page beside the pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from storyforge.store import write_whole

DIGITS: Final = 4
"""After the point, of every figure: what lies beyond means nothing."""


def write_results(folder: Path, content: Mapping[str, object], page: str) -> None:
    """Write `evaluation.json` and `index.html`, each whole or not at all."""
    told = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_whole(folder / "evaluation.json", told.encode())
    write_whole(folder / "index.html", page.encode())


def finite(value: object) -> object:
    """The same with NaN, which JSON does not know, as None, and rounded to what means something."""
    if isinstance(value, float):
        return round(value, DIGITS) if np.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value
