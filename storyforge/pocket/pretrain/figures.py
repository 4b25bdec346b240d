"""Stage `figures`: the decoder learns to draw figures one by one, as they are drawn from a prompt.

Who stands alone before nothing is drawn in a fraction of the time of a picture, and all that is
learnt is learnt of figures. Cells tell what they agree on, rightly, but often where there is
nothing of a figure, too, as a denoiser's do; what it tells otherwise in each of them is the
business of stage `shapes`. Every second step draws in the size that the encoder reads, for so
figures are looked for.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from storyforge.model.cell_decoder import COARSE, DRAWN, POINTS, Decoder
from storyforge.model.figures import GROWS
from storyforge.model.ink import Raster, inked
from storyforge.pocket import world
from storyforge.pocket.pretrain.fidelity import CELLS, GRID, HELD_OUT_SEED, eyes_and_heads
from storyforge.pocket.pretrain.latents import Layers, autoencoder_of, averaged, keep_autoencoder
from storyforge.pocket.pretrain.run import Job, Team, Trained, adam, learn_on, narrowly, say
from storyforge.pocket.pretrain.shapes import in_cells, written

RATE: Final = 1e-3
RATES: Final = {"table": 5e-3}
"""Of planes of features. At three times this, with or without twice the other rate, four minutes of
one core left figures 1.1 to 1.5 dB worse."""
LOOKED_AT: Final = 0.5
"""Share of the cells that are drawn: figures teach more than their parts."""
COVER_WEIGHT: Final = 0.5
"""How much it counts where a figure is, beside what it looks like."""
FURTHER: Final = 4
"""Cells beside a figure that tell of it though nothing of it is there: fewer than so many."""
HELD_OUT: Final = 48
NOBODY: Final = (-0.4, 0.5, 0.3)
"""What is behind figures where it is measured how well they are drawn."""
BETWEEN: Final = (1, 5)
"""Pixels further than points lie, across and down, where that is measured."""


class Portraits(NamedTuple):
    """Figures, each in a picture of its own.

    told    (n, t, 16, 16)
    pixels  (n, 16, 16, 32, 32, 4)  red, green and blue times opacity, and that, in [0, 1]
    counts  (n, 16, 16, 32, 32, 1)  how much a pixel counts
    """

    told: torch.Tensor
    pixels: torch.Tensor
    counts: torch.Tensor


def portraits(pictures: Sequence[world.Picture], more: Sequence[int] | None = None) -> Portraits:
    """Pictures with one subject each, and of that what is drawn of it.

    more  how many cells further than it is drawn they tell of each
    """
    side = CELLS * DRAWN
    drawn = np.stack([world.layer(picture.subjects[0], side) for picture in pictures])
    pixels = torch.from_numpy(drawn).float() / 255
    pixels[..., :3] *= pixels[..., 3:]
    pixels, more = in_cells(pixels), more or [0] * len(pictures)
    told = np.stack([_told(*each) for each in zip(pictures, drawn[..., 3], more, strict=True)])
    # Whole figures are drawn: what is looked at first counts more, but less than among places.
    counts = torch.from_numpy(np.stack([eyes_and_heads(each, GRID) for each in pictures])).sqrt()
    counts = F.interpolate(counts[:, None], size=(side, side)).permute(0, 2, 3, 1)
    return Portraits(torch.from_numpy(told), pixels, in_cells(counts))


def _told(picture: world.Picture, mask: NDArray[np.uint8], more: int) -> NDArray[np.float32]:
    """(t, 16, 16) what cells tell, those of a figure as far as it is drawn from a prompt, and so
    many cells further."""
    covered = mask.reshape(CELLS, DRAWN, CELLS, DRAWN).mean((1, 3))
    # Who covers no cell so far, as a star far away, has those that it covers most.
    here = torch.from_numpy(covered > 255 * min(GROWS, covered.max() / 510))
    here = F.max_pool2d(here[None].float(), 2 * more + 1, 1, more)[0] > 0
    who = np.where(here, 0, -1).astype(np.int8)
    return world.meanings(picture, who, covered.astype(np.uint8))


def one_by_one(rng: np.random.Generator, count: int) -> list[world.Picture]:
    """Pictures of one subject each: everybody of as many pictures as have so many."""
    found: list[world.Picture] = []
    while len(found) < count:
        picture = world.imagine(rng)
        found += [replace(picture, subjects=(each,)) for each in picture.subjects]
    return found[:count]


class Drawn(NamedTuple):
    """Cells of figures, and what they are to be.

    colours, wanted  (m, q, q, 3)  in [−1, 1]; what is wanted is times opacity
    cover, opacity   (m, q, q, 1)
    counts           (m, q, q, 1)
    """

    colours: torch.Tensor
    cover: torch.Tensor
    wanted: torch.Tensor
    opacity: torch.Tensor
    counts: torch.Tensor


def drawn(decoder: Decoder, figures: Portraits, looked_at: torch.Tensor, raster: Raster) -> Drawn:
    """The cells `looked_at` (n, 16, 16), as far as they tell of figures."""
    with torch.no_grad():
        known = decoder.known(figures.told)
    here = known.subject & looked_at
    with narrowly(here.device.type):
        shares, inks = decoder.figures.shares(known, here, raster, known.subject)
    pixels, counts = (_written(each[here], raster) for each in figures[1:])
    opacity = pixels[..., 3:]
    return Drawn(
        inked(shares[..., :-1], inks),
        torch.sigmoid(shares[..., -1:].float()),
        2 * pixels[..., :3] - opacity,
        opacity,
        counts,
    )


def _written(cells: torch.Tensor, raster: Raster) -> torch.Tensor:
    """Pixels (m, 32, 32, c) of cells, those that a raster writes (m, q, q, c)."""
    if raster.middle:
        return written(cells[None, None], raster)[0, 0]
    made = F.adaptive_avg_pool2d(cells.permute(0, 3, 1, 2), raster.side)
    return made.permute(0, 2, 3, 1)


def lack(cells: Drawn) -> torch.Tensor:
    """Errors of colours and their squares where a figure is, and of where it is."""
    apart = cells.colours * cells.opacity - cells.wanted
    colours = (apart.abs() + 2 * apart.square()).mean(-1, keepdim=True)
    cover = F.binary_cross_entropy(cells.cover, cells.opacity, reduction="none")
    return ((colours + COVER_WEIGHT * cover) * cells.counts).sum() / cells.counts.sum()


class Portraying:
    """What draws figures, in training."""

    def __init__(self, job: Job, team: Team) -> None:
        """Go on from the checkpoint, or from what the last training left."""
        torch.manual_seed(job.seed + team.rank)
        self.job, self.model = job, autoencoder_of(job.folder)
        layers = Layers(self.model.decoder, ("figures",))
        self.trained = Trained(job, team, layers, adam(layers, RATE, RATES))
        self.rng = np.random.default_rng((job.seed, 11, team.rank, self.trained.step))
        self.generator = torch.Generator().manual_seed(int(self.rng.integers(1 << 60)))

    def learn(self, factor: float) -> float:
        """One step at `factor` of the peak learning rate; the loss."""
        pictures = one_by_one(self.rng, self.job.batch_size)
        more = self.rng.integers(FURTHER, size=len(pictures)).tolist()
        figures = portraits(pictures, more)
        here = torch.rand((len(pictures), CELLS, CELLS), generator=self.generator) < LOOKED_AT
        shift = self.rng.integers(DRAWN // POINTS.points, size=2)
        raster = COARSE if self.trained.step % 2 else further(*shift.tolist())
        cells = drawn(self.model.decoder, figures, here, raster)
        return self.trained.descend(lack(cells), factor)

    @torch.no_grad()
    def keep(self) -> None:
        """Write the checkpoint, and the averaged autoencoder in fp16; say how well figures that
        nothing is learnt from are drawn before a plain ground, in dB."""
        self.trained.save()
        kept = averaged(self.job.folder, "decoder", self.trained.average)
        say(
            self.job,
            step=self.trained.step,
            figures=psnr_of_figures(kept.decoder, self.job.pictures),
        )
        keep_autoencoder(kept, self.job.folder)


def further(right: int, down: int) -> Raster:
    """As many points of a cell as are enough to learn from, each a pixel, so many pixels from the
    first that they might be."""
    shift = [(at + 0.5) / DRAWN - 0.5 / POINTS.points for at in (right, down)]
    return Raster(POINTS.points, 1, middle=True, shift=(shift[0], shift[1]))


@torch.no_grad()
def psnr_of_figures(decoder: Decoder, count: int) -> float:
    """How well figures that nothing is learnt from are drawn, in their cells, in dB: the mean over
    so many, or `HELD_OUT`."""
    pictures = one_by_one(np.random.default_rng(HELD_OUT_SEED), min(count, HELD_OUT))
    found = []
    for picture in pictures:
        figure, every = portraits([picture]), torch.ones(1, CELLS, CELLS) > 0
        errors = [
            _error(drawn(decoder, figure, every, further(right, down)))
            for right in BETWEEN
            for down in BETWEEN
        ]
        found.append(10 * np.log10(4 / np.mean(errors)))
    return float(np.mean(found))


def _error(cells: Drawn) -> float:
    """Mean squared, before a plain ground."""
    ground = torch.tensor(NOBODY)
    made = torch.lerp(ground, cells.colours, cells.cover)
    wanted = cells.wanted + (1 - cells.opacity) * ground
    return (made.clamp(-1, 1) - wanted).square().mean().item()


def train_figures(job: Job, team: Team) -> None:
    """Train what draws figures, figures alone."""
    learn_on(job, team, Portraying(job, team))
