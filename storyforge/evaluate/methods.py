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

from storyforge.errors import StoryForgeError, closest
from storyforge.evaluate.compositions import caption
from storyforge.evaluate.gallery import keyed
from storyforge.modelref import ModelRef
from storyforge.pictures import with_articles
from storyforge.plan.panels import panel_task
from storyforge.settings import Compose, Control, Solver
from storyforge.story.concept import ConceptSpec
from storyforge.story.lint.cast import PLACEHOLDER
from storyforge.story.story import Panel, Story
from storyforge.tasks import PanelTask

STRANGERS: Final = "strangers"
PLAIN: Final = "plain"
REGIONS: Final = "regions"
"""The way that others are compared with."""


@dataclass(frozen=True, slots=True)
class RegionsMethod:
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


def _free(**off: bool) -> RegionsMethod:
    return RegionsMethod(off, "training-free", None)


METHODS: Final[Mapping[str, RegionsMethod]] = {
    STRANGERS: RegionsMethod(_FUSED, solver=None),
    PLAIN: RegionsMethod(_FUSED),
    REGIONS: RegionsMethod(_FUSED),
    "regions+isolation": RegionsMethod({**_FUSED, "isolation": True}),
    "regions+enhancement": RegionsMethod({**_FUSED, "enhancement": True}),
    "exact-text": RegionsMethod({"regions": "exact-text"}),
    "exact-text+isolation": RegionsMethod({"regions": "exact-text", "isolation": True}),
    "region-exact": RegionsMethod({"regions": "exact"}),
    "training-free": _free(),
    "training-free-injection": _free(injection=False),
    "training-free-enhancement": _free(enhancement=False),
    "training-free-isolation": _free(isolation=False),
    "training-free-reinitialisation": _free(reinitialisation=False),
    "regions+pose": RegionsMethod(_FUSED, posed=True),
    "averaging-fused+regions": RegionsMethod(_FUSED, solver="average"),
}
"""Every way by name; `training-free-X` is all of LoRA-Composer but X."""


def methods_named(names: Sequence[str]) -> dict[str, RegionsMethod]:
    """The ways with these names, all for none; strangers and plain regions are always among them.

    Raises StoryForgeError for a name that is unknown.
    """
    for name in names:
        if name not in METHODS:
            guess = closest(name, METHODS)
            hint = f"did you mean `{guess}`?" if guess else f"known: {', '.join(METHODS)}"
            raise StoryForgeError(f"no method named `{name}`", hint=hint)
    wanted = {STRANGERS, REGIONS, *(names or METHODS)}
    return {name: method for name, method in METHODS.items() if name in wanted}


@dataclass(frozen=True, slots=True)
class Models:
    """What pictures are drawn with, by key.

    concepts  name -> its file's key
    fused     solver -> the fused model's key
    """

    base: ModelRef
    concepts: Mapping[str, str]
    fused: Mapping[Solver, str]


def task_of(
    name: str, method: RegionsMethod, story: Story, panel: tuple[int, Panel], models: Models
) -> PanelTask:
    """One panel drawn one way.

    panel  with its page

    Raises EnvironmentProblem if it is to be drawn by a pose and there is no adapter.
    """
    page, shown = panel
    if method.posed:
        shown = shown.model_copy(update={"control": (Control(draw="pose"),)})
    told = story.model_copy(
        update={
            "compose": method.compose,
            "sampling": story.sampling.model_copy(update=dict(method.sampling)),
        }
    )
    cast = tuple((each, models.concepts[each]) for each in story.cast(shown))
    key = models.fused[method.solver] if method.solver else None
    task = panel_task(told, page, shown, models.base, key, cast)
    if name == PLAIN:
        task = replace(task, prompt=caption(story, shown, named=True), regions=())
    elif name == STRANGERS:
        task = _by_class(task, story)
    return keyed(task)


def _by_class(task: PanelTask, story: Story) -> PanelTask:
    """The panel with every concept's class in its place."""

    def said(match: re.Match[str]) -> str:
        """A concept's class in its place."""
        spec = story.concepts[match[1]]
        assert isinstance(spec, ConceptSpec)
        return f"a {spec.class_}" if spec.kind == "scene" else spec.class_

    def read(prompt: str) -> str:
        """A prompt with classes for concepts."""
        return with_articles(PLACEHOLDER.sub(said, prompt))

    regions = tuple(
        replace(region, prompt=read(region.prompt), concept=None) for region in task.regions
    )
    return replace(task, prompt=read(task.prompt), regions=regions)
