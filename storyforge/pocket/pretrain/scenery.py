"""Stage `scenery`: the decoder learns to draw places with nobody in them.

Each drawing shows one place in one of its arrangements, at one time and in one weather, and there
are thousands of these; without figures a drawing is a tenth of the work of stage `shapes`.
"""

from dataclasses import replace
from typing import Final

import numpy as np
import torch

from storyforge.model.agreement import UNIT, Spots
from storyforge.model.cell_decoder import COARSE, DRAWN, FINE, PATCH, Decoder
from storyforge.model.ink import Raster, inked
from storyforge.pocket import world
from storyforge.pocket.pretrain.fidelity import CELLS, HELD_OUT_SEED
from storyforge.pocket.pretrain.latents import (
    Layers,
    autoencoder_of,
    averaged,
    keep_autoencoder,
)
from storyforge.pocket.pretrain.run import Job, Team, Trained, adam, learn_on, narrowly, say
from storyforge.pocket.pretrain.shapes import around_points, cells_loss, in_cells, written

RATE: Final = 2e-3
RATES: Final = {"table": 1.5e-2}
"""Of planes of features: each is looked up in one picture of a hundred."""
LOOKED_AT: Final = 0.3
"""Share of the cells that are drawn: pictures teach more than their parts."""
HELD_OUT: Final = 64


def empty(generator: np.random.Generator) -> world.Picture:
    """A picture with nobody in it."""
    return replace(world.imagine(generator), subjects=())


def told_of_places(pictures: list[world.Picture]) -> torch.Tensor:
    """(n, `MEANINGS`) what all cells of each tell, but for where they are."""
    told = np.stack([world.told_of(picture)[-1] for picture in pictures])
    told[:, world.PLACE_OF["covered"]] = -1
    return torch.from_numpy(told)


def everywhere(count: int) -> Spots:
    """Where in the place each cell of `count` pictures is."""
    at = (2 * torch.arange(CELLS) + 1) / CELLS - 1
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    spots = torch.stack([columns, rows]).expand(count, -1, -1, -1)
    return Spots(spots, torch.full_like(spots, 2 / UNIT))


class Furnishing:
    """What draws places, in training."""

    def __init__(self, job: Job, team: Team) -> None:
        """Go on from the checkpoint, or from what the last training left."""
        torch.manual_seed(job.seed + team.rank)
        self.job, self.model = job, autoencoder_of(job.folder)
        layers = Layers(self.model.decoder, ("behind",))
        self.trained = Trained(job, team, layers, adam(layers, RATE, RATES))
        self.rng = np.random.default_rng((job.seed, 9, team.rank, self.trained.step))
        self.generator = torch.Generator().manual_seed(int(self.rng.integers(1 << 60)))

    def learn(self, factor: float) -> float:
        """One step at `factor` of the peak learning rate; the loss."""
        pictures = [empty(self.rng) for _ in range(self.job.batch_size)]
        here = torch.rand((len(pictures), CELLS, CELLS), generator=self.generator) < LOOKED_AT
        raster = COARSE if self.trained.step % 2 else around_points(self.rng)
        made, wanted = drawn(self.model.decoder, pictures, here, raster)
        loss = cells_loss(made, wanted, torch.ones_like(wanted[..., :1]))
        return self.trained.descend(loss, factor)

    @torch.no_grad()
    def keep(self) -> None:
        """Write the checkpoint, and the averaged autoencoder in fp16; say how well places that
        nothing is learnt from are drawn, in dB."""
        self.trained.save()
        kept = averaged(self.job.folder, "decoder", self.trained.average)
        seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + min(HELD_OUT, self.job.pictures))
        pictures = [empty(np.random.default_rng(seed)) for seed in seeds]
        every = torch.ones((len(pictures), CELLS, CELLS), dtype=torch.bool)
        said = {}
        for name, raster in (("psnr", COARSE), ("large", FINE)):
            made, wanted = drawn(kept.decoder, pictures, every, raster)
            error = (made.clamp(-1, 1) - wanted).square().mean()
            said[name] = float(10 * torch.log10(4 / error))
        say(self.job, step=self.trained.step, **said)
        keep_autoencoder(kept, self.job.folder)


def drawn(
    decoder: Decoder, pictures: list[world.Picture], here: torch.Tensor, raster: Raster
) -> tuple[torch.Tensor, torch.Tensor]:
    """(m, q, q, 3) what is made of the cells `here` (n, 16, 16), and what is to be."""
    side = CELLS * (DRAWN if raster.middle else PATCH)
    pixels = np.stack([world.draw(picture, side)[0] for picture in pictures])
    with narrowly(here.device.type):
        around = decoder.place(told_of_places(pictures)[:, :, None, None])
        every = torch.ones_like(here)
        made = inked(*decoder.behind(around, everywhere(len(pictures)), here, raster, every))
    wanted = written(in_cells(torch.from_numpy(pixels).float() / 127.5 - 1), raster)[here]
    return made.float(), wanted


def train_scenery(job: Job, team: Team) -> None:
    """Train what draws places."""
    learn_on(job, team, Furnishing(job, team))
