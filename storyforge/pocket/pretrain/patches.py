"""Stage `patches`: what components of patches leave out is learnt, so that a picture that was read
is drawn as it was.

Drawings are made for it, some of them in colours that the world has not; it reads them in the size
of the encoder and draws them in that which is looked at.
"""

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from storyforge.model.cell_decoder import DRAWN, PATCH
from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.model.patch_code import PatchCode
from storyforge.pocket import world
from storyforge.pocket.pretrain.fidelity import CELLS, GRID, HELD_OUT_SEED, eyes_and_heads, psnr
from storyforge.pocket.pretrain.latents import autoencoder_of, averaged, keep_autoencoder
from storyforge.pocket.pretrain.run import Job, Team, Trained, adam, learn_on, narrowly, say

RATE: Final = 2e-3
RECOLOURED: Final = 0.3
"""Share of the drawings with red, green and blue exchanged: concepts bring colours of their own."""
HELD_OUT: Final = 32


class Mending:
    """What draws components, in training."""

    def __init__(self, job: Job, team: Team) -> None:
        """Go on from the checkpoint, or from what the last training left."""
        torch.manual_seed(job.seed + team.rank)
        self.job, self.model = job, autoencoder_of(job.folder)
        self.code: PatchCode = self.model.patches
        self.trained = Trained(job, team, self.code, adam(self.code, RATE))
        self.rng = np.random.default_rng((job.seed, 12, team.rank, self.trained.step))

    def learn(self, factor: float) -> float:
        """One step at `factor` of the peak learning rate; the loss."""
        wanted, counts = self.drawings()
        components = self.code.read(F.avg_pool2d(wanted, DRAWN // PATCH))
        with narrowly(self.job.device):
            made = self.code(components)
        return self.trained.descend(lack(made.float(), wanted, counts), factor)

    def drawings(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 3, 512, 512) in [−1, 1], and (n, 1, 512, 512) how much a pixel counts."""
        drawn, counts = [], []
        for _ in range(self.job.batch_size):
            picture = world.imagine(self.rng)
            recoloured = self.rng.random() < RECOLOURED
            colours = self.rng.permutation(3) if recoloured else np.arange(3)
            drawn.append(world.draw(picture, CELLS * DRAWN)[0][..., colours])
            # Whole pictures are to be as they were: heads count more, but less than elsewhere.
            counts.append(np.sqrt(eyes_and_heads(picture, GRID)))
        pixels = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 127.5 - 1
        shares = torch.from_numpy(np.stack(counts))[:, None]
        return pixels.contiguous(), F.interpolate(shares, size=pixels.shape[-2:])

    @torch.no_grad()
    def keep(self) -> None:
        """Write the checkpoint, and the averaged autoencoder in fp16; say how well drawings that
        nothing is learnt from come through it, in dB."""
        self.trained.save()
        kept = averaged(self.job.folder, "patches", self.trained.average)
        whole, heads = psnr_through(kept, min(HELD_OUT, self.job.pictures))
        say(self.job, step=self.trained.step, psnr=whole, heads=heads)
        keep_autoencoder(kept, self.job.folder)


def lack(made: torch.Tensor, wanted: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Errors and their squares in the size that is looked at, and squares in that which is read.

    made, wanted  (n, 3, h, w)
    counts        (n, 1, h, w)
    """
    error = made - wanted
    coarse, few = (F.avg_pool2d(each, DRAWN // PATCH) for each in (error, counts))
    fine = error.abs() + 2 * error.square()
    return _mean(fine, counts) + _mean(2 * coarse.square(), few)


def _mean(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Of (n, 3, h, w), by how much a pixel counts."""
    return (values.mean(1, keepdim=True) * counts).sum() / counts.sum()


def psnr_through(model: PatchAutoencoder, count: int) -> tuple[float, float]:
    """How well so many drawings that nothing is learnt from are drawn by their components, whole
    and in heads, in dB."""

    def through(_: world.Picture, drawn: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(model.patches(model.patches.read(drawn)), DRAWN // PATCH)

    return psnr(through, [HELD_OUT_SEED + i for i in range(count)])


def train_patches(job: Job, team: Team) -> None:
    """Train what draws components; these stay as they are."""
    learn_on(job, team, Mending(job, team))
