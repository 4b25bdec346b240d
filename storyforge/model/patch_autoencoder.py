"""An autoencoder for drawings: few cells, which say what is there, and a decoder that draws it.

A cell holds the principal components of its patch of 16 × 16 pixels, all in one scale, and numbers
that tell what it is part of: whose body, which garment, in which colours. What is told is the same
all over a figure, so noise hides it last, and a denoiser decides what a picture shows before it
decides how (Kouzelis et al. 2025, Boosting Generative Image Modeling via Joint Image-Feature
Synthesis; their features are learnt, these are what drawings are known to be). The components are
closed form and stay as they are, so that a denoiser can be trained while what reads what is told
still learns, and what draws; a denoiser leaves them out, and the decoder draws what is told. It
thinks where there are few cells and writes all pixels of a part of a cell at once by a pixel
shuffle, more of them than the encoder read: drawings are vectors, and their lines are as crisp at
twice the size. Not covered: photographs, training.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from storyforge.model.agreement import Spots, Telling, agreed
from storyforge.modelref import PATCH_SCALES

PIXELS = PATCH_SCALES
"""What may be asked of `decode` for a cell: averaged, as drawn, and doubled."""
PATCH, DRAWN = PIXELS[:2]
"""Pixels a side of the patches that the encoder reads, and of what the decoder itself writes."""
FINE = 4
"""Parts a side into which the decoder splits a cell before it writes pixels."""
WAVES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Half turns in a subject's half size: the finest is a sixteenth of it."""
FINEST_WAVES = (*WAVES, 16.0, 32.0)
"""Those that eighths draw along."""
BELIEF = 4.0
"""Before any training components are believed so many logits."""
FINEST = 2 * FINE
"""Parts a side of a cell of which each is thought of for itself."""
WIDER = 3
"""How many times as many numbers a block thinks in as it reads."""


class Exactly(NamedTuple):
    """A distribution without spread, in the words of diffusers: `mean` is all there is."""

    mean: torch.Tensor

    def mode(self) -> torch.Tensor:
        """The mean."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """The mean: the code has no noise of its own."""
        return self.mean


class Encoded(NamedTuple):
    """What `encode` returns."""

    latent_dist: Exactly


class Decoded(NamedTuple):
    """What `decode` returns."""

    sample: torch.Tensor


def _silence(conv: nn.Conv2d | nn.Linear) -> None:
    """Let a layer begin with nothing to say."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


class Block(nn.Module):
    """What stands around a cell, then what to think of it, beside the identity (Liu et al. 2022, A
    ConvNet for the 2020s). Normed over channels alone, so that a crop is decoded as a whole."""

    def __init__(self, width: int) -> None:
        """(n, width, h, w) to the same."""
        super().__init__()
        self.around = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, WIDER * width)
        self.back = nn.Linear(WIDER * width, width)
        _silence(self.back)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add what is found."""
        seen = self.norm(self.around(x).permute(0, 2, 3, 1))
        found: torch.Tensor = self.back(F.gelu(self.wide(seen), approximate="tanh"))
        return x + found.permute(0, 3, 1, 2)


class Refiner(nn.Module):
    """Two small convolutions over pixels: seams between cells go, lines get their edge.

    They see blocks of 2 × 2 pixels as channels, and write blocks of 2·times × 2·times.
    """

    def __init__(self, width: int, times: int) -> None:
        """It changes nothing as it begins, but for the size: each pixel `times` as wide."""
        super().__init__()
        self.times = times
        self.first = nn.Conv2d(12, width, 3, padding=1)
        self.second = nn.Conv2d(width, 12 * times**2, 3, padding=1)
        _silence(self.second)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) to (n, 3, times·h, times·w)."""
        change = self.second(F.relu(self.first(F.pixel_unshuffle(pixels, 2))))
        if self.times > 1:
            pixels = F.interpolate(pixels, scale_factor=float(self.times), mode="bilinear")
        return pixels + F.pixel_shuffle(change, 2 * self.times)


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Block(width) for _ in range(count)))


class CellEncoder(nn.Module):
    """Pixels to cells: the components of a patch, then what the cell is part of.

    The components are closed form. What is told is read off them by a small pyramid: cells that see
    their neighbours, and two coarser levels that see the whole.
    """

    def __init__(self, plain: int, told: int, widths: tuple[int, int]) -> None:
        """`plain` components and `told` numbers; `widths` at cells and at the levels above."""
        super().__init__()
        cells, wide = widths
        self.plain = nn.Conv2d(3, plain, PATCH, stride=PATCH)
        self.into = nn.Conv2d(plain, cells, 3, padding=1)
        self.cells = _blocks(cells, 3)
        self.wide = nn.Sequential(_smaller(cells, wide), *_blocks(wide, 3))
        self.widest = nn.Sequential(_smaller(wide, wide), *_blocks(wide, 3))
        self.widest_out = nn.Conv2d(wide, wide, 1)
        self.wide_out = nn.Conv2d(wide, cells, 1)
        self.late = _blocks(cells, 2)
        self.out = nn.Conv2d(cells, told, 1)
        _silence(self.out)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(n, 3, 16·h, 16·w) in [−1, 1] to (n, c, h, w); h and w of any size."""
        plain = self.plain(pictures)
        return torch.cat([plain, self.told(plain)], 1)

    def told(self, plain: torch.Tensor) -> torch.Tensor:
        """(n, components, h, w) to (n, told, h, w)."""
        x = self.cells(self.into(plain))
        y = self.wide(_even(x))
        z = self.widest(_even(y))
        y = y + _grown(self.widest_out(F.relu(z)), y)
        x = self.late(x + _grown(self.wide_out(F.relu(y)), x))
        told: torch.Tensor = self.out(F.relu(x))
        return told


def _smaller(before: int, after: int) -> nn.Conv2d:
    """Half as high and half as wide."""
    return nn.Conv2d(before, after, 3, stride=2, padding=1)


def _even(x: torch.Tensor) -> torch.Tensor:
    """With its last row and column once more where their number is odd."""
    high, wide = (side % 2 for side in x.shape[-2:])
    return F.pad(x, (0, wide, 0, high), mode="replicate") if high or wide else x


def _grown(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Every cell four times, and no more of them than there are in `like`."""
    return F.interpolate(x, scale_factor=2.0)[..., : like.shape[-2], : like.shape[-1]]


class Eighths(nn.Module):
    """Parts of 4 × 4 pixels, each drawn for itself from where it is and what its quarter knows."""

    def __init__(self, quarters: int, width: int) -> None:
        """It draws nothing as it begins."""
        super().__init__()
        self.split = nn.Conv2d(quarters, width * 4, 1)
        self.waves = nn.Conv2d(4 * len(FINEST_WAVES), width, 1)
        self.first = nn.Conv2d(width, width, 1)
        self.second = nn.Conv2d(width, width, 1)
        self.out = nn.Conv2d(width, 3 * (DRAWN // FINEST) ** 2, 1)
        _silence(self.out)

    def forward(self, x: torch.Tensor, spots: Spots) -> torch.Tensor:
        """(n, quarters, 4·h, 4·w) and where its cells are to (n, 3, 32·h, 32·w)."""
        waves = self.waves(spots.waves(FINEST, FINEST_WAVES))
        y = F.relu(F.pixel_shuffle(self.split(x), FINEST // FINE) + waves)
        y = F.relu(self.second(F.relu(self.first(y))))
        return F.pixel_shuffle(self.out(y), DRAWN // FINEST)


class Decoder(nn.Module):
    """Cells to pixels: blocks at cells, at halves, at quarters, then a pixel shuffle.

    Cells first agree on what they tell; who looks the other way is drawn as if not, mirrored. How
    near that is to landmarks of what may be told, one number for each, is told as well: kinds are
    corners of a cube, and which corner it is is tedious to learn. Waves over the place in a
    subject, finer than cells, are what all finer parts draw along (Tancik et al. 2020, Fourier
    Features Let Networks Learn High Frequency Functions). Components are believed as far as they
    fit what is told: most pictures come without.
    """

    landmarks: torch.Tensor
    minding: torch.Tensor

    def __init__(
        self,
        channels: int,
        telling: Telling,
        widths: tuple[int, int, int, int, int],
        depths: tuple[int, int, int],
    ) -> None:
        """The last of the channels tell. `widths` at cells, halves, quarters, eighths and of the
        refiner; `depths` of the first three."""
        super().__init__()
        self.telling, told = telling, telling.told
        cells, halves, quarters, eighths, pixels = widths
        self.components = channels - told
        # Where landmarks lie, and how much each number told counts for how near one is.
        self.register_buffer("landmarks", torch.zeros(telling.landmarks, told))
        self.register_buffer("minding", torch.zeros(telling.landmarks, told))
        self.landmarks_in_cells = nn.Conv2d(telling.landmarks, cells, 1)
        self.landmarks_in_halves = nn.Conv2d(telling.landmarks, halves, 1)
        self.plain = nn.Conv2d(channels, 3 * DRAWN**2, 1)
        self.trust = nn.Conv2d(cells, self.components, 1)
        self.instead = nn.Conv2d(cells, self.components, 1)
        self.into = nn.Conv2d(channels + 4 * len(FINEST_WAVES), cells, 3, padding=1)
        self.cells = _blocks(cells, depths[0])
        self.split = nn.Conv2d(cells, halves * 4, 1)
        self.waves_in_halves = nn.Conv2d(4 * len(WAVES), halves, 1)
        self.halves = _blocks(halves, depths[1])
        self.again = nn.Conv2d(halves, quarters * 4, 1)
        self.waves_in_quarters = nn.Conv2d(4 * len(WAVES), quarters, 1)
        self.quarters = _blocks(quarters, depths[2])
        self.out = nn.Conv2d(quarters, 3 * (DRAWN // FINE) ** 2, 1)
        self.eighths = Eighths(quarters, eighths)
        by_waves = self.waves_in_halves, self.waves_in_quarters
        by_landmarks = self.landmarks_in_cells, self.landmarks_in_halves
        for conv in (self.trust, self.instead, *by_waves, *by_landmarks, self.out):
            _silence(conv)
        self.refiner = Refiner(pixels, 1)
        self.doubler = Refiner(pixels, 2)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) to (n, 3, 32·h, 32·w) in [−1, 1], or a little beyond."""
        x, both, spots = self.thought(latents)
        plain = F.pixel_shuffle(self.plain(both), DRAWN)
        pixels = F.pixel_shuffle(self.out(x), DRAWN // FINE) + self.eighths(x, spots)
        made: torch.Tensor = self.refiner(pixels + plain)
        return made

    def coarse(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) to (n, 3, 16·h, 16·w): the same without what only larger pictures show, for
        a fraction of the work."""
        x, both, _ = self.thought(latents)
        return _smaller_pixels(self.plain, both, DRAWN) + _smaller_pixels(
            self.out, x, DRAWN // FINE
        )

    def thought(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Spots]:
        """(n, c, h, w) to features (n, quarters, 4·h, 4·w), latents as they are to be drawn, and
        spots."""
        x, both, spots = self.believed(latents)
        near = self.landmarks_in_halves(self.nearness(both[:, self.components :]))
        x = F.pixel_shuffle(self.split(x), 2) + F.interpolate(near, scale_factor=2.0)
        x = x + self.waves_in_halves(spots.waves(2, WAVES))
        x = F.pixel_shuffle(self.again(self.halves(x)), 2)
        return self.quarters(x + self.waves_in_quarters(spots.waves(FINE, WAVES))), both, spots

    def believed(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Spots]:
        """(n, c, h, w) to features (n, cells, h, w), latents as they are to be drawn, and spots.

        Cells tell what they have agreed on; of the components is kept what is believed, and there
        is added what goes with all that is told.
        """
        known = latents[:, : self.components]
        told, spots = agreed(latents[:, self.components :], self.telling.sizes)
        if self.telling.mirror is not None:
            spots = spots.mirrored(told[:, self.telling.mirror, None])
        waves = spots.waves(1, FINEST_WAVES)
        near = self.landmarks_in_cells(self.nearness(told))
        x = self.cells(self.into(torch.cat([known, told, waves], 1)) + near)
        # 1 as it begins: what is there is what is drawn.
        trust = torch.sigmoid(self.trust(x) + BELIEF) * (1 + math.exp(-BELIEF))
        made = known * trust + self.instead(x)
        return x, torch.cat([made.to(told.dtype), told], 1), spots

    def nearness(self, told: torch.Tensor) -> torch.Tensor:
        """(n, t, h, w) to (n, landmarks, h, w) in (0, 1]: 1 is there."""
        with torch.autocast(told.device.type, enabled=False):
            cells = told.float().flatten(2)
            landmarks, minding = self.landmarks.float(), self.minding.float()
            apart = minding @ cells.square() - 2 * (minding * landmarks) @ cells
            apart = apart + (minding * landmarks.square()).sum(1)[:, None]
            near = (-apart.clamp(min=0)).exp().to(told.dtype)
            return near.reshape(len(told), -1, *told.shape[-2:])


def _smaller_pixels(conv: nn.Conv2d, x: torch.Tensor, side: int) -> torch.Tensor:
    """What `conv` writes as `side`² pixels for each place, in half as many a side."""
    weight = F.avg_pool2d(conv.weight.reshape(3, side, side, -1).permute(0, 3, 1, 2), 2)
    bias = None
    if conv.bias is not None:
        bias = F.avg_pool2d(conv.bias.reshape(3, side, side), 2).flatten()
    flat = weight.permute(0, 2, 3, 1).reshape(-1, weight.shape[1], 1, 1)
    return F.pixel_shuffle(F.conv2d(x, flat, bias), side // 2)


class PatchAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Cells that say what patches show, and what draws them; in the words of `AutoencoderKL`.

    `block_out_channels` says nothing of widths: pipelines read the pixels of a cell off its length.
    """

    _supports_gradient_checkpointing = False

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        latent_channels: int = 80,
        told: int = 60,
        sizes: tuple[float, float] = (1.0, 0.0),
        mirror: int | None = None,
        landmarks: int = 1,
        pixels_per_cell: int = DRAWN,
        reading: tuple[int, int] = (192, 256),
        widths: tuple[int, int, int, int, int] = (192, 96, 48, 64, 24),
        depths: tuple[int, int, int] = (8, 6, 3),
        scaling_factor: float = 1.0,
        block_out_channels: tuple[int, ...] = (),
        sample_size: int = 512,
    ) -> None:
        """Noise until `set_code`; `pixels_per_cell` is one of `PIXELS`.

        told       how many of the channels, the last ones, tell what a cell is part of
        sizes      what is told of a size, as `agreed` has it
        mirror     which of the numbers told is below 0 for who looks the other way
        landmarks  how many points there are, of which the decoder sees how near they are
        reading    widths of the encoder: at cells and above
        widths     of the decoder: at cells, halves, quarters, eighths, pixels
        depths     blocks of the decoder's first three
        """
        super().__init__()
        self.code = CellEncoder(latent_channels - told, told, reading)
        telling = Telling(told, sizes, mirror, landmarks)
        self.decoder = Decoder(latent_channels, telling, widths, depths)
        self.write(pixels_per_cell, cells=sample_size // pixels_per_cell)

    def write(self, pixels_per_cell: int, cells: int | None = None) -> None:
        """From now on read and write so many pixels a side for a cell.

        Raises:
          ValueError: if it is not one of `PIXELS`.
        """
        if pixels_per_cell not in PIXELS:
            raise ValueError(f"a cell is written as one of {PIXELS} pixels, not {pixels_per_cell}")
        if cells is None:
            cells = self.config.sample_size // self.config.pixels_per_cell
        self.register_to_config(
            pixels_per_cell=pixels_per_cell,
            sample_size=cells * pixels_per_cell,
            block_out_channels=(self.config.widths[0],) * pixels_per_cell.bit_length(),
        )

    @torch.no_grad()
    def set_code(self, mean: torch.Tensor, basis: torch.Tensor, scale: torch.Tensor) -> None:
        """Take over a linear code, and begin to decode as its transpose does.

        mean   (768,)    of the patches, in the order of (row, column, colour)
        basis  (768, c)  orthonormal, leading components first
        scale  ()        of all channels: latents are (patch − mean) @ basis / scale
        """
        square = basis.T.reshape(-1, PATCH, PATCH, 3).permute(0, 3, 1, 2)
        self.code.plain.load_state_dict({"weight": square / scale, "bias": -(mean @ basis) / scale})
        back = torch.cat([square * scale, mean.reshape(1, PATCH, PATCH, 3).permute(0, 3, 1, 2)])
        large = F.interpolate(back, size=(DRAWN, DRAWN)).flatten(1)
        told = torch.zeros(len(large[0]), self.config.told)
        weight = torch.cat([large[:-1].T, told], 1)[:, :, None, None]
        self.decoder.plain.load_state_dict({"weight": weight, "bias": large[-1]})

    @torch.no_grad()
    def set_landmarks(self, points: torch.Tensor, minding: torch.Tensor) -> None:
        """Take over where landmarks lie among the numbers told, and how much each of those counts.

        points, minding  (landmarks, told)
        """
        self.decoder.landmarks.copy_(points)
        self.decoder.minding.copy_(minding)

    def read(self, pictures: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) in [−1, 1] to (n, c, h/p, w/p), where p are the pixels of a cell."""
        size = [side // self.config.pixels_per_cell * PATCH for side in pictures.shape[-2:]]
        if list(pictures.shape[-2:]) != size:
            pictures = F.interpolate(pictures, size=size, mode="area")
        latents: torch.Tensor = self.code(pictures)
        return latents

    def draw(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) to (n, 3, p·h, p·w) in [−1, 1], where p are the pixels of a cell."""
        made: torch.Tensor = self.decoder(latents)
        if self.config.pixels_per_cell < DRAWN:
            made = F.avg_pool2d(made, DRAWN // PATCH)
        elif self.config.pixels_per_cell > DRAWN:
            made = self.decoder.doubler(made)
        return made

    def encode(self, x: torch.Tensor, return_dict: bool = True) -> Encoded | tuple[Exactly]:
        """`read`, as diffusers calls it."""
        found = Exactly(self.read(x))
        return Encoded(found) if return_dict else (found,)

    def decode(
        self,
        z: torch.Tensor,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> Decoded | tuple[torch.Tensor]:
        """`draw`, as diffusers calls it."""
        made = self.draw(z)
        return Decoded(made) if return_dict else (made,)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        """Through the code and back."""
        return self.draw(self.read(sample))
