"""Stage `decoder`: draws what the latents mean, at twice the size that the encoder has read.

The encoder stays as it is (stage `encoder`), and what draws places (stage `scenery`), so this can
run beside the denoiser's training. Latents are put amiss as a denoiser's are (`amiss`).
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from storyforge.model.cell_decoder import DRAWN, PATCH
from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.pocket import world
from storyforge.pocket.pretrain.amiss import amiss
from storyforge.pocket.pretrain.latents import (
    Layers,
    autoencoder_of,
    averaged,
    keep_autoencoder,
    latents_of,
    shown_of,
)
from storyforge.pocket.pretrain.parts import COMPONENTS
from storyforge.pocket.pretrain.run import SAY_EVERY, Clock, Job, Team, Trained, adam, narrowly, say

HELD_OUT_SEED = 1 << 40
LEARNT = ("into", "cells", "trust", "figures", "refiner")
"""Parts of the decoder that this stage trains. Crops blur places, which stage `scenery` draws
whole: 26.3 dB became 24.4."""
HEAD_WEIGHT, EYE_WEIGHT = 4.0, 8.0
"""How much more a pixel counts there."""
RENEWED = 8
"""Drawings that are drawn anew at once, in every fourth step."""
AT_HEADS = 0.4
"""Share of the crops that are laid around a head."""
TABLES = 3
"""How much faster planes of features learn."""
CROP = 8
"""Cells a side of a crop: a quarter of a picture, for variety."""
KEPT = 400
"""Drawings in memory."""
GRID = 128
"""Cells a side of the map of weights."""
CELLS = 16
SAVE_EVERY = 120.0

Box = tuple[float, float, float, float]

Through = Callable[[world.Picture, torch.Tensor], torch.Tensor]
"""A picture, and how it is drawn, to what an autoencoder makes of it."""


def known_latents(model: PatchAutoencoder, picture: world.Picture) -> torch.Tensor:
    """(1, c, 16, 16) what the components of a drawing are and what it is known to tell."""
    shown = shown_of(picture)
    return torch.from_numpy(latents_of(model, shown.pixels[None], shown.told[None])).float()


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


class Crops(NamedTuple):
    """Parts of drawings, and what is known of the whole of these.

    latents  (n, c, 16, 16)
    here     (n, 16, 16) of bool: 8 × 8 cells in each
    pixels   (n, 3, 256, 256) in [−1, 1]
    weights  (n, 1, 64, 64)  how much pixels count
    """

    latents: torch.Tensor
    here: torch.Tensor
    pixels: torch.Tensor
    weights: torch.Tensor


class Drawings:
    """Drawings in memory with their latents, some of them new in every step.

    pixels   (n, 3, 512, 512) uint8
    latents  (n, c, 16, 16)
    weights  (n, 1, 128, 128)  how much a pixel counts
    heads    of each drawing, boxes in fractions
    """

    def __init__(self, model: PatchAutoencoder, count: int, first_seed: int) -> None:
        """Draw `count` pictures, seeds from `first_seed` on."""
        side = CELLS * DRAWN
        self.model, self.seed = model, first_seed
        self.pixels = torch.zeros(count, 3, side, side, dtype=torch.uint8)
        self.latents = torch.zeros(count, model.config.latent_channels, CELLS, CELLS)
        self.weights = torch.ones(count, 1, GRID, GRID)
        self.heads: list[list[Box]] = [[] for _ in range(count)]
        for first in range(0, count, RENEWED):
            self.renew(range(first, min(first + RENEWED, count)))

    def renew(self, rows: Iterable[int]) -> None:
        """Put the next drawings into some rows."""
        for row in rows:
            self._draw(row)

    def _draw(self, row: int) -> None:
        picture = world.imagine(np.random.default_rng(self.seed))
        self.seed += 1
        large, shown = world.draw(picture, CELLS * DRAWN)[0], shown_of(picture)
        colours, told = np.arange(3), shown.told
        if self.seed % 4 == 3:
            # Concepts bring colours that the world has not.
            colours = np.random.default_rng(self.seed).permutation(3)
            told = world.recoloured(told, colours)
        self.pixels[row] = torch.from_numpy(large[..., colours]).permute(2, 0, 1)
        known = latents_of(self.model, shown.pixels[None][..., colours], told[None])
        self.latents[row] = torch.from_numpy(known[0]).float()
        found = [face for face in world.faces(picture) if face is not None]
        self.heads[row] = [face.head for face in found]
        self.weights[row, 0] = torch.from_numpy(eyes_and_heads(picture, GRID))

    def crops(self, size: int, generator: np.random.Generator) -> Crops:
        """As many, of any drawings."""
        rows = torch.from_numpy(generator.integers(len(self.heads), size=size))
        here = torch.zeros(size, CELLS, CELLS, dtype=torch.bool)
        pixels, weights = [], []
        for each, row in zip(here, rows.tolist(), strict=True):
            corner = self._corner(row, generator)
            _cut(each[None], corner, 1).fill_(True)
            pixels.append(_cut(self.pixels[row], corner, DRAWN))
            weights.append(_cut(self.weights[row], corner, GRID // CELLS))
        wanted = torch.stack(pixels).contiguous(memory_format=torch.channels_last).float()
        return Crops(self.latents[rows], here, wanted / 127.5 - 1, torch.stack(weights))

    def _corner(self, row: int, generator: np.random.Generator) -> tuple[int, int]:
        """(row, column) of the first cell of a crop, around a head or anywhere."""
        if self.heads[row] and generator.random() < AT_HEADS:
            box = self.heads[row][generator.integers(len(self.heads[row]))]
            middle = np.array([box[1] + box[3], box[0] + box[2]]) / 2 * CELLS - CROP / 2
            at = np.round(middle + generator.uniform(-2, 2, 2)).clip(0, CELLS - CROP)
            return int(at[0]), int(at[1])
        at = generator.integers(CELLS - CROP + 1, size=2)
        return int(at[0]), int(at[1])


def _cut(whole: torch.Tensor, corner: tuple[int, int], each: int) -> torch.Tensor:
    """(c, 16·e, 16·e) to (c, 8·e, 8·e): the cells of a crop, `each` values a side."""
    y, x = (slice(at * each, (at + CROP) * each) for at in corner)
    return whole[:, y, x]


def picture_loss(made: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """L1, edges, MSE of what the encoder has read, and colour at 1/4 to 1/16 of the size.

    made, wanted  (n, 3, h, w) in [−1, 1]
    weights       (n, 1, h/s, w/s) for any s
    """
    error = made - wanted
    each = F.interpolate(weights, size=error.shape[-2:])
    total = each.mean()
    loss = (error.abs() * each).mean()
    for dim in (2, 3):
        edges = error.diff(dim=dim).abs()
        loss = loss + 0.5 * (edges * each.narrow(dim, 1, edges.shape[dim])).mean()
    half = F.avg_pool2d(error, DRAWN // PATCH)
    squares = half.square() * F.interpolate(weights, size=half.shape[-2:])
    loss = loss + 4 * squares.mean()
    for scale in (4, 8, 16):
        small = F.avg_pool2d(error, scale)
        loss = loss + 0.5 * (small - small.mean(1, keepdim=True)).abs().mean() * total
    return loss / total


class Decoding:
    """The decoder in training, with its drawings."""

    def __init__(self, job: Job, team: Team, rate: float) -> None:
        """Go on from the checkpoint, or from where the last training ended; then the clock runs."""
        self.job, self.team = job, team
        torch.manual_seed(job.seed)
        self.model = autoencoder_of(job.folder)
        self.decoder = self.model.decoder
        layers = Layers(self.decoder, LEARNT)
        optimizer = adam(layers, rate, {"table": TABLES * rate})
        self.trained = Trained(job, team, layers, optimizer, ("shapes",), "decoder")
        step = self.trained.step
        self.generator = np.random.default_rng((job.seed, team.rank, step))
        self.chance = torch.Generator().manual_seed(int(self.generator.integers(1 << 60)))
        first = job.seed + 10**9 * team.rank + 10 * step
        self.drawings = Drawings(self.model, min(KEPT, job.pictures), first)
        self.clock, self.saved = Clock(job, 100), 0.0

    def spent(self) -> float:
        """The share of the budget that is used, the same for all workers."""
        return self.team.agree(self.clock.spent())

    def crops(self) -> Crops:
        """A batch as `Drawings.crops` makes it, some of the drawings new, and latents amiss."""
        if self.trained.step % 4 == 0:
            kept = len(self.drawings.heads)
            chosen = self.generator.choice(kept, min(RENEWED, kept), replace=False)
            self.drawings.renew(chosen.tolist())
        found = self.drawings.crops(self.job.batch_size, self.generator)
        return found._replace(latents=amiss(found.latents, self.chance))

    def made(self, crops: Crops) -> torch.Tensor:
        """(n, 3, 256, 256) what the decoder makes of them."""
        with narrowly(self.job.device):
            cells = self.decoder.drawn(crops.latents, crops.here, coarse=False)
            cells = cells.reshape(-1, CROP, CROP, DRAWN, DRAWN, 3).permute(0, 5, 1, 3, 2, 4)
            pixels: torch.Tensor = self.decoder.refiner(cells.flatten(4).flatten(2, 3))
        return pixels.float()

    def learn(self, loss: torch.Tensor, spent: float) -> None:
        """One step down a loss, at what is left of the learning rate."""
        found, step = self.trained.descend(loss, self.clock.factor(spent)), self.trained.step
        done = spent * self.job.minutes * 60
        if self.team.rank == 0 and step % SAY_EVERY == 0:
            say(self.job, step=step, spent=spent, loss=found)
        if self.team.rank == 0 and done - self.saved > SAVE_EVERY:
            self.saved = done
            self.keep()

    def keep(self) -> None:
        """Write the checkpoint, measure the averaged decoder, and write that in fp16."""
        self.trained.save()
        kept = averaged(self.job.folder, "decoder", self.trained.average)
        kept.write(PATCH)
        seeds = [HELD_OUT_SEED + i for i in range(min(24, self.job.pictures))]
        said = well_drawn(kept, kept.draw, seeds)
        say(self.job, step=self.trained.step, **said)
        kept.write(DRAWN)
        keep_autoencoder(kept, self.job.folder)


def train_decoder(job: Job, team: Team) -> None:
    """Train the decoder alone, on latents that are amiss."""
    learning = Decoding(job, team, rate=1e-3)
    while (spent := learning.spent()) < 1:
        crops = learning.crops()
        loss = picture_loss(learning.made(crops), crops.pixels, crops.weights)
        learning.learn(loss, spent)
    if team.rank == 0:
        learning.keep()


def well_drawn(
    model: PatchAutoencoder, draw: Callable[[torch.Tensor], torch.Tensor], seeds: list[int]
) -> dict[str, float]:
    """How well drawings are drawn again by all that is known of them, and by what is told alone.

    draw  (1, c, 16, 16) to (1, 3, 256, 256)
    """

    def by_all(picture: world.Picture, _: torch.Tensor) -> torch.Tensor:
        return draw(known_latents(model, picture))

    def by_words(picture: world.Picture, _: torch.Tensor) -> torch.Tensor:
        latents = known_latents(model, picture)
        latents[:, :COMPONENTS] = 0
        return draw(latents)

    said: dict[str, float] = {}
    for name, through in (("psnr", by_all), ("told", by_words)):
        whole, heads = psnr(through, seeds)
        said |= {name: whole, f"{name}_heads": heads}
    return said


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
