"""The executor: one task's misfortune is its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import hear_interrupts

from storyforge.errors import EnvironmentProblem, NotEnoughMemory, StoryForgeError, TaskFailed
from storyforge.executor import OnProgress, processors, run, translated


def _misfortunes(number: int, on_progress: OnProgress) -> None:
    on_progress("doubling", number, 2 * number)
    if number == 2:
        raise EnvironmentProblem("two cannot be doubled", hint="take three")
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)


def _double(number: int, on_progress: OnProgress) -> None:
    on_progress("doubling", number, 2 * number)
    if number == 2:
        raise OSError("no space left")


def test_processes_fail_one_by_one() -> None:
    told: list[tuple[str, int, int]] = []
    done: list[int] = []

    def on_progress(what: str, count: int, total: int) -> None:
        told.append((what, count, total))

    failures = run(
        _misfortunes, [1, 2, 3, 4], 2, on_progress, lambda number, memory: done.append(number)
    )
    assert sorted(done) == [1, 4]
    errors = {failure.task: failure.error for failure in failures}
    assert errors.keys() == {2, 3}
    assert (errors[2].message, errors[2].hint) == ("two cannot be doubled", "take three")
    assert isinstance(errors[2], EnvironmentProblem)
    assert "SIGKILL" in errors[3].message
    assert sorted(told) == [("doubling", number, 2 * number) for number in (1, 2, 3, 4)]


def test_one_job_works_here_and_goes_on_after_a_failure() -> None:
    done: list[int] = []
    failures = run(
        _double,
        [1, 2, 3],
        1,
        lambda what, count, total: None,
        lambda number, memory: done.append(number),
    )
    assert done == [1, 3]
    assert [failure.task for failure in failures] == [2]
    assert isinstance(failures[0].error, EnvironmentProblem)


def test_a_mistake_in_the_program_is_not_kept_quiet() -> None:
    with pytest.raises(TypeError):
        run(_double, [None], 1, lambda what, count, total: None, lambda *_: None)  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (MemoryError(), NotEnoughMemory, "not enough memory"),
        (RuntimeError("CUDA out of memory"), NotEnoughMemory, "not enough memory"),
        (RuntimeError("shapes differ"), TaskFailed, "RuntimeError: shapes differ"),
        (StoryForgeError("as it is"), StoryForgeError, "as it is"),
    ],
)
def test_errors_are_put_into_words(error: Exception, kind: type, words: str) -> None:
    told = translated(error)
    assert type(told) is kind
    assert words in told.message


PROGRAM = """
import os, sys, time
from pathlib import Path
from storyforge.executor import run

def work(folder, tell):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)

if __name__ == "__main__":
    try:
        run(work, [sys.argv[1]] * 2, 2, print, print)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_whoever_started_them(tmp_path: Path, sign: signal.Signals) -> None:
    program, folder = tmp_path / "program.py", tmp_path / "pids"
    program.write_text(PROGRAM)
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, program, folder],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,
    )
    _wait(lambda: len(list(folder.iterdir())) == 2)
    process.send_signal(sign)
    _, told = process.communicate(timeout=30)
    assert process.returncode == (130 if sign == signal.SIGINT else -sign)
    assert told == ""
    _wait(lambda: not any(_alive(int(path.name)) for path in folder.iterdir()))


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_there_is_a_processor() -> None:
    assert processors() >= 1


def _fill(megabytes: int, on_progress: OnProgress) -> None:
    bytearray(b"x") * (megabytes << 20)


@pytest.mark.parametrize("jobs", [1, 2])
def test_memory_is_measured_task_by_task(jobs: int) -> None:
    peaks: dict[int, int] = {}
    run(_fill, [200, 1], jobs, lambda what, count, total: None, peaks.__setitem__)
    assert peaks[200] - peaks[1] > 100 << 20
