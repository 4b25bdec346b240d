"""One order done on the machine that it was sent to, in that machine's own store.

What comes in is verified before it is read, what goes out before it is sent. The base stays open
from one order to the next.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

from storyforge.engine import stages
from storyforge.engine.orders import RemoteTask, Sendable, sees
from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.executor import MENDABLE, OnProgress, translated
from storyforge.modelref import DEVICE, VRAM, base_at
from storyforge.plan.status import shelf_of
from storyforge.store import Store
from storyforge.store.known import user_cache
from storyforge.store.parcels import Parcel, parcel_of
from storyforge.tasks import FuseTask, ImportTask, PanelTask, TrainTask

STORE: Final = "STORYFORGE_WORKER_STORE"
"""Names the folder where a worker keeps what it was sent and what it makes."""

TIGHT: Final = "1"
"""GB of a GPU's memory with which a task is tried that did not fit: layer by layer."""


class Unfinished(StoryForgeError):
    """An order that was not done, why, and on which machine."""

    def __init__(self, error: StoryForgeError, where: str) -> None:
        """Keep the error as the author is to hear it."""
        super().__init__(error.message, hint=error.hint)
        self.error, self.where = error, where

    def __reduce__(self) -> tuple[type[Unfinished], tuple[StoryForgeError, str]]:
        """How it travels: with the error in it."""
        return Unfinished, (self.error, self.where)


def own_store() -> Path:
    """Where a worker keeps things: what STORYFORGE_WORKER_STORE names, or the user's cache."""
    named = os.environ.get(STORE)
    return Path(named) if named else user_cache() / "worker"


@lru_cache(maxsize=1)
def take_gpu(name: object) -> None:
    """Take a GPU of one's own, by one's number among the workers of a machine with several."""
    count = gpus()
    if count > 1 and isinstance(name, int) and not os.environ.get(DEVICE):
        os.environ[DEVICE] = f"cuda:{name % count}"


def gpus() -> int:
    """How many GPUs this machine has."""
    from storyforge.model.placement import gpus as counted

    return counted()


def perform(
    text: str,
    given: Sequence[bytes],
    where: str,
    on_progress: OnProgress,
    own: Store | None = None,
) -> bytes:
    """Do what an order says; the product, packed, or nothing if the store is shared.

    given  the products and inputs that it reads
    where  this machine, in words
    own    where to keep things if no store is shared; None for the worker's own

    Raises Unfinished.
    """
    try:
        order = RemoteTask.read(text)
        _check_seen(order)
        store = own or Store(order.store or own_store())
        with store.at_work(), _room(tight=order.tight):
            for data in given:
                _take_in(Parcel.read(data), store)
            task = order.opened(store)
            _check_base(task.base, task.base_hash)
            shelf = shelf_of(task)
            while not store.sound(shelf, task.key):
                _attempt(order, task, store, on_progress)
                store.wait_for(shelf, task.key)
            return b"" if order.store else parcel_of(store, shelf, task.key)
    except (*MENDABLE, ValueError) as exc:
        raise Unfinished(translated(exc), where) from exc


def _check_seen(order: RemoteTask) -> None:
    """Raise EnvironmentProblem where the store that an order names is not the one that is meant."""
    if order.store is not None and not sees(order.store, order.seen):
        message = f"this machine does not see the store `{order.store}` that the others share"
        hint = "mount the same folder there, or end the worker on it"
        raise EnvironmentProblem(message, hint=hint)


def _take_in(parcel: Parcel, store: Store) -> None:
    """Keep what was sent, or wait for whoever on this machine is keeping the same."""
    while not store.sound(*parcel.source):
        parcel.keep(store)
        store.wait_for(*parcel.source)


def _attempt(order: RemoteTask, task: Sendable, store: Store, on_progress: OnProgress) -> None:
    match task:
        case TrainTask():
            sums = {task.key: dict(order.sums)}
            stages.learn_concept(store.root, None, sums, task, on_progress)
        case ImportTask():
            stages.Importer(store).perform(task, on_progress)
        case FuseTask():
            files = order.concept_files(store)
            stages.fuse_concepts(store, files, order.reads, task, on_progress)
        case PanelTask():
            model = None if task.fused is None else store.read("fused", task.fused)
            own = {key for name, key in task.concepts if ("concepts", key) not in order.reads}
            files = order.concept_files(store)
            job = stages.DrawingJob((task,), model, files, frozenset(own))
            stages.draw_panels(store, None, stages.unheard, job, on_progress)


@lru_cache(maxsize=16)
def _check_base(reference: str, identity: str) -> None:
    """Raise EnvironmentProblem if this machine's base is not the one that the story has."""
    if base_at(reference, Path("/")).hash != identity:
        message = f"the base `{reference}` is another one on this machine"
        raise EnvironmentProblem(message, hint="copy the same files to every machine")


@contextmanager
def _room(*, tight: bool) -> Iterator[None]:
    """Let a task that did not fit have its layers come and go; the next has them all again."""
    if not tight:
        yield
        return
    before = os.environ.get(VRAM)
    os.environ[VRAM] = TIGHT
    stages.close_base()
    gc.collect()
    try:
        yield
    finally:
        if before is None:
            del os.environ[VRAM]
        else:
            os.environ[VRAM] = before
        stages.close_base()
