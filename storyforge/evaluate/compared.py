"""One concept to look at: the same prompts and seeds by the base, by it alone, by the fused model.

Nothing is judged: it is for the eye. What is drawn is kept by its key, and shown as long as neither
the concept nor the fusion is another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from storyforge.engine.engine import ledger_of
from storyforge.engine.stages import DrawingJob
from storyforge.errors import StoryForgeError
from storyforge.evaluate.gallery import Gallery, alone, alone_key
from storyforge.evaluate.questions import DrawingStyle, questions
from storyforge.executor import OnProgress
from storyforge.modelref import ModelRef
from storyforge.plan.plan import Plan
from storyforge.store import Store
from storyforge.tasks import PanelTask, TrainTask

_PROMPTS = 2


@dataclass(frozen=True, slots=True)
class ComparedPrompt:
    """One prompt, drawn by three; the last is None if the story fuses nothing."""

    prompt: str
    base: PanelTask
    alone: PanelTask
    fused: PanelTask | None

    def tasks(self) -> Iterator[PanelTask]:
        """All of them."""
        yield from (self.base, self.alone)
        if self.fused is not None:
            yield self.fused


def comparison_of(plan: Plan, base: ModelRef, name: str) -> tuple[ComparedPrompt, ...]:
    """What is to be drawn of a concept; nothing of one that is not learnt from pictures."""
    task = next((each for each in plan.train if each.concept == name), None)
    if task is None:
        return ()
    return tuple(_prompts(plan, base, task))


def _prompts(plan: Plan, base: ModelRef, task: TrainTask) -> Iterator[ComparedPrompt]:
    story = plan.story
    style = DrawingStyle(base, story.sampling.steps, style=story.style, negative=story.negative)
    own = alone_key(task.concept, task.key)
    shown = plan.fuse is not None and task.concept in dict(plan.fuse.concepts)
    for each in islice(questions(task, 1, 1), _PROMPTS):
        fused = style.task(each, plan.fuse.key) if shown and plan.fuse is not None else None
        yield ComparedPrompt(each.plain, style.task(each, None), style.task(each, own), fused)


def compare(
    plan: Plan, store: Store, base: ModelRef, name: str, folder: Path, on_progress: OnProgress
) -> None:
    """Draw what is missing of a comparison.

    folder  where copies of the pictures are laid

    Raises StoryForgeError for a concept that is not learnt, or not fused with the others.
    """
    task = next((each for each in plan.train if each.concept == name), None)
    if task is None or not store.has("concepts", task.key):
        hint = f"run `storyforge train {plan.story.path} {name}`"
        raise StoryForgeError(f"`{name}` is not learnt from pictures yet", hint=hint)
    rows = comparison_of(plan, base, name)
    jobs = [
        DrawingJob(tuple(row.base for row in rows)),
        DrawingJob(tuple(row.alone for row in rows), alone(store, name, task.key)),
    ]
    fused = tuple(row.fused for row in rows if row.fused is not None)
    if fused and plan.fuse is not None:
        if not store.has("fused", plan.fuse.key):
            hint = f"run `storyforge fuse {plan.story.path}`"
            raise StoryForgeError("the concepts are not fused yet", hint=hint)
        jobs.append(DrawingJob(fused, store.path("fused", plan.fuse.key)))
    Gallery(folder, store, ledger_of(store, plan.story)).draw(jobs, on_progress)
