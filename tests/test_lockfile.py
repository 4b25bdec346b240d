"""The list of pinned pictures: small, whole or refused, and nothing of it is ever lost."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from pinning import edit, lines, made_story, make, retrain

from storyforge.errors import Locked, StoryError, StoryForgeError
from storyforge.plan import lockfile
from storyforge.plan.lockfile import PinnedPicture, editing, lock_path, read_lock, write_lock
from storyforge.plan.pins import findings_in, picture_path, read_pins
from storyforge.project.project import Project


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return made_story(tmp_path)


KILLED = """
import os, pathlib, signal, sys
from storyforge.project.project import Project
from storyforge.project.project import Project
plain, calls = getattr(os, {call!r}), []
def counted(*names, **more):
    calls.append(names)
    if len(calls) == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(*names, **more)
setattr(os, {call!r}, counted)
pathlib.Path.unlink = lambda self, missing_ok=False: (
    counted(self) if {call!r} == "unlink" else plain_unlink(self, missing_ok)
)
Project(pathlib.Path({path!r})).{verb}()
print(len(calls))
"""


def killed(verb: str, path: Path, call: str, at: int) -> bool:
    """Do a verb and kill it at the nth call; whether it came so far."""
    program = KILLED.format(call=call, at=at, verb=verb, path=str(path))
    program = program.replace("plain, calls", "plain_unlink = pathlib.Path.unlink\nplain, calls", 1)
    return subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == -9


def pictures(path: Path) -> list[str]:
    return sorted(file.name for file in (path.parent / "pins").rglob("*") if file.is_file())


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_lock_that_is_cut_is_noticed(path: Path, cut: int) -> None:
    Project(path).pin([])
    lock = lock_path(path)
    whole = lock.read_text().splitlines(keepends=True)
    lock.write_text("".join(whole[:-cut]))
    assert findings_in(path)
    with pytest.raises(StoryError):
        Project(path).status()


def test_a_lock_with_a_pin_too_few_is_mended_from_the_pictures(path: Path) -> None:
    Project(path).pin([])
    lock = lock_path(path)
    whole = lock.read_text()
    lock.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    (finding,) = findings_in(path)
    assert finding.code == "SF702"
    assert "storyforge pin --mend" in str(finding.hint)
    assert sorted(Project(path).mend_pins()) == ["end", "found"]
    assert lock.read_text() == whole


def test_a_lock_that_is_gone_is_made_from_the_pictures(path: Path) -> None:
    Project(path).pin([])
    whole = lock_path(path).read_text()
    lock_path(path).unlink()
    Project(path).mend_pins()
    assert lock_path(path).read_text().splitlines()[-1] in whole
    assert findings_in(path) == ()


def test_a_pin_takes_a_few_hundred_bytes(path: Path) -> None:
    Project(path).pin([])
    assert lock_path(path).stat().st_size < 2 * 200 + 400


def test_a_lock_of_the_format_before_is_read_and_written_anew(path: Path) -> None:
    Project(path).pin(["found"])
    project = Project(path)
    pin = read_pins(project.story, project.store)["found"]
    told = {"take": 0, "key": pin.key, "sha256": pin.sha256}
    told |= {"recipe": dict(pin.recipe), "model": dict(pin.model)}
    old = {"storyforge": 1, "panels": {"found": told}}
    lock_path(path).write_text(yaml.safe_dump(old, sort_keys=False))
    shutil.rmtree(path.parent / "pins" / "models")
    pin.picture.with_suffix(".json").unlink()
    retrain(path, "pip")
    assert lines(path)["panel found"].ignores == ("concept `pip` retrained",)
    make(Project(path), only="panel end")
    Project(path).pin(["end"])
    assert "recipe" not in lock_path(path).read_text()
    assert lines(path)["panel found"].ignores == ("concept `pip` retrained",)


def test_a_thousand_pins_are_read_within_two_seconds(tmp_path: Path) -> None:
    lock = tmp_path / "story.lock.yaml"
    pins = {
        f"panel-{n}": PinnedPicture(take=n % 7, key=f"{n:020x}", sha256=f"{n:064x}")
        for n in range(1000)
    }
    write_lock(lock, pins)
    began = time.process_time()
    assert read_lock(lock).panels == pins
    assert time.process_time() - began < 2
    assert lock.stat().st_size < 200 * 1000


def test_a_lock_that_would_not_read_back_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "story.lock.yaml"
    pin = PinnedPicture(take=0, key="0" * 20, sha256="0" * 64)
    write_lock(lock, {"a": pin})
    before = lock.read_bytes()
    monkeypatch.setattr(lockfile, "_text", lambda panels: "storyforge: 2\npanels: [")
    with pytest.raises(StoryForgeError):
        write_lock(lock, {"a": pin, "b": pin})
    assert [file.name for file in tmp_path.iterdir()] == [lock.name]
    assert lock.read_bytes() == before


def _pin(path: Path, panel: str, store: Path) -> None:
    Project(path, store=store).pin([panel])


def test_two_stores_and_one_story_lose_no_pin(path: Path) -> None:
    stores = [path.parent / ".storyforge", path.parent / "other"]
    shutil.copytree(*stores)
    context = multiprocessing.get_context("fork")
    asked = zip(["found", "end"], stores, strict=True)
    jobs = [context.Process(target=_pin, args=(path, *each)) for each in asked]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
        assert job.exitcode == 0
    assert set(read_lock(lock_path(path)).panels) == {"found", "end"}


@pytest.mark.parametrize("call", ["rename", "unlink", "fsync"])
def test_a_killed_unpin_leaves_nothing_that_the_next_does_not_remove(
    path: Path,
    call: str,
) -> None:
    Project(path).pin([])
    at = 1
    while killed("unpin", path, call, at):
        assert findings_in(path) == ()
        Project(path).unpin([])
        assert not (path.parent / "pins").exists()
        assert not lock_path(path).exists()
        assert not list(path.parent.glob(".*.partial"))
        Project(path).pin([])
        at += 1
    assert at > 1


@pytest.mark.parametrize("call", ["replace", "unlink"])
def test_a_killed_pin_is_made_good_by_the_next(path: Path, call: str) -> None:
    Project(path).pin([])
    whole, kept = lock_path(path).read_text(), pictures(path)
    Project(path).unpin([])
    at = 1
    while killed("pin", path, call, at) and at < 12:
        assert findings_in(path) == ()
        Project(path).pin([])
        assert (lock_path(path).read_text(), pictures(path)) == (whole, kept)
        Project(path).unpin([])
        at += 1
    assert at > 1


def test_a_changed_copy_does_not_go_back_to_the_store(path: Path) -> None:
    (approved,) = Project(path).pin(["found"])
    shutil.rmtree(path.parent / ".storyforge")
    approved.picture.write_bytes(b"another picture")
    Project(path).unpin(["found"])
    assert "panel found" in {line.subject for line in Project(path).status().stale}


def test_a_copy_that_no_lock_names_lies_in_the_trash(path: Path) -> None:
    (approved,) = Project(path).pin(["found"])
    stray = picture_path(path.parent, "gone", "0" * 20)
    shutil.copyfile(approved.picture, stray)
    (path.parent / "pins" / "notes.png").write_bytes(b"the author's own")
    Project(path).pin(["end"])
    assert not stray.exists()
    assert list((path.parent / ".storyforge" / "trash").glob(f"*-pins/{stray.name}"))
    assert (path.parent / "pins" / "notes.png").exists()


def test_a_damaged_picture_cannot_be_pinned(path: Path) -> None:
    plan, store = Project(path).plan(), Project(path).store
    picture = store.path("panels", plan.panels[0].key)
    data = bytearray(picture.read_bytes())
    data[0] ^= 1
    picture.write_bytes(data)
    with pytest.raises(StoryForgeError, match="not drawn yet: `found`"):
        Project(path).pin(["found"])


def test_an_origin_that_is_lost_only_explains_less(path: Path) -> None:
    (approved,) = Project(path).pin(["found"])
    approved.picture.with_suffix(".json").write_bytes(os.urandom(9))
    edit(path, "prompt: night", "prompt: day")
    assert lines(path)["panel found"].state == "pinned"
    assert lines(path)["panel found"].ignores == ("what it was made from is not known any more",)


def test_what_is_drawn_can_be_pinned_while_the_rest_is_not(path: Path) -> None:
    edit(path, 'prompt: "7"', 'prompt: "8"')
    plan, store = Project(path).plan(), Project(path).store
    shutil.rmtree(path.parent / ".storyforge" / "ledgers")
    assert not store.has("panels", plan.panels[1].key)
    assert [each.panel for each in Project(path).pin([])] == ["found"]
    assert Project(path).unpinned() == ("end",)


def test_nobody_writes_pins_while_another_does(path: Path) -> None:
    with editing(lock_path(path)), pytest.raises(Locked), editing(lock_path(path), 0.0):
        pass
