"""Writing that outlives a kill and a loss of power: temp, fsync, rename, fsync of the folder.

Every file that is kept is written here or, if others wrote it, brought to its place here. What a
killed process leaves lies beside its target under a name that says whose it was; it is swept up
when somebody next writes there.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

from storyforge.errors import EnvironmentProblem

_LONGEST: Final = 100
"""Bytes of a target's name in the temporary one: file systems allow 255 in all."""

_FORGOTTEN: Final = 86_400.0
"""Seconds after which a half written file of another machine belongs to nobody."""

_HOST: Final = re.sub(r"\W", "_", platform.node())[:32] or "here"

_PARTIAL: Final = re.compile(r"\..*\.(?P<host>\w+)-(?P<pid>\d+)-[0-9a-f]{8}\.partial")


def write_whole(
    path: Path,
    data: bytes | Iterable[bytes],
    proof: Callable[[Path], None] | None = None,
    mode: int = 0o666,
) -> None:
    """Write a file so that it is never seen half written, and is there after a loss of power.

    data   in one piece, or in pieces that are made while they are written
    proof  sees the file before it has its name; what it raises leaves the old one in its place
    mode   who may read it, from its first byte on, as far as the umask lets them

    Raises EnvironmentProblem, naming the file, if that cannot be.
    """
    with writing(path):
        make_folder(path.parent)
        _sweep_once(path.parent)
        partial = path.with_name(_partial_name(path.name))
        try:
            with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                for piece in [data] if isinstance(data, bytes) else data:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            if proof is not None:
                proof(partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(path.parent)


def settle(partial: Path, path: Path, mode: int) -> None:
    """Bring a file or folder that others wrote to its name, with all that is in it on the disk.

    mode  of every file, as `stat` has it: some libraries write what only the owner may read
    """
    for file in [partial] if partial.is_file() else sorted(partial.rglob("*")):
        if file.is_file():
            file.chmod(mode & 0o777)
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        else:
            sync_folder(file)
    if partial.is_dir():
        sync_folder(partial)
        remove(path)
    os.replace(partial, path)
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there; a folder leaves its name at once or not at all."""
    if path.is_dir() and not path.is_symlink():
        gone = path.with_name(_partial_name(path.name))
        os.replace(path, gone)
        shutil.rmtree(gone)
    else:
        path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, each on the disk when this returns."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Put a folder's names on the disk, where the system lets folders be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written in a folder; nothing if it cannot be read."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            name = _PARTIAL.fullmatch(entry.name)
            if name is not None and _is_given_up(name["host"], int(name["pid"]), entry):
                with suppress(FileNotFoundError):
                    _discard(Path(entry.path))


@lru_cache(maxsize=1024)
def _sweep_once(folder: Path) -> None:
    """Sweep a folder the first time that this process writes there: folders may be large."""
    sweep(folder)


def _is_given_up(host: str, pid: int, entry: os.DirEntry[str]) -> bool:
    if host != _HOST or os.name != "posix":
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > _FORGOTTEN
    return pid != os.getpid() and not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _partial_name(name: str) -> str:
    short = name.encode(errors="replace")[:_LONGEST].decode(errors="ignore")
    return f".{short}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.partial"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say which path could not be written."""
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        raise EnvironmentProblem(f"cannot write `{path}`: {reason}") from exc
