"""Pictures drawn to be judged: each once, kept under the name of all that decides about its pixels.

An interrupted run goes on where it was; a picture that several protocols ask for is one file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter, process_time

from storyforge.engine.engine import opened
from storyforge.executor import OnProgress, run
from storyforge.plan.keys import drawn_from, key_of
from storyforge.store import Store
from storyforge.tasks import PanelTask


@dataclass(frozen=True, slots=True)
class DrawingJob:
    """Pictures that are drawn one after the other with one model.

    model     a fused model's folder; None for the base
    concepts  files of the concepts whose own weights some picture is drawn with, by name
    """

    model: Path | None
    tasks: tuple[PanelTask, ...]
    concepts: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gallery:
    """A folder of pictures by key; it is made when the first is drawn."""

    folder: Path

    def path(self, task: PanelTask) -> Path:
        """Where the picture of a keyed task hangs, drawn or not."""
        return self.folder / f"{task.key}.png"

    def seconds(self, task: PanelTask) -> float:
        """What drawing a picture took, of the processor or, on an accelerator, by the clock.

        NaN where nobody looked.
        """
        try:
            told = json.loads(self.path(task).with_suffix(".json").read_text(encoding="ascii"))
            return float(told["seconds"])
        except (OSError, ValueError, KeyError):
            return math.nan

    def draw(self, sittings: Sequence[DrawingJob], on_progress: OnProgress, jobs: int = 1) -> int:
        """Draw what is missing, `jobs` sittings at a time; how many pictures those were.

        Raises what made a sitting fail; pictures that were finished before are kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lacking: list[DrawingJob] = []
        seen: set[str] = set()
        for sitting in sittings:
            tasks = {task.key: task for task in sitting.tasks if task.key not in seen}
            tasks = {key: task for key, task in tasks.items() if not self.path(task).is_file()}
            seen.update(tasks)
            if tasks:
                lacking.append(replace(sitting, tasks=tuple(tasks.values())))
        waiting = {self.path(task) for sitting in lacking for task in sitting.tasks}
        total = len(waiting)

        def count(what: str, done: int, of: int) -> None:
            # Steps are told as well, by several at a time: what hangs is what is drawn.
            waiting.difference_update([path for path in waiting if path.is_file()])
            on_progress("drawing pictures", total - len(waiting), total)

        for failure in run(partial(_sit, self), lacking, jobs, count, lambda *_: None):
            raise failure.error
        return total


def keyed(task: PanelTask) -> PanelTask:
    """The task named by all that decides about its pixels; its own name does not."""
    return replace(task, key=key_of({**drawn_from(task), "panel": ""}))


@dataclass(slots=True)
class _Clock:
    """Seconds of the pictures that are drawn together, an equal share for each.

    On a processor they are the process's own: what else the machine does takes none of them.
    """

    read: Callable[[], float]
    drawing: int = 0
    together: int = 0
    began: float = 0.0

    def begin(self) -> None:
        """Take in one more picture."""
        if self.drawing == 0:
            self.together, self.began = 0, self.read()
        self.drawing += 1
        self.together += 1

    def end(self) -> float:
        """Let one go; its seconds."""
        self.drawing -= 1
        return (self.read() - self.began) / self.together


def _sit(gallery: Gallery, sitting: DrawingJob, on_progress: OnProgress) -> None:
    from storyforge.model.base import best_device
    from storyforge.sample import sampler

    clock = _Clock(process_time if best_device().type == "cpu" else perf_counter)

    @contextmanager
    def keep(task: PanelTask) -> Iterator[Path]:
        path = gallery.path(task)
        part = path.with_suffix(".part.png")
        clock.begin()
        yield part
        spent = json.dumps({"seconds": round(clock.end(), 4)})
        path.with_suffix(".json").write_text(spent, encoding="ascii")
        part.replace(path)

    sampler.draw_panels(
        opened(sitting.tasks[0]), sitting.tasks, sitting.model, keep, on_progress, sitting.concepts
    )


def alone(store: Store, name: str, key: str) -> Path:
    """The model that knows one learnt concept and nothing else, under the name that prompts say.

    key  of the concept's file in the store
    """
    from storyforge.model.concept import Concept

    made = key_of({"make": "concept alone 1", "name": name, "concept": key})
    if not store.has("fused", made):
        concept = Concept.load(store.path("concepts", key)).renamed(name)
        with store.make("fused", made) as folder:
            folder.mkdir()
            concept.alone().save(folder)
    return store.path("fused", made)
