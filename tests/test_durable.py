"""Files are written whole, on the disk before they have their name, and leave nothing behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.faults.life import write_story
from storyforge.errors import EnvironmentProblem
from storyforge.project.output import published
from storyforge.store import Store, write_whole
from storyforge.store.durable import sweep
from storyforge.story.story import read
from storyforge.tasks import BookTask

KILLED = """
import os, signal
from pathlib import Path
from storyforge.store import write_whole
plain, os.replace = os.replace, lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write_whole(Path({path!r}), b"new")
"""


def kill_while_writing(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED.format(path=str(path))])
    assert done.returncode == -signal.SIGKILL


def test_a_file_is_never_seen_half_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    kill_while_writing(path)
    assert path.read_bytes() == b"old"


def test_a_secret_is_its_owners_alone_from_the_first_byte_on(tmp_path: Path) -> None:
    def seen() -> Iterator[bytes]:
        (partial,) = tmp_path.iterdir()
        modes.append(partial.stat().st_mode & 0o777)
        yield b"secret"

    modes: list[int] = []
    write_whole(tmp_path / "key", seen(), mode=0o600)
    assert modes == [0o600]
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_what_a_killed_process_left_is_swept_up(tmp_path: Path) -> None:
    kill_while_writing(tmp_path / "file")
    assert len(list(tmp_path.iterdir())) == 1
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_next_process_that_writes_there_sweeps(tmp_path: Path) -> None:
    kill_while_writing(tmp_path / "file")
    write_whole(tmp_path / "other", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_books_are_swept_beside_in_a_process_that_has_written_there_before(tmp_path: Path) -> None:
    (path,) = write_story(tmp_path)
    story, shelf = read(path), Store(tmp_path / "store")
    task = BookTask("k" * 20, "html", "en", ())
    with shelf.make("html", task.key) as made:
        made.write_bytes(b"book")
    book = published(story, task, shelf, None)
    kill_while_writing(book)
    assert len(list(book.parent.iterdir())) == 2
    assert published(story, task, shelf, None) == book
    assert list(book.parent.iterdir()) == [book]


def test_what_another_machine_may_be_writing_stays_for_a_day(tmp_path: Path) -> None:
    left = tmp_path / ".file.elsewhere-1-0badcafe.partial"
    left.touch()
    sweep(tmp_path)
    assert left.exists()
    os.utime(left, (time.time() - 90_000,) * 2)
    sweep(tmp_path)
    assert not left.exists()


def test_what_is_not_ours_is_not_swept(tmp_path: Path) -> None:
    names = [".file.1234", ".file.partial", "file.here-1-0badcafe.partial", ".git"]
    for name in names:
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_name_of_any_length_is_written(tmp_path: Path) -> None:
    write_whole(tmp_path / ("é" * 127), b"1")
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_names_the_file_and_leaves_nothing(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fails)
    with pytest.raises(EnvironmentProblem, match="cannot write `.*file`: No space left on device"):
        write_whole(tmp_path / "file", b"1")
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_is_on_the_disk_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda opened: synced.add(os.fstat(opened).st_ino))
    write_whole(tmp_path / "a" / "b" / "file", b"1")
    folders = [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    assert {folder.stat().st_ino for folder in folders} <= synced
