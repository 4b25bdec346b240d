"""Exit codes are the documented ones, whatever a story, a store or a file of others holds.

70, a mistake in the program, never happens. STORYFORGE_FUZZ=50 tries fifty times as many.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner

from benchmarks.faults.life import stages_for_nothing, write_story
from storyforge.cli import app
from storyforge.project.project import Project

TRIED = 12 * int(os.environ.get("STORYFORGE_FUZZ", "1"))

DOCUMENTED: Final = {0, 1, 2, 3, 4, 5, 130}

VERBS: Final = (
    ("check", "STORY"),
    ("check", "STORY", "--json"),
    ("plan", "STORY"),
    ("plan", "STORY", "--json"),
    ("train", "STORY", "--jobs", "1"),
    ("render", "STORY", "--jobs", "1"),
    ("render", "STORY", "--only", "found", "--jobs", "1"),
    ("book", "STORY", "--to", "cbz"),
    ("pin", "STORY"),
    ("pin", "STORY", "--mend"),
    ("unpin", "STORY"),
    ("pick", "STORY", "found", "0"),
    ("cache", "ls", "STORY"),
    ("cache", "gc", "STORY", "--yes"),
    ("cache", "verify", "STORY"),
    ("task", "run", "STORY", "0123456789abcdef0123"),
    ("preview", "STORY", "--to", "html"),
    ("concept", "check", "CONCEPT"),
)


@pytest.fixture(autouse=True)
def _cheap() -> Iterator[None]:
    with stages_for_nothing():
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A story of which everything is made and one picture is pinned."""
    folder = tmp_path_factory.mktemp("finished") / "story"
    folder.mkdir()
    (story,) = write_story(folder)
    with stages_for_nothing():
        Project(story).render(jobs=1)
        Project(story).pin(["found"])
    return story


def changed(data: bytes, chance: random.Random) -> bytes:
    """The bytes cut, with some of them turned, doubled, or replaced by something else."""
    at = chance.randrange(len(data) + 1)
    end = min(len(data), at + chance.randrange(1, 40))
    pieces = (
        b"",
        data[at:end] * 3,
        bytes(end - at),
        b"\xff\xfe\x00",
        b"[" * 300,
        b"{}",
        b": &a *a",
    )
    match chance.randrange(3):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + chance.choice(pieces) + data[end:]
    turned = bytearray(data)
    for _ in range(chance.randrange(1, 9)):
        if turned:
            turned[chance.randrange(len(turned))] = chance.randrange(256)
    return bytes(turned)


def spoil(story: Path, chance: random.Random) -> str:
    """Change one or two files of the story, its store or pins, or what kind of thing they are."""
    told = []
    files = [path for path in sorted(story.parent.rglob("*")) if path.is_file()]
    for path in chance.sample([f for f in files if "locks" not in f.parts], chance.randint(1, 2)):
        told.append(str(path.relative_to(story.parent)))
        match chance.randrange(6):
            case 0:
                path.unlink()
            case 1:
                path.unlink()
                path.mkdir()
            case 2:
                path.unlink()
                path.symlink_to(path)
            case _:
                path.write_bytes(changed(path.read_bytes(), chance))
    return ", ".join(told)


@pytest.mark.parametrize("seed", range(TRIED))
def test_no_verb_ends_but_as_is_documented(seed: int, finished: Path, tmp_path: Path) -> None:
    chance = random.Random(seed)
    shutil.copytree(finished.parent, tmp_path / "story")
    story = tmp_path / "story" / finished.name
    spoilt = spoil(story, chance)
    for verb in chance.sample(VERBS, 4):
        names = {"STORY": str(story), "CONCEPT": str(story.parent / "concepts" / "pip")}
        done = CliRunner().invoke(app, [names.get(word, word) for word in verb])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise AssertionError(f"{' '.join(verb)} after {spoilt}") from done.exception
        assert done.exit_code in DOCUMENTED, f"{' '.join(verb)} after {spoilt}: {done.output}"


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_a_folder_for_a_story_is_told(verb: tuple[str, ...], tmp_path: Path) -> None:
    names = {"STORY": str(tmp_path), "CONCEPT": str(tmp_path)}
    done = CliRunner().invoke(app, [names.get(word, word) for word in verb])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert done.exit_code in DOCUMENTED - {0}, done.output
