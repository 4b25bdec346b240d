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

from storyforge.errors import StoryError, StoryForgeError
from storyforge.evaluate.compared import compare
from storyforge.executor import OnProgress, translated
from storyforge.plan.plan import Order
from storyforge.project.making import Making
from storyforge.project.project import Project
from storyforge.train.logs import Logs

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
    if job.get("draft"):
        return _draft(project, panel, on_progress)
    if isinstance(name := job.get("concept"), str):
        folder = Path(str(job["compared"]))
        compare(project.plan(), project.store, project.base, name, folder, on_progress)
        return {"likeness": {}, "obedience": {}, "seconds": None}
    how = Making(
        project.out,
        logs=Logs(Path(str(job["learning"]))),
        previews=Path(str(job["previews"])),
    )
    number = count if isinstance(count, int) else 1
    takes = project.takes([panel], number, order, how=how, on_progress=on_progress)
    if takes.outcome.troubles:
        raise takes.outcome.troubles[0].error
    judged = {str(take): each.known for take, each in takes.scores.get(panel, {}).items()}
    return {
        **{
            name: {take: each[name] for take, each in judged.items() if name in each}
            for name in ("likeness", "obedience")
        },
        "seconds": round(takes.outcome.seconds, 2),
    }


def _draft(project: Project, panel: str, on_progress: OnProgress) -> Mapping[str, object]:
    """Draw a draft, which nobody judges."""
    outcome = project.draft([panel], on_progress=on_progress)
    if outcome.troubles:
        raise outcome.troubles[0].error
    return {"likeness": {}, "obedience": {}, "seconds": round(outcome.seconds, 2)}


if __name__ == "__main__":
    main()
