"""Pictures drawn by what is told alone: the place, then one figure over the other, in clean lines.

What cells know goes over into their neighbours, and shares of inks from point to point, before it
is decided what is drawn: so lines are smooth and sharp in every size, as those of letters of which
distances are kept and not pixels (Green 2007, Improved Alpha-Tested Magnification). Places are not
learnt sharply, but drawn sharply. Not covered: which figures there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
import torch.nn.functional as F

from storyforge.model.agreement import middles
from storyforge.model.cell_decoder import DENSE, DRAWN, Decoder, in_picture, lots_of
from storyforge.model.figures import Said, Whole, wholes
from storyforge.model.ink import LOUDEST, inked

CONTRAST: Final = 1.5
"""How much further from what is around it a pixel of a place is, `PASSES` times."""
PASSES: Final = 2
AROUND: Final = 3 / DRAWN
"""How far around, in cells."""


class Shadow(NamedTuple):
    """What a figure darkens on the ground: an ellipse, in half sizes of the figure from its middle.

    middle, half  across and down
    colour        in [−1, 1]
    opacity       in [0, 1]
    """

    middle: tuple[float, float]
    half: tuple[float, float]
    colour: tuple[float, float, float]
    opacity: float


Shares = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Some cells (1, h, w) of bool to logits (m, q, q, k) and colours (m, i, 3)."""


@torch.no_grad()
def drawn_whole(
    decoder: Decoder, told: torch.Tensor, pixels: int, shadow: Shadow | None = None
) -> torch.Tensor:
    """(n, t, h, w) to (n, 3, p·h, p·w) in [−1, 1].

    pixels  a side of a cell, p: `DRAWN`, or twice that and so on
    shadow  of every figure
    """
    return torch.cat([_drawn(decoder, one, pixels, shadow) for one in torch.split(told, 1)])


def _drawn(
    decoder: Decoder, told: torch.Tensor, pixels: int, shadow: Shadow | None
) -> torch.Tensor:
    """`drawn_whole`, of one picture."""
    cells = decoder.known(told)
    every = torch.ones_like(cells.subject)

    def place(lot: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        made: tuple[torch.Tensor, torch.Tensor]
        made = decoder.behind(cells.around, cells.place, lot, DENSE, every)
        return made

    picture = crisp(_inked(*_over(place, every, pixels)), round(pixels * AROUND))
    for figure in wholes(decoder, told, cells):
        if shadow is not None:
            picture = shaded(picture, figure.said, pixels, shadow)
        picture = _before(picture, decoder, figure, pixels)
    return picture.to(told.dtype)


def _before(picture: torch.Tensor, decoder: Decoder, figure: Whole, pixels: int) -> torch.Tensor:
    """A picture (1, 3, p·h, p·w) with a figure before it."""

    def shown(lot: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return decoder.figures.shares(figure.cells, lot, DENSE, figure.here)

    logits, inks = _over(shown, figure.here, pixels)
    logits = (pixels / DRAWN) ** 0.5 * logits
    cover = torch.sigmoid(logits[:, -1:])
    return torch.lerp(picture, _inked(logits[:, :-1], inks), cover)


def shaded(picture: torch.Tensor, said: Said, pixels: int, shadow: Shadow) -> torch.Tensor:
    """A picture (1, 3, p·h, p·w) with the shadow of a figure, `pixels` a side of a cell."""
    middle, half = (said.middle.new_tensor(each) for each in shadow[:2])
    size = half * said.half
    high, wide = picture.shape[-2:]
    at = middles(picture)[0] / pixels - (said.middle + middle * said.half)[:, None]
    # To first order, how many pixels further than its edge: what is thin stays smooth.
    far = (at / size[:, None]).square().sum(0)
    slope = 2 * (at / size[:, None].square()).square().sum(0).sqrt() / pixels
    inside = (0.5 + (1 - far) / slope.clamp(min=1e-6)).clamp(0, 1).reshape(1, 1, high, wide)
    colour = picture.new_tensor(shadow.colour)[:, None, None].expand_as(picture)
    return torch.lerp(picture, colour, shadow.opacity * inside)


def _over(shares: Shares, here: torch.Tensor, pixels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (1, k, p·h, p·w) of what is drawn in the cells `here` (1, h, w) and nowhere else, and
    the colours (i, 3), which are nearly those of every cell."""
    parts = [shares(lot) for lot in lots_of(here)]
    logits = torch.cat([part.float() for part, _ in parts])
    every = logits.new_full((here.numel(), *logits.shape[1:]), -LOUDEST)
    every[here.flatten()] = logits
    dense = in_picture(every, *here.shape[1:])
    larger = F.interpolate(dense, scale_factor=pixels / DENSE.side, mode="bilinear")
    return larger, torch.cat([inks for _, inks in parts]).float().mean(0)


def _inked(logits: torch.Tensor, inks: torch.Tensor) -> torch.Tensor:
    """Logits (1, i, h, w) and colours (i, 3) to pixels (1, 3, h, w)."""
    return inked(logits.permute(0, 2, 3, 1), inks[None]).permute(0, 3, 1, 2)


def crisp(pictures: torch.Tensor, reach: int) -> torch.Tensor:
    """(n, c, h, w) with steps for slopes, and nothing brighter or darker than what was around it
    (a shock filter: Osher and Rudin 1990).

    reach  how many pixels to each side are around one
    """
    window = 2 * reach + 1

    def edged(values: torch.Tensor) -> torch.Tensor:
        return F.pad(values, (reach,) * 4, mode="replicate")

    for _ in range(PASSES):
        around = edged(pictures)
        soft = F.avg_pool2d(edged(F.avg_pool2d(around, window, 1)), window, 1)
        least, most = -F.max_pool2d(-around, window, 1), F.max_pool2d(around, window, 1)
        pictures = (pictures + CONTRAST * (pictures - soft)).clamp(least, most)
    return pictures
