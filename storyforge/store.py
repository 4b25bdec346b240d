"""Products named by what they are made from: kept whole, found again, never made twice.

A store is a folder (`.storyforge` beside the story). A product appears under its key only when it
is finished; what a killed run leaves behind is swept up by the next. How a key comes about is
`plan`'s business.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from filelock import FileLock, Timeout

from storyforge.errors import EnvironmentProblem, Locked, StoryForgeError

Shelf = Literal[
    "concepts",
    "statistics",
    "fused",
    "panels",
    "pdf",
    "html",
    "web",
    "epub",
    "epub-reflow",
    "cbz",
    "png",
    "cover",
    "inside",
    "upscaled",
]

_PLACES: Final[dict[Shelf, tuple[str, str]]] = {
    "concepts": ("concepts", ".safetensors"),
    "statistics": ("statistics", ".safetensors"),
    "fused": ("fused", ""),
    "panels": ("panels", ".png"),
    "upscaled": ("upscaled", ".png"),
    "pdf": ("books", ".pdf"),
    "cover": ("covers", ".pdf"),
    "inside": ("insides", ".pdf"),
    "html": ("books", ".html"),
    "web": ("web", ""),
    "epub": ("books", ".epub"),
    "epub-reflow": ("reflow", ".epub"),
    "cbz": ("books", ".cbz"),
    "png": ("pages", ""),
}
"""The folder and the ending of each kind of product; those without an ending are folders."""

_SUM: Final = ".sha256"

_PATIENCE: Final = 10.0
"""Seconds to wait for a product's lock: the workers of a killed run need a moment to end."""


@dataclass(frozen=True, slots=True)
class Product:
    """One finished product; `size` in bytes."""

    shelf: Shelf
    key: str
    path: Path
    size: int


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


class Store:
    """A folder of finished products."""

    def __init__(self, root: Path) -> None:
        """Name the folder; it is made when the first product is."""
        self.root = root.absolute()

    def path(self, shelf: Shelf, key: str) -> Path:
        """Where the product with this key stands, finished or not."""
        folder, suffix = _PLACES[shelf]
        return self.root / folder / f"{key}{suffix}"

    def has(self, shelf: Shelf, key: str) -> bool:
        """Whether the product is finished and of the size that it had then."""
        path = self.path(shelf, key)
        written = _written_sum(path)
        return written is not None and path.exists() and size_of(path) == written[1]

    def scratch(self, key: str) -> Path:
        """A folder for work in progress that outlives a kill; gone once the product is finished."""
        path = self.root / "scratch" / key
        with _writing(path):
            path.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def make(self, shelf: Shelf, key: str) -> Iterator[Path]:
        """Give a temporary path to write the product to, and keep it if all goes well.

        The path does not exist yet; a `fused` product is to become a folder there. Raises Locked if
        another process is making the same product, and StoryForgeError if nothing was written.
        """
        path = self.path(shelf, key)
        with self._lock(f"{shelf}-{key}", _PATIENCE):
            partial = self.root / "partial" / f"{shelf}-{path.name}"
            with _writing(partial):
                _remove(partial)
                partial.parent.mkdir(parents=True, exist_ok=True)
                path.parent.mkdir(parents=True, exist_ok=True)
            try:
                yield partial
                if not partial.exists():
                    raise StoryForgeError(f"`{path.name}` was to be made and was not written")
                with _writing(path):
                    _finish(partial, path)
            finally:
                _remove(partial)
            _remove(self.root / "scratch" / key)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Keep other runs out of the store, and sweep up what a killed one left half done."""
        with self._lock("run", 0.0):
            for leftover in sorted((self.root / "partial").glob("*")):
                self._sweep(leftover)
            yield

    @contextmanager
    def editing(self, what: str) -> Iterator[None]:
        """Keep others from editing the same thing, such as the pins, for a moment."""
        with self._lock(what, _PATIENCE):
            yield

    def _sweep(self, leftover: Path) -> None:
        """Remove a half made product, unless a process is still at it."""
        shelf, _, name = leftover.name.partition("-")
        try:
            with self._lock(f"{shelf}-{name.partition('.')[0]}", 0.0):
                _remove(leftover)
        except Locked:
            return

    @contextmanager
    def _lock(self, name: str, patience: float) -> Iterator[None]:
        """Hold a lock that the system takes back from a process that ends, however it ends."""
        path = self.root / "locks" / f"{name}.lock"
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            try:
                lock.acquire(timeout=patience)
            except Timeout as exc:
                message = f"another run is working in `{self.root}`"
                raise Locked(
                    message, hint="wait until it is done, or name another --store"
                ) from exc
        try:
            yield
        finally:
            lock.release()

    def ls(self) -> list[Product]:
        """Every finished product, by shelf and key."""
        found: list[Product] = []
        for shelf, (folder, suffix) in _PLACES.items():
            for path in sorted((self.root / folder).glob(f"*{_SUM}")):
                key, ending = os.path.splitext(path.name.removesuffix(_SUM))
                if ending == suffix and self.has(shelf, key):
                    product = self.path(shelf, key)
                    found.append(Product(shelf, key, product, size_of(product)))
        return found

    def verify(self) -> list[Product]:
        """Remove and return the products that are not what they were when they were made."""
        damaged: list[Product] = []
        with self.claim():
            for shelf, (folder, suffix) in _PLACES.items():
                for note in sorted((self.root / folder).glob(f"*{_SUM}")):
                    key, ending = os.path.splitext(note.name.removesuffix(_SUM))
                    path, written = self.path(shelf, key), _written_sum(self.path(shelf, key))
                    if ending != suffix or (written and _sum_of(path) == written):
                        continue
                    damaged.append(Product(shelf, key, path, size_of(path)))
                    _remove(path)
                    _remove(note)
        return damaged

    def gc(self, *, keep: Collection[str] = (), dry: bool = False) -> list[Product]:
        """Remove and return the products that no ledger names, and work that was given up.

        keep   keys of products that stay in any case
        dry    only say what would go
        """
        with self.claim():
            kept = {entry.key for ledger in self.ledgers() for entry in ledger.entries().values()}
            kept |= set(keep)
            lost = [product for product in self.ls() if product.key not in kept]
            if not dry:
                for product in lost:
                    _remove(product.path)
                    _remove(_sum_path(product.path))
                _remove(self.root / "scratch")
        return lost

    def ledger(self, name: str) -> Ledger:
        """The ledger of one story."""
        return Ledger(self.root / "ledgers" / f"{name}.json")

    def ledgers(self) -> list[Ledger]:
        """Every story's ledger."""
        return [Ledger(path) for path in sorted((self.root / "ledgers").glob("*.json"))]


@dataclass(frozen=True, slots=True)
class Ledger:
    """What was last made of each of a story's subjects, such as `panel found`."""

    path: Path

    def entries(self) -> dict[str, Entry]:
        """Every entry by subject; none if the file is missing or unreadable: it only explains."""
        try:
            written = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        found: dict[str, Entry] = {}
        for subject, fields in written.items() if isinstance(written, dict) else ():
            match fields:
                case {"key": str(key), "recipe": dict(recipe), "seconds": int() | float() as took}:
                    memory, size = fields.get("memory"), fields.get("size")
                    found[subject] = Entry(key, recipe, float(took), _whole(memory), _whole(size))
        return found

    def write(self, entries: dict[str, Entry]) -> None:
        """Replace the whole ledger."""
        data = {subject: asdict(entry) for subject, entry in entries.items()}
        write_whole(self.path, json.dumps(data, indent=1, sort_keys=True).encode())


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is never seen half written."""
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            partial.write_bytes(data)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def fingerprint(path: Path, *, without: str | None = None) -> str:
    """SHA-256 of a file, or of all files in a folder with their names; 64 hex digits.

    Hidden files do not count, nor does the one that is called `without`. Raises EnvironmentProblem
    if the path is missing or unreadable.
    """
    if not path.exists():
        raise EnvironmentProblem(f"nothing at `{path}`")
    if path.is_file():
        return _file_sum(path)
    whole = hashlib.sha256()
    for file in _files(path):
        name = file.relative_to(path).as_posix()
        if name != without:
            whole.update(f"{_file_sum(file)}  {name}\n".encode())
    return whole.hexdigest()


def size_of(path: Path) -> int:
    """Bytes in a file, or in all files of a folder; 0 if there is none."""
    if path.is_dir():
        return sum(file.stat().st_size for file in _files(path))
    return path.stat().st_size if path.exists() else 0


def _files(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.rglob("*")
        if file.is_file()
        and not any(
            part.startswith((".", "__pycache__")) for part in file.relative_to(folder).parts
        )
    )


def _file_sum(path: Path) -> str:
    try:
        state = path.stat()
        return _remembered_sum(path, state.st_size, state.st_mtime_ns)
    except OSError as exc:
        raise EnvironmentProblem(f"cannot read `{path}`: {exc.strerror}") from exc


@lru_cache(maxsize=4096)
def _remembered_sum(path: Path, size: int, changed: int) -> str:
    """The file's SHA-256; its size and time of change (ns) tell when to read it again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sum_path(path: Path) -> Path:
    return path.with_name(path.name + _SUM)


def _sum_of(path: Path) -> tuple[str, int] | None:
    return (fingerprint(path), size_of(path)) if path.exists() else None


def _written_sum(path: Path) -> tuple[str, int] | None:
    """The SHA-256 and the size in bytes that the product had when it was finished."""
    try:
        digest, size = _sum_path(path).read_text(encoding="ascii").split()
        return digest, int(size)
    except (OSError, ValueError):
        return None


def _finish(partial: Path, path: Path) -> None:
    """Note the sum, then move the product to its name: a note alone does no harm."""
    for file in [partial] if partial.is_file() else _files(partial):
        _sync(file)
    write_whole(_sum_path(path), f"{fingerprint(partial)} {size_of(partial)}\n".encode())
    if path.is_dir():
        shutil.rmtree(path)
    os.replace(partial, path)


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say which path could not be written."""
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        raise EnvironmentProblem(f"cannot write `{path}`: {reason}") from exc
