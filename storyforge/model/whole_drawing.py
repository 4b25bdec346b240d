"""Pictures drawn by what is told alone: the place, then one figure over the other, in clean lines.

What cells know goes over into their neighbours, and shares of inks from point to point, before it
is decided what is drawn: so lines are smooth and sharp in every size, as those of letters of which
distances are kept and not pixels (Green 2007, Improved Alpha-Tested Magnification). What is not
learnt sharply is drawn sharply. Not covered: which figures there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F

from storyforge.model.cell_decoder import DENSE, DRAWN, Decoder, in_picture, lots_of
from storyforge.model.figures import wholes
from storyforge.model.ink import LOUDEST

EDGE: Final = 2.5
"""How much sharper figures end than was learnt, where a cell is drawn in `DRAWN` pixels."""
FURTHER: Final = 0.5
"""Logits by which they reach further: of what is thin, as a horn's tip, too little is told."""
LINE: Final = 1.6
"""How much sharper their inks are."""
CONTRAST: Final = 1.5
"""How much further from what is around it a pixel of a place is, `PASSES` times."""
PASSES: Final = 2
AROUND: Final = 3 / DRAWN
"""How far around, in cells."""

Shares = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Some cells (1, h, w) of bool to logits (m, q, q, k) and colours (m, i, 3)."""


@torch.no_grad()
def drawn_whole(decoder: Decoder, latents: torch.Tensor, pixels: int) -> torch.Tensor:
    """(n, c, h, w) to (n, 3, p·h, p·w) in [−1, 1].

    pixels  a side of a cell, p: `DRAWN`, or twice that and so on
    """
    return torch.cat([_drawn(decoder, one, pixels) for one in torch.split(latents, 1)])


def _drawn(decoder: Decoder, latents: torch.Tensor, pixels: int) -> torch.Tensor:
    """`drawn_whole`, of one picture."""
    cells = decoder.known(latents)
    every = torch.ones_like(cells.subject)
    times = pixels // DENSE.side
    sharper = (pixels / DRAWN) ** 0.5

    def place(lot: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return decoder.behind.shares(cells.around, cells.place, lot, DENSE, every)

    logits, inks = _over(place, every, 0.0)
    picture = crisp(_inked(_larger(logits, times), inks), round(pixels * AROUND))
    for figure in wholes(decoder, latents, cells):

        def shown(lot: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return decoder.figures.shares(figure.cells, lot, DENSE, figure.here)  # noqa: B023

        logits, inks = _over(shown, figure.here, -LOUDEST)
        logits = sharper * _larger(logits, times)
        before = _inked(LINE * logits[:, :-1], inks)
        cover = torch.sigmoid(EDGE * (logits[:, -1:] + FURTHER))
        picture = torch.lerp(picture, before, cover)
    return picture.to(latents.dtype)


def _over(shares: Shares, here: torch.Tensor, beyond: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (1, k, q·h, q·w) of the cells `here`, the same `beyond` them, and the colours (i, 3),
    which are nearly those of every cell."""
    parts = [shares(lot) for lot in lots_of(here)]
    logits = torch.cat([part.float() for part, _ in parts])
    every = logits.new_full((here.numel(), *logits.shape[1:]), beyond)
    every[here.flatten()] = logits
    inks = torch.cat([part for _, part in parts]).float().mean(0)
    return in_picture(every, *here.shape[1:]), inks


def _larger(values: torch.Tensor, times: int) -> torch.Tensor:
    """(1, k, h, w) with so many pixels a side for each."""
    return F.interpolate(values, scale_factor=float(times), mode="bilinear")


def _inked(logits: torch.Tensor, inks: torch.Tensor) -> torch.Tensor:
    """Logits (1, i, h, w) and colours (i, 3) to pixels (1, 3, h, w)."""
    return torch.einsum("nihw,ic->nchw", logits.clamp(-LOUDEST, LOUDEST).softmax(1), inks)


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
