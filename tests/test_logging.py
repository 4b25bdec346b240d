"""A failure keeps its cause: the author hears a sentence, the log where it broke."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from storyforge.cli import app
from storyforge.errors import TaskFailed
from storyforge.executor import OnProgress, run, silent, translated

STORY = "storyforge: 1\ntitle: A\npages: [{text: Once.}]\n"


def _break(number: int, on_progress: OnProgress) -> None:
    logging.getLogger("storyforge.somewhere").info("about to break %d", number)
    raise RuntimeError(f"mat1 and mat2 do not fit, {number}")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_task_that_breaks_leaves_its_traceback_in_the_log(
    jobs: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "storyforge")
    failures = run(_break, [1, 2], jobs, silent, lambda *_: None)
    assert len(failures) == 2
    for failure in failures:
        assert isinstance(failure.error, TaskFailed)
        assert failure.error.message == f"RuntimeError: mat1 and mat2 do not fit, {failure.task}"
        assert "in _break" in failure.error.trace
    assert caplog.text.count("in _break") == 2
    assert "about to break 1" in caplog.text


def test_fewer_jobs_are_recommended_where_there_were_some() -> None:
    full = RuntimeError("CUDA out of memory")
    assert "--jobs" in str(translated(full, jobs=2).hint)
    assert "--jobs" not in str(translated(full).hint)


def invoked(*words: str) -> str:
    return CliRunner().invoke(app, list(words)).stderr


def test_verbose_says_what_is_done_and_plain_does_not(tmp_path: Path) -> None:
    story = tmp_path / "story.yaml"
    story.write_text(STORY)
    assert "storyforge." not in invoked("book", str(story), "--to", "cbz")
    assert "book pdf en: made in" in invoked("-v", "book", str(story), "--to", "pdf")
    assert "book pdf en: there" in invoked("-v", "book", str(story), "--to", "pdf")
    assert "storyforge.store.products: kept" in invoked("-vv", "book", str(story), "--to", "html")
    assert not logging.getLogger("storyforge").handlers[1:]


def test_a_traceback_is_shown_to_those_who_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = str(tmp_path / "none.yaml")
    assert "Traceback" not in invoked("plan", missing)
    monkeypatch.setenv("STORYFORGE_TRACEBACK", "1")
    assert "Traceback" in invoked("plan", missing)


def test_a_program_that_sets_up_no_log_hears_nothing() -> None:
    program = (
        "from storyforge.executor import run, silent\n"
        "def broken(task, on_progress): raise OSError('no space left')\n"
        "run(broken, [1], 1, silent, print)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
