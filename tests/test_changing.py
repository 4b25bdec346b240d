"""Files that somebody changes while they are used, and runs that make the same at the same time."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.faults import life
from benchmarks.faults.life import left, stages_for_nothing, write_story
from storyforge.engine import maker
from storyforge.engine.inputs import InputSums, check_import, check_pictures
from storyforge.engine.maker import Counts, Maker, Trouble
from storyforge.engine.orders import Sender
from storyforge.errors import Damaged, InputChanged, TaskFailed
from storyforge.executor import OnProgress, silent
from storyforge.plan.keys import import_recipe, key_of
from storyforge.project.making import Outcome
from storyforge.project.project import Project
from storyforge.store import Entry, Ledger, Store
from storyforge.tasks import ImportTask, TrainTask


@pytest.fixture(autouse=True)
def _cheap() -> Iterator[None]:
    with stages_for_nothing():
        yield


def made(folder: Path, shade: int) -> Path:
    """A story of which everything is made, whose first picture has this shade."""
    folder.mkdir()
    (story,) = write_story(folder)
    repaint(story, shade)
    return story


def repaint(story: Path, shade: int) -> None:
    picture = story.parent / "concepts" / "pip" / "1.png"
    Image.new("RGB", (8, 8), (shade, 2, 3)).save(picture)


def test_a_picture_changed_while_it_is_learnt_is_learnt_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story, calm = made(tmp_path / "one", 3), made(tmp_path / "two", 99)
    usual = maker.learn_concept
    times = []

    def learn(
        root: Path,
        logs: None,
        sums: Mapping[str, InputSums],
        task: TrainTask,
        on_progress: OnProgress,
    ) -> None:
        if task.concept == "pip":
            times.append(task.key)
            if len(times) == 1:
                repaint(story, 99)
            check_pictures(task, sums[task.key])
        usual(root, logs, sums, task, on_progress)

    monkeypatch.setattr(maker, "learn_concept", learn)
    outcome = Project(story).render(jobs=1)
    assert not outcome.troubles
    assert len(times) == 2
    assert outcome.made.concepts == 2
    monkeypatch.setattr(maker, "learn_concept", usual)
    Project(calm).render(jobs=1)
    assert {Path(name).name: data for name, data in left(story).items()} == {
        Path(name).name: data for name, data in left(calm).items()
    }


def test_whoever_never_stops_changing_a_picture_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = made(tmp_path / "one", 3)
    shades = iter(range(100, 200))

    def learn(
        root: Path,
        logs: None,
        sums: Mapping[str, InputSums],
        task: TrainTask,
        on_progress: OnProgress,
    ) -> None:
        repaint(story, next(shades))
        check_pictures(task, sums[task.key])
        life._learn(root, logs, sums, task, on_progress)

    monkeypatch.setattr(maker, "learn_concept", learn)
    outcome = Project(story).render(jobs=1)
    assert "was changed while it was used" in outcome.troubles[0].error.message
    assert next(shades) < 110


def fuse(story: Path, started: Path) -> None:
    """Fuse slowly, and note every time that it is begun."""

    def slowly(
        store: Store, concepts: object, learnt: object, task: object, on_progress: OnProgress
    ) -> None:
        with store.make_missing("fused", task.key) as path:  # type: ignore[attr-defined]
            if path is not None:
                with started.open("a") as file:
                    file.write("begun\n")
                time.sleep(0.5)
                path.mkdir()
                (path / "deltas").write_text("made")

    maker.fuse_concepts = slowly  # type: ignore[assignment]
    outcome = Project(story).fuse(jobs=1)
    assert not outcome.troubles


def test_two_runs_that_fuse_the_same_at_once_fuse_it_once(tmp_path: Path) -> None:
    story = made(tmp_path / "one", 3)
    Project(story).train(jobs=1)
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=fuse, args=(story, tmp_path / "begun")) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0]
    assert (tmp_path / "begun").read_text() == "begun\n"
    plan = Project(story).plan()
    assert plan.fuse is not None
    assert Store(story.parent / ".storyforge").sound("fused", plan.fuse.key)


def test_another_tools_file_that_changed_is_not_kept_under_its_old_name(tmp_path: Path) -> None:
    file = tmp_path / "lora.safetensors"
    file.write_bytes(b"before")
    key = key_of(import_recipe(file, "character", "pip", "base"))
    task = ImportTask(key, "pip", "character", "pip", file, "pocket", "base")
    check_import(task)
    file.write_bytes(b"after")
    with pytest.raises(InputChanged, match="was changed while it was used"):
        check_import(task)


def test_a_file_that_changed_before_it_was_sent_is_not_sent(tmp_path: Path) -> None:
    story = made(tmp_path / "one", 3)
    project = Project(story)
    sender = Sender(project.plan(), project.store)
    order = sender.order(project.plan().train[0])
    (key,) = order.inputs
    assert sender.input(key)
    repaint(story, 99)
    with pytest.raises(InputChanged, match="were changed while they were used"):
        sender.input(key)


def test_a_file_that_is_taken_away_before_it_was_sent_is_told_like_one_that_changed(
    tmp_path: Path,
) -> None:
    story = made(tmp_path / "one", 3)
    project = Project(story)
    sender = Sender(project.plan(), project.store)
    (key,) = sender.order(project.plan().train[0]).inputs
    next(iter(sender.files[key].values())).unlink()
    with pytest.raises(InputChanged, match="were changed while they were used"):
        sender.input(key)


def test_only_what_was_damaged_is_told_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = made(tmp_path / "one", 3)
    tried = []

    def learn(
        root: Path,
        logs: None,
        sums: Mapping[str, InputSums],
        task: TrainTask,
        on_progress: OnProgress,
    ) -> None:
        tried.append(task.concept)
        if task.concept == "owl":
            raise TaskFailed("no owl can be learnt")
        if tried.count("pip") == 1:
            raise Damaged("it was damaged")
        life._learn(root, logs, sums, task, on_progress)

    monkeypatch.setattr(maker, "learn_concept", learn)
    outcome = Project(story).train(jobs=1)
    assert outcome.damaged == ("concept pip",)
    assert outcome.made.concepts == 1
    assert [each.subject for each in outcome.troubles] == ["concept owl"]


def test_two_runs_after_each_other_tell_what_both_did() -> None:
    first = Outcome(
        Counts(panels=1),
        Counts(panels=3),
        (),
        (Trouble("panel a", TaskFailed("changed")),),
        2.0,
        damaged=("panel b",),
        taken=("panel c",),
        warnings=("cannot reach the cache",),
    )
    again = Outcome(
        Counts(panels=2),
        Counts(panels=4),
        (Path("book"),),
        (),
        3.0,
        taken=("panel d",),
        warnings=("cannot reach the cache",),
    )
    both = first.then(again)
    assert (both.made.panels, both.skipped.panels, both.seconds) == (3, 3, 5.0)
    assert (both.books, both.troubles, both.damaged) == ((Path("book"),), (), ("panel b",))
    assert both.taken == ("panel c", "panel d")
    assert both.warnings == ("cannot reach the cache",)


def test_a_ledger_that_takes_long_to_write_is_written_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that each entry moves by a tenth of a second, and each writing by one."""
    now, writings = [0.0], []

    class Slow(Ledger):
        def merge(self, entries: Mapping[str, Entry]) -> None:
            now[0] += 1.0
            writings.append(len(entries))

    monkeypatch.setattr(maker, "perf_counter", lambda: now[0])
    at_work = Maker(Store(tmp_path), Slow(tmp_path / "ledger.json"), {}, silent)
    for number in range(420):
        now[0] += 0.1
        at_work.enter({f"panel {number}": Entry("ab" * 10, {})})
    at_work.flush()
    assert sum(writings) == 420
    assert len(writings) <= 5
