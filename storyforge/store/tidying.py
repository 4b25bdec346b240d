"""What of a store may go, and why: what no story needs any more, and what is damaged.

Nothing is lost by tidying: what goes lies in `trash` for a while, trained concepts longest. Who
cannot read what is needed removes nothing.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from storyforge.store.durable import remove, writing
from storyforge.store.ledger import Entry
from storyforge.store.products import Product, Source, Store
from storyforge.store.sums import Note, note_path

KEPT: Final = timedelta(days=14)
"""How long what was removed lies in the trash, and a half learnt concept in its place."""

CONCEPTS_KEPT: Final = timedelta(days=90)
"""The same for trained concepts: nothing takes longer to make."""

_TRASHED: Final = re.compile(r"(\d{4}-\d\d-\d\d)-(.+)")


@dataclass(frozen=True, slots=True)
class Waste:
    """Something that goes, or would; `reason` says why."""

    product: Product
    reason: str


def needless(store: Store, keep: Collection[str] = (), since: float | None = None) -> list[Waste]:
    """The products that no ledger names.

    keep   keys of products that stay in any case
    since  when the first run of those at work began: what was made later may not be entered yet

    Raises EnvironmentProblem for a ledger that cannot be read: what is needed is not known then.
    """
    named = {entry.key for ledger in store.ledgers() for entry in ledger.read().values()}
    named |= set(keep)
    return [
        Waste(product, "no story needs it")
        for product in store.ls()
        if product.key not in named and not _is_newer(product.path, since)
    ]


def gc(store: Store, *, keep: Collection[str] = (), dry: bool = False) -> list[Waste]:
    """Move what no story needs to the trash, and empty what lies there for long; what went.

    Safe beside runs at work. `keep` as in `needless`; `dry` only says what would go.
    """
    with store.runs.alone(store.patience) as since:
        waste = needless(store, keep, since)
        if not dry:
            for each in waste:
                _trash(store, each.product)
            _trash_scratch(store)
            _empty_trash(store)
    return waste


def verify(store: Store, *, dry: bool = False) -> list[Waste]:
    """Set aside products that are damaged, and what was made from them; what went.

    What says in its note that it was made from the sound one stays. `dry` only says what would go.
    """
    damaged = [
        (source, _note_of(store, source)) for source in store.noted() if not _fits(store, source)
    ]
    found = [Waste(store.product(*source), "damaged") for source, _ in damaged]
    recipes = _recipes(store)
    gone = {source for source, _ in damaged}
    doubtful: dict[Source, Note | None] = dict(damaged)
    while doubtful:
        made = _made_from(store, doubtful, recipes, gone)
        words = "made from what is damaged"
        found += [Waste(store.product(*source), words) for source in made]
        gone |= made
        doubtful = dict.fromkeys(made)
    if not dry:
        for waste in found:
            store.set_aside(waste.product.shelf, waste.product.key)
    return found


def _made_from(
    store: Store,
    damaged: Mapping[Source, Note | None],
    recipes: Mapping[str, str],
    gone: Collection[Source],
) -> set[Source]:
    """The products that may have been made from damaged ones, as their recipes and notes say."""
    keys = {key for _, key in damaged}
    made = set()
    for source in store.noted():
        recipe = recipes.get(source[1], "")
        if source in gone or not any(f'"{key}"' in recipe for key in keys):
            continue
        note = _note_of(store, source)
        read = {} if note is None else note.made_from
        if not all(_was_sound(read, each, damaged[each]) for each in damaged if each[1] in recipe):
            made.add(source)
    return made


def _was_sound(read: Mapping[str, str], source: Source, note: Note | None) -> bool:
    """Whether what was read of a product is what it was when it was finished."""
    return note is not None and read.get("/".join(source)) == note.digest


def _recipes(store: Store) -> dict[str, str]:
    """Recipes as JSON by key, as far as ledgers can be read."""
    entries: Iterable[Entry] = (
        entry for ledger in store.ledgers() for entry in ledger.entries().values()
    )
    return {entry.key: json.dumps(entry.recipe) for entry in entries}


def _note_of(store: Store, source: Source) -> Note | None:
    return Note.read(store.path(*source))


def _fits(store: Store, source: Source) -> bool:
    note, path = _note_of(store, source), store.path(*source)
    return not path.exists() if note is None else note.fits(path)


def _is_newer(path: Path, since: float | None) -> bool:
    return since is not None and note_path(path).stat().st_mtime >= since


def _trash(store: Store, product: Product) -> None:
    """Move a product and its note out of the way, the note last."""
    store.throw_away(product.path, product.shelf)
    store.throw_away(note_path(product.path), product.shelf)


def _trash_scratch(store: Store) -> None:
    """Half learnt concepts that nobody went on with for long, and is not learning now."""
    for folder in sorted((store.root / "scratch").glob("*")):
        age = time.time() - folder.stat().st_mtime
        if age > KEPT.total_seconds() and not store.is_making("concepts", folder.name):
            with writing(folder):
                remove(folder)


def _empty_trash(store: Store) -> None:
    """Remove for good what lies in the trash for long, and what was damaged long ago."""
    today = datetime.now(UTC)
    for folder in sorted(store.trash.glob("*")):
        match = _TRASHED.fullmatch(folder.name)
        if match is None:
            continue
        kept = CONCEPTS_KEPT if match[2] == "concepts" else KEPT
        if today - datetime.fromisoformat(match[1]).replace(tzinfo=UTC) > kept:
            with writing(folder):
                remove(folder)
    for path in sorted((store.root / "quarantine").glob("*")):
        if time.time() - path.stat().st_mtime > KEPT.total_seconds():
            with writing(path):
                remove(path)
