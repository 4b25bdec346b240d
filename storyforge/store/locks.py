"""Locks that the system takes back from a process that ends, however it ends.

A run holds one lock for as long as it works, under a name of its own, so that any number of runs
work beside each other and whoever tidies knows since when somebody is at work.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from storyforge.errors import Locked
from storyforge.store.durable import make_folder, writing

FOREVER: Final = -1.0
"""Seconds of patience of somebody who waits as long as it takes."""

_log = logging.getLogger(__name__)


@contextmanager
def held(path: Path, patience: float = FOREVER) -> Iterator[None]:
    """Hold the lock at this path.

    patience  seconds to wait for whoever has it

    Raises Locked if that was too short, and EnvironmentProblem if the lock cannot be written.
    """
    lock = _acquired(path, patience)
    try:
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether somebody has the lock at this path."""
    if not path.exists():
        return False
    try:
        with held(path, 0.0):
            return False
    except Locked:
        return True


def _acquired(path: Path, patience: float) -> FileLock:
    with writing(path):
        make_folder(path.parent)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0.0)
        except Timeout:
            if patience == 0.0:
                raise _locked(path) from None
        else:
            return lock
        _log.info("waiting for another run: %s", path)
        try:
            lock.acquire(timeout=patience)
        except Timeout as exc:
            raise _locked(path) from exc
        return lock


def _locked(path: Path) -> Locked:
    message = f"another run is working on `{path.stem}` in `{path.parent.parent}`"
    return Locked(message, hint="wait until it is done, or leave out `--no-wait`")


@dataclass(frozen=True, slots=True)
class Runs:
    """Who is at work in a store: a file for each in `folder`, and the door that all come in by."""

    folder: Path

    @property
    def _door(self) -> Path:
        return self.folder.with_suffix(".lock")

    @contextmanager
    def joined(self, patience: float = FOREVER) -> Iterator[None]:
        """Be known to be at work, until this ends; waits for whoever is tidying at the moment."""
        path = self.folder / f"{os.getpid()}-{secrets.token_hex(4)}.lock"
        with held(self._door, patience):
            lock = _acquired(path, 0.0)
        try:
            yield
        finally:
            lock.release()
            with suppress(OSError):
                path.unlink()

    @contextmanager
    def alone(self, patience: float = FOREVER) -> Iterator[float | None]:
        """Let nobody begin to work for a moment.

        Gives the time (as files have it) since when somebody is at work already; None if nobody is.
        """
        with held(self._door, patience):
            yield self._since()

    def _since(self) -> float | None:
        """When the first of those at work began; what killed runs left is swept up."""
        began: list[float] = []
        for path in sorted(self.folder.glob("*.lock")):
            if is_held(path):
                began.append(path.stat().st_mtime)
            else:
                path.unlink(missing_ok=True)
        return min(began, default=None)
