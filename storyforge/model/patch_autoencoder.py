"""An autoencoder for drawings: few cells, which say what is there, and a decoder that draws it.

A cell holds the principal components of its patch of 16 × 16 pixels, all in one scale, and numbers
that tell what it is part of: whose body, which garment, in which colours. What is told is the same
all over a figure, so noise hides it last, and a denoiser decides what a picture shows before it
decides how (Kouzelis et al. 2025, Boosting Generative Image Modeling via Joint Image-Feature
Synthesis; their features are learnt, these are what drawings are known to be). The components are
closed form and stay as they are, so that a denoiser can be trained while what reads what is told
still learns, and what draws; a denoiser leaves them out, and the decoder draws what is told. Where
a picture was read, they are drawn. Not covered: how either is drawn, photographs, training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from storyforge.model.agreement import OWN, Telling, together
from storyforge.model.canonical import Named
from storyforge.model.cell_decoder import (
    DRAWN,
    PATCH,
    Decoder,
    Equipment,
    Solved,
    Tried,
)
from storyforge.model.convolution import Halving, Residual, silence
from storyforge.model.figures import Faces, ToldFigure, figures_of
from storyforge.model.palette import COLOURS, palettes
from storyforge.model.patch_code import PatchCode
from storyforge.model.second_look import looked_over
from storyforge.model.whole_drawing import Shadow, drawn_whole
from storyforge.modelref import PATCH_SCALES

PIXELS = PATCH_SCALES
"""What may be asked of `decode` for a cell: half of what is drawn, that, and twice that."""
SAID = 0.05
"""Components that are all smaller were not read."""
PLANE = {"side": 2, "width": 1, "groups": ((0, 1),)}
"""The least atlas."""

Kind = TypeVar("Kind")


def _each(kind: Callable[..., Kind], rows: Iterable[Iterable[Any]]) -> list[Kind]:
    """Rows as they stand in a configuration, as what they are."""
    return [kind(*row) for row in rows]


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


class CellEncoder(nn.Module):
    """Pixels to what cells are part of.

    What is told is read off the pixels by residual convolutions (He et al. 2015), beside which
    stand the colours of every patch, down to a sixteenth of the cells, and from there up again to
    cells. A cell tells of its subject what is seen there, and hears the rest from cells that are
    surer.
    """

    def __init__(
        self,
        told: int,
        fields: tuple[int, ...],
        sizes: tuple[float, float],
        widths: tuple[int, int, int, int, int],
    ) -> None:
        """`told` numbers, in `fields` from the size on; `widths` at quarters of cells, halves,
        cells, and two levels above."""
        super().__init__()
        self.fields, self.sizes = fields, sizes
        quarters, halves, cells, wide, widest = widths
        self.first = Halving(3 * (PATCH // 8) ** 2, quarters)
        self.parts = nn.Sequential(Halving(quarters, halves), Residual(halves))
        self.cells = nn.Sequential(Halving(halves, cells), Residual(cells))
        self.halves_palette = nn.Conv2d(3 * COLOURS, halves, 1)
        self.cells_palette = nn.Conv2d(3 * COLOURS, cells, 1)
        self.wide = nn.Sequential(Halving(cells, wide), Residual(wide), Residual(wide))
        self.widest = nn.Sequential(Halving(wide, widest), Residual(widest))
        self.widest_out = nn.Conv2d(widest, wide, 1)
        self.wide_out = nn.Conv2d(wide, cells, 1)
        self.late = Residual(cells)
        self.out = nn.Conv2d(cells, told, 1)
        self.sure = nn.Conv2d(cells, len(fields), 1)
        for layer in (self.out, self.sure, self.halves_palette, self.cells_palette):
            silence(layer)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(n, 3, 16·h, 16·w) in [−1, 1] to what is told (n, t, h, w); h and w of any size."""
        told, sure = self.seen(pictures)
        return together(told, sure, self.sizes, self.fields[1]).to(told.dtype)

    def seen(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 3, 16·h, 16·w) to what each cell sees (n, told, h, w), and how sure it is of what is
        one over a subject (n, told − 3, h, w)."""
        x = self.parts(self.first(F.pixel_unshuffle(pictures, PATCH // 8)))
        x = self.cells(x + self.halves_palette(palettes(pictures, PATCH // 2)))
        x = x + self.cells_palette(palettes(pictures, PATCH))
        y = self.wide(_even(x))
        y = y + _grown(self.widest_out(self.widest(_even(y))), y)
        x = self.late(x + _grown(self.wide_out(F.relu(y)), x))
        sure = self.sure(x).repeat_interleave(torch.tensor(self.fields, device=x.device), 1)
        return self.out(x), sure


def _even(x: torch.Tensor) -> torch.Tensor:
    """With its last row and column once more where their number is odd."""
    high, wide = (side % 2 for side in x.shape[-2:])
    return F.pad(x, (0, wide, 0, high), mode="replicate") if high or wide else x


def _grown(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Every cell four times, and no more of them than there are in `like`."""
    return F.interpolate(x, scale_factor=2.0)[..., : like.shape[-2], : like.shape[-1]]


class PatchAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Cells that say what patches show, and what draws them; in the words of `AutoencoderKL`.

    `block_out_channels` says nothing of widths: pipelines read the pixels of a cell off its length.
    """

    _supports_gradient_checkpointing = False

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        latent_channels: int = 114,
        told: int = 60,
        first: int = 0,
        fields: tuple[int, ...] | None = None,
        sizes: tuple[float, float] = (1.0, 0.0),
        mirror: int | None = None,
        landmarks: int = 1,
        places: tuple[int, int] = (0, 1),
        alone: int = 1,
        frames: int = 1,
        atlases: tuple[dict[str, Any], ...] = (PLANE, PLANE),
        colours: tuple[int, ...] = (),
        names: tuple[tuple[Any, ...], tuple[Any, ...]] = ((), ()),
        solved: tuple[tuple[int, int, int, bool], ...] = (),
        tried: tuple[tuple[Any, ...], ...] = (),
        faces: tuple[Any, ...] | None = None,
        shadow: tuple[Any, ...] | None = None,
        inks: int = 11,
        pixels_per_cell: int = DRAWN,
        reading: tuple[int, int, int, int, int] = (32, 64, 128, 160, 192),
        widths: tuple[int, int, int] = (192, 96, 64),
        depths: tuple[int, int, int] = (4, 4, 3),
        patch_layers: tuple[int, int] = (48, 4),
        scaling_factor: float = 1.0,
        block_out_channels: tuple[int, ...] = (),
        sample_size: int = 512,
    ) -> None:
        """Noise until `set_code`; `pixels_per_cell` is one of `PIXELS`.

        told       how many of the channels tell what a cell is part of
        first      the first of these: before it are the leading components, behind it the others
        fields     how many of the numbers told go together, from the size on; next is the kind
        sizes      what is told of a size, as `agreed` has it
        mirror     which of the numbers told is below 0 for who looks the other way
        landmarks  how many points there are, of which the decoder sees how near they are
        places     the first landmark of places, and how many there are
        alone      how many landmarks, from the first, mind what tells of one thing
        frames     for how many points the canonical frames are known
        atlases    planes of features in each frame, last in the place, as `Equipment` has them
        colours    the first of the three numbers of each colour told
        names      numbers of figures, and of places, that are one of a few points: `Named`
        solved, tried  colours told that are solved for where pictures are read: `Solved`, and what
                       of places is tried there: `Tried`
        faces, shadow  where faces lie, if anybody knows, and what figures darken below them
        inks       with how many other colours a cell is drawn
        reading    widths of the encoder: at quarters of cells, halves, cells and two levels above
        widths, depths, patch_layers  of the decoder: at cells, of subjects, of places; and width
                   and depth of what draws components
        """
        super().__init__()
        self.code = CellEncoder(told, fields or (1, told - OWN - 1), sizes, reading)
        named = _each(Named, names[0]), _each(Named, names[1])
        looked = _each(Solved, solved), _each(Tried, tried)
        equipment = Equipment(atlases, frames, inks, colours, places, alone, named, *looked)
        self.shadow = None if shadow is None else Shadow(*shadow)
        self.decoder = Decoder(Telling(told, sizes, mirror, landmarks), equipment, widths, depths)
        self.patches = PatchCode(latent_channels - told, *patch_layers)
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
        """Take over a linear code.

        mean   (768,)    of the patches, in the order of (row, column, colour)
        basis  (768, c)  orthonormal, leading components first
        scale  ()        of all channels: latents are (patch − mean) @ basis / scale
        """
        self.patches.basis.copy_(basis.T)
        self.patches.mean.copy_(mean)
        self.patches.scale.copy_(scale)

    @torch.no_grad()
    def set_landmarks(self, points: torch.Tensor, minding: torch.Tensor) -> None:
        """Take over where landmarks lie among the numbers told, and how much each of those counts.

        points, minding  (landmarks, told)
        """
        self.decoder.landmarks.points.copy_(points)
        self.decoder.landmarks.minding.copy_(minding)

    @torch.no_grad()
    def set_frames(self, points: torch.Tensor, minding: torch.Tensor, maps: torch.Tensor) -> None:
        """Take over how subjects lie in canonical frames, by the nearest of some points.

        points, minding  (frames, told)
        maps             (frames, atlases − 1, 2, 3)  of spots
        """
        self.decoder.frames.known.points.copy_(points)
        self.decoder.frames.known.minding.copy_(minding)
        self.decoder.frames.maps.copy_(maps)

    def read(self, pictures: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) in [−1, 1] to (n, c, h/p, w/p), where p are the pixels of a cell."""
        size = [side // self.config.pixels_per_cell * PATCH for side in pictures.shape[-2:]]
        if list(pictures.shape[-2:]) != size:
            pictures = F.interpolate(pictures, size=size, mode="area")
        told = looked_over(self.decoder, self.code(pictures), pictures)
        return self.joined(self.patches.read(pictures), told)

    def joined(self, components: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        """(n, k, h, w) and (n, t, h, w) to latents (n, c, h, w)."""
        first = self.config.first
        return torch.cat([components[:, :first], told, components[:, first:]], 1)

    @property
    def telling(self) -> slice:
        """Which channels tell."""
        return slice(self.config.first, self.config.first + self.config.told)

    def told(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) to what they tell (n, t, h, w)."""
        return latents[:, self.telling]

    def components(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) to the components of patches (n, k, h, w)."""
        return torch.cat([latents[:, : self.telling.start], latents[:, self.telling.stop :]], 1)

    def draw(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) to (n, 3, p·h, p·w) in [−1, 1], where p are the pixels of a cell."""
        # Of a picture that was read, components say what is in each cell; what a denoiser told is
        # drawn as it was meant.
        components, pixels = self.components(latents), self.config.pixels_per_cell
        if components.abs().amax() <= SAID:
            told = self.told(latents)
            made = drawn_whole(self.decoder, told, max(pixels, DRAWN), self.shadow)
        else:
            made = self.patches(components)
            if pixels > DRAWN:
                made = F.interpolate(made, scale_factor=pixels / DRAWN, mode="bilinear")
        return F.avg_pool2d(made, DRAWN // PATCH) if pixels < DRAWN else made

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

    def figures(self, latents: torch.Tensor) -> list[list[ToldFigure]]:
        """Who stands where in each picture (n, c, h, w), from back to front; known where `faces`
        are."""
        return figures_of(self.decoder, Faces(*self.config.faces), self.told(latents))

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        """Through the code and back."""
        return self.draw(self.read(sample))
