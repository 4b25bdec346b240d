"""What was last made of each of a story's subjects, so that `plan` can say why and `gc` what stays.

A ledger bears a sum of its own. Who only explains takes a damaged one for an empty one; who decides
by it asks `read`, which refuses.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from storyforge.errors import EnvironmentProblem
from storyforge.store.durable import write_whole, writing
from storyforge.store.locks import held

DAMAGED = ".damaged"
"""Ending of a ledger that could not be read and made room for a new one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger knows of a subject: the key and recipe of what was last made of it.

    seconds   how long that took; 0 if unknown
    memory    bytes in use at the worst moment; 0 if unknown
    size      bytes on disk; 0 if unknown
    """

    key: str
    recipe: dict[str, object]
    seconds: float = 0.0
    memory: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Ledger:
    """What was last made of each of a story's subjects, such as `panel found`."""

    path: Path

    def entries(self) -> dict[str, Entry]:
        """Every entry by subject; none if the file is missing or damaged: this only explains."""
        try:
            return self.read()
        except EnvironmentProblem:
            return {}

    def read(self) -> dict[str, Entry]:
        """Every entry by subject; none if there is no ledger.

        Raises EnvironmentProblem, with the remedy, for a ledger that is not what was written.
        """
        try:
            return _entries(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as exc:
            raise EnvironmentProblem(f"cannot read `{self.path}`: {exc.strerror}") from exc
        except (ValueError, RecursionError) as exc:
            story = self.path.stem.rpartition("-")[0]
            raise EnvironmentProblem(
                f"the ledger `{self.path}` is damaged, so nobody knows what is still needed",
                hint=f"`storyforge render` on the story `{story}` writes it anew; "
                "or remove the file, if that story is gone",
            ) from exc

    def write(self, entries: Mapping[str, Entry]) -> None:
        """Replace the whole ledger; one that is damaged is put aside, not written over."""
        try:
            self.read()
        except EnvironmentProblem:
            with writing(self.path):
                os.replace(self.path, self.path.with_name(self.path.name + DAMAGED))
        data = {subject: asdict(entry) for subject, entry in entries.items()}
        told = {"storyforge": 2, "sha256": _sum(data), "entries": data}
        write_whole(self.path, json.dumps(told, indent=1, sort_keys=True).encode())

    def merge(self, entries: Mapping[str, Entry]) -> None:
        """Enter what one run has made, beside what others have entered meanwhile."""
        lock = self.path.parent.parent / "locks" / f"ledger-{self.path.stem}.lock"
        with held(lock):
            self.write({**self.entries(), **entries})


def _entries(data: bytes) -> dict[str, Entry]:
    """What a ledger's file says; ValueError if it is damaged. The first format had no sum."""
    written = json.loads(data)
    if not isinstance(written, dict):
        raise ValueError("no map of entries")
    entries = written.get("entries")
    if isinstance(entries, dict) and "sha256" in written:
        if written["sha256"] != _sum(entries):
            raise ValueError("its sum is another")
        written = entries
    return {str(subject): _entry(fields) for subject, fields in written.items()}


def _entry(fields: object) -> Entry:
    match fields:
        case {"key": str(key), "recipe": dict(recipe), "seconds": int() | float() as took, **rest}:
            memory, size = _whole(rest.get("memory")), _whole(rest.get("size"))
            return Entry(key, recipe, float(took), memory, size)
    raise ValueError("an entry without key, recipe or time")


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _sum(entries: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
