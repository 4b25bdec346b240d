"""The store: whole products or none, whatever happens on the way."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from storyforge.errors import Damaged, EnvironmentProblem, Locked, StoryForgeError
from storyforge.store import Store, fingerprint
from storyforge.store.products import PLACES
from storyforge.store.sums import Note, note_path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", patience=0.0)


def put(store: Store, key: str, data: bytes = b"picture") -> Path:
    with store.make("panels", key) as path:
        path.write_bytes(data)
    return store.path("panels", key)


def damage(path: Path) -> None:
    """Turn the first letter, and leave the size as it is."""
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def leftovers(store: Store) -> list[Path]:
    return list((store.root / "partial").glob("*"))


def killed_in(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)])
    assert done.returncode == -9


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


def test_a_folder_replaces_a_folder(store: Store) -> None:
    for name in ("one", "two"):
        with store.make("fused", "k") as path:
            path.mkdir()
            (path / name).write_text(name)
    assert [file.name for file in store.path("fused", "k").iterdir()] == ["two"]
    assert store.sound("fused", "k")


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


def test_two_runs_work_in_one_store(store: Store) -> None:
    with store.at_work(), Store(store.root, patience=0.0).at_work():
        put(store, "k")
    assert store.sound("panels", "k")


def test_two_processes_do_not_make_the_same_product(store: Store) -> None:
    with store.make("panels", "k") as path:
        with pytest.raises(Locked), Store(store.root, patience=0.1).make("panels", "k"):
            pass
        path.write_bytes(b"mine")
    assert store.path("panels", "k").read_bytes() == b"mine"


def test_what_another_is_making_need_not_be_made(store: Store) -> None:
    with store.make("panels", "k") as path:
        assert store.is_making("panels", "k")
        with Store(store.root).make_missing("panels", "k") as other:
            assert other is None
        path.write_bytes(b"mine")
    assert not store.is_making("panels", "k")


def test_what_is_there_need_not_be_made(store: Store) -> None:
    put(store, "k")
    with store.make_missing("panels", "k") as path:
        assert path is None
    assert store.path("panels", "k").read_bytes() == b"picture"


def test_what_is_damaged_is_made_again(store: Store) -> None:
    damage(put(store, "k"))
    with store.make_missing("panels", "k") as path:
        assert path is not None
        path.write_bytes(b"picture")
    assert store.sound("panels", "k")


def test_a_killed_run_blocks_nobody_and_is_swept_up(store: Store) -> None:
    killed_in(
        f"""
        import os, signal
        from pathlib import Path
        from storyforge.store import Store
        store = Store(Path({str(store.root)!r}))
        with store.at_work(), store.make("fused", "k") as path:
            path.mkdir()
            (path / "half").write_text("half")
            (store.scratch("k") / "step").write_text("7")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert leftovers(store)
    with store.at_work():
        assert not leftovers(store)
        assert not store.has("fused", "k")
        assert (store.scratch("k") / "step").read_text() == "7"
        with store.make("fused", "k") as path:
            assert not path.exists()
            path.mkdir()
            (path / "whole").write_text("whole")
    assert store.has("fused", "k")


def test_no_product_is_in_its_place_without_the_note_that_fits(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "k", b"old")
    plain, seen = os.replace, []

    def replace(source: Path, target: Path) -> None:
        plain(source, target)
        if Path(target) == store.path("panels", "k"):
            note = Note.read(Path(target))
            seen.append(note is not None and note.fits(Path(target)))

    monkeypatch.setattr(os, "replace", replace)
    put(store, "k", b"new")
    assert seen == [True]


def test_what_is_finished_is_on_the_disk_before_it_has_its_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, replace = os.fsync, os.replace
    synced: set[int] = set()
    moved: list[bool] = []

    def noted(opened: int) -> None:
        synced.add(os.fstat(opened).st_ino)
        sync(opened)

    def watched(source: Path, target: Path) -> None:
        moved.append(os.stat(source).st_ino in synced)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", watched)
    path = put(store, "k")
    assert moved == [True, True]
    assert path.parent.stat().st_ino in synced


def test_a_cut_product_counts_as_missing(store: Store) -> None:
    put(store, "k").write_bytes(b"pic")
    assert not store.has("panels", "k")


def test_damage_of_the_same_size_is_seen_when_a_product_is_read(store: Store) -> None:
    damage(put(store, "k"))
    with pytest.raises(Damaged, match="damaged or gone"):
        store.read("panels", "k")
    assert not store.has("panels", "k")


def test_what_is_damaged_is_set_aside_and_not_lost(store: Store) -> None:
    damage(put(store, "k"))
    assert not store.sound("panels", "k")
    (aside,) = (store.root / "quarantine").iterdir()
    assert aside.read_bytes() == b"qicture"


@pytest.mark.parametrize(
    "text",
    ["", "\n", "0 7\n", "{digest} 7", "{digest} 7\nfrom\n", "{digest} 7 \n", "é", "{digest} 07\n"],
)
def test_a_damaged_note_is_no_note(store: Store, text: str) -> None:
    path = put(store, "k")
    note_path(path).write_text(text.format(digest=fingerprint(path)), encoding="utf-8")
    assert not store.has("panels", "k")
    assert not store.sound("panels", "k")


def test_a_note_says_what_a_product_was_made_from(store: Store) -> None:
    source = put(store, "k")
    with store.make("html", "b", [("panels", "k")]) as path:
        path.write_text("book")
    note = Note.read(store.path("html", "b"))
    assert note is not None
    assert note.made_from == {"panels/k": fingerprint(source)}
    assert store.sound("html", "b")


def test_nothing_is_made_from_what_is_damaged(store: Store) -> None:
    damage(put(store, "k"))
    with pytest.raises(Damaged), store.make("html", "b", [("panels", "k")]):
        raise AssertionError("it is made all the same")


def test_what_was_made_from_something_that_changed_meanwhile_is_not_kept(store: Store) -> None:
    source = put(store, "k")
    with pytest.raises(Damaged), store.make("html", "b", [("panels", "k")]) as path:
        path.write_text("book")
        damage(source)
    assert not store.has("html", "b")


def test_every_file_has_the_mode_of_the_users_umask(store: Store) -> None:
    before = os.umask(0o027)
    try:
        with store.make("fused", "k") as path:
            path.mkdir()
            (path / "deltas").write_bytes(b"1")
            (path / "deltas").chmod(0o600)
    finally:
        os.umask(before)
    made = store.path("fused", "k")
    for file in (made / "deltas", note_path(made)):
        assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_products_of_every_shelf_are_listed(store: Store) -> None:
    for shelf in PLACES:
        with store.make(shelf, "k") as path:
            path.write_text(shelf)
    assert [product.shelf for product in store.ls()] == list(PLACES)


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


@pytest.fixture
def read_only(store: Store) -> Iterator[Store]:
    put(store, "k")
    store.root.chmod(0o555)
    yield store
    store.root.chmod(0o755)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_that_cannot_be_written_can_be_worked_in(read_only: Store) -> None:
    with read_only.at_work():
        assert read_only.sound("panels", "k")
