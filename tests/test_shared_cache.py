"""Products on their way, and a cache that many share: taken whole, and from whom one trusts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from benchmarks.faults.life import stages_for_nothing, write_story
from storyforge.engine.sharing import KEY
from storyforge.errors import Damaged, StoryError, StoryForgeError
from storyforge.project.making import Outcome
from storyforge.project.project import Project
from storyforge.store import Store
from storyforge.store.parcels import Parcel, parcel_of
from storyforge.store.shared import new_key, public_key, shared_cache


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store(tmp_path / "other")


PANEL, FUSED = "aa" * 10, "bb" * 10

PACKED = (
    b"storyforge parcel 1\n"
    b'{"files": [["deep/deltas", 7], ["manifest.json", 2]], "key": "bbbbbbbbbbbbbbbbbbbb", "note": '
    b'"0000000000000000000000000000000000000000000000000000000000000000 9\\n", "shelf": "fused"}\n'
    b"numbers{}"
)


def put(store: Store) -> None:
    with store.make("panels", PANEL) as path:
        path.write_bytes(b"picture")
    with store.make("fused", FUSED, [("panels", PANEL)]) as path:
        (path / "deep").mkdir(parents=True)
        (path / "deep" / "deltas").write_bytes(b"numbers")
        (path / "manifest.json").write_text("{}")


def test_what_is_packed_arrives_as_it_was(store: Store, other: Store) -> None:
    put(store)
    for shelf, key in (("panels", PANEL), ("fused", FUSED)):
        Parcel.read(parcel_of(store, shelf, key)).keep(other)
        assert other.sound(shelf, key)
    assert (other.path("fused", FUSED) / "deep" / "deltas").read_bytes() == b"numbers"


def test_a_parcel_tells_what_its_product_was_made_from(store: Store, other: Store) -> None:
    put(store)
    parcel = Parcel.read(parcel_of(store, "fused", FUSED))
    assert list(parcel.note.made_from) == [f"panels/{PANEL}"]


def test_a_parcel_that_was_damaged_on_the_way_leaves_nothing(store: Store, other: Store) -> None:
    put(store)
    data = bytearray(parcel_of(store, "panels", PANEL))
    data[-1] ^= 1
    with pytest.raises(Damaged, match="arrived damaged"):
        Parcel.read(bytes(data)).keep(other)
    assert not other.path("panels", PANEL).exists()
    assert not list((other.root / "partial").glob("*"))


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", ".x", "a\\x", "c:x"])
def test_no_name_in_a_parcel_leads_out_of_it(name: str, store: Store, other: Store) -> None:
    put(store)
    data = parcel_of(store, "fused", FUSED).replace(
        b"manifest.json", name.replace("\\", "\\\\").encode()
    )
    with pytest.raises(Damaged, match="is no file of a product"):
        Parcel.read(data).keep(other)


@given(at=st.integers(0, 600), byte=st.integers(0, 255), cut=st.integers(0, 600))
def test_whatever_arrives_is_a_parcel_or_is_refused(at: int, byte: int, cut: int) -> None:
    data = bytearray(PACKED)
    data[at % len(data)] = byte
    for tried in (bytes(data), bytes(data[:cut])):
        with suppress(StoryForgeError):
            parcel = Parcel.read(tried)
            assert not any(".." in Path(name).parts for name in parcel.files)


def parts(told: object, way: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to every part of a JSON document."""
    yield way
    if isinstance(told, dict | list):
        for name, part in told.items() if isinstance(told, dict) else enumerate(told):
            yield from parts(part, (*way, name))


def changed(told: object, way: tuple[str | int, ...], to: object) -> object:
    """The document with something else in one place."""
    if not way:
        return to
    made: Any = told.copy() if isinstance(told, dict | list) else told
    made[way[0]] = changed(made[way[0]], way[1:], to)
    return made


MAGIC, HEAD, CONTENT = PACKED.split(b"\n", 2)
OTHERS = (None, True, False, 0, 5, -1, 10**40, 1.5, "", "x", "\ud800", [], [[]], {}, {"a": 1})


def test_whatever_a_parcels_head_says_it_is_refused_in_words() -> None:
    for way in parts(json.loads(HEAD)):
        for other in OTHERS:
            head = json.dumps(changed(json.loads(HEAD), way, other)).encode()
            if way[2:] == (0,) and other == "x":
                continue  # another name of a file is a parcel, whose sum does not fit
            with pytest.raises(Damaged, match="what arrived is no product"):
                Parcel.read(b"\n".join((MAGIC, head, CONTENT)))


def test_nothing_that_strangers_signed_is_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ours", "theirs"):
        new_key(tmp_path / name)
    put(store)
    shared_cache(str(tmp_path / "kept"), (), tmp_path / "theirs").offer(store, "panels", PANEL)
    monkeypatch.setattr(Parcel, "read", lambda data: pytest.fail("it was read"))
    ours = shared_cache(str(tmp_path / "kept"), (), tmp_path / "ours")
    assert not ours.fetch(Store(tmp_path / "other"), "panels", PANEL)
    entry = tmp_path / "kept" / "panels" / PANEL
    signer = public_key(ours.own).encode() if ours.own else b""
    entry.write_bytes(entry.read_bytes().replace(entry.read_bytes().split()[1], signer))
    assert not ours.fetch(Store(tmp_path / "other"), "panels", PANEL)


@pytest.fixture
def _cheap() -> Iterator[None]:
    with stages_for_nothing():
        yield


def told(folder: Path, line: str) -> Path:
    """A story with this line about its cache."""
    folder.mkdir()
    (story,) = write_story(folder)
    story.write_text(f"{story.read_text()}cache: {line}\n")
    return story


def rendered(story: Path, key: Path | None, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    if key is None:
        monkeypatch.delenv(KEY, raising=False)
    else:
        monkeypatch.setenv(KEY, str(key))
    return Project(story).render(jobs=1)


def made_and_book(outcome: Outcome) -> tuple[int, bytes]:
    """How many panels were made, and the book."""
    return outcome.made.panels, outcome.books[0].read_bytes()


@pytest.mark.usefixtures("_cheap")
def test_what_one_has_made_another_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = new_key(tmp_path / "key")
    line = f"{{at: ../kept, trust: ['{signer}']}}"
    first = rendered(told(tmp_path / "one", line), tmp_path / "key", monkeypatch)
    second = rendered(told(tmp_path / "two", line), None, monkeypatch)
    assert first.made.panels == 2
    assert not first.taken
    assert (second.made.concepts, second.made.panels, second.made.books) == (0, 0, 0)
    assert set(second.taken) == {
        "book html en",
        "book cbz en",
        "panel found",
        "panel end",
    }
    pages = [outcome.books[0].read_bytes() for outcome in (first, second)]
    assert pages[0] == pages[1]


@pytest.mark.usefixtures("_cheap")
def test_what_nobody_trusted_has_signed_is_made_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_key(tmp_path / "key")
    stranger = new_key(tmp_path / "another")
    rendered(told(tmp_path / "one", "../kept"), tmp_path / "key", monkeypatch)
    line = f"{{at: ../kept, trust: ['{stranger}']}}"
    outcome = rendered(told(tmp_path / "two", line), None, monkeypatch)
    assert outcome.made.panels == 2
    assert not outcome.taken


@pytest.mark.usefixtures("_cheap")
def test_whoever_has_no_key_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered(told(tmp_path / "one", "../kept"), None, monkeypatch)
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("at", [5, 120, -1])
@pytest.mark.usefixtures("_cheap")
def test_a_damaged_entry_is_made_here_and_put_right(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_key(tmp_path / "key")
    first = rendered(told(tmp_path / "one", "../kept"), tmp_path / "key", monkeypatch)
    for entry in (tmp_path / "kept").rglob("*"):
        if entry.is_file():
            data = bytearray(entry.read_bytes())
            data[at] ^= 1
            entry.write_bytes(data)
    for name, made in (("two", 2), ("three", 0)):
        again = rendered(told(tmp_path / name, "../kept"), tmp_path / "key", monkeypatch)
        assert made_and_book(again) == (made, first.books[0].read_bytes())


@pytest.mark.usefixtures("_cheap")
def test_an_entry_under_anothers_name_is_not_taken(tmp_path: Path) -> None:
    new_key(tmp_path / "key")
    cache = shared_cache(str(tmp_path / "kept"), (), tmp_path / "key")
    store = Store(tmp_path / "store")
    put(store)
    cache.offer(store, "panels", PANEL)
    shelf = tmp_path / "kept" / "panels"
    (shelf / PANEL).rename(shelf / ("cc" * 10))
    assert not cache.fetch(Store(tmp_path / "other"), "panels", "cc" * 10)


@pytest.mark.usefixtures("_cheap")
def test_a_cache_that_cannot_be_reached_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = rendered(told(tmp_path / "one", "nowhere://x/y"), None, monkeypatch)
    assert outcome.made.panels == 2
    assert "cannot reach the cache" in outcome.warnings[0]


class Faraway(MemoryFileSystem):  # type: ignore[misc]
    """A place that a package reaches which has errors of its own."""

    protocol = ("faraway",)
    error: Exception = OSError()

    def cat_file(self, *args: Any, **kwargs: Any) -> bytes:
        raise self.error


@pytest.mark.parametrize(
    "name", ["aiohttp.ClientError", "botocore.exceptions.BotoCoreError", "RuntimeError"]
)
@pytest.mark.usefixtures("_cheap")
def test_what_packages_raise_that_reach_a_cache_stops_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, kind = name.rpartition(".")
    error: type[Exception] = type(kind, (Exception,), {}) if module else RuntimeError
    if module:
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(**{kind: error}))
    monkeypatch.setattr(Faraway, "error", error("no host"))
    fsspec.register_implementation("faraway", Faraway, clobber=True)
    outcome = rendered(told(tmp_path / "one", "faraway://x/y"), None, monkeypatch)
    assert outcome.made.panels == 2
    assert outcome.warnings == ("cannot reach the cache `faraway://x/y`: no host",)


def test_a_cache_is_whatever_fsspec_reaches(store: Store, other: Store, tmp_path: Path) -> None:
    new_key(tmp_path / "key")
    put(store)
    cache = shared_cache("memory://shared/deep", (), tmp_path / "key")
    assert not cache.fetch(other, "fused", FUSED)
    assert cache.offer(store, "fused", FUSED)
    assert cache.fetch(other, "fused", FUSED)
    assert other.sound("fused", FUSED)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3FileSystem]:
    """A bucket `books` in a server that answers as S3 does."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "somebody")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    S3FileSystem.clear_instance_cache()
    files = S3FileSystem()
    files.mkdir("books")
    yield files
    files.rm("books", recursive=True)
    S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.mark.usefixtures("_cheap")
def test_a_cache_in_s3_is_taken_from_and_what_is_damaged_there_is_put_right(
    bucket: S3FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_key(tmp_path / "key")
    line = "s3://books/deep"
    first = rendered(told(tmp_path / "one", line), tmp_path / "key", monkeypatch)
    assert not first.warnings
    entries = [name for name in bucket.find("books") if "/panels/" in name]
    assert len(entries) == 2
    taken = rendered(told(tmp_path / "two", line), tmp_path / "key", monkeypatch)
    assert {"panel found", "panel end"} <= set(taken.taken)
    for name in entries:
        bucket.pipe_file(name, bucket.cat_file(name)[:-1] + b"?")
    for name, made in (("three", 2), ("four", 0)):
        # What another run has put there is seen, whatever this process has listed.
        again = rendered(told(tmp_path / name, line), tmp_path / "key", monkeypatch)
        assert made_and_book(again) == (made, first.books[0].read_bytes())


@pytest.mark.usefixtures("_cheap")
def test_a_bucket_that_is_not_there_stops_nothing(
    bucket: S3FileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_key(tmp_path / "key")
    outcome = rendered(told(tmp_path / "one", "'s3://nobodys/x'"), tmp_path / "key", monkeypatch)
    assert outcome.made.panels == 2
    assert "cannot reach the cache `s3://nobodys/x`" in outcome.warnings[0]


@pytest.mark.usefixtures("_cheap")
def test_where_products_are_shared_names_none_of_them_anew(tmp_path: Path) -> None:
    plain = told(tmp_path / "one", "null")
    shared = told(tmp_path / "two", "../kept")
    keys = [[task.key for task in Project(story).plan().tasks()] for story in (plain, shared)]
    assert keys[0] == keys[1]


def test_a_key_is_its_owners_alone_and_never_written_over(tmp_path: Path) -> None:
    new_key(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(StoryForgeError, match="is there already"):
        new_key(tmp_path / "key")


def test_a_public_key_that_is_none_is_a_mistake_in_the_story(tmp_path: Path) -> None:
    story = told(tmp_path / "one", "{at: ../kept, trust: [somebody]}")
    with pytest.raises(StoryError, match="mistake") as caught:
        Project(story).plan()
    assert "`somebody` is not a public key" in str(caught.value.diagnostics[0])
