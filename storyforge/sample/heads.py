"""Heads drawn again, larger: a part of the picture becomes a picture of its own and is put back.

A head that covers few cells of the latents has no eyes. Where it is, the layout knows: no detector
is needed. Its surroundings are enlarged to the base's own size, drawn over with the prompt and the
weights of who it is, and put back with soft edges. Heads of whom no layout knows are not covered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import torch
import torch.nn.functional as F

from storyforge.geometry.box import Box
from storyforge.model.base import BaseModel
from storyforge.tasks import HeadTask, PanelTask, RefineTask

STRENGTH: Final = 0.3
"""Of drawing over: enough to find eyes, too little to turn a head."""

WORTH: Final = 1.25
"""A head is drawn again if that enlarges it so much at least."""

_EDGE: Final = 0.4
"""Of half of a window's side: over so much of it what is new fades into what was there."""

Window = tuple[int, int, int]
"""Left, top and side in pixels."""

DrawOver = Callable[[PanelTask, tuple[int, int], torch.Tensor], torch.Tensor]
"""Given (panel, (width, height), latents of what is there): the (1, 3, h, w) picture over it."""


def with_heads(
    base: BaseModel, task: PanelTask, picture: torch.Tensor, draw_over: DrawOver
) -> torch.Tensor:
    """The (3, h, w) picture in [0, 1] with each of a panel's heads drawn again, from back to front.

    Heads that are as large as the base can draw them stay as they are.
    """
    picture = picture.clone()
    for head in task.heads:
        left, top, side = window_of(head, (picture.shape[2], picture.shape[1]))
        if side * WORTH > base.side:
            continue
        part = picture[:, top : top + side, left : left + side]
        large = _sized(part, base.side)
        size = (base.side, base.side)
        made = draw_over(alone(task, head), size, base.encode(large.to(base.device)))
        new = _sized(made[0].to(picture), side)[0]
        picture[:, top : top + side, left : left + side] = torch.lerp(part, new, fading(side))
    return picture


def _sized(picture: torch.Tensor, side: int) -> torch.Tensor:
    """(3, h, w) to (1, 3, side, side)."""
    made = F.interpolate(picture[None], (side, side), mode="bicubic", antialias=True)
    return made.clamp(0, 1)


def window_of(head: HeadTask, size: tuple[int, int]) -> Window:
    """The square around a head's box, inside a picture of (width, height) pixels."""
    width, height = size
    box = head.box
    side = round(max(box.width * width, box.height * height))
    side = min(side, width, height)
    x, y = box.centre()
    left = min(max(0, round(x * width - side / 2)), width - side)
    top = min(max(0, round(y * height - side / 2)), height - side)
    return left, top, side


def fading(side: int) -> torch.Tensor:
    """(side, side): 1 in the middle, 0 at the edges and in the corners."""
    away = (torch.arange(side) + 0.5) / side * 2 - 1
    distance = torch.hypot(away[:, None], away)
    near = ((1 - distance) / _EDGE).clamp(0, 1)
    faded: torch.Tensor = near * near * (3 - 2 * near)
    return faded


def alone(task: PanelTask, head: HeadTask) -> PanelTask:
    """The panel of one head: its prompt, and its region over everything."""
    whole = Box(x0=0, y0=0, x1=1, y1=1)
    regions = [
        replace(each, box=whole, prompt=head.prompt, mask=None, polygon=None, soft=0.0, weight=1.0)
        for each in task.regions
        if each.name == head.region
    ]
    return replace(
        task,
        prompt=head.prompt,
        negative=regions[0].negative,
        regions=tuple(regions),
        size=None,
        # Other noise than that of the picture: it has been there already.
        seed=task.seed ^ 0x4EAD,
        method=replace(task.method, enhancement=False, isolation=False, reinitialisation=False),
        controls=(),
        heads=(),
        refine=RefineTask(None, 1.0, STRENGTH),
    )
