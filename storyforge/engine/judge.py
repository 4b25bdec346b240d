"""Who judges pictures while a concept is learnt: a CLIP that knows the concept's own pictures.

`train` says what it asks of a judge, `metrics` how pictures are compared; they do not know each
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from storyforge.errors import EnvironmentProblem
from storyforge.tasks import TrainTask

if TYPE_CHECKING:
    from storyforge.metrics.clip import Clip, Vectors
    from storyforge.train.stopping import Alignment


@dataclass(frozen=True, slots=True)
class ClipJudge:
    """Compares pictures with `references`, vectors of the concept's own ones, and with texts."""

    clip: Clip
    references: Vectors

    def __call__(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> Alignment:
        """Judge pictures, each by its own text; there are at least two."""
        from storyforge.metrics.alignment import image_alignment, text_alignment
        from storyforge.train.stopping import Alignment

        seen, said = self.clip.pictures(pictures), self.clip.words(texts)
        others = [np.roll(said, shift, 0) for shift in range(1, len(said))]
        return Alignment(
            image=image_alignment(seen, self.references),
            text=text_alignment(seen, said),
            chance=float(np.mean([text_alignment(seen, other) for other in others])),
        )


def judge_of(task: TrainTask) -> ClipJudge | None:
    """The judge that a task asks for; None if it asks for none.

    Raises:
      EnvironmentProblem: if it asks for one and there is no CLIP.
    """
    from storyforge.metrics.clip import open_clip
    from storyforge.metrics.references import references_of

    if not task.settings.judged:
        return None
    asked = f"`{task.concept}` is to be judged while it is learnt"
    if task.clip is None:
        message = f"{asked}, and the base `{task.base}` has no CLIP of its own"
        raise EnvironmentProblem(message, hint=_REMEDY)
    try:
        clip = open_clip(task.clip)
    except EnvironmentProblem as exc:
        raise EnvironmentProblem(f"{asked}: {exc.message}", hint=_REMEDY) from exc
    return ClipJudge(clip, references_of(clip, task))


_REMEDY = (
    "name a folder or hub id of a CLIPModel as `train: {clip: ...}` in its concept.yaml, or leave "
    "out `keep`, `stop_early` and `check_every`"
)
