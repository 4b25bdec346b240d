"""Every version that the story's file had while the desk was open: what is undone is never lost.

A version is a file of its own; `line.json` says in which order they followed each other, and where
the author stands. What is undone and written over leaves the line, and stays in the folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from time import monotonic
from typing import Final

from storyforge.store import write_whole

_TOGETHER: Final = 1.5
"""Seconds within which two bursts of typing are one step."""

_MOST: Final = 5000
"""Versions that are kept; a long story is some 50 kB."""


class History:
    """The versions of one file, oldest first."""

    def __init__(self, folder: Path) -> None:
        """Open the history that lies in the folder, or begin one."""
        self.folder = folder
        self._there = sorted(int(path.stem) for path in folder.glob("[0-9]*.yaml"))
        self._line, self._at = self._read()
        self._typed = 0.0

    def _read(self) -> tuple[list[int], int]:
        """The line as it was left; every version in order, where that cannot be read."""
        there = list(self._there)
        try:
            told = json.loads((self.folder / "line.json").read_text(encoding="utf-8"))
            line, at = [int(number) for number in told["line"]], int(told["at"])
        except (OSError, ValueError, KeyError, TypeError):
            return there, len(there) - 1
        line = [number for number in line if number in set(there)]
        return line, min(at, len(line) - 1)

    @property
    def current(self) -> bytes | None:
        """The version where the author stands; None before the first, or if it was taken away."""
        if not self._line:
            return None
        try:
            return (self.folder / f"{self._line[self._at]:06d}.yaml").read_bytes()
        except FileNotFoundError:
            return None

    @property
    def steps(self) -> tuple[int, int]:
        """How many steps can be undone, and done again."""
        return max(0, self._at), len(self._line) - 1 - self._at

    def note(self, data: bytes, *, typed: bool = False) -> None:
        """Keep a version as the newest; bursts of typing that follow each other are one step."""
        if data == self.current:
            return
        number = max(self._there, default=0) + 1
        write_whole(self.folder / f"{number:06d}.yaml", data)
        joined = typed and self._at > 0 and monotonic() - self._typed < _TOGETHER
        self._typed = monotonic() if typed else 0.0
        self._there.append(number)
        gone, self._there = self._there[:-_MOST], self._there[-_MOST:]
        line = [*self._line[: self._at + (0 if joined else 1)], number]
        self._line = [each for each in line if each not in set(gone)]
        self._at = len(self._line) - 1
        self._write()
        for old in gone:
            (self.folder / f"{old:06d}.yaml").unlink(missing_ok=True)

    def undo(self) -> bytes | None:
        """The version before; None if this is the first."""
        return self._step(-1)

    def redo(self) -> bytes | None:
        """The version after; None if this is the last."""
        return self._step(1)

    def _step(self, by: int) -> bytes | None:
        if not 0 <= self._at + by < len(self._line):
            return None
        self._at += by
        self._typed = 0.0
        self._write()
        return self.current

    def _write(self) -> None:
        told = json.dumps({"line": self._line, "at": self._at})
        write_whole(self.folder / "line.json", told.encode())
