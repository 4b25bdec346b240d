"""Tasks on many machines, by Dask: which worker does what, what is lost with one, who tries again.

What travels is an order in plain JSON and the products that it reads; Dask brings these to whoever
needs them from whoever has them, and prefers workers that do. A worker that is lost loses the task
that it was at. Orders go out and products come in by the batch: a message for each would take
longer than small tasks do. Not covered: a scheduler that is lost ends the run; what was made is
kept.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from storyforge.engine.orders import RemoteTask, Sendable, Sender, appears, products_of
from storyforge.engine.worker import Unfinished, perform, take_gpu
from storyforge.errors import (
    Damaged,
    EnvironmentProblem,
    InputChanged,
    NotEnoughMemory,
    StoryForgeError,
    TaskFailed,
)
from storyforge.executor import Done, Failure, OnProgress, logged, translated
from storyforge.plan.status import shelf_of, subject_of
from storyforge.store import Store
from storyforge.store.parcels import Parcel, parcel_of
from storyforge.store.products import Source

if TYPE_CHECKING:
    from distributed import Client, Future

TRIES: Final = 3
"""How often a task is tried, each time on another worker if there is one."""

PROGRESS: Final = "storyforge-progress"
"""The topic under which workers tell how far they are."""

SENT_AT_ONCE: Final = 500
"""Orders in one message; some 2 kB each."""

FETCHED_AT_ONCE: Final = 64
"""Products in one message; pictures of a few MB at most, so it fits into the memory."""

LONELY: Final = 600.0
"""Seconds without a single worker after which a run ends."""

_LOOK: Final = 5.0
"""Seconds between two looks at which workers are still there."""

_PACE: Final = 0.5
"""Seconds between two words of a worker about how far it is."""

T = TypeVar("T", bound=Sendable)


def work(text: str, *given: bytes) -> bytes:
    """What a worker of Dask's does: one order, with what it reads."""
    from distributed import get_worker

    worker = get_worker()
    take_gpu(worker.name)
    told = 0.0

    def tell(what: str, done: int, total: int) -> None:
        """Tell whoever asked how far it is; not of every step."""
        nonlocal told
        if monotonic() - told > _PACE:
            told = monotonic()
            worker.log_event(PROGRESS, [what, done, total])

    return perform(text, given, worker.address, tell)


@dataclass(slots=True)
class Cluster:
    """Workers that are connected.

    seen    the mark in the store of whoever asks, if all workers see it; None if they do not
    work    what they do with an order
    lonely  seconds without a worker after which a run ends
    given   what they were given to read, by name
    """

    client: Client
    seen: str | None = None
    work: Callable[..., bytes] = work
    lonely: float = LONELY
    given: dict[str, Future] = field(default_factory=dict)

    def perform(
        self, tasks: Sequence[T], sender: Sender, on_progress: OnProgress, done: Done[T]
    ) -> tuple[Failure[T], ...]:
        """Do every task somewhere, keep each product as it arrives, and say which failed.

        Raises EnvironmentProblem if the cluster is lost; what has arrived is kept.
        """
        sender.seen = self.seen
        round_ = _Round[T](self, sender, on_progress)

        def hear(event: tuple[float, Any]) -> None:
            """Hear of a worker how far it is."""
            round_.news.put(tuple(event[1]))

        with _reaching(self.client):
            self.client.subscribe_topic(PROGRESS, hear)
        try:
            for number, (task, error) in enumerate(round_.ends(tasks), start=1):
                ended = "failed" if error else "done"
                on_progress(f"{subject_of(task)}: {ended}", number, len(tasks))
                if error is None:
                    done(task, 0)
        finally:
            # Whatever ended the round is what is told, not that nobody hears of its end.
            with suppress(EnvironmentProblem, ValueError), _reaching(self.client):
                round_.give_up()
                self.client.unsubscribe_topic(PROGRESS)
        return tuple(round_.failures)

    def given_to(self, order: RemoteTask, sender: Sender) -> list[Future]:
        """What a worker needs beside the order."""
        sources: list[Source] = [] if self.seen is not None else products_of(order)
        given = [self._product(source, sender.store) for source in sources]
        return given + [self._input(key, sender) for key in order.inputs]

    def submit(
        self, orders: Sequence[tuple[str, str, Sequence[Future]]], only: Sequence[str]
    ) -> list[Future]:
        """Send orders: each its name, its text, and equally many things to read.

        only  the workers that may do them; any if none
        """
        names, texts, given = zip(*orders, strict=True)
        # A wish that Dask may overrule would not do: the one that refused is idle, and steals it.
        sent: list[Future] = self.client.map(
            self.work,
            list(texts),
            *map(list, zip(*given, strict=True)),
            key=list(names),
            workers=list(only) or None,
            pure=False,
        )
        return sent

    def addresses(self) -> set[str]:
        """The workers that are there."""
        with _reaching(self.client):
            return set(self.client.nthreads())

    def _product(self, source: Source, store: Store) -> Future:
        name = "-".join(source)
        return self.given.get(name) or self._give(name, parcel_of(store, *source))

    def _input(self, key: str, sender: Sender) -> Future:
        # Thousands of pictures may read the same mask, which is read once.
        name = f"inputs-{key}"
        return self.given.get(name) or self._give(name, sender.input(key))

    def _give(self, name: str, data: bytes) -> Future:
        """Hand out bytes to read; a task of Dask's, so that they outlive the worker that has them.

        Data that is scattered is gone with its worker.
        """
        if name not in self.given:
            key = f"given-{name}-{secrets.token_hex(4)}"
            self.given[name] = self.client.submit(_same, data, key=key, pure=False)
        return self.given[name]


def _same(data: bytes) -> bytes:
    return data


def _gone(why: object) -> EnvironmentProblem:
    hint = "run the same command again: what has arrived is kept"
    return EnvironmentProblem(f"the cluster is gone: {why}", hint=hint)


@contextmanager
def _reaching(client: Client) -> Iterator[None]:
    """Say that the cluster is gone, where its scheduler does not answer."""
    from distributed import client as dask

    # A client that closes itself meanwhile says so by an error that older versions do not have.
    closed = getattr(dask, "ClosedClientError", CancelledError)
    if client.status == "closed":
        raise _gone("its scheduler was lost")
    try:
        yield
    except (CancelledError, OSError, closed) as exc:
        raise _gone(exc) from exc


class _Strange(EnvironmentProblem):
    """Something that no worker of storyforge's says."""


@dataclass(slots=True)
class _Sent(Generic[T]):
    """A task that is somewhere.

    refused  workers that could not do it
    only     those that may do it, since others refused; empty if any may
    """

    task: T
    tries: int = 0
    tight: bool = False
    refused: list[str] = field(default_factory=list)
    only: tuple[str, ...] = ()


@dataclass(slots=True)
class _Round(Generic[T]):
    """Tasks that are on their way, and what is heard of them."""

    cluster: Cluster
    sender: Sender
    on_progress: OnProgress
    failures: list[Failure[T]] = field(default_factory=list)
    sent: dict[str, tuple[_Sent[T], Future]] = field(default_factory=dict)
    news: SimpleQueue[Any] = field(default_factory=SimpleQueue)
    unsent: list[tuple[_Sent[T], StoryForgeError]] = field(default_factory=list)
    looked: float = 0.0
    lonely_since: float | None = None

    def ends(self, tasks: Sequence[T]) -> Iterator[tuple[T, StoryForgeError | None]]:
        """Send tasks; each when it has come to its end, and what went wrong if anything did."""
        self.looked = monotonic()
        for start in range(0, len(tasks), SENT_AT_ONCE):
            self.send([_Sent(task) for task in tasks[start : start + SENT_AT_ONCE]])
            yield from self._ended(wait=0.0)
        while self.sent or self.unsent:
            yield from self._ended(wait=_LOOK)
            self._look_after()

    def send(self, several: Sequence[_Sent[T]]) -> None:
        """Send tasks, once more if need be: one message for all that are alike."""
        groups: dict[tuple[int, tuple[str, ...]], list[tuple[_Sent[T], str, list[Future]]]] = {}
        there = self.cluster.addresses() if any(each.refused for each in several) else set()
        for each in several:
            each.tries += 1
            each.only = tuple(sorted(there - set(each.refused))) if each.refused else ()
            try:
                order = self.sender.order(each.task, tight=each.tight)
                given = self.cluster.given_to(order, self.sender)
            except StoryForgeError as exc:
                self.unsent.append((each, exc))
            else:
                group = groups.setdefault((len(given), each.only), [])
                group.append((each, order.text(), given))
        for (_, only), group in groups.items():
            orders = [(_name(each.task), text, given) for each, text, given in group]
            with _reaching(self.cluster.client):
                futures = self.cluster.submit(orders, only)
            for (each, _, _), future in zip(group, futures, strict=True):
                self.sent[future.key] = each, future
                future.add_done_callback(self.news.put)

    def _ended(self, wait: float) -> Iterator[tuple[T, StoryForgeError | None]]:
        """Those that have come to an end by now, or within so many seconds if none has."""
        for each, error in self._arrived(self._heard(0.0 if self.unsent else wait)):
            if error is None:
                yield each.task, None
            elif self._may_go(each, error):
                self.send([each])
            else:
                yield each.task, self._failed(each, error)
        while self.unsent:
            each, why = self.unsent.pop()
            yield each.task, self._failed(each, why)

    def _failed(self, each: _Sent[T], error: StoryForgeError) -> StoryForgeError:
        self.failures.append(Failure(each.task, logged(error)))
        return error

    def _heard(self, wait: float) -> list[Future]:
        """Tasks that came to an end; how far others are is told on the way."""
        ended: list[Future] = []
        until = monotonic() + wait
        with suppress(Empty):
            while len(ended) < FETCHED_AT_ONCE:
                # Nobody waits for more once there is something to keep.
                left = 0.0 if ended else until - monotonic()
                news = self.news.get(left > 0, max(left, 0.0))
                if isinstance(news, tuple):
                    self.on_progress(*news)
                elif news.key in self.sent:
                    ended.append(news)
        return ended

    def _arrived(
        self, ended: Sequence[Future]
    ) -> Iterator[tuple[_Sent[T], StoryForgeError | None]]:
        """Keep what tasks have made, fetched together; what went wrong with each, if anything."""
        client = self.cluster.client
        with _reaching(client):
            # Of those that failed, now or while they were fetched, there is None.
            data = client.gather({future.key: future for future in ended}, errors="skip")
        for future in ended:
            if future.status == "cancelled":
                raise _gone("its scheduler was lost")
            each, _ = self.sent.pop(future.key)
            if future.status == "error":
                yield each, _told(each, future)
            else:
                yield each, self._kept(each, data.pop(future.key))

    def _kept(self, each: _Sent[T], data: object) -> StoryForgeError | None:
        """Keep what has arrived, verified; what is wrong with it, if anything is."""
        source = shelf_of(each.task), each.task.key
        store = self.sender.store
        if not data:
            if appears(store.path(*source)) and store.has(*source):
                return None
            return EnvironmentProblem(f"`{store.path(*source)}` was made elsewhere and is not here")
        try:
            if not isinstance(data, bytes):
                raise Damaged("what arrived is no product")
            parcel = Parcel.read(data)
            if parcel.source != source:
                raise Damaged("what arrived is not what was asked for")
            parcel.keep(store)
        except StoryForgeError as exc:
            return exc
        return None

    def _may_go(self, each: _Sent[T], error: StoryForgeError) -> bool:
        """Whether to try it once more: elsewhere, or with less memory."""
        theirs = isinstance(error, EnvironmentProblem | TaskFailed)
        if each.tries >= TRIES or not theirs or isinstance(error, InputChanged):
            return False
        if isinstance(error, NotEnoughMemory) and not each.tight:
            each.tight = True
            each.refused.clear()
            return True
        if isinstance(error, Damaged | _Strange):
            return True
        return bool(each.refused) and bool(self.cluster.addresses() - set(each.refused))

    def _look_after(self) -> None:
        """Send anew what waits for workers that are gone; end where none comes any more."""
        if monotonic() - self.looked < _LOOK:
            return
        self.looked, there = monotonic(), self.cluster.addresses()
        if there:
            self.lonely_since = None
        elif self.lonely_since is None:
            self.lonely_since = self.looked
            self.on_progress("no worker is left: waiting for one", 0, 1)
        elif self.looked - self.lonely_since > self.cluster.lonely:
            raise _gone("no worker is left")
        for key, (each, future) in list(self.sent.items()):
            if each.only and there and not there & set(each.only):
                del self.sent[key]
                future.cancel()
                each.tries -= 1
                self.send([each])

    def give_up(self) -> None:
        """Let go of what is not done yet."""
        self.cluster.client.cancel([future for _, future in self.sent.values()])


def _told(each: _Sent[T], future: Future) -> StoryForgeError:
    """What went wrong with a task on its worker."""
    from distributed import KilledWorker

    error = future.exception()
    match error:
        case Unfinished():
            each.refused.append(error.where)
            return error.error
        case StoryForgeError():
            return error
        case KilledWorker():
            hint = "if memory ran out there, draw smaller pictures"
            lost = TaskFailed("every worker that tried it was lost", hint=hint)
            lost.trace = str(error)
            return lost
    hint = "install the same storyforge on every machine of the cluster"
    strange = _Strange(f"a worker failed by {type(error).__name__}: {error}", hint=hint)
    strange.trace = translated(error).trace
    return strange


def _name(task: Sendable) -> str:
    return f"{shelf_of(task)}-{task.key}-{secrets.token_hex(4)}"
