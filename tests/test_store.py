"""The store: whole products or none, whatever happens on the way."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from storyforge import store as store_module
from storyforge.errors import EnvironmentProblem, Locked, StoryForgeError
from storyforge.store import Entry, Store, fingerprint


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, key: str, data: bytes = b"picture") -> Path:
    with store.make("panels", key) as path:
        path.write_bytes(data)
    return store.path("panels", key)


def leftovers(store: Store) -> list[Path]:
    return list((store.root / "partial").glob("*"))


def test_a_product_appears_when_it_is_finished(store: Store) -> None:
    with store.make("panels", "k") as path:
        path.write_bytes(b"half")
        assert not store.has("panels", "k")
    assert store.has("panels", "k")
    assert store.path("panels", "k").read_bytes() == b"half"
    assert not leftovers(store)


def test_a_folder_is_a_product_too(store: Store) -> None:
    with store.make("fused", "k") as path:
        path.mkdir()
        (path / "manifest.json").write_text("{}")
    assert store.has("fused", "k")


def test_a_failure_leaves_nothing(store: Store) -> None:
    with pytest.raises(IsADirectoryError), store.make("panels", "k") as path:
        path.mkdir()
        path.write_bytes(b"picture")
    assert not store.has("panels", "k")
    assert not leftovers(store)


def test_nothing_written_is_no_product(store: Store) -> None:
    with pytest.raises(StoryForgeError, match="was not written"), store.make("panels", "k"):
        pass
    assert not store.has("panels", "k")


def test_scratch_lives_until_the_product_is_finished(store: Store) -> None:
    (store.scratch("k") / "step").write_text("7")
    with pytest.raises(KeyboardInterrupt), store.make("panels", "k"):
        raise KeyboardInterrupt
    assert (store.scratch("k") / "step").read_text() == "7"
    put(store, "k")
    assert not (store.root / "scratch" / "k").exists()


def test_two_runs_do_not_share_a_store(store: Store) -> None:
    with (
        store.claim(),
        pytest.raises(Locked, match="another run"),
        Store(store.root).claim(),
    ):
        pass


def test_two_processes_do_not_make_the_same_product(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_PATIENCE", 0.1)
    with store.make("panels", "k") as path:
        with pytest.raises(Locked), Store(store.root).make("panels", "k"):
            pass
        path.write_bytes(b"mine")
    assert store.path("panels", "k").read_bytes() == b"mine"


def test_a_killed_run_blocks_nobody_and_is_swept_up(store: Store) -> None:
    program = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from storyforge.store import Store
        store = Store(Path({str(store.root)!r}))
        with store.claim(), store.make("fused", "k") as path:
            path.mkdir()
            (path / "half").write_text("half")
            (store.scratch("k") / "step").write_text("7")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    assert leftovers(store)
    with store.claim():
        assert not leftovers(store)
        assert not store.has("fused", "k")
        assert (store.scratch("k") / "step").read_text() == "7"
        with store.make("fused", "k") as path:
            assert not path.exists()
            path.mkdir()
            (path / "whole").write_text("whole")
    assert store.has("fused", "k")


def test_a_cut_product_counts_as_missing(store: Store) -> None:
    put(store, "k").write_bytes(b"pic")
    assert not store.has("panels", "k")


def test_verify_removes_what_was_changed(store: Store) -> None:
    put(store, "good")
    put(store, "bad").write_bytes(b"pxcture")
    assert [product.key for product in store.verify()] == ["bad"]
    assert [product.key for product in store.ls()] == ["good"]
    assert store.verify() == []


def test_gc_keeps_what_a_ledger_names(store: Store) -> None:
    put(store, "old")
    put(store, "new")
    store.ledger("story").write({"panel found": Entry("new", {"prompt": "night"}, 1.5)})
    assert [product.key for product in store.gc(dry=True)] == ["old"]
    assert store.has("panels", "old")
    assert [product.key for product in store.gc()] == ["old"]
    assert [product.key for product in store.ls()] == ["new"]


def test_a_ledger_reads_back(store: Store) -> None:
    entries = {"panel found": Entry("k", {"prompt": "night", "regions": [{"z": 1}]}, 2.0)}
    store.ledger("story").write(entries)
    assert store.ledger("story").entries() == entries


@pytest.mark.parametrize("text", ["", "[]", "{", '{"panel a": 3}', '{"a": {"key": 1}}'])
def test_an_unreadable_ledger_is_an_empty_one(store: Store, text: str) -> None:
    ledger = store.ledger("story")
    ledger.path.parent.mkdir(parents=True)
    ledger.path.write_text(text)
    assert ledger.entries() == {}


def test_a_fingerprint_is_of_contents_and_names(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        (folder / "part").mkdir(parents=True)
        (folder / "part" / "weights").write_bytes(b"123")
        (folder / f".hidden-{folder.name}").write_bytes(folder.name.encode())
    assert fingerprint(first) == fingerprint(second)
    (second / "part" / "weights").rename(second / "part" / "other")
    assert fingerprint(first) != fingerprint(second)


def test_a_missing_file_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="nothing at"):
        fingerprint(tmp_path / "none")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with (
        pytest.raises(EnvironmentProblem, match="cannot write"),
        Store(tmp_path / "store").make("panels", "k"),
    ):
        pass
