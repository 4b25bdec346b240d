"""What a file or folder is by its content: SHA-256 and size, and the note that a product bears.

A note lies beside its product and says what it was when it was finished, and what every product
that it was made from was when it was read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

from storyforge.errors import EnvironmentProblem
from storyforge.store.known import known_sum

NOTE: Final = ".sha256"
"""Ending of a note's name, after the product's own."""

_FIRST: Final = re.compile(r"([0-9a-f]{64}) (0|[1-9]\d{0,17})")
_FROM: Final = re.compile(r"from ([a-z-]{1,20}/[^\s/]{1,80}) ([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Note:
    """What a product was when it was finished.

    size       bytes of the file, or of all files in the folder
    made_from  `shelf/key` of every product that was read for it -> SHA-256 of that
    """

    digest: str
    size: int
    made_from: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(path: Path, made_from: Mapping[str, str] | None = None) -> Note:
        """The note of a product as it is now."""
        return Note(fingerprint(path), size_of(path), dict(made_from or {}))

    @staticmethod
    def read(product: Path) -> Note | None:
        """The note beside a product; None if there is none, or it is no note any more."""
        try:
            return Note.parsed(note_path(product).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    @staticmethod
    def parsed(text: str) -> Note | None:
        """What a note's text says; None if it is no note."""
        first, *others = text.splitlines() or [""]
        own, named = _FIRST.fullmatch(first), [_FROM.fullmatch(line) for line in others]
        if own is None or not text.endswith("\n") or None in named:
            return None
        return Note(own[1], int(own[2]), {match[1]: match[2] for match in named if match})

    def text(self) -> str:
        """The file's content."""
        lines = [f"{self.digest} {self.size}"]
        lines += [f"from {name} {digest}" for name, digest in sorted(self.made_from.items())]
        return "".join(f"{line}\n" for line in lines)

    def fits(self, path: Path) -> bool:
        """Whether the product is what it was, byte for byte."""
        if not path.exists() or size_of(path) != self.size:
            return False
        return fingerprint(path) == self.digest


def note_path(product: Path) -> Path:
    """Where the note of the product at this path lies."""
    return product.with_name(product.name + NOTE)


def fingerprint(path: Path, *, without: str | None = None, once: bool = False) -> str:
    """SHA-256 of a file, or of all files in a folder with their names; 64 hex digits.

    Hidden files do not count, nor does the one that is called `without`. `once` reads a large file
    once on this machine, and knows it again after that: for what others made.

    Raises EnvironmentProblem if the path is missing or unreadable.
    """
    if not path.exists():
        raise EnvironmentProblem(f"nothing at `{path}`")
    if path.is_file():
        return _file_sum(path, once)
    whole = hashlib.sha256()
    for file in files_of(path):
        name = file.relative_to(path).as_posix()
        if name != without:
            whole.update(f"{_file_sum(file, once)}  {name}\n".encode())
    return whole.hexdigest()


def size_of(path: Path) -> int:
    """Bytes in a file, or in all files of a folder; 0 if there is none."""
    if path.is_dir():
        return sum(file.stat().st_size for file in files_of(path))
    return path.stat().st_size if path.exists() else 0


def files_of(folder: Path) -> list[Path]:
    """Every file in a folder and below that counts: not the hidden ones."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.is_file()
        and not any(
            part.startswith((".", "__pycache__")) for part in file.relative_to(folder).parts
        )
    )


def _file_sum(path: Path, once: bool = False) -> str:
    try:
        state = path.stat()
        stamp = (state.st_ino, state.st_mtime_ns, state.st_ctime_ns)
        return _remembered_sum(path, state.st_size, stamp, once)
    except OSError as exc:
        raise EnvironmentProblem(f"cannot read `{path}`: {exc.strerror}") from exc


@lru_cache(maxsize=4096)
def _remembered_sum(path: Path, size: int, stamp: tuple[int, int, int], once: bool) -> str:
    """The file's SHA-256; inode and times of change (ns) tell when to read it again."""
    if once:
        return known_sum(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
