"""How long one method takes: seconds a step, until it looks like its concept, and peak memory.

Run by `benchmarks.training` as a process of its own, so that memory is this method's alone. The run
is judged on the way, as `train: {check_every: N}` does; the time of the checks does not count.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import torch

from benchmarks.methods import variant
from storyforge.engine.judge import ClipJudge
from storyforge.engine.stages import opened as base_for
from storyforge.executor import peak_memory
from storyforge.metrics.clip import open_clip
from storyforge.metrics.references import references_of
from storyforge.modelref import base_at
from storyforge.store import Store
from storyforge.train import edlora
from storyforge.train.logs import Logs

SHARE = 0.95
"""Of the identity that a run gains in all."""


@dataclass(slots=True)
class Watchman:
    """Hears how far the training is, and times the steps alone."""

    walls: list[float] = field(default_factory=list)
    works: list[float] = field(default_factory=list)
    began: tuple[float, float] | None = None
    clock: Callable[[], float] = perf_counter

    def __call__(self, what: str, done: int, total: int) -> None:
        """Hear of a step that begins, or of what is not one."""
        now = self.clock(), process_time()
        if self.began is not None:
            self.walls.append(now[0] - self.began[0])
            self.works.append(now[1] - self.began[1])
        self.began = now if what == "learning" and done < total else None
        if what == "judging":
            sys.stderr.write(f"{done} of {total}\n")


def steps_to(checks: Sequence[tuple[int, float]], share: float = SHARE) -> float | None:
    """Steps until this share of the identity that the last check has over the first is reached.

    Between two checks it is taken to grow evenly; None if the last check is no better.

    checks  (step, image alignment), the first by the base itself
    """
    goal = checks[0][1] + share * (checks[-1][1] - checks[0][1])
    if checks[-1][1] <= checks[0][1]:
        return None
    for (a, low), (b, high) in zip(checks, checks[1:], strict=False):
        if high >= goal:
            return a + (b - a) * (goal - low) / (high - low)
    return None


def measure(
    folder: Path, store: Store, method: str, clip: str, *, prior: bool
) -> dict[str, object]:
    """Train the concept in `folder` anew, beside the store, and say how long what took."""
    base = base_at("pocket", folder)
    task = variant(folder, base, method, prior=prior).task
    watched = task.settings.model_copy(update={"check_every": 25})
    task = replace(task, settings=watched, clip=clip)
    opened = open_clip(clip)
    judge, watchman = ClipJudge(opened, references_of(opened, task)), Watchman()
    with TemporaryDirectory() as made:
        logs = Logs(Path(made) / "logs")
        scratch = store.scratch(f"pace-{task.key}")
        out = Path(made) / "concept.safetensors"
        edlora.train_concept(base_for(task), task, out, scratch, watchman, logs, judge=judge)
        size = out.stat().st_size
        lines = (logs.folder / "alignment.jsonl").read_text(encoding="utf-8").splitlines()
        (scratch / edlora.STATE).unlink(missing_ok=True)
    curve = [(line["step"], line["image"]) for line in map(json.loads, lines)]
    steps, step = steps_to(curve), median(watchman.walls)
    return {
        "seconds_per_step": step,
        "cpu_seconds_per_step": median(watchman.works),
        "steps_to_95": steps,
        "seconds_to_95": None if steps is None else steps * step,
        "peak_bytes": peak_memory(),
        "file_bytes": size,
        "curve": curve,
    }


def main() -> None:
    """Measure one method and print it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pace", description=__doc__)
    parser.add_argument("folder", type=Path, help="a concept's")
    parser.add_argument("method")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--clip", default="pocket")
    parser.add_argument("--no-prior", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    store = Store(asked.store)
    found = measure(asked.folder, store, asked.method, asked.clip, prior=not asked.no_prior)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
