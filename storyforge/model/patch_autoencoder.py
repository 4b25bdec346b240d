"""An autoencoder for drawings: a linear code of patches, and a decoder that works on the cells.

The encoder is one matrix product: the leading principal components of 8 × 8 patches, every
channel in one scale. It is closed form and stays as it is, so that a denoiser can be trained on its
latents while the decoder still learns. The decoder thinks where there are few cells and writes all
pixels of a cell at once by a pixel shuffle, more of them than the encoder read: drawings are
vectors, and their lines are as crisp at twice the size. Not covered: photographs, training.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from storyforge.modelref import PATCH_SCALES

PIXELS = PATCH_SCALES
"""What may be asked of `decode` for a cell: averaged, as drawn, and doubled."""
PATCH, DRAWN = PIXELS[:2]
"""Pixels a side of the patches of the code, and of what the decoder itself writes for a cell."""
FINE = 2
"""Parts a side into which the decoder splits a cell before it writes pixels."""


class Exactly(NamedTuple):
    """A distribution without spread, in the words of diffusers: `mean` is all there is."""

    mean: torch.Tensor

    def mode(self) -> torch.Tensor:
        """The mean."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """The mean: a linear code has no noise of its own."""
        return self.mean


class Encoded(NamedTuple):
    """What `encode` returns."""

    latent_dist: Exactly


class Decoded(NamedTuple):
    """What `decode` returns."""

    sample: torch.Tensor


def _silence(conv: nn.Conv2d) -> None:
    """Let a convolution begin with nothing to say."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


class Residual(nn.Module):
    """Two convolutions beside the identity; without norms, so that a crop is decoded as a whole."""

    def __init__(self, width: int) -> None:
        """(n, width, h, w) to the same."""
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        _silence(self.second)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add what the convolutions find."""
        found: torch.Tensor = self.second(F.relu(self.first(x)))
        return x + found


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


class Decoder(nn.Module):
    """Cells to pixels: residual blocks at the cells, then at their parts, then a pixel shuffle."""

    def __init__(
        self, channels: int, widths: tuple[int, int, int], depths: tuple[int, int]
    ) -> None:
        """`widths` at the cells, at their parts and of the refiner; `depths` of the first two."""
        super().__init__()
        cells, parts, pixels = widths
        each = DRAWN // FINE
        self.plain = nn.Conv2d(channels, 3 * DRAWN**2, 1)
        self.into = nn.Conv2d(channels, cells, 3, padding=1)
        self.cells = nn.Sequential(*(Residual(cells) for _ in range(depths[0])))
        self.split = nn.Conv2d(cells, parts * FINE**2, 1)
        self.parts = nn.Sequential(*(Residual(parts) for _ in range(depths[1])))
        self.out = nn.Conv2d(parts, 3 * each**2, 1)
        _silence(self.out)
        self.refiner = Refiner(pixels, 1)
        self.doubler = Refiner(pixels, 2)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) to (n, 3, 16·h, 16·w) in [−1, 1], or a little beyond."""
        x = self.cells(self.into(latents))
        x = self.parts(F.pixel_shuffle(self.split(x), FINE))
        pixels = F.pixel_shuffle(self.out(x), DRAWN // FINE)
        made: torch.Tensor = self.refiner(pixels + F.pixel_shuffle(self.plain(latents), DRAWN))
        return made


class PatchAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Principal components of patches, and a decoder that draws; in the words of `AutoencoderKL`.

    `block_out_channels` says nothing of widths: pipelines read the pixels of a cell off its length.
    """

    _supports_gradient_checkpointing = False

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        latent_channels: int = 16,
        pixels_per_cell: int = DRAWN,
        widths: tuple[int, int, int] = (128, 64, 24),
        depths: tuple[int, int] = (3, 3),
        scaling_factor: float = 1.0,
        block_out_channels: tuple[int, ...] = (),
        sample_size: int = 512,
    ) -> None:
        """A code of noise until `set_code`; `pixels_per_cell` is one of `PIXELS`."""
        super().__init__()
        self.code = nn.Conv2d(3, latent_channels, PATCH, stride=PATCH)
        self.decoder = Decoder(latent_channels, widths, depths)
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
        """Take over a code, and begin to decode as its transpose does.

        mean   (192,)    of the patches, in the order of (row, column, colour)
        basis  (192, c)  orthonormal, leading components first
        scale  ()        of all channels: latents are (patch − mean) @ basis / scale
        """
        square = basis.T.reshape(-1, PATCH, PATCH, 3).permute(0, 3, 1, 2)
        self.code.load_state_dict({"weight": square / scale, "bias": -(mean @ basis) / scale})
        back = torch.cat([square * scale, mean.reshape(1, PATCH, PATCH, 3).permute(0, 3, 1, 2)])
        large = F.interpolate(back, size=(DRAWN, DRAWN)).flatten(1)
        weight, bias = large[:-1].T[:, :, None, None], large[-1]
        self.decoder.plain.load_state_dict({"weight": weight, "bias": bias})

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
