"""Where a task runs: here, or in local processes beside each other.

A task is plain data and a function that can be imported; what it makes lies in the store, so only
words travel back. Other machines are `engine.cluster`'s.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final, Generic, TypeVar

from storyforge.errors import EnvironmentProblem, NotEnoughMemory, StoryForgeError, TaskFailed

_log = logging.getLogger(__name__)

OnProgress = Callable[[str, int, int], None]
"""Hears how far a task is: `on_progress(what, done, total)`."""


def silent(what: str, done: int, total: int) -> None:
    """Hear nothing."""


Item = TypeVar("Item")
Done = Callable[[Item, int], None]
"""Hears of every task that is finished, and how much memory its process had in use at the worst
moment, in bytes; 0 if the system does not say."""

_THREAD_SETTINGS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

MENDABLE: Final = (StoryForgeError, OSError, MemoryError, RuntimeError)
"""What can befall one task without being a mistake in the program: a full disk, no memory (torch
says RuntimeError), an unreadable picture."""


@dataclass(frozen=True, slots=True)
class Failure(Generic[Item]):
    """A task that could not be finished, and why."""

    task: Item
    error: StoryForgeError


def processors() -> int:
    """How many processors this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def peak_memory() -> int:
    """Bytes that this process had in use at the worst moment; 0 if the system does not say.

    Linux's own figure comes first: `getrusage` counts what the parent had before the process began.
    """
    with suppress(OSError, ValueError):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split("kB")[0]) * 1024
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak_memory() -> None:
    """Begin to measure anew, where the system lets us; elsewhere the peak is the whole run's."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def run(
    function: Callable[[Item, OnProgress], None],
    tasks: Sequence[Item],
    jobs: int,
    on_progress: OnProgress,
    done: Done[Item],
) -> tuple[Failure[Item], ...]:
    """Do every task, `jobs` at a time, and return those that failed; the others are unharmed.

    With one job, or one task, everything happens in this process. With more, each task has a
    process of its own: `function` must be importable and tasks must pickle. `on_progress` and
    `done` are called in this process only. KeyboardInterrupt ends the processes before it goes on.
    """
    if jobs < 1:
        raise ValueError("tasks need at least one job")
    if jobs == 1 or len(tasks) <= 1:
        return _run_here(function, tasks, on_progress, done)
    return _run_beside(function, tasks, jobs, on_progress, done)


def _run_here(
    function: Callable[[Item, OnProgress], None],
    tasks: Sequence[Item],
    on_progress: OnProgress,
    done: Done[Item],
) -> tuple[Failure[Item], ...]:
    failures: list[Failure[Item]] = []
    for task in tasks:
        forget_peak_memory()
        try:
            function(task, on_progress)
        except MENDABLE as exc:
            failures.append(Failure(task, logged(translated(exc))))
        else:
            done(task, peak_memory())
    return tuple(failures)


def translated(error: Exception, jobs: int = 1) -> StoryForgeError:
    """The error as the author is to hear it, with its cause; what is meant for the author stays.

    jobs  tasks that shared the memory
    """
    if isinstance(error, StoryForgeError):
        told = error
    elif isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        hint = (
            "use fewer `--jobs`" if jobs > 1 else "close other programs, or draw smaller pictures"
        )
        told = NotEnoughMemory(f"not enough memory: {error}", hint=hint)
    elif isinstance(error, OSError):
        told = EnvironmentProblem(str(error))
    else:
        told = TaskFailed(f"{type(error).__name__}: {error}")
    # Objects of a traceback do not travel between processes; its words do.
    told.trace = "".join(traceback.format_exception(error))
    return told


def logged(error: StoryForgeError) -> StoryForgeError:
    """The error, after the log has heard of it: the author hears a sentence, not where it broke."""
    _log.error("a task failed: %s\n%s", error.message, error.trace)
    return error


@dataclass(slots=True)
class _Worker(Generic[Item]):
    """A process at work on one task, and the end of the pipe that it speaks into."""

    task: Item
    process: BaseProcess
    ear: Connection
    error: StoryForgeError | None = None
    finished: bool = False
    memory: int = 0


def _run_beside(
    function: Callable[[Item, OnProgress], None],
    tasks: Sequence[Item],
    jobs: int,
    on_progress: OnProgress,
    done: Done[Item],
) -> tuple[Failure[Item], ...]:
    failures: list[Failure[Item]] = []
    waiting = list(reversed(tasks))
    workers: list[_Worker[Item]] = []
    threads = max(1, processors() // min(jobs, len(tasks)))
    try:
        while waiting or workers:
            while waiting and len(workers) < jobs:
                workers.append(_started(function, waiting.pop(), threads, jobs))
            ready = wait([worker.ear for worker in workers])
            for worker in [worker for worker in workers if worker.ear in ready]:
                if _listen(worker, on_progress):
                    continue
                workers.remove(worker)
                error = _farewell(worker)
                if error is None:
                    done(worker.task, worker.memory)
                else:
                    failures.append(Failure(worker.task, logged(error)))
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
            worker.ear.close()
    return tuple(failures)


def _started(
    function: Callable[[Item, OnProgress], None], task: Item, threads: int, jobs: int
) -> _Worker[Item]:
    # A forked child would inherit torch's threads and a device's state, and hang or fail.
    context = multiprocessing.get_context("spawn")
    ear, mouth = context.Pipe(duplex=False)
    level = logging.getLogger("storyforge").getEffectiveLevel()
    work = (function, task, mouth, jobs, level)
    # A daemon, so that it cannot outlive an interpreter that ends without waiting.
    process = context.Process(target=_work, args=work, daemon=True)
    settings = {name: str(threads) for name in _THREAD_SETTINGS if name not in os.environ}
    with _environment(settings):
        process.start()
    mouth.close()
    return _Worker(task, process, ear)


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Settings that a started process inherits and this one does not keep."""
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in settings:
            os.environ.pop(name, None)


def _listen(worker: _Worker[Item], on_progress: OnProgress) -> bool:
    """Take in one message; False when the worker has nothing more to say."""
    try:
        message = worker.ear.recv()
    except EOFError:
        return False
    match message:
        case StoryForgeError():
            worker.error = message
        case logging.LogRecord():
            logging.getLogger(message.name).handle(message)
        case (str(what), int(count), int(total)):
            on_progress(what, count, total)
        case memory:
            worker.finished, worker.memory = True, memory
    return True


def _farewell(worker: _Worker[Item]) -> StoryForgeError | None:
    """What went wrong, if anything; the process is gone afterwards."""
    worker.process.join()
    worker.ear.close()
    if worker.error is not None or worker.finished:
        return worker.error
    code = worker.process.exitcode or 0
    if code < 0:
        message = f"its process was ended by {signal.Signals(-code).name}"
        return TaskFailed(message, hint="if memory ran out, use fewer `--jobs`")
    return TaskFailed(f"its process ended with code {code}")


class _Home(logging.Handler):
    """Sends what is logged in a worker to the process that asked for the work."""

    def __init__(self, mouth: Connection) -> None:
        super().__init__()
        self.mouth = mouth

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record with its words filled in: arguments and exceptions may not travel."""
        record.msg, record.args = self.format(record), None
        record.exc_info = record.exc_text = None
        _say(self.mouth, record)


def _work(
    function: Callable[[Item, OnProgress], None],
    task: Item,
    mouth: Connection,
    jobs: int,
    level: int,
) -> None:
    """Do one task in a process of its own."""
    # Ctrl-C reaches the whole group; the parent alone decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("storyforge").addHandler(_Home(mouth))
    logging.getLogger("storyforge").setLevel(level)
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        function(task, lambda what, count, total: _say(mouth, (what, count, total)))
    except MENDABLE as exc:
        _say(mouth, translated(exc, jobs))
    else:
        _say(mouth, peak_memory())
    mouth.close()


Message = tuple[str, int, int] | StoryForgeError | logging.LogRecord | int
"""How far a task is, why it failed, what it logs, or how much memory it had in use at most."""


def _say(mouth: Connection, message: Message) -> None:
    """Send a message home; where nobody listens any more, there is no use in going on."""
    try:
        mouth.send(message)
    except BrokenPipeError:
        os._exit(1)


def _follow_parent() -> None:
    """End with the process that asked for the work, however that one was ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
