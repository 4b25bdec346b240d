"""The stages at work on one task each: a task and a store in, a product in the store out.

These run in this process or in another one, and open the base by themselves, once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING

from storyforge.engine.inputs import (
    InputSums,
    check_files,
    check_import,
    check_own,
    check_panel,
    check_pictures,
)
from storyforge.executor import OnProgress
from storyforge.plan.status import subject_of
from storyforge.store import Store
from storyforge.store.products import Source
from storyforge.tasks import FuseTask, ImportTask, OwnPictureTask, PanelTask, Task, TrainTask

if TYPE_CHECKING:
    from storyforge.fuse.statistics import Viewing
    from storyforge.model.base import BaseModel
    from storyforge.train.logs import Logs

Drawn = Callable[[PanelTask, float], None]
"""Hears of every picture that is kept, and of the seconds that it took."""


def unheard(task: PanelTask, seconds: float) -> None:
    """Hear nothing of a picture that is drawn."""


@dataclass(frozen=True, slots=True)
class DrawingJob:
    """Pictures that are drawn one after the other with one model.

    model     a fused model's folder in the store; None for the base
    concepts  files of the concepts whose own weights some picture is drawn with, by name
    brought   keys of those that the author brought: they are no products
    """

    tasks: tuple[PanelTask, ...]
    model: Path | None = None
    concepts: Mapping[str, Path] = field(default_factory=dict)
    brought: frozenset[str] = frozenset()

    def sources(self, task: PanelTask) -> list[Source]:
        """The products that one of the pictures is made from."""
        fused: list[Source] = [] if self.model is None else [("fused", self.model.name)]
        return [*fused, *(("concepts", k) for _, k in task.concepts if k not in self.brought)]


def about(task: Task, on_progress: OnProgress) -> OnProgress:
    """Tell of a task under its own name."""
    return lambda what, done, total: on_progress(f"{subject_of(task)}: {what}", done, total)


def opened(task: TrainTask | ImportTask | FuseTask | PanelTask) -> BaseModel:
    """The base that a task names, where it is asked to lie; opened once for all stages of a run."""
    base, side = _opened(task.base, task.base_hash)
    base.resize(side)
    return base


def close_base() -> None:
    """Let go of the opened base, and of the memory that it takes."""
    _opened.cache_clear()


@lru_cache(maxsize=1)
def _opened(reference: str, identity: str) -> tuple[BaseModel, int]:
    """A base, and how large it writes its pictures of itself."""
    from storyforge.model.placement import open_placed

    base = open_placed(reference, identity)
    return base, base.side


def learn_concept(
    root: Path,
    logs: Logs | None,
    sums: Mapping[str, InputSums],
    task: TrainTask,
    on_progress: OnProgress,
    viewing: Viewing | None = None,
) -> None:
    """Learn one concept into the store at `root`, unless it is there or another run is at it.

    sums     by the task's key, what its pictures were then
    viewing  what is watched for the statistics that it carries; None for the usual
    """
    from storyforge.engine.judge import judge_of
    from storyforge.train import edlora

    store, judge, base = Store(root), judge_of(task), opened(task)
    with store.make_missing("concepts", task.key) as path:
        if path is None:
            return
        own = None if logs is None else logs.of(task.concept)
        scratch = store.scratch(task.key)
        edlora.train_concept(base, task, path, scratch, about(task, on_progress), own, judge=judge)
        if task.settings.statistics is not None:
            from storyforge.fuse import carried, statistics

            watched = viewing or statistics.USUAL
            carried.carry_statistics(base, task, path, about(task, on_progress), watched)
        check_pictures(task, sums.get(task.key, {}))


def ready_picture(store: Store, task: OwnPictureTask, on_progress: OnProgress) -> None:
    """Take one picture of the author's own into the store.

    Raises StoryForgeError if it cannot be read.
    """
    from storyforge.book.own import ready

    tell = about(task, on_progress)
    tell("taking in", 0, 1)
    with store.make_missing("panels", task.key) as path:
        if path is not None:
            path.write_bytes(ready(task.file, task.made))
            check_own(task)
    tell("taking in", 1, 1)


@dataclass(slots=True)
class Importer:
    """Makes concepts of other tools' files; the base is opened once for all of them."""

    store: Store
    base: BaseModel | None = None

    def perform(self, task: ImportTask, on_progress: OnProgress) -> None:
        """Import one file into the store."""
        from storyforge.model.formats.foreign import Wanted, import_concept

        tell = about(task, on_progress)
        tell("importing", 0, 1)
        self.base = self.base or opened(task)
        wanted = Wanted(task.concept, task.kind, task.class_phrase)
        with self.store.make_missing("concepts", task.key) as path:
            if path is not None:
                import_concept(self.base, task.file, wanted).concept.save(path)
                check_import(task)
        tell("importing", 1, 1)


def fuse_concepts(
    store: Store,
    concepts: Mapping[str, Path],
    learnt: Sequence[Source],
    task: FuseTask,
    on_progress: OnProgress,
) -> None:
    """Fuse concepts into the store, unless the model is there or another run is at it.

    concepts  their files, by name
    learnt    those of them that are products
    """
    from storyforge.fuse import fusion

    with store.make_missing("fused", task.key, learnt) as path:
        if path is None:
            return
        fusion.fuse_concepts(
            partial(opened, task), task, concepts, store, path, about(task, on_progress)
        )
        check_files(task, concepts, learnt)


def draw_panels(
    store: Store,
    previews: Path | None,
    drawn: Drawn,
    job: DrawingJob,
    on_progress: OnProgress,
) -> None:
    """Draw pictures into the store, but for those that are there or that another run is at.

    previews  a folder where they can be seen while they are drawn
    """
    from storyforge.model.base import best_device
    from storyforge.sample import sampler

    clock = Clock(process_time if best_device().type == "cpu" else perf_counter)

    @contextmanager
    def out(task: PanelTask) -> Iterator[Path | None]:
        """The path of one picture; None if it need not be drawn here."""
        with store.make_missing("panels", task.key, job.sources(task)) as path:
            if path is None:
                yield None
                return
            clock.begin()
            yield path
            seconds = clock.end()
            check_panel(task)
        drawn(task, seconds)

    preview = sampler.previews_in(previews) if previews else None
    base = opened(job.tasks[0])
    sampler.draw_panels(base, job.tasks, job.model, out, on_progress, job.concepts, preview)


@dataclass(slots=True)
class Clock:
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
