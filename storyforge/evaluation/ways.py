"""Ways to bring several concepts into one picture, each as a story would ask for it.

A way is a change of a story's `compose:`, `sampling:`, `fuse:` and `control:`, so that what is
compared is what authors get. Two ways are none of a story's: the plain one, which has no regions
and says everything in one prompt, and strangers, who are drawn by the base in the same regions from
the concepts' classes. They say how alike the concepts are to what anybody would draw.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from storyforge.bases import Base
from storyforge.errors import StoryForgeError
from storyforge.evaluate.prompts import with_articles
from storyforge.evaluation.gallery import keyed
from storyforge.evaluation.staging import caption
from storyforge.fusesettings import Solver
from storyforge.layout import closest
from storyforge.lint import PLACEHOLDER
from storyforge.panels import PanelTask, panel_task
from storyforge.samplesettings import Compose, Control
from storyforge.story import Panel, Story
from storyforge.subject import ConceptSpec

STRANGERS: Final = "strangers"
PLAIN: Final = "plain"
REGIONS: Final = "regions"
"""The way that others are compared with."""


@dataclass(frozen=True, slots=True)
class Way:
    """What a story says to be drawn one way.

    sampling  changes of its `sampling:`
    solver    of its fusion; None if nothing is fused
    posed     whether stick figures say where bodies stand
    """

    sampling: Mapping[str, object] = field(default_factory=dict)
    compose: Compose = "fused"
    solver: Solver | None = "closed-form"
    posed: bool = False


_FUSED: Final[Mapping[str, object]] = {"regions": "fused"}


def _free(**off: bool) -> Way:
    return Way(off, "training-free", None)


WAYS: Final[Mapping[str, Way]] = {
    STRANGERS: Way(_FUSED, solver=None),
    PLAIN: Way(_FUSED),
    REGIONS: Way(_FUSED),
    "regions+isolation": Way({**_FUSED, "isolation": True}),
    "regions+enhancement": Way({**_FUSED, "enhancement": True}),
    "exact-text": Way({"regions": "exact-text"}),
    "exact-text+isolation": Way({"regions": "exact-text", "isolation": True}),
    "region-exact": Way({"regions": "exact"}),
    "training-free": _free(),
    "training-free-injection": _free(injection=False),
    "training-free-enhancement": _free(enhancement=False),
    "training-free-isolation": _free(isolation=False),
    "training-free-reinitialisation": _free(reinitialisation=False),
    "regions+pose": Way(_FUSED, posed=True),
    "averaging-fused+regions": Way(_FUSED, solver="average"),
}
"""Every way by name; `training-free-X` is all of LoRA-Composer but X."""


def ways_named(names: Sequence[str]) -> dict[str, Way]:
    """The ways with these names, all for none; strangers and plain regions are always among them.

    Raises StoryForgeError for a name that is unknown.
    """
    for name in names:
        if name not in WAYS:
            guess = closest(name, WAYS)
            hint = f"did you mean `{guess}`?" if guess else f"known: {', '.join(WAYS)}"
            raise StoryForgeError(f"no method named `{name}`", hint=hint)
    wanted = {STRANGERS, REGIONS, *(names or WAYS)}
    return {name: way for name, way in WAYS.items() if name in wanted}


@dataclass(frozen=True, slots=True)
class Models:
    """What pictures are drawn with, by key.

    concepts  name -> its file's key
    fused     solver -> the fused model's key
    """

    base: Base
    concepts: Mapping[str, str]
    fused: Mapping[Solver, str]


def task_of(
    name: str, way: Way, story: Story, panel: tuple[int, Panel], models: Models
) -> PanelTask:
    """One panel drawn one way.

    panel  with its page

    Raises EnvironmentProblem if it is to be drawn by a pose and there is no adapter.
    """
    page, shown = panel
    if way.posed:
        shown = shown.model_copy(update={"control": (Control(draw="pose"),)})
    told = story.model_copy(
        update={
            "compose": way.compose,
            "sampling": story.sampling.model_copy(update=dict(way.sampling)),
        }
    )
    cast = tuple((each, models.concepts[each]) for each in story.cast(shown))
    key = models.fused[way.solver] if way.solver else None
    task = panel_task(told, page, shown, models.base, key, cast)
    if name == PLAIN:
        task = replace(task, prompt=caption(story, shown, named=True), regions=())
    elif name == STRANGERS:
        task = _by_class(task, story)
    return keyed(task)


def _by_class(task: PanelTask, story: Story) -> PanelTask:
    """The panel with every concept's class in its place."""

    def said(match: re.Match[str]) -> str:
        spec = story.concepts[match[1]]
        assert isinstance(spec, ConceptSpec)
        return f"a {spec.class_}" if spec.kind == "scene" else spec.class_

    def read(prompt: str) -> str:
        return with_articles(PLACEHOLDER.sub(said, prompt))

    regions = tuple(
        replace(region, prompt=read(region.prompt), concept=None) for region in task.regions
    )
    return replace(task, prompt=read(task.prompt), regions=regions)
