"""A disk that fails at its nth call: full, broken, read only and so on, or the process is gone.

Every open, write, fsync, rename, unlink and folder made or removed below one folder is a call.
After a kill no later call does anything either, so that nothing is tidied up on the way out; a
write that fails leaves half of its bytes. Locks are the system's, and not touched.
"""

from __future__ import annotations

import builtins
import errno
import gc
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from storyforge.store import durable

ERRORS: Final = {
    "full": errno.ENOSPC,
    "broken": errno.EIO,
    "interrupted": errno.EINTR,
    "read only": errno.EROFS,
    "refused": errno.EACCES,
}
FAULTS: Final = (*ERRORS, "kill")

_CALLS: Final = ("fsync", "replace", "rename", "unlink", "mkdir", "rmdir")

_DEAD: Final = 2**22 + 1
"""A process id that Linux gives to nobody."""


class Killed(BaseException):
    """The process is gone."""


class Disk:
    """Counts the calls below `root`; the one with the number `at` fails, from 1."""

    def __init__(self, root: Path, at: int = 0, fault: str = "kill") -> None:
        """Begin to count; with 0 nothing fails."""
        self.root, self.at, self.fault = str(root), at, fault
        self.calls, self.dead = 0, False

    def call(self, *paths: object) -> None:
        """One call; raises when it is its turn."""
        if not any(str(path).startswith(self.root) for path in paths if not isinstance(path, int)):
            return
        if "/locks/" in str(paths[0]) or str(paths[0]).endswith(".lock"):
            return
        if self.dead:
            raise Killed
        self.calls += 1
        if self.calls != self.at:
            return
        if self.fault == "kill":
            self.dead = True
            raise Killed
        number = ERRORS[self.fault]
        raise OSError(number, os.strerror(number), str(paths[0]))


class _File:
    """An open file whose writes are calls."""

    def __init__(self, disk: Disk, file: Any, path: object) -> None:  # noqa: ANN401
        self._disk, self._file, self._path = disk, file, path

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def write(self, data: Any) -> int:  # noqa: ANN401
        try:
            self._disk.call(self._path)
        except (OSError, Killed):
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            raise
        return int(self._file.write(data))


@contextmanager
def faulty(disk: Disk) -> Iterator[None]:
    """Let files below the disk's folder go through it."""
    before: dict[tuple[object, str], Callable[..., Any]] = {}

    def put(owner: object, name: str, made: Callable[..., Any]) -> None:
        before[owner, name] = getattr(owner, name)
        setattr(owner, name, made)

    plain_open, plain_getpid = builtins.open, os.getpid
    synced = os.fsync

    def opened(path: Any, mode: str = "r", *rest: Any, **how: Any) -> Any:  # noqa: ANN401
        writing = any(letter in mode for letter in "wax+")
        if writing:
            disk.call(path)
        file = plain_open(path, mode, *rest, **how)
        inside = not isinstance(path, int) and str(path).startswith(disk.root)
        return _File(disk, file, path) if writing and inside else file

    def fsync(number: int) -> None:
        disk.call(os.readlink(f"/proc/self/fd/{number}"))
        synced(number)

    for name in _CALLS:
        put(os, name, fsync if name == "fsync" else _counted(disk, getattr(os, name)))
    put(builtins, "open", opened)
    put(io, "open", opened)
    # What is left half done must look like that of another process, which is gone.
    put(os, "getpid", lambda: _DEAD if disk.at else plain_getpid())
    durable._sweep_once.cache_clear()
    try:
        yield
    finally:
        for (owner, name), made in before.items():
            setattr(owner, name, made)
        durable._sweep_once.cache_clear()
        if disk.dead:
            gc.collect()


def _counted(disk: Disk, plain: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*names: Any, **how: Any) -> Any:  # noqa: ANN401
        disk.call(*names)
        return plain(*names, **how)

    return counted
