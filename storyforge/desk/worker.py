"""A process that draws for the desk: jobs come in as lines of JSON, and go out as such.

It keeps the base open between jobs. Run as `python -m storyforge.desk.worker`; it ends with its
standard input.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image

from storyforge.errors import StoryError, StoryForgeError
from storyforge.evaluate.judge import clip_for
from storyforge.executor import translated
from storyforge.metrics.alignment import text_alignment
from storyforge.modelref import own_clip
from storyforge.plan.plan import Order
from storyforge.plan.takes import take_of
from storyforge.project.making import Making
from storyforge.project.project import Project

Say = Callable[[Mapping[str, object]], None]


def main() -> None:
    """Do one job after another until nobody asks any more."""
    # Whatever a library prints must not stand among the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def say(told: Mapping[str, object]) -> None:
        answers.write(json.dumps(told) + "\n")
        answers.flush()

    for line in sys.stdin:
        job = json.loads(line)
        try:
            say({"done": perform(job, say)})
        except StoryForgeError as exc:
            say({"failed": told_of(exc)})
        except (OSError, MemoryError, RuntimeError) as exc:
            say({"failed": told_of(translated(exc))})


def told_of(error: StoryForgeError) -> str:
    """An error in one line."""
    found = [str(each) for each in error.diagnostics] if isinstance(error, StoryError) else []
    return "; ".join(part for part in (error.message, *found, error.hint) if part)


def perform(job: Mapping[str, object], say: Say) -> Mapping[str, object]:
    """Draw the takes of one panel, and say what the base's own judge thinks of each."""

    def on_progress(what: str, done: int, total: int) -> None:
        say({"progress": [what, done, total]})

    project = Project(Path(str(job["story"])), store=Path(str(job["store"])))
    steps, count, panel = job.get("steps"), job.get("takes"), str(job["panel"])
    order = Order(steps=steps if isinstance(steps, int) else None)
    how = Making(project.out, previews=Path(str(job["previews"])))
    number = count if isinstance(count, int) else 1
    takes = project.takes([panel], number, order, how=how, on_progress=on_progress)
    if takes.outcome.troubles:
        raise takes.outcome.troubles[0].error
    likeness = takes.image_alignment.get(panel, {})
    return {
        "likeness": {str(take): round(value, 4) for take, value in likeness.items()},
        "obedience": obedience(project, order, panel, number),
        "seconds": round(takes.outcome.seconds, 2),
    }


def obedience(project: Project, order: Order, panel: str, count: int) -> dict[str, float]:
    """Take -> how well the picture shows what the panel's prompt says; empty without a judge."""
    plan = project.plan(order)
    task = next(each for each in plan.panels if each.panel == panel)
    if own_clip(task.base) is None:
        return {}
    clip = clip_for(task.base, None)
    words = task.prompt
    for name, spec in project.story.concepts.items():
        words = words.replace(f"<{name}>", name if isinstance(spec, Path) else spec.class_)
    read, found = clip.words([words]), {}
    for number in range(count):
        key = take_of(plan, task, number)[0].key
        if project.store.has("panels", key):
            with Image.open(project.store.path("panels", key)) as picture:
                seen = clip.pictures([picture.convert("RGB")])
            found[str(number)] = round(text_alignment(seen, read), 4)
    return found


if __name__ == "__main__":
    main()
