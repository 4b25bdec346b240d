"""Stage `shapes`: the decoder learns to draw figures by what is told.

Every second step draws in the size that the encoder reads. The others draw what is around the
middles of points, as it is drawn to be looked at; for points may lie anywhere, sixteen of each cell
are enough, at other places in each step.
"""

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from storyforge.model.cell_decoder import COARSE, DRAWN, FINE, PATCH, POINTS
from storyforge.model.ink import Raster
from storyforge.pocket import world
from storyforge.pocket.pretrain.amiss import amiss
from storyforge.pocket.pretrain.fidelity import (
    CELLS,
    GRID,
    HELD_OUT_SEED,
    eyes_and_heads,
    well_drawn,
)
from storyforge.pocket.pretrain.latents import (
    Layers,
    autoencoder_of,
    averaged,
    keep_autoencoder,
    shown_of,
)
from storyforge.pocket.pretrain.run import Job, Team, Trained, adam, learn_on, narrowly, say

RATE: Final = 1e-3
RATES: Final = {"table": 5e-3}
"""Of planes of features, for what lies at a node is seldom looked up."""
LOOKED_AT: Final = 0.4
"""Share of the cells that are drawn: pictures teach more than their parts."""
LEARNT: Final = ("into", "cells", "figures")
"""Parts of the decoder that this stage trains. Places are learnt by stage `scenery` alone: this,
which sees each of them seldom, took them from 25.9 dB to 23.8."""
SUBJECT_WEIGHT: Final = 2.0
"""How much a pixel counts in a cell that a subject covers; heads and eyes count as in `decoder`."""
HELD_OUT: Final = 24


class Shaping:
    """The layers in training."""

    def __init__(self, job: Job, team: Team) -> None:
        """Go on from the checkpoint, or from what the last training left."""
        torch.manual_seed(job.seed + team.rank)
        self.job, self.model = job, autoencoder_of(job.folder)
        layers = Layers(self.model.decoder, LEARNT)
        optimizer = adam(layers, RATE, RATES)
        self.trained = Trained(job, team, layers, optimizer)
        self.rng = np.random.default_rng((job.seed, 8, team.rank, self.trained.step))
        self.generator = torch.Generator().manual_seed(int(self.rng.integers(1 << 60)))

    def learn(self, factor: float) -> float:
        """One step at `factor` of the peak learning rate; the loss."""
        raster = COARSE if self.trained.step % 2 else around_points(self.rng)
        pictures = [world.imagine(self.rng) for _ in range(self.job.batch_size)]
        told, wanted, counts = self.drawn(pictures, raster)
        here = torch.rand(counts.shape[:3], generator=self.generator) < LOOKED_AT
        with narrowly(self.job.device):
            made = self.model.decoder.drawn(amiss(told, self.generator), here, raster)
        return self.trained.descend(cells_loss(made.float(), wanted[here], counts[here]), factor)

    def drawn(
        self, pictures: list[world.Picture], raster: Raster
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(n, t, 16, 16) what is told, pixels (n, 16, 16, q, q, 3) in [−1, 1] of each cell, and how
        much they count."""
        shown, colours = [shown_of(picture) for picture in pictures], np.arange(3)
        pixels, told = np.stack([s.pixels for s in shown]), np.stack([s.told for s in shown])
        if self.trained.step % 8 > 5:
            # Concepts bring colours that the world has not.
            colours = self.rng.permutation(3)
            told = np.stack([world.recoloured(each, colours) for each in told])
        pixels = np.ascontiguousarray(pixels[..., colours])
        heads = torch.from_numpy(np.stack([eyes_and_heads(p, GRID) for p in pictures]))[:, None]
        cover = torch.from_numpy(np.stack([s.cover for s in shown]))[:, None] / 255
        cover = F.interpolate(cover, size=(GRID, GRID))
        counts = heads.maximum(1 + (SUBJECT_WEIGHT - 1) * cover)
        if raster.middle:
            pixels = np.stack([world.draw(p, CELLS * DRAWN)[0] for p in pictures])[..., colours]
        counts = F.interpolate(counts, size=pixels.shape[1:3]).permute(0, 2, 3, 1)
        wanted = torch.from_numpy(pixels).float() / 127.5 - 1
        return (
            torch.from_numpy(told),
            written(in_cells(wanted), raster),
            written(in_cells(counts), raster),
        )

    @torch.no_grad()
    def keep(self) -> None:
        """Write the checkpoint, and the averaged autoencoder in fp16; say how well drawings that
        nothing is learnt from are drawn by what is told."""
        self.trained.save()
        kept = averaged(self.job.folder, "decoder", self.trained.average)
        seeds = [HELD_OUT_SEED + i for i in range(min(HELD_OUT, self.job.pictures))]
        kept.write(PATCH)
        say(self.job, step=self.trained.step, **well_drawn(kept.draw, seeds))
        kept.write(DRAWN)
        keep_autoencoder(kept, self.job.folder)


def around_points(rng: np.random.Generator) -> Raster:
    """What is around the middles of as many points as are enough to learn from, somewhere."""
    every = FINE.points // POINTS.points
    shift = (rng.integers(every, size=2) + 0.5) / FINE.points - 0.5 / POINTS.points
    return Raster(POINTS.points, FINE.pixels, middle=True, shift=(float(shift[0]), float(shift[1])))


def written(cells: torch.Tensor, raster: Raster) -> torch.Tensor:
    """Pixels (n, h, w, q, q, c) of cells, those that a raster writes."""
    if not raster.middle:
        return cells
    points, pixels, _, shift = raster
    side = cells.shape[3] // points
    first = [round((at + 0.5 / points) * cells.shape[3] - pixels / 2) for at in shift]
    parts = cells.reshape(*cells.shape[:3], points, side, points, side, -1)
    (x, y) = (slice(at, at + pixels) for at in first)
    made: torch.Tensor = parts[:, :, :, :, y, :, x].flatten(5, 6).flatten(3, 4)
    return made


def in_cells(values: torch.Tensor) -> torch.Tensor:
    """(n, 16·q, 16·q, c) to (n, 16, 16, q, q, c)."""
    side = values.shape[1] // CELLS
    return values.reshape(len(values), CELLS, side, CELLS, side, -1).transpose(2, 3)


def cells_loss(made: torch.Tensor, wanted: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Errors and their squares, and those of edges within cells.

    made, wanted  (m, q, q, 3)
    counts        (m, q, q, 1)
    """
    error = made - wanted
    lack = error.abs() + 2 * error.square()
    for dim in (1, 2):
        edges = error.diff(dim=dim).abs()
        lack.narrow(dim, 1, edges.shape[dim]).add_(edges, alpha=0.5)
    return (lack * counts).sum() / (3 * counts.sum())


def train_shapes(job: Job, team: Team) -> None:
    """Train what draws figures."""
    learn_on(job, team, Shaping(job, team))
