"""How well drawings are drawn again, by what is told of them.

What is small but looked at first counts more: heads, and eyes most of all. Not covered: through an
encoder (stage `patches`, `benchmarks.pocket`).
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from storyforge.model.cell_decoder import PATCH
from storyforge.pocket import world
from storyforge.pocket.pretrain.latents import shown_of
from storyforge.pocket.pretrain.parts import unread

HELD_OUT_SEED = 1 << 40
HEAD_WEIGHT, EYE_WEIGHT = 4.0, 8.0
"""How much more a pixel counts there."""
GRID = 128
"""Cells a side of the map of weights."""
CELLS = 16

Box = tuple[float, float, float, float]

Through = Callable[[world.Picture, torch.Tensor], torch.Tensor]
"""A picture, and how it is drawn, to what an autoencoder makes of it."""


def told_by(picture: world.Picture) -> torch.Tensor:
    """(1, t, 16, 16) what a drawing is known to tell."""
    return torch.from_numpy(shown_of(picture).told[None])


def eyes_and_heads(picture: world.Picture, side: int) -> NDArray[np.float32]:
    """(side, side) how much a pixel counts: more in heads, most at eyes."""
    weights = np.ones((side, side), np.float32)
    found = [face for face in world.faces(picture) if face is not None]
    for face in found:
        weights[_inside(side, face.head)] = HEAD_WEIGHT
    for face in found:
        weights[_inside(side, face.eyes)] = EYE_WEIGHT
    return weights


def _inside(side: int, box: Box) -> tuple[slice, slice]:
    """The rows and columns of a square grid that a box covers."""
    left, top, right, bottom = (round(at * side) for at in box)
    return slice(top, bottom), slice(left, right)


def well_drawn(draw: Callable[[torch.Tensor], torch.Tensor], seeds: list[int]) -> dict[str, float]:
    """How well drawings are drawn again by what is told alone.

    draw  (1, c, 16, 16) to (1, 3, 256, 256)
    """
    whole, heads = psnr(lambda picture, _: draw(unread(told_by(picture))), seeds)
    return {"told": whole, "told_heads": heads}


@torch.no_grad()
def psnr(through: Through, seeds: list[int]) -> tuple[float, float]:
    """Mean peak signal-to-noise ratio in dB, of whole drawings and inside their heads.

    through  a picture and how it is drawn, (1, 3, 256, 256) in [−1, 1], to what an autoencoder
             makes of it, in the same size: what is decoded larger is averaged to that
    """
    whole, inside = [], []
    for seed in seeds:
        picture = world.imagine(np.random.default_rng(seed))
        drawn = torch.from_numpy(world.draw(picture, CELLS * PATCH)[0]).permute(2, 0, 1)[None]
        wanted = drawn.float() / 127.5 - 1
        error = (through(picture, wanted).clamp(-1, 1) - wanted)[0].square().mean(0)
        whole.append(error.mean().item())
        mask = torch.zeros_like(error, dtype=torch.bool)
        for face in world.faces(picture):
            if face is not None:
                mask[_inside(len(mask), face.head)] = True
        if mask.any():
            inside.append(error[mask].mean().item())
    both = [[10 * math.log10(4 / error) for error in errors] for errors in (whole, inside)]
    return sum(both[0]) / len(both[0]), sum(both[1]) / max(1, len(both[1]))
