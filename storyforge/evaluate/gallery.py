"""Pictures drawn to be judged: products of a store, shown beside the page of their protocol.

An interrupted run goes on where it was; a picture that several protocols ask for is drawn once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from storyforge.engine.maker import Maker, raise_first
from storyforge.engine.stages import DrawingJob
from storyforge.executor import OnProgress
from storyforge.plan.keys import canonical, drawn_from, key_of
from storyforge.store import Ledger, Store, write_whole
from storyforge.tasks import PanelTask, Task


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures in a store, and a folder that shows them.

    ledger  where they are entered, so that no tidying takes them away
    """

    folder: Path
    store: Store
    ledger: Ledger

    def path(self, task: PanelTask) -> Path:
        """Where the picture of a keyed task lies, drawn or not."""
        return self.store.path("panels", task.key)

    def seconds(self, task: PanelTask) -> float:
        """What drawing a picture took, of the processor or, on an accelerator, by the clock.

        NaN where nobody looked.
        """
        try:
            told = json.loads(_clocked(self.folder, task).read_text(encoding="ascii"))
            return float(told["seconds"])
        except (OSError, ValueError, KeyError):
            return math.nan

    def draw(self, jobs: Sequence[DrawingJob], on_progress: OnProgress, at_once: int = 1) -> int:
        """Draw what is missing, `at_once` jobs at a time; how many pictures those were.

        Raises what made a job fail; pictures that were finished before are kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lacking = self._lacking(jobs)
        every = [task for job in lacking for task in job.tasks]
        waiting = {task.key: task for task in every}

        def count(what: str, done: int, of: int) -> None:
            """Tell of pictures, whatever is told of their steps."""
            # Steps are told as well, by several at a time: what is there is what is drawn.
            for key in [key for key, task in waiting.items() if self._is_there(task)]:
                del waiting[key]
            on_progress("drawing pictures", len(every) - len(waiting), len(every))

        inputs = {task.key: json.loads(canonical(drawn_from(task))) for task in every}
        maker = Maker(self.store, self.ledger, inputs, count, name=_picture_name)
        with self.store.at_work():
            maker.draw(lacking, at_once, drawn=partial(_note_seconds, self.folder))
        raise_first(maker.troubles)
        for task in {task.key: task for job in jobs for task in job.tasks}.values():
            shown = self.folder / f"{task.key}.png"
            if not shown.is_file():
                write_whole(shown, self.path(task).read_bytes())
        return len(every)

    def _lacking(self, jobs: Sequence[DrawingJob]) -> list[DrawingJob]:
        """The jobs without what is there, every picture in one of them."""
        lacking: list[DrawingJob] = []
        seen: set[str] = set()
        for job in jobs:
            tasks = {task.key: task for task in job.tasks if task.key not in seen}
            seen.update(tasks)
            left = tuple(task for task in tasks.values() if not self._is_there(task))
            if left:
                lacking.append(replace(job, tasks=left))
        return lacking

    def _is_there(self, task: PanelTask) -> bool:
        return self.store.has("panels", task.key)


def _clocked(folder: Path, task: PanelTask) -> Path:
    return folder / f"{task.key}.json"


def _note_seconds(folder: Path, task: PanelTask, seconds: float) -> None:
    spent = json.dumps({"seconds": round(seconds, 4)})
    write_whole(_clocked(folder, task), spent.encode())


def _picture_name(task: Task) -> str:
    return f"judged picture {task.key}"


def keyed(task: PanelTask) -> PanelTask:
    """The task named by all that it is drawn from."""
    return replace(task, key=key_of(drawn_from(task)))


def alone_key(name: str, key: str) -> str:
    """The key of that model."""
    return key_of({"make": "concept alone 1", "name": name, "concept": key})


def alone(store: Store, name: str, key: str) -> Path:
    """The model that knows one learnt concept and nothing else, under the name that prompts say.

    key  of the concept's file in the store
    """
    from storyforge.model.concept import Concept

    made = alone_key(name, key)
    if not store.has("fused", made):
        concept = Concept.load(store.path("concepts", key)).renamed(name)
        with store.make("fused", made, [("concepts", key)]) as folder:
            folder.mkdir()
            concept.alone().save(folder)
    return store.path("fused", made)
