"""Measurements that go on where they were stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks import judge, kept
from storyforge.pocket.world.picture import Picture

SCENES = [Picture(place, "day", "clear", (), 0) for place in ("beach", "forest", "town")]
PICTURES = [np.full((4, 4, 3), shade, np.uint8) for shade in (10, 20, 30)]


class Asked:
    """A judge that answers rightly and counts what it is asked."""

    def __init__(self) -> None:
        """Not asked yet."""
        self.times = 0

    def __call__(self, pictures: Sequence[kept.Pixels], asked: Sequence[Picture]) -> judge.Answers:
        """What is known of each."""
        self.times += len(pictures)
        return judge.truth([SCENES[int(each[0, 0, 0]) // 10 - 1] for each in pictures])


def test_no_picture_is_judged_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    who = Asked()
    first = kept.remembering(who, tmp_path)(PICTURES[:2], SCENES[:2])
    both = kept.remembering(who, tmp_path)(PICTURES, SCENES)
    assert who.times == 3
    right = judge.truth(SCENES)
    assert all(np.array_equal(both[name], right[name]) for name in right)
    assert all(np.array_equal(both[name][:2], first[name]) for name in right)
    # Begun elsewhere it may say something else, and so may another judge.
    kept.remembering(who, tmp_path)(PICTURES, SCENES[::-1])
    assert who.times == 5
    kept.remembering(who, tmp_path)(PICTURES, ())
    assert who.times == 8
    monkeypatch.setattr(kept, "_code", lambda: "other")
    kept.remembering(who, tmp_path)(PICTURES, SCENES)
    assert who.times == 11
    assert kept.remembering(who, tmp_path)([], []) == {}


def test_what_was_judged_before_it_was_stopped_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "LOT", 1)
    who = Asked()

    def stopped(pictures: Sequence[kept.Pixels], asked: Sequence[Picture]) -> judge.Answers:
        if who.times == 2:
            raise KeyboardInterrupt
        return who(pictures, asked)

    with pytest.raises(KeyboardInterrupt):
        kept.remembering(stopped, tmp_path)(PICTURES, SCENES)
    kept.remembering(who, tmp_path)(PICTURES, SCENES)
    assert who.times == 3


def test_pictures_are_drawn_once_of_all_that_they_hang_on(tmp_path: Path) -> None:
    times: list[str] = []

    def draw() -> list[kept.Pixels]:
        times.append("drawn")
        return PICTURES

    made = [kept.pictures(tmp_path, by, draw) for by in (["a", "b"], ["a", "b"], ["ab"])]
    assert len(times) == 2
    assert all(np.array_equal(each, PICTURES) for each in made)
