"""Tasks on many machines, by Dask: which worker does what, what is lost with one, who tries again.

What travels is an order in plain JSON and the products that it reads; Dask brings these to whoever
needs them from whoever has them, and prefers workers that do. A worker that is lost loses the task
that it was at. Not covered: a scheduler that is lost ends the run; what was made is kept.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from storyforge.engine.orders import RemoteTask, Sendable, Sender, products_of
from storyforge.engine.token import check_dask, security_of
from storyforge.engine.worker import DEVICE, Unfinished, gpus, perform, settle
from storyforge.errors import (
    Damaged,
    EnvironmentProblem,
    InputChanged,
    NotEnoughMemory,
    StoryForgeError,
    TaskFailed,
)
from storyforge.executor import Done, Failure, OnProgress, processors
from storyforge.plan.status import shelf_of, subject_of
from storyforge.store import Store
from storyforge.store.durable import make_folder
from storyforge.store.packs import Pack, packed
from storyforge.store.products import Source

if TYPE_CHECKING:
    from distributed import Client, Future

TRIES: Final = 3
"""How often a task is tried, each time on another worker if there is one."""

PROGRESS: Final = "storyforge-progress"
"""The topic under which workers tell how far they are."""

WAITING: Final = 120.0
"""Seconds to wait for the first worker."""

_PACE: Final = 0.5
"""Seconds between two words of a worker about how far it is."""

T = TypeVar("T", bound=Sendable)


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """Where tasks are to be done, as `--cluster` says it.

    kind   `local`, `slurm`, `ssh`, or `scheduler` for one that is there
    where  the address of a scheduler, or the file that lists hosts
    count  workers to start; None for as many as there is room for
    token  the file that all members share; None on one machine alone
    """

    kind: str
    where: str = ""
    count: int | None = None
    token: Path | None = None

    @staticmethod
    def read(text: str, token: Path | None = None) -> ClusterSpec:
        """What `--cluster` says.

        Raises StoryForgeError for anything else.
        """
        started = re.fullmatch(r"(local|slurm)(?::([1-9]\d{0,3}))?", text)
        if started:
            return ClusterSpec(started[1], "", int(started[2]) if started[2] else None, token)
        if text.startswith("ssh:") and len(text) > len("ssh:"):
            return ClusterSpec("ssh", text.removeprefix("ssh:"), token=token)
        if re.fullmatch(r"(tcp|tls)://[^\s/]+:\d+", text):
            return ClusterSpec("scheduler", text, token=token)
        raise StoryForgeError(
            f"`{text}` is no cluster",
            hint="write `local:4`, `slurm:8`, `ssh:hosts.txt` or `tls://host:8786`",
        )


def work(text: str, *given: bytes) -> bytes:
    """What a worker of Dask's does: one order, with what it reads."""
    from distributed import get_worker

    worker = get_worker()
    settle(worker.name)
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

    shared  whether all of them see the store of whoever asks
    work    what they do with an order
    given   what they were given to read, by name
    """

    client: Client
    shared: bool = False
    work: Callable[..., bytes] = work
    given: dict[str, Future] = field(default_factory=dict)

    def perform(
        self, tasks: Sequence[T], sender: Sender, on_progress: OnProgress, done: Done[T]
    ) -> tuple[Failure[T], ...]:
        """Do every task somewhere, keep each product as it arrives, and say which failed."""
        sender.shared = self.shared
        round_ = _Round[T](self, sender)

        def hear(event: tuple[float, Any]) -> None:
            """Hear of a worker how far it is."""
            round_.news.put(tuple(event[1]))

        self.client.subscribe_topic(PROGRESS, hear)
        try:
            for task in tasks:
                round_.send(_Sent(task))
            for number, (task, error) in enumerate(round_.ends(on_progress), start=1):
                ended = "failed" if error else "done"
                on_progress(f"{subject_of(task)}: {ended}", number, len(tasks))
                if error is None:
                    done(task, 0)
        finally:
            round_.give_up()
            with suppress(OSError, ValueError):
                self.client.unsubscribe_topic(PROGRESS)
        return tuple(round_.failures)

    def submit(self, order: RemoteTask, sender: Sender, name: str, but: Sequence[str]) -> Future:
        """Send an order under a name, to any worker but these."""
        sources: list[Source] = [] if self.shared else products_of(order)
        given = [self._product(source, sender.store) for source in sources]
        given += [self._give(f"inputs-{key}", sender.input(key)) for key in order.inputs]
        others = [where for where in self.client.nthreads() if where not in but] if but else None
        return self.client.submit(
            self.work, order.text(), *given, key=name, workers=others or None, pure=False
        )

    def _product(self, source: Source, store: Store) -> Future:
        name = "-".join(source)
        return self.given.get(name) or self._give(name, packed(store, *source))

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


@dataclass(slots=True)
class _Sent(Generic[T]):
    """A task that is somewhere; `refused` are workers that could not do it."""

    task: T
    tries: int = 0
    tight: bool = False
    refused: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Round(Generic[T]):
    """Tasks that are on their way, and what is heard of them."""

    cluster: Cluster
    sender: Sender
    failures: list[Failure[T]] = field(default_factory=list)
    sent: dict[str, tuple[_Sent[T], Future]] = field(default_factory=dict)
    news: SimpleQueue[Any] = field(default_factory=SimpleQueue)
    unsent: list[tuple[_Sent[T], StoryForgeError]] = field(default_factory=list)

    def send(self, each: _Sent[T]) -> None:
        """Send a task, once more if need be."""
        each.tries += 1
        name = f"{shelf_of(each.task)}-{each.task.key}-{secrets.token_hex(4)}"
        try:
            order = self.sender.order(each.task, tight=each.tight)
            future = self.cluster.submit(order, self.sender, name, each.refused)
        except StoryForgeError as exc:
            self.unsent.append((each, exc))
            return
        self.sent[future.key] = each, future
        future.add_done_callback(self.news.put)

    def ends(self, on_progress: OnProgress) -> Iterator[tuple[T, StoryForgeError | None]]:
        """Each task when it has come to its end, and what went wrong if anything did."""
        while self.sent or self.unsent:
            if self.unsent:
                each, why = self.unsent.pop()
                yield each.task, self._regretted(each, why)
                continue
            news = self.news.get()
            if isinstance(news, tuple):
                on_progress(*news)
                continue
            each, _ = self.sent.pop(news.key)
            error = self._arrived(each, news)
            if error is not None and self._may_go(each, error):
                self.send(each)
            else:
                yield each.task, error if error is None else self._regretted(each, error)

    def _regretted(self, each: _Sent[T], error: StoryForgeError) -> StoryForgeError:
        self.failures.append(Failure(each.task, error))
        return error

    def _arrived(self, each: _Sent[T], future: Future) -> StoryForgeError | None:
        """Keep what a task has made, verified; what went wrong, if anything did."""
        from distributed import KilledWorker

        try:
            data = future.result()
            if data:
                pack = Pack.read(data)
                if pack.source != (shelf_of(each.task), each.task.key):
                    raise Damaged("what arrived is not what was asked for")
                pack.keep(self.sender.store)
        except Unfinished as exc:
            each.refused.append(exc.where)
            return exc.error
        except StoryForgeError as exc:
            return exc
        except KilledWorker as exc:
            hint = "if memory ran out there, draw smaller pictures"
            error = TaskFailed("every worker that tried it was lost", hint=hint)
            error.trace = str(exc)
            return error
        except (CancelledError, OSError) as exc:
            return EnvironmentProblem(f"the cluster is gone: {exc}")
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
        left = set(self.cluster.client.nthreads()) - set(each.refused)
        return isinstance(error, Damaged) or bool(each.refused and left)

    def give_up(self) -> None:
        """Let go of what is not done yet."""
        self.cluster.client.cancel([future for _, future in self.sent.values()])


@contextmanager
def opened_cluster(spec: ClusterSpec, store: Store) -> Iterator[Cluster]:
    """Connect to a cluster, or start one that ends with this.

    Raises EnvironmentProblem if nobody answers.
    """
    check_dask()
    import dask
    from distributed import Client

    quiet = {"distributed.admin.large-graph-warning-threshold": "1GiB"}
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(quiet))
        security = security_of(spec.token)
        address = _started(spec, security, stack)
        try:
            client = stack.enter_context(Client(address, security=security, timeout=WAITING))
            client.wait_for_workers(1, timeout=WAITING)
        except (OSError, TimeoutError) as exc:
            message = f"no worker answers at `{spec.where or spec.kind}`: {exc}"
            hint = "start some with `storyforge worker`; all need the same token"
            raise EnvironmentProblem(message, hint=hint) from exc
        yield Cluster(client, shared=_is_shared(client, store))


def _started(spec: ClusterSpec, security: Any, stack: ExitStack) -> Any:  # noqa: ANN401
    """What a client connects to: an address, or a cluster of Dask's that ends with the stack."""
    if spec.kind == "scheduler":
        check_guarded(spec)
        return spec.where
    if spec.kind == "local":
        return stack.enter_context(_local(spec))
    if spec.kind == "slurm":
        try:
            from dask_jobqueue import SLURMCluster
        except ImportError as exc:
            hint = "pip install 'storyforge[slurm]'"
            raise EnvironmentProblem("Slurm needs the package `dask-jobqueue`", hint=hint) from exc
        # Queue, memory and account stand in dask's jobqueue.yaml, as the site wants them.
        made = stack.enter_context(SLURMCluster(processes=1, security=security))
        made.scale(spec.count or 1)
        return made
    from distributed import SSHCluster

    hosts = hosts_in(Path(spec.where))
    options = {"nthreads": 1, "memory_limit": 0}
    return stack.enter_context(
        SSHCluster([hosts[0], *hosts], worker_options=options, security=security)
    )


def _local(spec: ClusterSpec) -> Any:  # noqa: ANN401
    from distributed import LocalCluster

    count = spec.count or gpus() or processors()
    threads = {"OMP_NUM_THREADS": str(max(1, processors() // count))}
    return LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        memory_limit=0,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.ERROR,
        env=threads,
    )


def usual_cluster() -> ClusterSpec | None:
    """All GPUs of this machine, if it has several and Dask is there; None for doing it here."""
    # Looked up where the driver lists them: loading torch to ask would take seconds.
    if len(list(Path("/dev").glob("nvidia[0-9]*"))) < 2 or find_spec("distributed") is None:
        return None
    count = gpus()
    return ClusterSpec("local", count=count) if count > 1 and not os.environ.get(DEVICE) else None


def hosts_in(path: Path) -> list[str]:
    """The hosts that a file lists, one a line.

    Raises EnvironmentProblem if there are none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as exc:
        raise EnvironmentProblem(f"cannot read `{path}`: {exc}") from exc
    hosts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not hosts:
        raise EnvironmentProblem(f"`{path}` lists no host", hint="write one a line")
    return hosts


def check_guarded(spec: ClusterSpec) -> None:
    """Raise StoryForgeError for a connection that others could listen to, or answer."""
    host = spec.where.partition("://")[2].rpartition(":")[0]
    if spec.token is None and host not in {"localhost", "127.0.0.1", "[::1]"}:
        raise StoryForgeError(
            f"without a token nobody knows who answers at `{host}`",
            hint="name it with `--token FILE`; `storyforge worker --new-token FILE` makes one",
        )


def _is_shared(client: Client, store: Store) -> bool:
    """Whether every worker sees the store."""
    mark = store.root / "locks" / f"seen-{secrets.token_hex(8)}"
    make_folder(mark.parent)
    mark.touch()
    try:
        return all(client.run(_sees, str(mark)).values())
    finally:
        mark.unlink(missing_ok=True)


def _sees(path: str) -> bool:
    return Path(path).exists()
