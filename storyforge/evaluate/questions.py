"""What concepts are asked to show, and how every picture of a protocol is drawn.

The base, a concept alone and any fused model get the same prompts and seeds; only what stands in
the concept's place differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from storyforge.evaluate.gallery import keyed
from storyforge.metrics.prompts import prompts_for
from storyforge.modelref import ModelRef, is_embedded
from storyforge.pictures import with_articles
from storyforge.tasks import PanelTask, TrainTask


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt for one concept.

    kind   of the prompt
    plain  the prompt with the class in the concept's place
    named  the prompt with the concept
    take   which of several pictures of the prompt, from 0
    seed   31 bits, the same for all concepts
    """

    concept: str
    kind: str
    plain: str
    named: str
    take: int
    seed: int


def questions(task: TrainTask, prompts: int, takes: int) -> Iterator[Question]:
    """Up to `prompts` of each kind that suit the concept, each `takes` times."""
    said = f"a {task.class_phrase}" if task.kind == "scene" else task.class_phrase
    for kind, every in prompts_for(task.kind, pocket=is_embedded(task.base)).items():
        for prompt, take in product(every[:prompts], range(takes)):
            digest = hashlib.sha256(f"{prompt}/{take}".encode()).digest()
            yield Question(
                concept=task.concept,
                kind=kind,
                plain=with_articles(prompt.format(said)),
                named=prompt.format(f"<{task.concept}>"),
                take=take,
                seed=int.from_bytes(digest[:4]) >> 1,
            )


@dataclass(frozen=True, slots=True)
class DrawingStyle:
    """How all pictures are drawn; None for the base's own habit.

    style      said after every prompt
    """

    base: ModelRef
    steps: int | None = None
    size: tuple[int, int] | None = None
    guidance_scale: float | None = None
    scheduler: str | None = None
    style: str = ""
    negative: str = ""

    def task(self, question: Question, model: str | None) -> PanelTask:
        """The picture that answers a question.

        model  key of the model that knows the concept; None for the base, which gets its class
        """
        words = question.plain if model is None else question.named
        return keyed(
            PanelTask(
                key="",
                panel=words,
                page=0,
                base=self.base.reference,
                base_hash=self.base.hash,
                fused=model,
                prompt=f"{words}, {self.style}" if self.style else words,
                negative=self.negative,
                regions=(),
                size=self.size,
                steps=self.steps,
                guidance_scale=self.guidance_scale,
                scheduler=self.scheduler,
                region_blend=1.0,
                seed=question.seed,
                alt=None,
                defaults=self.base.defaults.drawing,
            )
        )
