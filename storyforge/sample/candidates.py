"""Pictures of somebody who is known by words alone, each with a mask of where the words looked.

The mask is made of the cross-attention to a word of the prompt over all steps, spread among cells
that belong together by self-attention; it is coarse, and good to learn from, not to cut out by.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from storyforge.executor import OnProgress
from storyforge.geometry.outline import largest_part
from storyforge.model.base import BaseModel
from storyforge.model.concept import plain
from storyforge.model.denoising import Extras, start_latents
from storyforge.sample.control import Rack
from storyforge.sample.drawing import denoised
from storyforge.sample.finding import Lookout, words_in
from storyforge.sample.injection import reading_of
from storyforge.sample.sampler import pixels_of
from storyforge.tasks import PanelTask

_SURE: Final = 0.42
"""Between the least and the most that a cell reads the word: from here on it is in the mask."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A picture, and where in it the one is whom it shows; no mask where nothing can tell."""

    picture: Image.Image
    mask: Image.Image | None


@torch.no_grad()
def draw_candidate(
    base: BaseModel, rack: Rack, task: PanelTask, word: str | None, on_progress: OnProgress
) -> Candidate:
    """Draw a panel without regions by the base alone.

    word  of its prompt, for whom the mask is; None for none

    Raises StoryForgeError for a word that is not in the prompt, or a prompt that cannot be read.
    """
    base.check_asked({"control": bool(task.controls)})
    with base.sized(task.decode):
        return _drawn(base, rack, task, word, on_progress)


def _drawn(
    base: BaseModel, rack: Rack, task: PanelTask, word: str | None, on_progress: OnProgress
) -> Candidate:
    size, model = task.size or (base.side, base.side), plain(base)
    noise = start_latents(base, [task.seed], size)
    latent = (noise.shape[2], noise.shape[3])
    reading = reading_of(base, model, {}, task, latent)
    lookout = None
    if word is not None and base.door is None:
        places = [words_in(base, model, task.prompt, word)]
        lookout = Lookout(base, reading.attention, places, latent)

    def step(done: int, total: int, latents: torch.Tensor) -> None:
        """Say how far it is."""
        on_progress(f"drawing {task.panel}: step", done, total)

    with lookout.watching() if lookout else nullcontext():
        clean = denoised(
            base,
            reading.attention,
            noise,
            task,
            extras=Extras(
                seeds=(task.seed,),
                conditions=rack.controls(task.controls, size, reading.attention.text, {}),
            ),
            on_step=step,
        )
    pixels = pixels_of(base.decode(clean)[0])
    mask = None if lookout is None else mask_of(lookout.maps()[0], (size[0], size[1]))
    return Candidate(Image.fromarray(np.ascontiguousarray(pixels)), mask)


def mask_of(seen: torch.Tensor, size: tuple[int, int]) -> Image.Image:
    """White where a (rows, columns) map in [0, 1] is sure, in the largest part of it; else black.

    size  (width, height) in pixels
    """
    fine = F.interpolate(seen[None, None], size[::-1], mode="bicubic")[0, 0]
    # Parts are found on the map itself: every pixel is in the part of the cell that it lies in.
    part = torch.from_numpy(largest_part((seen >= _SURE).numpy()))
    near = F.max_pool2d(part[None, None].float(), 3, 1, 1)
    inside = F.interpolate(near, size[::-1])[0, 0] > 0
    white = ((fine >= _SURE) & inside).to(torch.uint8) * 255
    return Image.fromarray(white.numpy())
