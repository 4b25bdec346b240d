"""What products are named by: the hash of all that decides about them, and of nothing else.

Settings that came later stand in it only where they are used, so that a picture keeps its key when
storyforge learns something new.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from storyforge.geometry.box import Box
from storyforge.geometry.pose import Stand
from storyforge.settings import Made
from storyforge.store import fingerprint
from storyforge.tasks import ControlTask, HeadTask, Method, PanelTask, RefineTask, RegionTask

_NOT_DRAWN: Final = ("key", "page", "base", "alt")
"""Fields of a panel's task that change no pixel."""


_ALWAYS: Final = ("mask",)
"""Fields that a recipe names though they have a default: they were there from the beginning."""

_CALLED: Final = {"defaults": "habits"}
"""Fields that keys know by the name they had first: another would name every picture anew."""


def drawn_from(task: PanelTask) -> dict[str, object]:
    """All that decides about the picture, and what was said of nothing else."""
    said = _said(task)
    # Pictures of the older method keep the name under which they were drawn.
    make = "panel 1" if task.method.regions == "fused" else "panel 2"
    # What is read or found otherwise than before, where it occurs: adapters, weights in prompts,
    # and who is found where.
    read: dict[str, object] = {"adapters": 2} if task.loras else {}
    texts = [task.prompt, task.negative]
    texts += [text for region in task.regions for text in (region.prompt, region.negative)]
    if any(mark in text for text in texts for mark in "(["):
        read["weights"] = 1
    if any(region.found is not None for region in task.regions):
        read["finding"] = 1
    return {"make": make, **read} | {k: v for k, v in said.items() if k not in _NOT_DRAWN}


def _said(
    task: PanelTask | RegionTask | HeadTask | ControlTask | RefineTask | Method | Stand,
) -> dict[str, object]:
    """The fields of a task by name, without those of later origin that are at their defaults."""
    said: dict[str, object] = {}
    for each in fields(task):
        value = getattr(task, each.name)
        if each.default is MISSING or each.name in _ALWAYS or value != each.default:
            said[_CALLED.get(each.name, each.name)] = _plain_field(value)
    return said


def _plain_field(value: object) -> object:
    parts = RegionTask | HeadTask | ControlTask | RefineTask | Method | Stand
    if isinstance(value, PanelTask | parts):
        return _said(value)
    if isinstance(value, tuple):
        return [_plain_field(part) for part in value]
    return value


KeyInputs = dict[str, object]
"""All that a product depends on, by name; plain JSON."""


_OWN: Final = "own picture"


def own_recipe(file: Path, made: Made | None) -> KeyInputs:
    """What a picture of the author's own is made from, ready for books."""
    return {"make": f"{_OWN} 1", "file": file, "made": made}


def import_recipe(file: Path, kind: str, words: str, base_hash: str) -> KeyInputs:
    """What a concept is made from that comes out of another tool's file."""
    return {"make": "import 1", "file": file, "kind": kind, "class": words, "base": base_hash}


def is_own(recipe: Mapping[str, object]) -> bool:
    """Whether a picture's recipe is that of an author's own."""
    return str(recipe.get("make", "")).startswith(_OWN)


KEY_DIGITS: Final = 20


def key_of(recipe: KeyInputs) -> str:
    """The recipe's key: the hash of its canonical JSON, in which files are their content."""
    # Twenty hex digits are 80 bits: among a million products two are alike once in 10^12 stores.
    return hashlib.sha256(canonical(recipe).encode()).hexdigest()[:KEY_DIGITS]


def canonical(recipe: KeyInputs) -> str:
    """The recipe as JSON, in one form whatever the order in which it was put together."""
    return json.dumps(recipe, default=_plain, sort_keys=True, allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return fingerprint(value)[:16]
    if isinstance(value, Box):
        return list(value.sides())
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    raise TypeError(f"a recipe holds no {type(value).__name__}")
