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

from storyforge.executor import OnProgress
from storyforge.model.attention import AttentionContext
from storyforge.model.base import BaseModel
from storyforge.model.denoising import denoise, start_latents
from storyforge.model.lora import attached
from storyforge.model.tokens import ConceptTokens, encode
from storyforge.pictures import with_article
from storyforge.tasks import TrainTask
from storyforge.train.checkpoint import TrainingState
from storyforge.train.config import TrainConfig
from storyforge.train.logs import Logs
from storyforge.train.stopping import Check, CheckHistory, Judge, best, stalled
from storyforge.train.trainable import TrainableConcept
from storyforge.train.training_log import to_picture

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
class Validation:
    """The checks of one run.

    logs     where the curve goes; None for nowhere
    steps    of denoising, of every picture
    prompts  that are drawn, `{}` in the concept's place; those of its kind if none
    seen     what was seen so far
    """

    base: BaseModel
    judge: Judge
    task: TrainTask
    config: TrainConfig
    on_progress: OnProgress
    logs: Logs | None = None
    steps: int = _STEPS
    prompts: Sequence[str] = ()
    seen: CheckHistory = field(default_factory=CheckHistory)

    def begin(self) -> None:
        """Judge the class as the base draws it, unless a run that is gone on from has done so."""
        if not self.seen.checks:
            drawn = self._drawn(self._plain, {})
            self._judged(0, drawn)

    @property
    def over(self) -> bool:
        """Whether the run is to end before its last step."""
        return stalled(self.seen.checks, self.config.stop_early)

    @torch.no_grad()
    def look(self, progress: TrainingState) -> None:
        """Judge, if it is time to; the weights of the best step so far are kept."""
        done = len(progress.losses)
        if done % self.config.check_steps and done != self.config.steps:
            return
        self.on_progress("judging", done, self.config.steps)
        trainable, average = progress.trainable, progress.average
        with average.standing_in(trainable) if average else nullcontext():
            with attached(self.base, trainable.deltas()):
                drawn = self._drawn(self._prompts(self._named), trainable.tokens())
            self._judged(done, drawn)
            if self.config.keeps_best and best(self.seen.checks).step == done:
                self.seen.weights[:] = [p.detach().clone() for p in trainable.learnt()]

    @torch.no_grad()
    def settle(self, trainable: TrainableConcept) -> None:
        """Give the learner the weights of the best step, if that is what is kept."""
        if self.config.keeps_best:
            for weight, own in zip(trainable.learnt(), self.seen.weights, strict=True):
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
        return best(self.seen.checks) if self.config.keeps_best else self.seen.checks[-1]

    def _prompts(self, who: str) -> list[str]:
        prompts = self.prompts or (_SCENE if self.task.kind == "scene" else _SUBJECT)
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
            # A transformer has a way of its own.
            scheduler = _SCHEDULER if self.base.door is None else None
            latents = denoise(
                self.base, AttentionContext(text), start, steps=self.steps, scheduler=scheduler
            )
            made += [to_picture(pixels) for pixels in self.base.decode(latents)]
        return made

    def _judged(self, step: int, drawn: Sequence[Image.Image]) -> None:
        said = self.judge(drawn, self._plain)
        self.seen.checks.append(Check(step, *astuple(said)))
        if self.logs is not None:
            self.logs.write_checks(self.task.concept, self.seen.checks, self._chosen.step)
