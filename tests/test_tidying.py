"""Tidying a store: it says why, loses nothing, and decides nothing by what it cannot read."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storyforge.errors import EnvironmentProblem
from storyforge.store import Entry, Shelf, Store
from storyforge.store.locks import Runs
from storyforge.store.sums import note_path
from storyforge.store.tidying import CONCEPTS_KEPT, KEPT, gc, verify


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", patience=0.0)


def put(store: Store, shelf: Shelf, key: str, *made_from: tuple[Shelf, str]) -> Path:
    with store.make(shelf, key, made_from) as path:
        path.write_text(f"{shelf} {key}")
    return store.path(shelf, key)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def age(folder: Path, days: int) -> None:
    """Let what was thrown away today have been so some days ago."""
    day = datetime.now(UTC).date()
    for path in folder.glob(f"{day.isoformat()}-*"):
        older = (day - timedelta(days=days)).isoformat()
        path.rename(path.with_name(path.name.replace(day.isoformat(), older)))


def test_gc_keeps_what_a_ledger_names(store: Store) -> None:
    put(store, "panels", "old")
    put(store, "panels", "new")
    store.ledger("story-1").write({"panel found": Entry("new", {"prompt": "night"}, 1.5)})
    assert [(each.product.key, each.reason) for each in gc(store, dry=True)] == [
        ("old", "no story needs it")
    ]
    assert store.has("panels", "old")
    gc(store)
    assert [product.key for product in store.ls()] == ["new"]


@pytest.mark.parametrize("cut", [0, 1, 0.5, -1])
def test_gc_removes_nothing_when_a_ledger_is_cut(store: Store, cut: float) -> None:
    put(store, "concepts", "new")
    ledger = store.ledger("tale-1")
    ledger.write({"concept pip": Entry("new", {}, 1.5)})
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole[: int(len(whole) * cut) if 0 < cut < 1 else int(cut)])
    with pytest.raises(EnvironmentProblem, match="the ledger .* is damaged") as caught:
        gc(store)
    assert "`tale`" in str(caught.value.hint)
    assert store.has("concepts", "new")


def test_a_ledger_with_another_entry_than_was_written_is_damaged(store: Store) -> None:
    ledger = store.ledger("tale-1")
    ledger.write({"panel a": Entry("k", {"prompt": "night"})})
    ledger.path.write_text(ledger.path.read_text().replace("night", "light"))
    with pytest.raises(EnvironmentProblem, match="damaged"):
        ledger.read()
    assert ledger.entries() == {}


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"panel a": 3}', '{"a": {"key": 1}}', "[" * 100_000]
)
def test_a_damaged_ledger_explains_nothing(store: Store, text: str) -> None:
    ledger = store.ledger("story-1")
    ledger.path.parent.mkdir(parents=True)
    ledger.path.write_text(text)
    assert ledger.entries() == {}
    with pytest.raises(EnvironmentProblem):
        ledger.read()


def test_a_damaged_ledger_makes_room_and_is_kept(store: Store) -> None:
    ledger = store.ledger("story-1")
    ledger.path.parent.mkdir(parents=True)
    ledger.path.write_text("half")
    ledger.write({"panel a": Entry("k", {})})
    assert ledger.read() == {"panel a": Entry("k", {})}
    assert ledger.path.with_name("story-1.json.damaged").read_text() == "half"


def test_a_ledger_reads_back(store: Store) -> None:
    entries = {"panel found": Entry("k", {"prompt": "night", "regions": [{"z": 1}]}, 2.0)}
    store.ledger("story").write(entries)
    assert store.ledger("story").entries() == entries


def test_a_ledger_of_before_sums_is_read(store: Store) -> None:
    ledger = store.ledger("story")
    ledger.path.parent.mkdir(parents=True)
    ledger.path.write_text(json.dumps({"panel a": {"key": "k", "recipe": {}, "seconds": 2}}))
    assert ledger.read() == {"panel a": Entry("k", {}, 2.0)}


def test_what_was_removed_comes_back_when_it_is_wanted(store: Store) -> None:
    path = put(store, "concepts", "old")
    gc(store)
    assert not path.exists()
    assert store.sound("concepts", "old")
    assert path.read_text() == "concepts old"


def test_concepts_stay_in_the_trash_longest(store: Store) -> None:
    put(store, "concepts", "old")
    put(store, "panels", "old")
    gc(store)
    age(store.trash, KEPT.days + 1)
    gc(store)
    assert store.sound("concepts", "old")
    assert not store.sound("panels", "old")
    gc(store)
    age(store.trash, CONCEPTS_KEPT.days + 1)
    gc(store)
    assert not store.sound("concepts", "old")


def test_gc_leaves_what_was_made_since_a_run_began(store: Store) -> None:
    put(store, "panels", "old")
    os.utime(note_path(store.path("panels", "old")), (time.time() - 60,) * 2)
    with store.at_work():
        put(store, "panels", "new")
        assert [each.product.key for each in gc(store)] == ["old"]
    assert store.has("panels", "new")


def test_a_run_that_was_killed_counts_no_more(store: Store) -> None:
    killed = store.root / "locks" / "runs" / "1-dead.lock"
    killed.parent.mkdir(parents=True)
    killed.touch()
    with Runs(killed.parent).alone(0.0) as since:
        assert since is None
    assert not killed.exists()


def test_gc_keeps_a_half_learnt_concept_for_a_while(store: Store) -> None:
    store.scratch("k")
    gc(store)
    assert (store.root / "scratch" / "k").is_dir()
    os.utime(store.root / "scratch" / "k", (0, 0))
    gc(store)
    assert not (store.root / "scratch" / "k").exists()


def test_verify_sets_aside_what_was_changed(store: Store) -> None:
    put(store, "panels", "good")
    damage(put(store, "panels", "bad"))
    assert [(each.product.key, each.reason) for each in verify(store)] == [("bad", "damaged")]
    assert [product.key for product in store.ls()] == ["good"]
    assert verify(store) == []


def chain(store: Store, *, noted: bool) -> None:
    """A model, a panel of it and a book of that, as the ledger tells it."""
    links: list[tuple[Shelf, str]] = [("fused", "f0"), ("panels", "aa"), ("html", "bb")]
    for before, (shelf, key) in zip([None, *links], links, strict=False):
        put(store, shelf, key, *((before,) if before and noted else ()))
    recipes = {"fused model": {}, "panel a": {"fused": "f0"}, "book html": {"panels": {"a": "aa"}}}
    keys = dict(zip(recipes, (key for _, key in links), strict=True))
    store.ledger("s-1").write({name: Entry(keys[name], recipes[name]) for name in recipes})


def test_verify_sets_aside_what_was_made_from_a_damaged_model(store: Store) -> None:
    chain(store, noted=False)
    damage(store.path("fused", "f0"))
    assert {each.product.key: each.reason for each in verify(store)} == {
        "f0": "damaged",
        "aa": "made from what is damaged",
        "bb": "made from what is damaged",
    }
    assert store.ls() == []


def test_what_was_made_before_the_damage_stays(store: Store) -> None:
    chain(store, noted=True)
    damage(store.path("fused", "f0"))
    assert [each.product.key for each in verify(store)] == ["f0"]


def test_a_dry_verify_touches_nothing(store: Store) -> None:
    damage(put(store, "panels", "bad"))
    assert [each.product.key for each in verify(store, dry=True)] == ["bad"]
    assert store.path("panels", "bad").exists()


def test_gc_of_no_store_is_nothing(store: Store) -> None:
    put(store, "panels", "k")
    shutil.rmtree(store.root / "panels")
    assert gc(store) == []
