"""Pictures of a concept beside others: cut out by its mask, pasted on pictures of the base's own.

Who was only ever seen alone weakens beside a second subject, and turns it into a twin. The pictures
are made once a run from its seed, and drawn from like the others; the caption says who stands on
which side. They count in full, not inside the mask alone: what is around the subject the base has
drawn itself, and it is to stay so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F

from storyforge.errors import StoryForgeError
from storyforge.executor import OnProgress
from storyforge.model.base import BaseModel
from storyforge.train.dataset import Example
from storyforge.train.prior import own_pictures
from storyforge.train.training_set import TrainingSet, training_set

COUNT: Final = 24
"""Pictures composed for a run."""

_NEIGHBOURS: Final = ("a dog", "a girl", "a red ball", "a tree", "a boy", "a house")
_PLACES: Final = ("in the snow", "on a beach", "in a forest", "in a town")
_SIDES: Final = {"left": 0.25, "right": 0.75}
"""Side -> where the middle of a subject is, as a fraction of the width."""

_HEIGHTS: Final = (0.45, 0.7)
_FEET: Final = (0.88, 0.96)
_WIDEST: Final = 0.5
"""Shares of the picture's side: how high the subject is, where it stands, how wide it may be."""

_BATCH: Final = 2


@dataclass(frozen=True, slots=True)
class Backdrop:
    """What a picture of the base shows before the concept is pasted into it.

    neighbour  who stands there, such as `a dog`; None for nobody
    side       where the neighbour stands, or else where there is room
    """

    place: str
    neighbour: str | None
    side: str

    @property
    def prompt(self) -> str:
        """What the base is asked for."""
        if self.neighbour is None:
            return self.place
        return f"{self.neighbour} on the {self.side}, {self.place}"

    @property
    def free(self) -> str:
        """The side on which the concept is put."""
        return next(side for side in _SIDES if side != self.side) if self.neighbour else self.side

    def caption(self, name: str) -> str:
        """What the picture shows with the concept in it."""
        company = f" and {self.neighbour} on the {self.side}" if self.neighbour else ""
        return f"a <{name}> on the {self.free}{company}, {self.place}"


def backdrops() -> list[Backdrop]:
    """Every neighbour in two places, on either side, and every place without any."""
    sides = list(_SIDES)
    made = [
        Backdrop(_PLACES[(row + 2 * turn) % len(_PLACES)], neighbour, sides[(row + turn) % 2])
        for turn, (row, neighbour) in product(range(2), enumerate(_NEIGHBOURS))
    ]
    return made + [Backdrop(place, None, sides[row % 2]) for row, place in enumerate(_PLACES)]


def with_composed(
    base: BaseModel,
    seen: TrainingSet,
    concept: tuple[str, str],
    folder: Path,
    on_progress: OnProgress,
    *,
    seed: int,
    count: int = COUNT,
    scenes: Sequence[Backdrop] | None = None,
) -> TrainingSet:
    """The material with `count` composed pictures after its own.

    Args:
      base: draws the backdrops, once for all concepts.
      seen: pictures of the concept, of which those with a mask are cut out.
      concept: its name, and its class, of which no second one is put beside it.
      folder: where the backdrops are kept.
      on_progress: hears of the drawing.
      seed: decides what is put where.
      scenes: what the concept is put into; all of `backdrops` if None.

    Raises:
      StoryForgeError: if no picture has a mask.
    """
    name, class_phrase = concept
    masked = [example for example in seen.examples if example.mask is not None]
    if not masked:
        raise StoryForgeError(
            f"`composed` cuts `{name}` out of its pictures, and none of them has a mask",
            hint="lay NAME-mask.png beside a picture, white where the subject is, or leave it out",
        )
    every = backdrops() if scenes is None else scenes
    shown = _drawn(base, every, class_phrase, folder, on_progress)
    generator = torch.Generator().manual_seed(seed % 2**63)
    made = []
    for number in range(count):
        row = int(torch.randint(0, len(shown), (1,), generator=generator))
        example, (backdrop, picture) = masked[number % len(masked)], shown[row]
        pixels, mask = pasted(example, picture, _SIDES[backdrop.free], generator)
        file = f"{example.file}, composed {number}"
        made.append(Example(file, pixels, mask, (backdrop.caption(name),)))
    more = training_set(base, made, None)
    return replace(
        seen,
        examples=seen.examples + more.examples,
        latents=seen.latents + more.latents,
        masks=seen.masks + [torch.ones_like(mask) for mask in more.masks],
        composed=len(made),
    )


def _drawn(
    base: BaseModel,
    every: Sequence[Backdrop],
    class_phrase: str,
    folder: Path,
    on_progress: OnProgress,
) -> list[tuple[Backdrop, torch.Tensor]]:
    """The backdrops on which nobody of the class stands, each with its picture, (3, h, w)."""
    mark = hashlib.sha256("\n".join(each.prompt for each in every).encode()).hexdigest()[:12]
    path = folder / f"backdrops-{mark}.safetensors"
    latents = own_pictures(base, path, [each.prompt for each in every], on_progress).latents
    own = set(class_phrase.split())
    rows = [i for i, b in enumerate(every) if not own & set((b.neighbour or "").split()[1:])]
    parts = torch.split(latents[rows], _BATCH)
    pictures = torch.cat([base.decode(part.to(base.device)).cpu() for part in parts])
    return [(every[row], picture) for row, picture in zip(rows, pictures, strict=True)]


def pasted(
    example: Example, backdrop: torch.Tensor, middle: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """The example's subject on the backdrop, and where it is there.

    Args:
      example: with a mask.
      backdrop: (3, h, w) in [0, 1].
      middle: of the subject, a fraction of the width.
      generator: decide its size and where it stands.

    Returns:
      (3, h, w) the picture and (h, w) the mask, both in [0, 1].
    """
    assert example.mask is not None
    high, wide = backdrop.shape[-2:]
    top, bottom, left, right = _bounds(example.mask)
    cut = torch.cat([example.pixels, example.mask[None]])[:, top:bottom, left:right]
    tall = high * _between(_HEIGHTS, generator)
    scale = min(tall / (bottom - top), _WIDEST * wide / (right - left))
    size = max(1, round(scale * (bottom - top))), max(1, round(scale * (right - left)))
    cut = F.interpolate(cut[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1)
    down = min(high, round(high * _between(_FEET, generator))) - size[0]
    along = min(max(0, round(wide * middle - size[1] / 2)), wide - size[1])
    where = (slice(down, down + size[0]), slice(along, along + size[1]))
    picture, mask = backdrop.clone(), torch.zeros(high, wide)
    mask[where] = cut[3]
    picture[:, *where] = cut[3] * cut[:3] + (1 - cut[3]) * picture[:, *where]
    return picture, mask


def _bounds(mask: torch.Tensor) -> Sequence[int]:
    """Top, bottom, left, right of what is not 0; the ends are outside."""
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _between(ends: tuple[float, float], generator: torch.Generator) -> float:
    return ends[0] + (ends[1] - ends[0]) * torch.rand(1, generator=generator).item()
