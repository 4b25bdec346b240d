"""Products made a second time: the same bytes, or something decides that no key knows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.faults.life import stages_for_nothing, write_story
from storyforge.cli import app
from storyforge.project.project import Project
from storyforge.store.sums import Note, note_path


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Path]:
    (story,) = write_story(tmp_path)
    with stages_for_nothing():
        Project(story).render(jobs=1)
        yield story


def files(story: Path) -> dict[Path, tuple[bytes, int]]:
    root = story.parent / ".storyforge"
    kept = [path for path in root.rglob("*") if path.is_file() and "locks" not in path.parts]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in kept}


def test_what_is_made_again_is_the_same_and_nothing_that_is_kept_changes(story: Path) -> None:
    before = files(story)
    made = Project(story).remade(1.0)
    assert len(made) == 7
    assert all(each.same for each in made)
    assert files(story) == before


def test_one_product_at_least_is_made_again(story: Path) -> None:
    assert len(Project(story).remade(0.01, chance=random.Random(1))) == 1


def test_what_decides_and_is_in_no_key_is_found(story: Path) -> None:
    """A picture that came of something else: whole, with its note, and another."""
    project = Project(story)
    (panel, *_) = project.plan().panels
    path = project.store.path("panels", panel.key)
    path.write_bytes(b"drawn by another torch")
    note_path(path).write_text(Note.of(path).text())
    other = [each.subject for each in project.remade(1.0) if not each.same]
    assert other[0] == f"panel {panel.panel}"
    assert {each.partition(" ")[0] for each in other} == {"panel", "book"}


@pytest.mark.parametrize(("asked", "code"), [("100%", 0), ("0.5", 0), ("0", 2), ("all", 2)])
def test_the_share_is_said_as_one_says_it(asked: str, code: int, story: Path) -> None:
    done = CliRunner().invoke(app, ["cache", "verify", str(story), "--re-execute", asked])
    assert done.exit_code == code, done.output
