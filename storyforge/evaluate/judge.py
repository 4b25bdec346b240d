"""Who looks at the pictures: the CLIP that was asked for, or the base's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from storyforge.errors import EnvironmentProblem
from storyforge.evaluate.gallery import Gallery
from storyforge.evaluate.questions import Question
from storyforge.metrics.clip import Clip, Vectors, open_clip
from storyforge.metrics.ensemble import Views
from storyforge.modelref import own_clip
from storyforge.tasks import PanelTask


def clip_for(base: str, asked: str | None) -> Clip:
    """Open the CLIP that was asked for, else that of the base.

    base   how the base is opened
    asked  a folder or hub id; None for the embedded base's own

    Raises EnvironmentProblem if there is none, or it cannot be read.
    """
    reference = asked or own_clip(base)
    if reference is None:
        message = f"the base `{base}` has no CLIP of its own"
        raise EnvironmentProblem(message, hint="give `--clip` a folder or a hub id")
    return open_clip(reference)


@dataclass(frozen=True, slots=True)
class PictureJudge:
    """A CLIP that looks at every picture of a gallery, and reads every prompt, once.

    seen  picture's key -> (d,)
    read  prompt -> (d,)
    """

    clip: Clip
    gallery: Gallery
    seen: dict[str, Vectors] = field(default_factory=dict)
    read: dict[str, Vectors] = field(default_factory=dict)

    def look(self, answers: Sequence[tuple[Question, PanelTask]]) -> Views:
        """What some drawn pictures look like, beside what was asked."""
        lacking = {task.key: task for _, task in answers if task.key not in self.seen}
        pictures = [Image.open(self.gallery.path(task)) for task in lacking.values()]
        self.seen.update(zip(lacking, self.clip.pictures(pictures), strict=True))
        prompts = [question.plain for question, _ in answers]
        new = list(dict.fromkeys(prompt for prompt in prompts if prompt not in self.read))
        self.read.update(zip(new, self.clip.words(new), strict=True))
        none = np.zeros((0, self.clip.width), np.float32)
        return Views(
            np.stack([self.seen[task.key] for _, task in answers]) if answers else none,
            np.stack([self.read[prompt] for prompt in prompts]) if answers else none,
        )
