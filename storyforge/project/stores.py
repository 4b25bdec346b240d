"""A store without its story: found in a folder, and tidied."""

from __future__ import annotations

from pathlib import Path

from storyforge.errors import StoryForgeError
from storyforge.plan.pins import pinned_keys
from storyforge.store import Store, tidying
from storyforge.store.known import check_known
from storyforge.store.tidying import Waste


def store_at(where: Path) -> Store:
    """The store of a story file, of a story's folder, or in the folder itself.

    Raises StoryForgeError if there is none.
    """
    folder = where.parent if where.is_file() else where
    for candidate in (folder / ".storyforge", folder):
        if (candidate / "locks").is_dir():
            return Store(candidate)
    hint = "name a story that was rendered, or the folder given as `--store`"
    raise StoryForgeError(f"no store at `{where}`", hint=hint)


def names_in(store: Store) -> dict[str, str]:
    """What each product is by its key, as its story's ledger calls it; of several, whose."""
    ledgers = store.ledgers()
    names: dict[str, list[str]] = {}
    for ledger in ledgers:
        story = ledger.path.stem.rpartition("-")[0]
        about = f" ({story})" if len(ledgers) > 1 else ""
        for subject, entry in ledger.entries().items():
            names.setdefault(entry.key, []).append(f"{subject}{about}")
    return {key: ", ".join(each) for key, each in names.items()}


def gc(where: Path, *, dry: bool = False) -> list[Waste]:
    """Throw away what no story needs any more; what a lock beside the store names is kept."""
    store = store_at(where)
    return tidying.gc(store, keep=pinned_keys(store.root.parent), dry=dry)


def verify(where: Path) -> list[Waste]:
    """Set aside what is damaged, and what may have been made from it."""
    return tidying.verify(store_at(where))


def turned() -> tuple[Path, ...]:
    """Large files of others, such as a base's, that are not what they were when they were read."""
    return tuple(check_known())
