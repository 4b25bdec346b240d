"""Measure workers that are processes on this machine.

    python -m benchmarks.cluster --json [--tasks 64] [--seconds 0.5] [--many 10000] [--kills 3]

`efficiency` is the time of one worker by N times that of N, on tasks that sleep: what is lost to
planning, sending and keeping. Tasks that compute are another matter: a machine of two processors
does two at a time. `many` plans, sends and keeps tasks that take no time; `kills` ends a worker
every ten seconds and counts what is not there, or not the same, in the end. `load` says how many
processes wanted a processor in the last minute, the benchmark's own among them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from distributed import Client, LocalCluster

from benchmarks.cluster.work import SLEEP, is_right, own_process, slept
from benchmarks.faults.life import write_story
from storyforge.engine.cluster import Cluster
from storyforge.engine.orders import Sender
from storyforge.executor import processors, silent
from storyforge.plan.keys import key_of
from storyforge.plan.plan import Plan
from storyforge.project.project import Project
from storyforge.store import Store
from storyforge.tasks import PanelTask

WORKERS = (1, 2, 4, 8)
KILL_EVERY = 10.0
"""Seconds between two workers that are ended."""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tasks", type=int, default=64, help="a worker's share")
    parser.add_argument("--seconds", type=float, default=0.5, help="that a task sleeps")
    parser.add_argument("--many", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--workers", default=",".join(map(str, WORKERS)))
    asked = parser.parse_args()
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    told: dict[str, object] = {}
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        bench = _Bench(Path(folder))
        counts = [int(count) for count in asked.workers.split(",")]
        pace = {count: bench.pace(count, asked.tasks, asked.seconds) for count in counts}
        alone = pace[counts[0]] * counts[0]
        told["seconds_a_task"] = {str(n): round(pace[n], 4) for n in counts}
        told["efficiency"] = {str(n): round(alone / (n * pace[n]), 3) for n in counts}
        told["many"] = bench.many(asked.many, counts[-1])
        if asked.kills:
            told |= bench.killed(counts[-1], asked.kills)
        told["load"] = {"processors": processors(), "busy": round(os.getloadavg()[0], 1)}
    print(json.dumps(told, indent=1) if asked.json else told)


class _Bench:
    """A story of one panel, and as many copies of its task as are wanted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (story,) = write_story(root)
        # A story without a concept: its panels read no product.
        story.write_text(story.read_text().replace("concept: pip", "prompt: a fox"))
        story.write_text(story.read_text().replace("concept: owl", "prompt: an owl"))
        self.plan: Plan = Project(story).plan()
        self.trial = 0

    def tasks(self, count: int) -> tuple[PanelTask, ...]:
        """Panels that differ in their keys alone."""
        self.trial += 1
        panel = self.plan.panels[0]
        keys = (key_of({"trial": self.trial, "panel": n}) for n in range(count))
        return tuple(replace(panel, key=key) for key in keys)

    def done(self, client: Client, tasks: Sequence[PanelTask]) -> tuple[float, int]:
        """Seconds to have all of them in the store, and how many are not there or not right."""
        store = Store(self.root / f"store-{self.trial}")
        began = time.perf_counter()
        cluster = Cluster(client, work=slept)
        failures = cluster.perform(tasks, Sender(self.plan, store), silent, lambda *_: None)
        spent = time.perf_counter() - began
        for failure in failures[:3]:
            print(failure.error, file=sys.stderr)
        lost = sum(not is_right(store.path("panels", task.key), task.key) for task in tasks)
        return spent, lost

    def pace(self, workers: int, share: int, seconds: float) -> float:
        """Seconds that go by for every task, with so many workers."""
        count = share * workers
        with _started(workers, seconds) as client:
            spent, lost = self.done(client, self.tasks(count))
        print(f"{workers} workers: {count} tasks in {spent:.2f} s, {lost} lost", file=sys.stderr)
        return spent / count

    def many(self, count: int, workers: int) -> dict[str, object]:
        """Tasks that take no time: what planning, sending and keeping takes."""
        with _started(workers, 0.0) as client:
            spent, lost = self.done(client, self.tasks(count))
        return {"tasks": count, "seconds": round(spent, 1), "lost": lost}

    def killed(self, workers: int, kills: int) -> dict[str, object]:
        """Tasks while a worker is ended every ten seconds; enough for so many of these."""
        seconds = 0.5
        count = int(workers * kills * KILL_EVERY / seconds) + workers
        with _started(workers, seconds) as client, _killer(client) as ended:
            spent, lost = self.done(client, self.tasks(count))
        told = {"tasks": count, "workers_killed": len(ended), "kill_seconds": round(spent, 1)}
        return {"lost_on_kill": lost, **told}


@contextmanager
def _started(workers: int, seconds: float) -> Iterator[Client]:
    """So many processes that sleep so long for a task."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            silence_logs="ERROR",
            env={SLEEP: str(seconds)},
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(workers, timeout=300)
        client.run(own_process)
        yield client


@contextmanager
def _killer(client: Client) -> Iterator[list[int]]:
    """End a worker's process every ten seconds, from the beginning to the end."""
    ended: list[int] = []
    over, chance = threading.Event(), random.Random(7)

    def kill() -> None:
        while not over.wait(KILL_EVERY):
            process = chance.choice(sorted(client.run(own_process).values()))
            os.kill(process, signal.SIGKILL)
            ended.append(process)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield ended
    finally:
        over.set()
        thread.join(30)


if __name__ == "__main__":
    main()
