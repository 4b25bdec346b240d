"""Stage `scenery`: the decoder learns to draw places with nobody in them.

Each drawing shows one place in one of its arrangements, at one time and in one weather, and there
are thousands of these; without figures a drawing is a tenth of the work of stage `shapes`.
"""

from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import nn

from storyforge.model.agreement import UNIT, Spots
from storyforge.model.cell_decoder import PATCH
from storyforge.pocket import world
from storyforge.pocket.pretrain.decoder import CELLS, HELD_OUT_SEED
from storyforge.pocket.pretrain.latents import (
    Layers,
    autoencoder_of,
    averaged,
    keep_autoencoder,
)
from storyforge.pocket.pretrain.run import (
    Average,
    Job,
    Team,
    adam,
    at_rate,
    learn_on,
    load_checkpoint,
    save_checkpoint,
    say,
    scatter,
)
from storyforge.pocket.pretrain.shapes import cells_loss, in_cells

RATE: Final = 2e-3
RATES: Final = {"table": 6e-3}
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
    """What draws places, in training, with its average and its optimiser."""

    def __init__(self, job: Job, team: Team) -> None:
        """Go on from the checkpoint, or from what the last training left."""
        torch.manual_seed(job.seed + team.rank)
        self.job, self.team = job, team
        self.model = autoencoder_of(job.folder)
        self.layers = Layers(self.model.decoder, ("behind",))
        self.parameters = list(self.layers.parameters())
        self.average = Average(self.layers, 0.998)
        self.optimizer = adam(self.layers, RATE, RATES)
        self.path = job.folder / "scenery.safetensors"
        modules: dict[str, nn.Module] = {"layers": self.layers}
        self.kept = modules, {"layers": self.average}, self.optimizer
        self.step = int(load_checkpoint(self.path, *self.kept).get("step", 0))
        scatter(job, team, self.step)
        self.rng = np.random.default_rng((job.seed, 9, team.rank, self.step))
        self.generator = torch.Generator().manual_seed(int(self.rng.integers(1 << 60)))

    def learn(self, factor: float) -> float:
        """One step at `factor` of the peak learning rate; the loss."""
        self.step += 1
        at_rate(factor, self.optimizer)
        pictures = [empty(self.rng) for _ in range(self.job.batch_size)]
        here = torch.rand((len(pictures), CELLS, CELLS), generator=self.generator) < LOOKED_AT
        made, wanted = self.drawn(pictures, here)
        loss = cells_loss(made, wanted, torch.ones_like(wanted[..., :1]))
        torch.autograd.backward(loss)
        self.team.average(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.average.update(self.layers)
        found: float = loss.item()
        return found

    def drawn(
        self, pictures: list[world.Picture], here: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(m, 16, 16, 3) what is made of the cells `here` (n, 16, 16), and what is to be."""
        decoder = self.model.decoder
        pixels = np.stack([world.draw(picture, CELLS * PATCH)[0] for picture in pictures])
        with torch.autocast(self.job.device, torch.bfloat16):
            around = decoder.place(told_of_places(pictures)[:, :, None, None])
            made = decoder.behind(around, everywhere(len(pictures)), here, coarse=True)
        wanted = in_cells(torch.from_numpy(pixels).float() / 127.5 - 1)[here]
        return made.float(), wanted

    @torch.no_grad()
    def keep(self) -> None:
        """Write the checkpoint, and the averaged autoencoder in fp16; say how well places that
        nothing is learnt from are drawn, in dB."""
        save_checkpoint(self.path, *self.kept, {"step": self.step})
        kept = averaged(self.model, "decoder", self.average)
        model, self.model = self.model, kept
        seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + min(HELD_OUT, self.job.pictures))
        pictures = [empty(np.random.default_rng(seed)) for seed in seeds]
        every = torch.ones((len(pictures), CELLS, CELLS), dtype=torch.bool)
        made, wanted = self.drawn(pictures, every)
        self.model = model
        error = (made.clamp(-1, 1) - wanted).square().mean()
        say(self.job, step=self.step, psnr=float(10 * torch.log10(4 / error)))
        keep_autoencoder(kept, self.job.folder)


def train_scenery(job: Job, team: Team) -> None:
    """Train what draws places, in the size that the encoder reads."""
    learn_on(job, team, Furnishing(job, team))
