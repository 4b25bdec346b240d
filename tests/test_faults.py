"""Whatever call of the disk fails, the same commands again give the same bytes.

Every call is tried by `python -m benchmarks.faults`; here some, spread over a story's whole life.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.faults.disk import FAULTS, Disk, Killed, faulty
from benchmarks.faults.life import half_done, left, live, stages_for_nothing, write_story
from storyforge.errors import StoryForgeError

TRIED = 14
"""Calls that fail in each test, of some hundreds."""


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], int]:
    """What must be there in the end, and the number of calls on the way."""
    folder = tmp_path_factory.mktemp("reference")
    (story,) = write_story(folder)
    disk = Disk(folder)
    with stages_for_nothing(), faulty(disk):
        live(story)
    assert disk.calls > 100
    return left(story), disk.calls


def ended(story: Path, disk: Disk) -> bool:
    """Live with a faulty disk; whether it was noticed, in words that are meant for the author."""
    try:
        with faulty(disk):
            live(story)
    except (StoryForgeError, OSError, Killed):
        return True
    return False


@pytest.mark.parametrize("fault", FAULTS)
def test_the_same_commands_again_give_the_same_bytes(
    fault: str, tmp_path: Path, reference: tuple[dict[str, str], int]
) -> None:
    whole, calls = reference
    with stages_for_nothing():
        for number in range(TRIED):
            folder = tmp_path / str(number)
            folder.mkdir()
            (story,) = write_story(folder)
            ended(story, Disk(folder, 1 + number * calls // TRIED, fault))
            live(story)
            assert left(story) == whole
            assert not half_done(story)
            shutil.rmtree(folder)


def test_a_life_of_a_story_is_the_same_every_time(
    tmp_path: Path, reference: tuple[dict[str, str], int]
) -> None:
    (story,) = write_story(tmp_path)
    with stages_for_nothing():
        live(story)
        live(story)
    assert left(story) == reference[0]
