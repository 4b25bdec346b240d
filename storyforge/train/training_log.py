"""What a training run tells while it goes on: losses, and pictures drawn at fixed seeds."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from PIL import Image

from storyforge.errors import EnvironmentProblem
from storyforge.model.attention import AttentionContext
from storyforge.model.base import BaseModel
from storyforge.model.denoising import denoise, start_latents
from storyforge.model.lora import attached
from storyforge.model.tokens import encode
from storyforge.train.checkpoint import TrainingState
from storyforge.train.logs import Logs

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_PROMPTS: Final = {
    "character": ("a <{name}>", "a <{name}> in the snow at night", "a {class_phrase}"),
    "object": ("a <{name}>", "a <{name}> in the snow at night", "a {class_phrase}"),
    "scene": ("in <{name}>", "a cat in <{name}>", "a {class_phrase}"),
}
"""The last one does not mention the concept: it ought to stay as it is."""

_SEED: Final = 100


def preview_prompts(kind: str, name: str, class_phrase: str) -> tuple[str, ...]:
    """What previews of a concept of this kind show."""
    return tuple(each.format(name=name, class_phrase=class_phrase) for each in _PROMPTS[kind])


@dataclass(slots=True)
class TrainingLog:
    """The by-products of one run, written into the folder of `logs`.

    prompts  of the previews
    example  a picture that the concept is learnt from
    steps    of the whole run
    """

    base: BaseModel
    logs: Logs
    prompts: tuple[str, ...]
    example: torch.Tensor
    steps: int
    _writer: SummaryWriter | None = field(default=None, init=False)

    def begin(self, progress: TrainingState) -> None:
        """Open the event files, and draw what the untrained concept looks like.

        Raises:
          EnvironmentProblem: if TensorBoard is asked for and not installed.
        """
        done = len(progress.losses)
        if self.logs.tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as exc:
                raise EnvironmentProblem(
                    "`--tensorboard` needs the package tensorboard, which is not installed",
                    hint="pip install 'storyforge[tensorboard]'",
                ) from exc
            self._writer = SummaryWriter(str(self.logs.folder / "tensorboard"), purge_step=done)
        if not done:
            self.logs.forget_previews()
        self._preview(progress)

    def step(self, progress: TrainingState, rate: float) -> None:
        """Hear of a step that was done, at this share of the peak learning rates."""
        done = len(progress.losses)
        if self._writer is not None:
            self._writer.add_scalar("loss", progress.losses[-1], done)
            self._writer.add_scalar("lr", rate, done)
        if done in self.logs.preview_steps(self.steps):
            self._preview(progress)

    def write(self, progress: TrainingState) -> None:
        """Bring the files of the losses up to date."""
        if progress.losses:
            rates = [1 - step / self.steps for step in range(len(progress.losses))]
            self.logs.write_losses(progress.trainable.name, progress.losses, rates)
        if self._writer is not None:
            self._writer.flush()

    def end(self, progress: TrainingState) -> None:
        """Write what is left and close the event files."""
        self.write(progress)
        if self._writer is not None:
            self._writer.close()

    def _preview(self, progress: TrainingState) -> None:
        """Draw every prompt at its seed; the training's own randomness is not touched."""
        done = len(progress.losses)
        if done not in self.logs.preview_steps(self.steps):
            return
        rows = [n for n in range(len(self.prompts)) if not self.logs.has_preview(n, done)]
        trainable, average = progress.trainable, progress.average
        with torch.no_grad(), average.standing_in(trainable) if average else nullcontext():
            for row in rows:
                with attached(self.base, trainable.deltas()):
                    text = encode(self.base, ["", self.prompts[row]], trainable.tokens())
                    start = start_latents(self.base, [_SEED + row])
                    latents = denoise(self.base, AttentionContext(text), start)
                pixels = self.base.decode(latents)[0]
                self.logs.keep_preview(row, done, to_picture(pixels))
                if self._writer is not None:
                    self._writer.add_image(self.prompts[row], pixels.cpu().numpy(), done)
        self.logs.write_previews(self.prompts, to_picture(self.example))


def to_picture(pixels: torch.Tensor) -> Image.Image:
    """(3, h, w) in [0, 1] as a picture."""
    values = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(np.ascontiguousarray(values))
