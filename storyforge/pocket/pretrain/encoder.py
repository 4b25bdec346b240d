"""Stage `encoder`: the encoder learns to read what the cells of a drawing are to tell.

It reads pixels, of drawings that are made for it; no two are the same.
"""

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from storyforge.model.agreement import OWN, SUREST, shared_out, weighed
from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.pocket import world
from storyforge.pocket.pretrain.latents import (
    autoencoder_of,
    averaged,
    keep_autoencoder,
    shown_of,
)
from storyforge.pocket.pretrain.run import Job, Team, Trained, adam, learn_on, narrowly, say

RATE: Final = 1e-3
HELD_OUT_SEED: Final = (1 << 40) + (1 << 20)
HELD_OUT: Final = 32

NOISE: Final = 0.05
"""Spread of what pixels lack in pictures that were kept as files."""
ODD, TINTED = 0.4, 0.3
"""Shares of the pictures with somebody in them who has a pattern, marks, horns or the like, and of
those of a place in another colour than its own."""
RECOLOURED: Final = 0.5
"""Share of the pictures in colours that their subjects do not have."""
NAMED_WEIGHT: Final = 0.2
"""How much it counts, beside squared errors, whether what has a name is nearest to its own."""
PLACES: Final = 0.3
"""How much that counts where there is no subject."""
LEAST_SPREAD: Final = 0.15
"""Errors count by one over the spread of a number, or by one over this."""
SMALL: Final = dict.fromkeys(
    ("pattern", "pattern colour", "marks", "other colour", "accessory colour", "shine colour"), 4.0
)
"""How much more errors count of what few cells show, and which all of a subject are to tell."""
SAME: Final = 1e-2
"""Cells that are told so little apart are of one subject."""
ALONE: Final = world.PLACE_OF["kind"].stop
"""A cell itself has to know how much of it is covered, and where in what kind of subject it is."""
ALONE_WEIGHT: Final = 0.5
EACH_WEIGHT: Final = 0.3
"""How much it counts what each cell sees by itself, and how sure it is of it."""
TOLD: Final = 0.5
"""How near a landmark is which is told."""


def shown(pictures: list[world.Picture]) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, 3, 256, 256) drawings in [−1, 1] and (n, t, 16, 16) what they tell."""
    all_shown = [shown_of(picture) for picture in pictures]
    drawn, told = [each.pixels for each in all_shown], [each.told for each in all_shown]
    seen = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return seen, torch.from_numpy(np.stack(told))


def seeing_loss(seen: torch.Tensor, sure: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """What lacks where cells that are of one subject share what each sees; and where a cell itself
    does not know of which.

    seen, told  (n, t, h, w)
    sure        (n, t − OWN, h, w)
    """
    same = told[:, OWN:].flatten(2)
    alike = (torch.cdist(same.mT, same.mT) < SAME).float()
    shared = shared_out(seen[:, OWN:].flatten(2), weighed(sure), alike / alike.sum(2, keepdim=True))
    found = torch.cat([seen[:, :OWN], shared.reshape(seen[:, OWN:].shape)], 1)
    alone = torch.cat([seen[:, :ALONE], told[:, ALONE:]], 1)
    return reading_loss(found, told) + ALONE_WEIGHT * reading_loss(alone, told)


def surprise(seen: torch.Tensor, sure: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """What is lost by cells that are surer of what each sees than they may be, or less sure.

    How sure a cell is, is the logarithm of its precision (Kendall and Gal 2017, What Uncertainties
    Do We Need): shared by that, what many cells see is as good as it can be. Without this it is
    asked for what a whole subject tells alone, and no cell learns to see; nor does anything bring
    back how sure they are where it has fallen below what counts.

    As in `seeing_loss`.
    """
    error = (seen - told)[:, OWN:].square() / _spread(told)[OWN:, None, None]
    believed = sure.clamp(max=SUREST)
    return (believed.exp() * error - believed).mean()


def _spread(told: torch.Tensor) -> torch.Tensor:
    """(t,) mean squares of what is told (n, t, h, w)."""
    return told.square().mean((0, 2, 3)).clamp(min=LEAST_SPREAD**2)


def reading_loss(found: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """Squared errors, by what there is of each number, and the surprise at what has a name.

    found, told  (n, t, h, w)
    """
    loss = ((found - told).square().mean((0, 2, 3)) / _spread(told) * _COUNTS).mean()
    weights = torch.where(told[:, 0] > 0, 1.0, PLACES)
    for at, points, minding in _NAMED:
        scores, near = (-_apart(values[:, at], points, minding) for values in (found, told))
        best, which = near.max(1)
        surprise = F.cross_entropy(scores, which, reduction="none")
        # What no landmark tells is not asked for.
        counts = weights * (best.exp() > TOLD)
        loss = loss + NAMED_WEIGHT * (surprise * counts).sum() / counts.sum().clamp(min=1)
    return loss


def _apart(values: torch.Tensor, points: torch.Tensor, minding: torch.Tensor) -> torch.Tensor:
    """(n, t, h, w) to (n, points, h, w): how far each is, as landmarks count it."""
    cells = values.permute(0, 2, 3, 1)[..., None, :]
    return (minding * (cells - points).square()).sum(-1).permute(0, 3, 1, 2)


def _named() -> list[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Which numbers tell what has names, the points that these are, and how much numbers count; one
    point more where nothing is, but of kinds, which all have."""
    points, minding = (torch.from_numpy(values) for values in world.landmarks())
    found = []
    for name, (first, count) in world.landmark_groups().items():
        if name not in world.PLACE_OF or count < 2:
            continue
        rows = slice(first, first + count)
        known, counts = points[rows], minding[rows]
        if name != "kind":
            known = torch.cat([known, torch.zeros_like(known[:1])])
            counts = torch.cat([counts, counts[:1]])
        at = world.PLACE_OF[name]
        found.append((at, known[:, at], counts[:, at]))
    return found


_NAMED = _named()
_COUNTS = torch.ones(world.MEANINGS)
for _field, _count in SMALL.items():
    _COUNTS[world.PLACE_OF[_field]] = _count


class Encoding:
    """The encoder in training."""

    def __init__(self, job: Job, team: Team) -> None:
        """Go on from the checkpoint, or from what the last training left."""
        torch.manual_seed(job.seed)
        self.job = job
        self.encoder = autoencoder_of(job.folder).code
        self.trained = Trained(job, team, self.encoder, adam(self.encoder, RATE))
        self.generator = np.random.default_rng((job.seed, 6, team.rank, self.trained.step))

    def learn(self, factor: float) -> float:
        """One step at `factor` of the peak learning rate; the loss."""
        pictures = [self._imagined() for _ in range(self.job.batch_size)]
        pixels, told = self.recoloured(*shown(pictures))
        pixels = pixels + NOISE * torch.rand((), dtype=torch.float32) * torch.randn_like(pixels)
        with narrowly(self.job.device):
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            seen, sure = self.encoder.seen(pixels)
        found = seen.float(), sure.float(), told
        loss = seeing_loss(*found) + EACH_WEIGHT * surprise(*found)
        return self.trained.descend(loss, factor)

    def _imagined(self) -> world.Picture:
        chance = self.generator.random()
        while True:
            picture = world.imagine(self.generator)
            odd = any(_odd(subject.what) for subject in picture.subjects)
            if chance > ODD + TINTED or (odd if chance < ODD else picture.tint):
                return picture

    def recoloured(
        self, pixels: torch.Tensor, told: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Some pictures with red, green and blue exchanged: foxes are orange here, and a concept
        need not be."""
        for index in np.flatnonzero(self.generator.random(len(pixels)) < RECOLOURED):
            colours = self.generator.permutation(3)
            pixels[index] = pixels[index][colours]
            told[index] = torch.from_numpy(world.recoloured(told[index].numpy(), colours))
        return pixels, told

    def keep(self) -> None:
        """Write the checkpoint, and the averaged autoencoder in fp16; say how well it reads."""
        self.trained.save()
        kept = averaged(self.job.folder, "code", self.trained.average)
        generator = np.random.default_rng(HELD_OUT_SEED)
        found = read_well(kept.eval(), [world.imagine(generator) for _ in range(HELD_OUT)])
        say(self.job, step=self.trained.step, **found)
        keep_autoencoder(kept, self.job.folder)


def _odd(what: world.Look | world.Thing) -> bool:
    return bool(what.extras) if isinstance(what, world.Look) else what.pattern is not None


@torch.no_grad()
def read_well(model: PatchAutoencoder, pictures: list[world.Picture]) -> dict[str, float]:
    """The mean squared error of what is read, and of how many cells that a subject covers the kind
    is nearer to its own than to any other."""
    seen, told = shown(pictures)
    found = model.code(seen)[:, -told.shape[1] :]
    right = world.kinds(found.numpy()) == world.kinds(told.numpy())
    covered = told[:, 0].numpy() > 0
    error = float((found - told).square().mean())
    return {"error": error, "kinds": float(right[covered].mean())}


def train_encoder(job: Job, team: Team) -> None:
    """Train what reads the cells."""
    learn_on(job, team, Encoding(job, team))
