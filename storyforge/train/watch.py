"""Pictures drawn while a concept is learnt, of prompts that it is not learnt from, and judged.

The judge is handed in. References are the pictures that the concept is learnt from: what is held
out are prompts and seeds. These prompts are none of those that `evaluate` asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import astuple, dataclass, field
from typing import Final

import torch
from PIL import Image

from storyforge.executor import Tell
from storyforge.model.attention import Reader
from storyforge.model.base import BaseModel
from storyforge.model.denoising import denoise, start_latents
from storyforge.model.lora import attached
from storyforge.model.tokens import ConceptTokens, encode
from storyforge.plan import TrainTask
from storyforge.train.checkpoint import Progress
from storyforge.train.journal import picture_of
from storyforge.train.learner import Learner
from storyforge.train.logs import Logs
from storyforge.train.recipe import Recipe
from storyforge.train.stopping import Check, Judge, Seen, best, stalled
from storyforge.wording import with_article

_SUBJECT: Final = (
    "{} in a forest at night",
    "{} by a lake",
    "{} at home, reading a book",
    "{} running in a desert",
    "{} in a field, beside a tree",
    "{} on a street, in the rain",
)
_SCENE: Final = (
    "a cat in {}",
    "an owl in {}",
    "a blue house in {}",
    "a boy with a red umbrella in {}",
    "a dog running in {}, in the rain",
    "a pig and a mouse in {}",
)
_SEED: Final = 7200

_STEPS: Final = 8
"""Denoising steps of a picture: enough to see who it is."""

_SCHEDULER: Final = "dpm++2m"
"""What draws well in few steps, whatever the base's own habit."""

_BATCH: Final = 2


@dataclass(frozen=True, slots=True)
class Watch:
    """The checks of one run.

    logs  where the curve goes; None for nowhere
    seen  what was seen so far
    """

    base: BaseModel
    judge: Judge
    task: TrainTask
    recipe: Recipe
    tell: Tell
    logs: Logs | None = None
    seen: Seen = field(default_factory=Seen)

    def begin(self) -> None:
        """Judge the class as the base draws it, unless a run that is gone on from has done so."""
        if not self.seen.checks:
            drawn = self._drawn(self._plain, {})
            self._judged(0, drawn)

    @property
    def over(self) -> bool:
        """Whether the run is to end before its last step."""
        return stalled(self.seen.checks, self.recipe.stop_early)

    @torch.no_grad()
    def look(self, progress: Progress) -> None:
        """Judge, if it is time to; the weights of the best step so far are kept."""
        done = len(progress.losses)
        if done % self.recipe.check_steps and done != self.recipe.steps:
            return
        self.tell("judging", done, self.recipe.steps)
        learner, average = progress.learner, progress.average
        with average.standing_in(learner) if average else nullcontext():
            with attached(self.base, learner.deltas()):
                drawn = self._drawn(self._prompts(self._named), learner.tokens())
            self._judged(done, drawn)
            if self.recipe.keeps_best and best(self.seen.checks).step == done:
                self.seen.weights[:] = [p.detach().clone() for p in learner.learnt()]

    @torch.no_grad()
    def settle(self, learner: Learner) -> None:
        """Give the learner the weights of the best step, if that is what is kept."""
        if self.recipe.keeps_best:
            for weight, own in zip(learner.learnt(), self.seen.weights, strict=True):
                weight.copy_(own)

    def told(self) -> dict[str, object]:
        """What the concept's file says of the checks."""
        chosen = self._chosen
        return {
            "chosen_step": chosen.step,
            "stopped_at": self.seen.checks[-1].step,
            "image_alignment": round(chosen.image, 4),
            "text_alignment": round(chosen.text, 4),
        }

    @property
    def _chosen(self) -> Check:
        return best(self.seen.checks) if self.recipe.keeps_best else self.seen.checks[-1]

    def _prompts(self, who: str) -> list[str]:
        prompts = _SCENE if self.task.kind == "scene" else _SUBJECT
        return [prompt.format(who) for prompt in prompts]

    @property
    def _named(self) -> str:
        concept = f"<{self.task.concept}>"
        return concept if self.task.kind == "scene" else f"a {concept}"

    @property
    def _plain(self) -> list[str]:
        """The prompts with the class in the concept's place."""
        return self._prompts(with_article(self.task.class_phrase))

    @torch.no_grad()
    def _drawn(
        self, prompts: Sequence[str], tokens: Mapping[str, ConceptTokens]
    ) -> list[Image.Image]:
        """One picture of every prompt, each at its own seed."""
        made = []
        for first in range(0, len(prompts), _BATCH):
            some = list(prompts[first : first + _BATCH])
            text = encode(self.base, [""] * len(some) + some, tokens)
            start = start_latents(self.base, [_SEED + first + row for row in range(len(some))])
            latents = denoise(self.base, Reader(text), start, steps=_STEPS, scheduler=_SCHEDULER)
            made += [picture_of(pixels) for pixels in self.base.decode(latents)]
        return made

    def _judged(self, step: int, drawn: Sequence[Image.Image]) -> None:
        said = self.judge(drawn, self._plain)
        self.seen.checks.append(Check(step, *astuple(said)))
        if self.logs is not None:
            self.logs.write_checks(self.task.concept, self.seen.checks, self._chosen.step)
