"""Products made a second time and compared: to find what decides and is not in their key.

Each is made in a store of its own from what the first was made from; nothing that is kept changes.
"""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storyforge.engine.engine import Engine
from storyforge.engine.orders import Sender, products_of
from storyforge.engine.stages import ready_picture
from storyforge.engine.worker import Unfinished, perform
from storyforge.errors import StoryForgeError
from storyforge.executor import OnProgress, silent
from storyforge.plan.plan import Plan
from storyforge.plan.status import shelf_of, subject_of
from storyforge.store import Store, fingerprint
from storyforge.store.parcels import Parcel, parcel_of
from storyforge.store.products import Source
from storyforge.tasks import BookTask, OwnPictureTask, Task


@dataclass(frozen=True, slots=True)
class Remade:
    """A product that was made again; `same` says whether byte for byte."""

    subject: str
    key: str
    same: bool


def remade(
    plan: Plan,
    store: Store,
    share: float,
    chance: random.Random,
    on_progress: OnProgress = silent,
) -> Iterator[Remade]:
    """Make a random share of what is made of a plan again, one product at least.

    Raises StoryForgeError if that fails.
    """
    there = [task for task in plan.tasks() if store.sound(shelf_of(task), task.key)]
    count = min(len(there), max(1, math.ceil(share * len(there))))
    for task in sorted(chance.sample(there, count), key=there.index):
        kept = fingerprint(store.path(shelf_of(task), task.key))
        with tempfile.TemporaryDirectory(prefix="storyforge-again-") as folder:
            again = _made(task, plan, store, Store(Path(folder) / "store"), on_progress)
        yield Remade(subject_of(task), task.key, again == kept)


def _made(task: Task, plan: Plan, store: Store, other: Store, on_progress: OnProgress) -> str:
    """The sum of a task's product, made in another store."""
    if isinstance(task, BookTask):
        own = [key for panel, key in task.panels if panel not in plan.pins]
        _lend([("panels", key) for key in dict.fromkeys(own)], store, other)
        Engine(plan, other, on_progress).books.perform(task, on_progress)
    elif isinstance(task, OwnPictureTask):
        ready_picture(other, task, on_progress)
    else:
        sender = Sender(plan, store)
        order = sender.order(task)
        _lend(products_of(order), store, other)
        given = [sender.input(key) for key in order.inputs]
        try:
            perform(order.text(), given, "here", on_progress, other)
        except Unfinished as exc:
            raise exc.error from exc
    path = other.path(shelf_of(task), task.key)
    if not path.exists():
        raise StoryForgeError(f"{subject_of(task)} could not be made again")
    return fingerprint(path)


def _lend(sources: list[Source], store: Store, other: Store) -> None:
    for source in sources:
        Parcel.read(parcel_of(store, *source)).keep(other)
