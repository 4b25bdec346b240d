"""Stage `shapes`: the decoder learns to draw what is told, in the size that the encoder reads.

Whole drawings, without what only larger pictures show (`Decoder.coarse`), are a fraction of the
work of stage `decoder`, which goes on from here with lines of twice the size.
"""

from dataclasses import replace
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from storyforge.model.cell_decoder import PATCH
from storyforge.pocket import world
from storyforge.pocket.pretrain.amiss import amiss
from storyforge.pocket.pretrain.decoder import (
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
    latents_of,
    shown_of,
)
from storyforge.pocket.pretrain.run import Job, Team, Trained, adam, learn_on, narrowly, say

RATE: Final = 1e-3
RATES: Final = {"table": 5e-3, "behind": 3e-3}
"""Of planes of features, for what lies at a node is seldom looked up, and of places, of which a
picture shows one alone."""
LOOKED_AT: Final = 0.4
"""Share of the cells that are drawn: pictures teach more than their parts."""
BARE: Final = 0.4
"""Share of the pictures with nobody in them: each has one place, of which there is much to know."""
LEARNT: Final = ("into", "cells", "trust", "figures", "behind")
"""Parts of the decoder that this stage trains; what only larger pictures show stays as it is."""
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
        self.trained = Trained(job, team, layers, optimizer, ("decoder", "scenery"))
        self.rng = np.random.default_rng((job.seed, 8, team.rank, self.trained.step))
        self.generator = torch.Generator().manual_seed(int(self.rng.integers(1 << 60)))

    def learn(self, factor: float) -> float:
        """One step at `factor` of the peak learning rate; the loss."""
        pictures = [self._imagined() for _ in range(self.job.batch_size)]
        latents, wanted, counts = self.drawn(pictures)
        here = torch.rand(counts.shape[:3], generator=self.generator) < LOOKED_AT
        with narrowly(self.job.device):
            made = self.model.decoder.drawn(amiss(latents, self.generator), here, coarse=True)
        return self.trained.descend(cells_loss(made.float(), wanted[here], counts[here]), factor)

    def _imagined(self) -> world.Picture:
        picture = world.imagine(self.rng)
        return replace(picture, subjects=()) if self.rng.random() < BARE else picture

    def drawn(
        self, pictures: list[world.Picture]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(n, c, 16, 16) latents, pixels (n, 16, 16, 16, 16, 3) in [−1, 1] of each cell, and how
        much they count."""
        shown = [shown_of(picture) for picture in pictures]
        pixels, told = np.stack([s.pixels for s in shown]), np.stack([s.told for s in shown])
        if self.trained.step % 4 == 3:
            # Concepts bring colours that the world has not.
            colours = self.rng.permutation(3)
            pixels = np.ascontiguousarray(pixels[..., colours])
            told = np.stack([world.recoloured(each, colours) for each in told])
        latents = torch.from_numpy(latents_of(self.model, pixels, told)).float()
        heads = torch.from_numpy(np.stack([eyes_and_heads(p, GRID) for p in pictures]))[:, None]
        cover = torch.from_numpy(np.stack([s.cover for s in shown]))[:, None] / 255
        cover = F.interpolate(cover, size=(GRID, GRID))
        counts = heads.maximum(1 + (SUBJECT_WEIGHT - 1) * cover)
        wanted = in_cells(torch.from_numpy(pixels).float() / 127.5 - 1)
        counts = F.interpolate(counts, scale_factor=CELLS * PATCH / GRID)
        return latents, wanted, in_cells(counts.permute(0, 2, 3, 1))

    @torch.no_grad()
    def keep(self) -> None:
        """Write the checkpoint, and the averaged autoencoder in fp16; say how well drawings that
        nothing is learnt from are drawn by what is known of them, and by what is told alone."""
        self.trained.save()
        kept = averaged(self.job.folder, "decoder", self.trained.average)
        seeds = [HELD_OUT_SEED + i for i in range(min(HELD_OUT, self.job.pictures))]
        say(self.job, step=self.trained.step, **well_drawn(kept, kept.decoder.coarse, seeds))
        keep_autoencoder(kept, self.job.folder)


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
    """Train what the decoder draws in the size that the encoder reads."""
    learn_on(job, team, Shaping(job, team))
