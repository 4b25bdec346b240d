"""Products on their way between machines: a file or folder and its note in one piece of bytes.

A parcel is believed only as far as its content fits its note; who vouches for the note is
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

from storyforge.errors import Damaged, shortened
from storyforge.store.products import PLACES, Shelf, Source, Store
from storyforge.store.sums import Note, files_of

_MAGIC: Final = b"storyforge parcel 1\n"

_KEY: Final = re.compile(r"[0-9a-f]{8,64}")

_HALF: Final = re.compile("[\ud800-\udfff]")
"""Halves of letters, which JSON can name and no file can."""

_MOST: Final = 10_000
"""Files in one product."""

_LONGEST_HEAD: Final = 10_000_000
"""Bytes of the line that says what they are."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A product on its way.

    files  content by name below the product's folder; by "" if it is a file itself
    """

    source: Source
    note: Note
    files: Mapping[str, memoryview]

    @staticmethod
    def read(data: bytes) -> Parcel:
        """What the bytes say.

        Raises Damaged if they are no parcel.
        """
        head = head_of(data)
        try:
            return _read(head, memoryview(data)[len(_MAGIC) + len(head) :])
        except (ValueError, RecursionError) as exc:
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


def parcel_of(store: Store, shelf: Shelf, key: str) -> bytes:
    """A product of a store, ready to travel.

    Raises Damaged if it is not what it was when it was finished.
    """
    path = store.read(shelf, key)
    note = Note.read(path) or Note.of(path)
    found = {"": path} if path.is_file() else {_name(file, path): file for file in files_of(path)}
    return _joined(shelf, key, note, {name: file.read_bytes() for name, file in found.items()})


def parcel_of_folder(shelf: Shelf, key: str, content: Mapping[str, bytes]) -> bytes:
    """A folder that is no product yet, ready to travel; its files by their names there."""
    whole = hashlib.sha256()
    # In the order of `sums.files_of`, whose sum the note holds.
    for name in sorted(content, key=PurePosixPath):
        whole.update(f"{hashlib.sha256(content[name]).hexdigest()}  {name}\n".encode())
    note = Note(whole.hexdigest(), sum(map(len, content.values())))
    return _joined(shelf, key, note, content)


def parcel_of_file(shelf: Shelf, key: str, data: bytes) -> bytes:
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


def head_of(data: bytes) -> bytes:
    """The line that says what a parcel is, which nobody has read yet.

    Raises Damaged if there is none.
    """
    end = data.find(b"\n", len(_MAGIC), len(_MAGIC) + _LONGEST_HEAD) + 1
    if not data.startswith(_MAGIC) or not end:
        raise Damaged("what arrived is no product: it does not begin like one")
    return data[len(_MAGIC) : end]


def _read(head: bytes, content: memoryview) -> Parcel:
    """A parcel by its head, of which every part may be anything at all, and what follows it."""
    match json.loads(head):
        case {"shelf": str(shelf), "key": str(key), "note": str(noted), "files": list(listed)}:
            note = Note.parsed(noted)
        case _:
            raise ValueError("its head is none")
    if shelf not in PLACES or not _KEY.fullmatch(key) or note is None:
        raise ValueError("its head names no product")
    files: dict[str, memoryview] = {}
    end = 0
    for each in listed[:_MOST]:
        match each:
            # JSON's `true` and `false` are integers to Python.
            case [str(name), int(size)] if type(size) is int and size >= 0 and _stays_below(name):
                files[name] = content[end : end + size]
                end += size
            case _:
                raise ValueError(f"{shortened(str(each))} is no file of a product")
    if end != len(content) or len(files) != len(listed):
        raise ValueError("it is longer or shorter than its head says")
    place: Shelf = shelf
    if (list(files) == [""]) != bool(PLACES[place][1]) or ("" in files and len(files) > 1):
        raise ValueError("it is a folder where a file should be, or a file for a folder")
    return Parcel((place, key), note, files)


def _stays_below(name: str) -> bool:
    """Whether a file's name leads nowhere else; a product without a folder has none."""
    path = PurePosixPath(name)
    plain = not (set(name) & set("\\:\0") or path.is_absolute() or _HALF.search(name))
    return plain and not any(part.startswith(".") for part in path.parts)
