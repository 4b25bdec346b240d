"""Many machines: the same keys and bytes wherever a task runs, and nothing lost with a worker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from queue import Queue
from time import sleep
from typing import Any

import asyncssh
import dask
import pytest
from distributed import Client, LocalCluster, wait
from tiny import save_base
from tinystory import products, write_story
from typer.testing import CliRunner

from storyforge.cli.program import app
from storyforge.engine.cluster import Cluster, work
from storyforge.engine.opening import ClusterSpec, hosts_in, opened_cluster
from storyforge.engine.orders import RemoteTask, Sendable, Sender
from storyforge.engine.token import new_token, security_of
from storyforge.engine.worker import STORE, Unfinished, own_store, perform
from storyforge.errors import (
    EnvironmentProblem,
    NotEnoughMemory,
    StoryForgeError,
    TaskFailed,
)
from storyforge.executor import Failure, silent
from storyforge.plan.keys import drawn_from, key_of
from storyforge.plan.plan import Plan
from storyforge.plan.status import shelf_of
from storyforge.project import making
from storyforge.project.making import Making
from storyforge.project.project import Project
from storyforge.store import Store
from storyforge.store.parcels import Parcel, parcel_of, parcel_of_file
from storyforge.tasks import PanelTask, Task, TrainTask
from storyforge.train.logs import Logs

Work = Callable[..., bytes]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cluster")
    save_base(made / "base")
    return made


@pytest.fixture(scope="module")
def here(folder: Path) -> Path:
    """A story that was made on this machine alone."""
    story = write_story(folder / "here")
    assert not Project(story).render(jobs=1).troubles
    return story


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Two processes, with a store of their own for what is not shared with them."""
    own = tmp_path_factory.mktemp("worker")
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        memory_limit=0,
        dashboard_address="127.0.0.1:0",
        env={STORE: str(own), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
    ) as cluster:
        yield cluster


@pytest.fixture
def client(workers: LocalCluster) -> Iterator[Client]:
    with Client(workers) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


def test_a_story_made_by_many_is_the_story_made_here(
    folder: Path, here: Path, workers: LocalCluster
) -> None:
    story = write_story(folder / "there")
    spec = ClusterSpec.read(workers.scheduler_address)
    outcome = Project(story, cluster=spec).render()
    assert not outcome.troubles
    assert (outcome.made.concepts, outcome.made.fused, outcome.made.panels) == (1, 1, 2)
    assert products(story) == products(here)


def sent(
    client: Client, story: Path, panels: tuple[PanelTask, ...], store: Store, do: Work = work
) -> tuple[Failure[PanelTask], ...]:
    """Draw panels by workers who do not see the store."""
    cluster = Cluster(client, work=do)
    sender = Sender(Project(story).plan(), store)
    return cluster.perform(panels, sender, silent, lambda task, memory: None)


def drawn(store: Store, plan: Plan) -> list[bytes]:
    return [store.path("panels", task.key).read_bytes() for task in plan.panels]


def without_panels(story: Path, other: Path) -> Store:
    """A store with all that panels are drawn from."""
    store = Store(other)
    plan = Project(story).plan()
    assert plan.fuse is not None
    source = Store(story.parent / ".storyforge")
    for task in (*plan.train, plan.fuse):
        Parcel.read(parcel_of(source, shelf_of(task), task.key)).keep(store)
    return store


def test_products_travel_where_no_store_is_shared(
    here: Path, client: Client, tmp_path: Path
) -> None:
    plan, store = Project(here).plan(), without_panels(here, tmp_path / "store")
    assert not sent(client, here, plan.panels, store)
    assert drawn(store, plan) == drawn(Store(here.parent / ".storyforge"), plan)


def picture_of(text: str) -> bytes:
    order = RemoteTask.read(text)
    return parcel_of_panel(str(order.task["key"]))


def parcel_of_panel(key: str) -> bytes:
    store = Store(Path(os.environ[STORE]))
    with store.make_missing("panels", key) as path:
        if path is not None:
            path.write_bytes(f"picture {key}".encode())
    return parcel_of(store, "panels", key)


def once(text: str, name: str) -> bool:
    """Whether this is the first time, in any process, that something befalls this task."""
    mark = Path(os.environ[STORE]) / f"{name}-{RemoteTask.read(text).task['key']}"
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def dies_once(text: str, *given: bytes) -> bytes:
    if once(text, "died"):
        os.kill(os.getpid(), signal.SIGKILL)
    return picture_of(text)


def lacks_memory_unless_tight(text: str, *given: bytes) -> bytes:
    if not RemoteTask.read(text).tight:
        raise Unfinished(NotEnoughMemory("not enough memory: 1"), "tcp://nobody:1")
    return picture_of(text)


def lacks_a_base_once(text: str, *given: bytes) -> bytes:
    from distributed import get_worker

    if once(text, "lacked"):
        raise Unfinished(EnvironmentProblem("no base here"), get_worker().address)
    return picture_of(text)


def never_fits(text: str, *given: bytes) -> bytes:
    with (Path(os.environ[STORE]) / "tried").open("a") as file:
        file.write("tried\n")
    raise Unfinished(StoryForgeError("a picture of 3 pixels does not fit"), "tcp://nobody:1")


def arrives_damaged_once(text: str, *given: bytes) -> bytes:
    data = bytearray(picture_of(text))
    if once(text, "damaged"):
        data[-1] ^= 1
    return bytes(data)


@pytest.mark.parametrize(
    "do", [dies_once, lacks_memory_unless_tight, lacks_a_base_once, arrives_damaged_once]
)
def test_what_befalls_a_worker_is_done_again(
    do: Work, here: Path, client: Client, tmp_path: Path
) -> None:
    panels = tuple(
        replace(task, key=key_of({"panel": task.panel, "how": do.__name__}))
        for task in Project(here).plan().panels
    )
    store = without_panels(here, tmp_path / "store")
    assert not sent(client, here, panels, store, do)
    assert [store.path("panels", task.key).read_text() for task in panels] == [
        f"picture {task.key}" for task in panels
    ]


def test_an_authors_mistake_is_not_tried_again(here: Path, client: Client, tmp_path: Path) -> None:
    panels = Project(here).plan().panels[:1]
    store = without_panels(here, tmp_path / "store")
    (failure,) = sent(client, here, panels, store, never_fits)
    assert failure.error.message == "a picture of 3 pixels does not fit"
    (own,) = set(client.run(own_store).values())
    assert (own / "tried").read_text() == "tried\n"


def test_what_is_damaged_here_is_not_sent(here: Path, client: Client, tmp_path: Path) -> None:
    plan, store = Project(here).plan(), without_panels(here, tmp_path / "store")
    assert plan.fuse is not None
    (store.path("fused", plan.fuse.key) / "manifest.json").write_text("{}")
    failures = sent(client, here, plan.panels, store)
    assert {failure.error.message.partition("` is")[2] for failure in failures} == {
        " damaged or gone"
    }
    assert len(failures) == len(plan.panels)


@pytest.mark.parametrize("option", ["--jobs=2", "--previews=seen"])
def test_what_a_cluster_does_not_obey_is_refused(option: str, here: Path) -> None:
    for more in ((), ("--takes=2", "p0")):
        asked = ["render", str(here), "--cluster=local:1", option, *more]
        result = CliRunner().invoke(app, asked)
        assert result.exit_code == 1
        assert f"a cluster does not obey `{option.partition('=')[0]}`" in result.stderr


def test_a_token_without_a_cluster_is_refused(here: Path) -> None:
    result = CliRunner().invoke(app, ["render", str(here), "--token=token"])
    assert result.exit_code == 1
    assert "`--token` belongs to a `--cluster`" in result.stderr


def test_what_only_this_machine_does_is_done_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All GPUs are used of itself only where nothing is asked that they would not obey."""
    several = ClusterSpec("local", count=2)
    monkeypatch.setattr(making, "usual_cluster", lambda: several)
    assert Making().usual_cluster(9) == several
    assert Making().usual_cluster(1) is None
    for how in (Making(jobs=1), Making(logs=Logs(tmp_path)), Making(previews=tmp_path)):
        assert how.usual_cluster(9) is None


STORIES = sorted((ROOT / "stories").glob("*.yaml"))


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_an_order_says_on_the_other_side_what_it_said_here(story: Path, tmp_path: Path) -> None:
    plan = Project(story, store=tmp_path / "here").plan()
    sender, there = Sender(plan, Store(tmp_path / "here")), Store(tmp_path / "there")
    tasks: list[Sendable] = [*plan.train, *([plan.fuse] if plan.fuse else []), *plan.panels]
    for task in tasks:
        order = RemoteTask.read(sender.order(task).text())
        for key in order.inputs:
            Parcel.read(sender.input(key)).keep(there)
        arrived = order.opened(there)
        if isinstance(arrived, PanelTask):
            assert key_of(drawn_from(arrived)) == task.key
        elif isinstance(arrived, TrainTask) and isinstance(task, TrainTask):
            assert arrived.folder != task.folder
            assert replace(arrived, folder=task.folder) == task
        else:
            assert arrived == task


def test_an_order_names_no_path_of_the_author(here: Path) -> None:
    plan = Project(here).plan()
    sender = Sender(replace(plan, panels=()), Store(here.parent / ".storyforge"))
    text = sender.order(replace(plan.panels[0], base="pocket")).text()
    assert "inputs/" in text
    assert str(here.parent) not in text


def test_an_order_of_another_version_is_refused(here: Path) -> None:
    plan = Project(here).plan()
    order = Sender(plan, Store(here.parent)).order(plan.panels[0])
    with pytest.raises(Unfinished, match="storyforge 0.0.1 asks"):
        perform(replace(order, version="0.0.1").text(), (), "here", silent)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"kind": "os.system", "task": {}}'])
def test_what_is_no_order_is_refused(text: str) -> None:
    with pytest.raises(Unfinished):
        perform(text, (), "here", silent)


def test_another_base_is_not_drawn_with(here: Path, tmp_path: Path) -> None:
    plan = Project(here).plan()
    task = replace(plan.panels[0], base_hash="0" * 64)
    sender = Sender(plan, Store(tmp_path))
    order = sender.order(task)
    given = [sender.input(key) for key in order.inputs]
    with pytest.raises(Unfinished, match="is another one on this machine"):
        perform(order.text(), given, "here", silent, own=Store(tmp_path))


def test_an_error_comes_home_as_it_was() -> None:
    told = pickle.loads(pickle.dumps(Unfinished(TaskFailed("no", hint="yes"), "there")))
    assert (told.error.message, told.error.hint, told.where) == ("no", "yes", "there")


def test_whoever_has_no_token_is_turned_away(tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        new_token(tmp_path / name)
    with LocalCluster(
        n_workers=0,
        processes=False,
        dashboard_address="127.0.0.1:0",
        security=security_of(tmp_path / "ours"),
    ) as cluster:
        address = cluster.scheduler_address
        assert address.startswith("tls://")
        with Client(address, security=security_of(tmp_path / "ours"), timeout=20) as friend:
            assert friend.status == "running"
        with pytest.raises((OSError, TimeoutError)):
            Client(address, security=security_of(tmp_path / "theirs"), timeout=2)


def test_a_token_is_its_owners_alone_and_must_be_one(tmp_path: Path) -> None:
    new_token(tmp_path / "token")
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    (tmp_path / "none").write_text("none")
    with pytest.raises(EnvironmentProblem, match="no token in"):
        security_of(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("local", ClusterSpec("local")),
        ("local:4", ClusterSpec("local", count=4)),
        ("slurm:16", ClusterSpec("slurm", count=16)),
        ("ssh:hosts.txt", ClusterSpec("ssh", "hosts.txt")),
        ("tls://host:8786", ClusterSpec("scheduler", "tls://host:8786")),
    ],
)
def test_a_cluster_is_said_in_a_word(text: str, spec: ClusterSpec) -> None:
    token = Path("token")
    assert ClusterSpec.read(text, token) == replace(spec, token=token)


NO_CLUSTERS = (
    *("", "local:0", "ssh:", "http://x:1", "tls://x", "tls://x:1/y"),
    *("tls://x:65536", "tls://x:٣", "local:٣", "tcp://localhost:99999999999"),
)


@pytest.mark.parametrize("text", NO_CLUSTERS)
def test_what_is_no_cluster_is_told(text: str) -> None:
    with pytest.raises(StoryForgeError, match="is no cluster"):
        ClusterSpec.read(text, Path("token"))


@pytest.mark.parametrize(
    "text",
    ["tcp://10.0.0.1:8786", "tls://10.0.0.1:1", "tls://localhost:1", "slurm:2", "ssh:hosts.txt"],
)
def test_no_cluster_that_others_reach_is_without_a_token(text: str) -> None:
    with pytest.raises(StoryForgeError, match="without a token"):
        ClusterSpec.read(text)


def test_a_token_where_nothing_is_encrypted_is_refused() -> None:
    with pytest.raises(StoryForgeError, match="is not encrypted") as caught:
        ClusterSpec.read("tcp://localhost:8786", Path("token"))
    assert caught.value.hint == "write `tls://localhost:8786`"


def test_whatever_fails_while_a_cluster_starts_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_token(tmp_path / "token")
    (tmp_path / "hosts").write_text("localhost\n")
    spec = ClusterSpec.read(f"ssh:{tmp_path / 'hosts'}", tmp_path / "token")
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    with (
        pytest.raises(EnvironmentProblem, match="needs the package `asyncssh`") as caught,
        opened_cluster(spec, Store(tmp_path / "store")),
    ):
        pass
    assert caught.value.hint == "pip install 'storyforge[ssh]'"


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        asked = [sys.executable, "-m", "storyforge", "worker", address, "--listen"]
        done = subprocess.run(asked, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert f"cannot work at `{address}`" in done.stderr
    assert "in use" in done.stderr
    assert "name a free port" in done.stderr
    assert "Traceback" not in done.stderr


def test_hosts_are_listed_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("# ours\none\n\ntwo\n")
    assert hosts_in(tmp_path / "hosts") == ["one", "two"]
    (tmp_path / "none").write_text("\n")
    with pytest.raises(EnvironmentProblem, match="lists no host"):
        hosts_in(tmp_path / "none")


def test_one_task_is_done_by_its_key_when_its_needs_are_there(folder: Path, here: Path) -> None:
    story = write_story(folder / "array", panels=1)
    project = Project(story)
    survey = project.status()
    tasks = {line.subject: line.task.key for line in survey.lines}
    panel = tasks["panel p0"]
    assert survey.needs[panel] == (tasks["fused model"], tasks["concept pip"])
    assert survey.needs[tasks["fused model"]] == (tasks["concept pip"],)
    early = project.run_task(panel)
    assert [trouble.subject for trouble in early.troubles] == ["panel p0"]
    for line in survey.lines:
        outcome = Project(story).run_task(line.task.key)
        assert not outcome.troubles
        assert project.store.has(shelf_of(line.task), line.task.key)
    with pytest.raises(StoryForgeError, match="has no task"):
        project.run_task("0" * 20)


@pytest.mark.slow
def test_a_worker_serves_whoever_has_its_token(folder: Path, here: Path, tmp_path: Path) -> None:
    """The whole way, as it is typed: a scheduler with one worker, and a render elsewhere."""
    new_token(tmp_path / "token")
    program = [sys.executable, "-m", "storyforge"]
    guard = ["--token", str(tmp_path / "token")]
    serving = subprocess.Popen(
        [*program, "worker", "tls://127.0.0.1:0", "--listen", *guard, "--store", str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert serving.stderr is not None
        said = next(line for line in serving.stderr if "others come to" in line)
        address = said.split("`")[1]
        story = write_story(folder / "typed", panels=1)
        asked = [*program, "render", str(story), "--cluster", address, *guard]
        done = subprocess.run(asked, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        typed, known = products(story), products(here)
        assert {name for name in typed if typed[name] != known.get(name)} <= {
            name for name in typed if name.startswith("books")
        }
    finally:
        serving.send_signal(signal.SIGINT)
        try:
            serving.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            serving.kill()
            serving.communicate()


@pytest.fixture
def panels(here: Path) -> tuple[PanelTask, ...]:
    """Panels that read nothing, and are nobody else's."""
    plan = Project(here).plan()
    name = os.environ["PYTEST_CURRENT_TEST"]
    keys = [key_of({"test": name, "panel": number}) for number in range(40)]
    return tuple(replace(plan.panels[0], key=key) for key in keys)


class CountingClient(Client):
    """Counts the messages by which tasks go out and products come in."""

    submits = maps = gathers = 0

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        type(self).submits += 1
        return super().submit(*args, **kwargs)

    def map(self, *args: Any, **kwargs: Any) -> Any:
        type(self).maps += 1
        futures = super().map(*args, **kwargs)
        wait(futures)
        return futures

    def gather(self, *args: Any, **kwargs: Any) -> Any:
        type(self).gathers += 1
        return super().gather(*args, **kwargs)


@dataclass
class CountingSender(Sender):
    """Knows what of the author's was read to be sent."""

    reads: list[str] = field(default_factory=list)

    def input(self, key: str) -> bytes:
        self.reads += [Path(name).stem for name in self.files[key]]
        return super().input(key)


def drawn_at_once(text: str, *given: bytes) -> bytes:
    key = str(RemoteTask.read(text).task["key"])
    return parcel_of_file("panels", key, key.encode())


def test_many_tasks_go_out_and_come_in_together(
    here: Path, workers: LocalCluster, panels: tuple[PanelTask, ...], tmp_path: Path
) -> None:
    store = without_panels(here, tmp_path / "store")
    sender = CountingSender(Project(here).plan(), store)
    with CountingClient(workers) as client:
        cluster = Cluster(client, work=drawn_at_once)
        assert not cluster.perform(panels, sender, silent, lambda *_: None)
    assert sender.reads == ["mask"]
    assert all(store.path("panels", task.key).read_text() == task.key for task in panels)
    assert CountingClient.maps == 1
    assert CountingClient.submits <= 5
    assert CountingClient.gathers < len(panels) / 2


def test_a_scheduler_that_is_lost_ends_the_run_in_words(
    here: Path, panels: tuple[PanelTask, ...], tmp_path: Path
) -> None:
    store = without_panels(here, tmp_path / "store")
    kept: list[Task] = []
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster.scheduler_address, timeout=3) as client,
    ):

        def lose(task: Task, memory: int) -> None:
            kept.append(task)
            cluster.close()

        tired = Cluster(client, work=drawn_slowly)
        with pytest.raises(EnvironmentProblem, match="the cluster is gone") as caught:
            tired.perform(panels, Sender(Project(here).plan(), store), silent, lose)
    assert caught.value.hint == "run the same command again: what has arrived is kept"
    assert kept
    assert all(store.has("panels", task.key) for task in kept)


def drawn_slowly(text: str, *given: bytes) -> bytes:
    sleep(0.2)
    return drawn_at_once(text, *given)


def test_a_cluster_that_nobody_works_for_any_more_ends_the_run_in_words(
    here: Path, panels: tuple[PanelTask, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storyforge.engine.cluster._LOOK", 0.05)
    store = without_panels(here, tmp_path / "store")
    told: list[str] = []
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as empty,
        Client(empty) as client,
        pytest.raises(EnvironmentProblem, match="the cluster is gone: no worker is left"),
    ):
        Cluster(client, lonely=0.2).perform(
            panels[:1],
            Sender(Project(here).plan(), store),
            lambda what, *_: told.append(what),
            lambda *_: None,
        )
    assert told == ["no worker is left: waiting for one"]


def test_a_task_that_some_refused_is_not_lost_with_the_others(
    here: Path, workers: LocalCluster, client: Client, panels: tuple[PanelTask, ...], tmp_path: Path
) -> None:
    """One worker refuses it, and the only one that may do it now goes away."""
    store = without_panels(here, tmp_path / "store")
    cluster = Cluster(client, work=refused_once)
    assert not cluster.perform(
        panels[:1], Sender(Project(here).plan(), store), silent, lambda *_: None
    )


def refused_once(text: str, *given: bytes) -> bytes:
    """Refuse it on one worker; end the process of the other, once."""
    from distributed import get_worker

    if once(text, "refused"):
        raise Unfinished(EnvironmentProblem("no base here"), get_worker().address)
    if once(text, "ended"):
        os.kill(os.getpid(), signal.SIGKILL)
    return drawn_at_once(text, *given)


def test_a_store_of_the_same_name_is_not_taken_for_the_shared_one(
    here: Path, client: Client, panels: tuple[PanelTask, ...], tmp_path: Path
) -> None:
    store = without_panels(here, tmp_path / "store")
    cluster = Cluster(client, seen="seen-by-nobody")
    failures = cluster.perform(
        panels[:1], Sender(Project(here).plan(), store), silent, lambda *_: None
    )
    (failure,) = failures
    assert "does not see the store" in failure.error.message
    assert failure.error.hint == "mount the same folder there, or end the worker on it"


def test_what_is_said_to_be_made_and_is_not_here_has_failed(
    here: Path, client: Client, panels: tuple[PanelTask, ...], tmp_path: Path
) -> None:
    store = without_panels(here, tmp_path / "store")
    (failure,) = sent(client, here, panels[:1], store, says_it_is_done)
    assert "is not here" in failure.error.message


def says_it_is_done(text: str, *given: bytes) -> bytes:
    return b""


def test_a_strange_worker_takes_one_task_with_it_and_no_more(
    here: Path, client: Client, panels: tuple[PanelTask, ...], tmp_path: Path
) -> None:
    store = without_panels(here, tmp_path / "store")
    odd = panels[7].key
    failures = sent(client, here, panels, store, partial(fails_strangely, odd))
    assert [failure.task.key for failure in failures] == [odd]
    assert failures[0].error.message == "a worker failed by KeyError: 'storyforge'"
    assert sum(store.has("panels", task.key) for task in panels) == len(panels) - 1


def fails_strangely(odd: str, text: str, *given: bytes) -> bytes:
    if RemoteTask.read(text).task["key"] == odd:
        raise KeyError("storyforge")
    return drawn_at_once(text, *given)


def test_a_cluster_of_ones_own_is_closed_to_others(here: Path, tmp_path: Path) -> None:
    spec = ClusterSpec.read("local:1")
    store = Store(tmp_path / "store")
    with opened_cluster(spec, store) as cluster:
        address = cluster.client.scheduler.address
        assert address.startswith("tls://")
        assert cluster.seen is not None
        assert (store.root / "locks" / f"{cluster.seen}.lock").exists()
        with pytest.raises((OSError, TimeoutError)):
            Client(address.replace("tls", "tcp"), timeout=2)
    assert not list((store.root / "locks").glob("seen-*"))


def test_a_cluster_that_ends_in_an_error_leaves_no_mark(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with (
        pytest.raises(KeyboardInterrupt),
        opened_cluster(ClusterSpec.read("local:1"), store) as cluster,
    ):
        assert list((store.root / "locks").glob(f"{cluster.seen}*"))
        raise KeyboardInterrupt
    assert not list((store.root / "locks").glob("seen-*"))


async def _let_in(ready: Queue[tuple[int, str]]) -> None:
    """An SSH server that runs whatever it is asked, and lets everybody in."""

    class Door(asyncssh.SSHServer):  # type: ignore[misc]
        def begin_auth(self, username: str) -> bool:
            return False

    async def passed_on(read: asyncio.StreamReader, write: Any) -> None:
        # Until its end: what is sent after a channel was closed ends the whole connection.
        while part := await read.read(4096):
            write.write(part)
            await write.drain()

    async def run(asked: Any) -> None:
        done = await asyncio.create_subprocess_shell(
            asked.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert done.stdout
        assert done.stderr
        with contextlib.suppress(OSError):
            await asyncio.gather(
                passed_on(done.stdout, asked.stdout), passed_on(done.stderr, asked.stderr)
            )
            asked.exit(await done.wait())

    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.create_server(
        Door, "127.0.0.1", 0, server_host_keys=[key], process_factory=run, encoding=None
    )
    public = key.export_public_key().decode().strip()
    ready.put((server.sockets[0].getsockname()[1], public))
    await asyncio.Event().wait()


def test_hosts_are_reached_by_ssh_and_encrypted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready: Queue[tuple[int, str]] = Queue()
    threading.Thread(target=lambda: asyncio.run(_let_in(ready)), daemon=True).start()
    port, public = ready.get(timeout=60)
    own = tmp_path / "home" / ".ssh"
    own.mkdir(parents=True)
    (own / "config").write_text(f"Host node\n  HostName 127.0.0.1\n  Port {port}\n")
    (own / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "hosts").write_text("node\n")
    new_token(tmp_path / "token")
    spec = ClusterSpec.read(f"ssh:{tmp_path / 'hosts'}", tmp_path / "token")
    with opened_cluster(spec, Store(tmp_path / "store")) as cluster:
        assert cluster.client.scheduler.address.startswith("tls://")
        assert cluster.seen is not None
        assert cluster.client.submit(sum, [1, 2]).result(timeout=60) == 3


SBATCH = """#!/bin/sh
job=$(mktemp)
cp "$1" "$job"
sh "$job" > "$job.out" 2>&1 &
echo "Submitted batch job $!"
"""
"""The script is removed as soon as it was sent, so that it is copied, as Slurm does."""


@pytest.fixture
def _slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of Slurm as far as jobs are sent by them; what is sent runs here."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for name, script in {"sbatch": SBATCH, "scancel": '#!/bin/sh\nkill "$1"\n'}.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    # What it sets by itself it sets when it is imported, and what is set before is lost with it.
    import_module("dask_jobqueue")


@pytest.mark.usefixtures("_slurm")
def test_jobs_of_slurm_work_and_are_encrypted(tmp_path: Path) -> None:
    new_token(tmp_path / "token")
    spec = ClusterSpec.read("slurm:1", tmp_path / "token")
    job = {"cores": 1, "memory": "4GB"}
    with (
        dask.config.set({f"jobqueue.slurm.{name}": value for name, value in job.items()}),
        opened_cluster(spec, Store(tmp_path / "store")) as cluster,
    ):
        assert cluster.client.scheduler.address.startswith("tls://")
        assert cluster.seen is not None
        assert cluster.client.submit(sum, [1, 2]).result(timeout=60) == 3


@pytest.mark.usefixtures("_slurm")
def test_what_a_job_of_slurm_gets_must_be_said(tmp_path: Path) -> None:
    new_token(tmp_path / "token")
    spec = ClusterSpec.read("slurm", tmp_path / "token")
    with (
        pytest.raises(EnvironmentProblem, match="nothing says its cores and memory") as caught,
        opened_cluster(spec, Store(tmp_path / "store")),
    ):
        pass
    assert "jobqueue.yaml" in str(caught.value.hint)
