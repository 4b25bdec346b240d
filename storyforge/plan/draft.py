"""A story in a hurry: all pictures by the embedded model in seconds, until the real ones are there.

Regions, seeds, layouts and lettering are the story's own. Whom the model has not learnt is drawn as
what it is: a fox, not this one. As soon as a real picture is there it takes its draft's place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from math import sqrt
from typing import Final

from storyforge.modelref import ModelRef, base_at, picture_size
from storyforge.plan.keys import KeyInputs, canonical, drawn_from, key_of
from storyforge.plan.panels import panel_task
from storyforge.plan.plan import Order, Plan, book_tasks, own_tasks
from storyforge.plan.status import subject_of
from storyforge.settings import Control, Sampling
from storyforge.story.lint.cast import PLACEHOLDER
from storyforge.story.story import Panel, Story
from storyforge.story.wording import bare, starts
from storyforge.tasks import BookTask, Method, PanelTask, RegionTask

STEPS: Final = 8
"""Enough to see who does what where."""

_SAMPLING: Final = Sampling(steps=STEPS, scheduler="dpm++2m", heads=False)

_SMALLEST: Final = 4
"""Cells along a side: less is no picture."""


def draft_tasks(story: Story, steps: int | None = None) -> tuple[PanelTask, ...]:
    """The draft of every panel that is drawn, with its key.

    Raises EnvironmentProblem if the embedded model is not in this installation.
    """
    base = base_at("pocket", story.folder)
    hurried = story.model_copy(update={"base": "pocket", "sampling": _SAMPLING, "size": None})
    hurried._places = story.places
    called = {
        name: spec.class_ if hasattr(spec, "class_") else _spoken(name)
        for name, spec in story.concepts.items()
    }
    return tuple(
        _draft(story, hurried, page, panel, base, called, steps)
        for page, panel in story.panels()
        if panel.picture is None
    )


def _draft(
    story: Story,
    hurried: Story,
    page: int,
    panel: Panel,
    base: ModelRef,
    called: Mapping[str, str],
    steps: int | None,
) -> PanelTask:
    changed = panel.model_copy(
        update={
            "size": _small(panel.size or story.size, base),
            "steps": None,
            "guidance_scale": None,
            "refine": None,
            "control": _by_its_own(panel),
        }
    )
    task = panel_task(hurried, page, changed, base, None, ())
    made = replace(
        task,
        prompt=_in_words(task.prompt, called),
        negative=_in_words(task.negative, called),
        regions=tuple(_region(each, task.prompt, called) for each in task.regions),
        method=Method(),
        concepts=(),
        steps=steps or STEPS,
    )
    return replace(made, key=key_of(drawn_from(made)))


def _small(asked: tuple[int, int] | None, base: ModelRef) -> tuple[int, int] | None:
    """As many pixels as the embedded model draws, in the picture's shape."""
    if asked is None:
        return None
    known = picture_size(base.reference)
    factor = known.side / sqrt(asked[0] * asked[1])
    cells = (max(_SMALLEST, round(side * factor / known.scale)) for side in asked)
    width, height = (each * known.scale for each in cells)
    return width, height


def _by_its_own(panel: Panel) -> tuple[Control, ...]:
    """Control that is drawn from the regions, read by the embedded model's own adapters."""
    placed = not any(region.auto for region in panel.regions.values())
    drawn = [each for each in panel.control if each.draw is not None and placed]
    return tuple(each.model_copy(update={"adapter": None}) for each in drawn)


def _region(task: RegionTask, whole: str, called: Mapping[str, str]) -> RegionTask:
    made = replace(
        task,
        prompt=_in_words(task.prompt, called),
        negative=_in_words(task.negative, called),
        concept=None,
    )
    if task.found is None:
        return made
    standing = _standing(whole, task, called)
    return replace(made, found=_in_words(task.found, called), standing=standing)


def _standing(whole: str, task: RegionTask, called: Mapping[str, str]) -> tuple[int, ...]:
    """Which of the times that somebody's everyday word stands in a prompt mean them, from 0; none
    where all do. Two foxes are told apart by where each was named.

    whole  the prompt before everybody is called by such words
    """
    whole, found = bare(whole), bare(task.found or "")
    meant = [
        at for n, at in enumerate(starts(whole, found)) if not task.standing or n in task.standing
    ]
    own = {len(_in_words(whole[:start], called)) for start in meant}
    every = starts(_in_words(whole, called), _in_words(found, called))
    mine = tuple(number for number, start in enumerate(every) if start in own)
    return () if len(mine) == len(every) else mine


def _in_words(prompt: str, called: Mapping[str, str]) -> str:
    """A prompt with everybody by the everyday word."""
    return PLACEHOLDER.sub(lambda found: called.get(found[1], found[1]), prompt)


def _spoken(name: str) -> str:
    return re.sub(r"[-_]", " ", name)


def draft_name(task: PanelTask | BookTask) -> str:
    """What the ledger calls it, so that it stays beside the real one."""
    return f"draft of {subject_of(task)}"


def drafted(
    story: Story, order: Order, there: Mapping[str, str], steps: int | None = None
) -> tuple[Plan, dict[str, str]]:
    """Drafts of the panels that have no picture, books of what is there, and what both are called.

    there  the keys of the real pictures that are drawn, by panel
    """
    key_inputs: dict[str, KeyInputs] = {}
    drafts = [task for task in draft_tasks(story, steps) if task.panel not in there]
    key_inputs |= {task.key: json.loads(canonical(drawn_from(task))) for task in drafts}
    own = tuple(own_tasks(story, key_inputs))
    keys = {task.panel: task.key for task in drafts} | {each.panel: each.key for each in own}
    books = tuple(book_tasks(story, {**keys, **there}, order, key_inputs))
    names = {task.key: draft_name(task) for task in drafts}
    names |= {task.key: draft_name(task) for task in books}
    return Plan(story, (), None, tuple(drafts), books, key_inputs, own=own), names
