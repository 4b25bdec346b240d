"""Sums of large files: computed once on a machine, and never believed of another file."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from storyforge.errors import EnvironmentProblem
from storyforge.modelref import Defaults, base_at
from storyforge.store import fingerprint, known


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of its own, on which a hundred kilobytes are large."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(known, "LARGE", 100_000)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(os.urandom(600_000))
    return path


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def turn(path: Path, at: int) -> None:
    """Turn a byte and leave size and time of change as they are."""
    state = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_a_sum_is_the_files_own_the_first_time_and_the_second(weights: Path) -> None:
    assert known.known_sum(weights) == sum_of(weights)
    assert known.known_sum(weights) == sum_of(weights)


def test_a_known_file_is_not_read_again(weights: Path) -> None:
    before = known.known_sum(weights)
    (memory,) = known.folder().glob("*.json")
    memory.write_text(memory.read_text().replace(before, "a" * 64))
    assert known.known_sum(weights) == "a" * 64


@pytest.mark.parametrize("at", [0, 599_999])
def test_a_byte_in_a_sample_is_noticed(at: int, weights: Path) -> None:
    known.known_sum(weights)
    turn(weights, at)
    assert known.known_sum(weights) == sum_of(weights)


def test_another_size_or_time_is_another_file(weights: Path) -> None:
    known.known_sum(weights)
    weights.write_bytes(weights.read_bytes()[:-1])
    assert known.known_sum(weights) == sum_of(weights)


def test_a_byte_between_the_samples_is_found_when_all_is_read_over(weights: Path) -> None:
    before = known.known_sum(weights)
    assert not list(known.check_known())
    turn(weights, 205_500)
    assert known.known_sum(weights) == before
    assert list(known.check_known()) == [weights]
    assert known.known_sum(weights) == sum_of(weights)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"path": 1}', "[" * 100_000])
def test_a_damaged_memory_is_none(text: str, weights: Path) -> None:
    known.known_sum(weights)
    (memory,) = known.folder().glob("*.json")
    memory.write_text(text)
    assert known.known_sum(weights) == sum_of(weights)


def test_where_nothing_can_be_remembered_the_sum_is_right(weights: Path) -> None:
    known.folder().parent.mkdir(parents=True)
    known.folder().write_text("no folder")
    assert known.known_sum(weights) == sum_of(weights)


def test_a_base_is_known_by_the_same_hash_however_it_is_read(tmp_path: Path) -> None:
    base = tmp_path / "base"
    (base / "unet").mkdir(parents=True)
    (base / "unet" / "weights.safetensors").write_bytes(os.urandom(200_000))
    (base / "model_index.json").write_text(json.dumps({}))
    assert base_at("base", tmp_path).hash == fingerprint(base)
    assert len(list(known.folder().glob("*.json"))) == 1


def test_a_base_that_says_nothing_of_its_habits_has_the_usual_ones(tmp_path: Path) -> None:
    assert Defaults.read(tmp_path / "storyforge.json") == Defaults()


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[]", '{"steps": 0}', '{"no such": 1}'])
def test_habits_that_cannot_be_read_are_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "storyforge.json").write_text(text)
    with pytest.raises(EnvironmentProblem):
        Defaults.read(tmp_path / "storyforge.json")
