"""Products named by what they are made from: kept whole, found again, never made twice.

A store is a folder (`.storyforge` beside the story). A product appears under its key only when it
is finished, and is compared with its note when it is read; what a killed run leaves behind is swept
up by the next. How a key comes about is `plan`'s business, what may go `tidying`'s.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from storyforge.errors import Damaged, Locked, StoryForgeError
from storyforge.store.durable import (
    make_folder,
    remove,
    settle,
    sweep,
    sync_folder,
    write_whole,
    writing,
)
from storyforge.store.ledger import Ledger
from storyforge.store.locks import FOREVER, Runs, held, is_held
from storyforge.store.sums import NOTE, Note, note_path, size_of

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
    "booklet",
    "mp4",
    "upscaled",
    "inputs",
]

PLACES: Final[dict[Shelf, tuple[str, str]]] = {
    "concepts": ("concepts", ".safetensors"),
    "statistics": ("statistics", ".safetensors"),
    "fused": ("fused", ""),
    "panels": ("panels", ".png"),
    "upscaled": ("upscaled", ".png"),
    "pdf": ("books", ".pdf"),
    "cover": ("covers", ".pdf"),
    "inside": ("insides", ".pdf"),
    "booklet": ("booklets", ".pdf"),
    "mp4": ("films", ".mp4"),
    "html": ("books", ".html"),
    "web": ("web", ""),
    "epub": ("books", ".epub"),
    "epub-reflow": ("reflow", ".epub"),
    "cbz": ("books", ".cbz"),
    "png": ("pages", ""),
    "inputs": ("inputs", ""),
}
"""The folder and the ending of each kind of product; those without an ending are folders.

`inputs` are files of an author's who works on another machine."""

Source = tuple[Shelf, str]
"""A product that another is made from: its shelf and its key."""

_DATE: Final = len("2026-01-31")
"""Letters of the day with which the name of a folder in the trash begins."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Product:
    """One finished product; `size` in bytes."""

    shelf: Shelf
    key: str
    path: Path
    size: int


class Store:
    """A folder of finished products."""

    def __init__(self, root: Path, patience: float = FOREVER) -> None:
        """Name the folder; it is made when the first product is.

        patience  seconds to wait for a product that another run is making
        """
        self.root = root.absolute()
        self.patience = patience

    def path(self, shelf: Shelf, key: str) -> Path:
        """Where the product with this key stands, finished or not."""
        folder, suffix = PLACES[shelf]
        return self.root / folder / f"{key}{suffix}"

    def has(self, shelf: Shelf, key: str) -> bool:
        """Whether the product is finished and of the size that it had then."""
        path = self.path(shelf, key)
        note = Note.read(path)
        return note is not None and path.exists() and size_of(path) == note.size

    def sound(self, shelf: Shelf, key: str) -> bool:
        """Whether the product is finished and byte for byte what it was then.

        One that is not is set aside, so that it is made again; one that lies in the trash comes
        back.
        """
        path = self.path(shelf, key)
        note = Note.read(path) if path.exists() else self._fetched_back(path, shelf)
        if note is None or not path.exists():
            return False
        if note.fits(path):
            return True
        self.set_aside(shelf, key)
        return False

    def read(self, shelf: Shelf, key: str) -> Path:
        """The path of a product that is byte for byte what it was when it was finished.

        Raises Damaged, and sets it aside, if it is not.
        """
        if not self.sound(shelf, key):
            message = f"`{self.path(shelf, key)}` is damaged or gone"
            raise Damaged(message, hint="run the same command again; it is made anew")
        return self.path(shelf, key)

    def _fetched_back(self, path: Path, shelf: Shelf) -> Note | None:
        """The note of a product that was thrown away, which lies in its place again; None if not.

        The note comes first: a product without one is not looked for again.
        """
        for old in sorted(self.trash.glob(f"*-{shelf}/{path.name}"), reverse=True):
            if old.parent.name[_DATE:] == f"-{shelf}" and note_path(old).exists():
                with writing(path):
                    make_folder(path.parent)
                    os.replace(note_path(old), note_path(path))
                    os.replace(old, path)
                    sync_folder(path.parent)
                return Note.read(path)
        return None

    @property
    def trash(self) -> Path:
        """Where what no story needed lies for a while, by day and shelf."""
        return self.root / "trash"

    def throw_away(self, path: Path, label: str) -> None:
        """Move a file or folder to the trash, under today's date and a label, if it is there."""
        target = self.trash / f"{datetime.now(UTC).date().isoformat()}-{label}" / path.name
        with writing(target):
            if path.exists():
                make_folder(target.parent)
                remove(target)
                shutil.move(path, target)
                sync_folder(path.parent)

    def set_aside(self, shelf: Shelf, key: str) -> None:
        """Move a damaged product where nobody takes it for a sound one."""
        path = self.path(shelf, key)
        target = self.root / "quarantine" / f"{shelf}-{path.name}"
        with writing(target):
            make_folder(target.parent)
            remove(target)
            with suppress(FileNotFoundError):
                os.replace(path, target)
            note_path(path).unlink(missing_ok=True)
        _log.warning("damaged, and set aside: %s", path)

    def scratch(self, key: str) -> Path:
        """A folder for work in progress that outlives a kill; gone once the product is finished."""
        path = self.root / "scratch" / key
        with writing(path):
            make_folder(path)
        return path

    @contextmanager
    def make(self, shelf: Shelf, key: str, made_from: Sequence[Source] = ()) -> Iterator[Path]:
        """Give a temporary path to write the product to, and keep it if all goes well.

        The path does not exist yet; a `fused` product is to become a folder there. One that is
        there already is replaced.

        made_from  the products that are read for it: sound now, and still so when it is finished

        Raises Locked if another process is making the same product for longer than the store's
        patience, Damaged for what it is made from, and StoryForgeError if nothing was written.
        """
        with held(self._lock(shelf, key), self.patience), self._making(shelf, key, made_from) as to:
            yield to

    @contextmanager
    def make_missing(
        self, shelf: Shelf, key: str, made_from: Sequence[Source] = ()
    ) -> Iterator[Path | None]:
        """The same, for whoever wants it made, no matter by whom: None if it need not be.

        That is when it is there by now, or when another process is making it; then `wait_for` it.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(held(self._lock(shelf, key), 0.0))
            except Locked:
                yield None
                return
            if self.sound(shelf, key):
                yield None
            else:
                yield stack.enter_context(self._making(shelf, key, made_from))

    def wait_for(self, shelf: Shelf, key: str) -> None:
        """Wait until nobody is making the product any more.

        Raises Locked if that takes longer than the store's patience.
        """
        with held(self._lock(shelf, key), self.patience):
            return

    def is_making(self, shelf: Shelf, key: str) -> bool:
        """Whether another process is making the product at this moment."""
        return is_held(self._lock(shelf, key))

    def take_in(self, shelf: Shelf, key: str, note: Note, write: Callable[[Path], None]) -> None:
        """Keep a product that was made elsewhere, unless it is there or somebody is making it.

        note   what it was when it was finished
        write  writes it to a path that does not exist yet

        Raises Damaged if what was written is not what the note says.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(held(self._lock(shelf, key), 0.0))
            except Locked:
                return
            if self.sound(shelf, key):
                return
            path = self.path(shelf, key)
            partial = stack.enter_context(self._partial(shelf, path))
            with writing(partial):
                write(partial)
            if not note.fits(partial):
                raise Damaged(f"`{path.name}` arrived damaged")
            with writing(path):
                self._finish(partial, path, note)

    @contextmanager
    def _partial(self, shelf: Shelf, path: Path) -> Iterator[Path]:
        """Where a product is written before it has its name; gone afterwards in any case."""
        partial = self.root / "partial" / f"{shelf}-{path.name}"
        with writing(partial):
            remove(partial)
            make_folder(partial.parent)
            make_folder(path.parent)
        try:
            yield partial
        finally:
            with writing(partial):
                remove(partial)

    @contextmanager
    def _making(self, shelf: Shelf, key: str, made_from: Sequence[Source]) -> Iterator[Path]:
        path = self.path(shelf, key)
        with self._partial(shelf, path) as partial:
            before = {"/".join(each): self._digest(each) for each in made_from}
            yield partial
            if not partial.exists():
                raise StoryForgeError(f"`{path.name}` was to be made and was not written")
            for each in made_from:
                if self._digest(each) != before["/".join(each)]:
                    message = f"`{self.path(*each)}` was changed while it was read"
                    raise Damaged(message, hint="run the same command again")
            with writing(path):
                self._finish(partial, path, Note.of(partial, before))
        with writing(path):
            remove(self.root / "scratch" / key)
        _log.debug("kept %s", path)

    def _digest(self, source: Source) -> str:
        """What a product is now, which is what its note says."""
        note = Note.read(self.read(*source))
        return "" if note is None else note.digest

    def _finish(self, partial: Path, path: Path, note: Note) -> None:
        """Note what it is, then move it to its name: a note alone does no harm."""
        beside = note_path(path)
        write_whole(beside, note.text().encode())
        settle(partial, path, beside.stat().st_mode)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Be one of those at work in the store, and sweep up what killed ones left half done.

        Where nothing can be written, nobody can tidy either: then there is nothing to hold.
        """
        if self.root.exists() and not os.access(self.root, os.W_OK):
            yield
            return
        with self.runs.joined(self.patience):
            self.sweep()
            yield

    @property
    def runs(self) -> Runs:
        """Who is at work here."""
        return Runs(self.root / "locks" / "runs")

    def sweep(self) -> None:
        """Remove what killed processes left half done, wherever in the store it lies."""
        for leftover in sorted((self.root / "partial").glob("[!.]*")):
            lock = self.root / "locks" / f"{leftover.name.partition('.')[0]}.lock"
            with suppress(Locked), held(lock, 0.0), writing(leftover):
                remove(leftover)
        for folder in {folder for folder, _ in PLACES.values()} | {
            "partial",
            "ledgers",
            "scratch",
            "quarantine",
        }:
            sweep(self.root / folder)

    def _lock(self, shelf: Shelf, key: str) -> Path:
        return self.root / "locks" / f"{shelf}-{key}.lock"

    def noted(self) -> Iterator[tuple[Shelf, str]]:
        """Every product that has a note, by shelf and key, whether it is sound or not."""
        for shelf, (folder, suffix) in PLACES.items():
            for path in sorted((self.root / folder).glob(f"*{NOTE}")):
                key, ending = os.path.splitext(path.name.removesuffix(NOTE))
                if ending == suffix:
                    yield shelf, key

    def ls(self) -> list[Product]:
        """Every finished product, by shelf and key."""
        return [self.product(shelf, key) for shelf, key in self.noted() if self.has(shelf, key)]

    def product(self, shelf: Shelf, key: str) -> Product:
        """A product as it is now."""
        path = self.path(shelf, key)
        return Product(shelf, key, path, size_of(path))

    def ledger(self, name: str) -> Ledger:
        """The ledger of one story."""
        return Ledger(self.root / "ledgers" / f"{name}.json")

    def ledgers(self) -> list[Ledger]:
        """Every story's ledger."""
        return [Ledger(path) for path in sorted((self.root / "ledgers").glob("*.json"))]
