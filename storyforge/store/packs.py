"""Products on their way between machines: a file or folder and its note in one piece of bytes.

A pack is believed only as far as its content fits its note; who vouches for the note is
`shared`'s question, or that of whoever opened the connection.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from storyforge.errors import Damaged
from storyforge.store.products import PLACES, Shelf, Source, Store
from storyforge.store.sums import Note, files_of

_MAGIC: Final = b"storyforge pack 1\n"

_KEY: Final = re.compile(r"[0-9a-f]{8,64}")

_MOST: Final = 10_000
"""Files in one product."""


@dataclass(frozen=True, slots=True)
class Pack:
    """A product on its way.

    head   the line that says what it is, as it came: what a signature is of
    files  content by name below the product's folder; by "" if it is a file itself
    """

    source: Source
    note: Note
    head: bytes
    files: Mapping[str, memoryview]

    @staticmethod
    def read(data: bytes) -> Pack:
        """What the bytes say.

        Raises Damaged if they are no pack.
        """
        try:
            return _read(data)
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise Damaged(f"what arrived is no product: {exc}") from exc

    def keep(self, store: Store) -> None:
        """Lay the product into a store, unless it is there or somebody is making it.

        Raises Damaged if it is not what its note says.
        """
        store.take_in(*self.source, self.note, self._write)

    def _write(self, path: Path) -> None:
        for name, content in self.files.items():
            file = path / name if name else path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


def packed(store: Store, shelf: Shelf, key: str) -> bytes:
    """A product of a store, ready to travel.

    Raises Damaged if it is not what it was when it was finished.
    """
    path = store.read(shelf, key)
    note = Note.read(path) or Note.of(path)
    found = {"": path} if path.is_file() else {_name(file, path): file for file in files_of(path)}
    return _joined(shelf, key, note, {name: file.read_bytes() for name, file in found.items()})


def pack_of(shelf: Shelf, key: str, content: Mapping[str, bytes]) -> bytes:
    """A folder that is no product yet, ready to travel; its files by their names there."""
    whole = hashlib.sha256()
    # In the order of `sums.files_of`, whose sum the note holds.
    for name in sorted(content, key=PurePosixPath):
        whole.update(f"{hashlib.sha256(content[name]).hexdigest()}  {name}\n".encode())
    note = Note(whole.hexdigest(), sum(map(len, content.values())))
    return _joined(shelf, key, note, content)


def pack_of_file(shelf: Shelf, key: str, data: bytes) -> bytes:
    """A product of one file that lies in no store, ready to travel."""
    return _joined(shelf, key, Note(hashlib.sha256(data).hexdigest(), len(data)), {"": data})


def _joined(shelf: Shelf, key: str, note: Note, content: Mapping[str, bytes]) -> bytes:
    told = {
        "shelf": shelf,
        "key": key,
        "note": note.text(),
        "files": [[name, len(data)] for name, data in content.items()],
    }
    head = json.dumps(told, sort_keys=True).encode() + b"\n"
    return b"".join((_MAGIC, head, *content.values()))


def _name(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _read(data: bytes) -> Pack:
    if not data.startswith(_MAGIC):
        raise ValueError("it does not begin like one")
    end = data.index(b"\n", len(_MAGIC)) + 1
    head = data[len(_MAGIC) : end]
    told = json.loads(head)
    shelf, key, note = told["shelf"], told["key"], Note.parsed(told["note"])
    if shelf not in PLACES or not _KEY.fullmatch(key) or note is None:
        raise ValueError("its head names no product")
    files: dict[str, memoryview] = {}
    rest = memoryview(data)
    for name, size in told["files"][:_MOST]:
        if not isinstance(size, int) or size < 0 or not _stays_below(name):
            raise ValueError(f"{name!r} is no file of a product")
        files[name] = rest[end : end + size]
        end += size
    if end != len(data):
        raise ValueError("it is longer or shorter than its head says")
    if (list(files) == [""]) != bool(PLACES[shelf][1]) or ("" in files and len(files) > 1):
        raise ValueError("it is a folder where a file should be, or a file for a folder")
    return Pack((shelf, key), note, head, files)


def _stays_below(name: str) -> bool:
    """Whether a file's name leads nowhere else; a product without a folder has none."""
    path = PurePosixPath(name)
    plain = "\\" not in name and "\0" not in name and ":" not in name and not path.is_absolute()
    return plain and not any(part.startswith(".") for part in path.parts)
