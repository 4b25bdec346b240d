"""The decoder of the embedded model: cells that tell what is there, to pixels.

Cells first agree on what they tell. Then the place is drawn in every cell, and before it, in the
cells that tell of one, the subject: in canonical frames, so that a head is the same head wherever
it is and however it leans, and in inks, so that it is the same in all colours. Each point of a cell
is drawn for itself, and drawings are vectors, so their lines are as smooth as points are many. Not
covered: components of patches, how it is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from storyforge.model.agreement import Spots, Telling, agreed
from storyforge.model.canonical import (
    Atlas,
    Frames,
    LandmarkGroup,
    Landmarks,
    Named,
    amid,
    decided,
    placed,
    settled,
    snapped,
    waves,
)
from storyforge.model.convolution import Block
from storyforge.model.ink import Grid, Inking, Raster, alone, inked, nearby
from storyforge.modelref import PATCH_SCALES

PATCH, DRAWN = PATCH_SCALES[:2]
"""Pixels a side of the patches that the encoder reads, and of what the decoder itself writes."""
POINTS = Grid(4, DRAWN // 4)
"""Points of a cell that are enough to learn from, and what each writes."""
COARSE = Raster(POINTS.points, PATCH // POINTS.points)
"""How a picture is drawn in the size that the encoder reads, for a fraction of the work."""
FINE = Raster(DRAWN // 2, 2, middle=True)
"""How pictures are drawn that one looks at."""
DENSE = Raster(DRAWN // 2, 1, middle=True)
"""The points of `FINE`, each by itself, for what goes over from one to the next."""
LOT = 64
"""Cells that are drawn at once where nothing is learnt: 16 × 16 points each take memory."""
CELL_WAVES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Half turns in half of a subject or place: what cells know of where they are."""
WAVES = (*CELL_WAVES, 16.0, 32.0)
"""Half turns in half of a frame: what points know of it."""
CODE = 64
"""Numbers into which what is told of a place is summed up."""


class Solved(NamedTuple):
    """A colour told that is solved for where a picture is read, if what has it is there.

    first     of its three numbers
    by, many  the numbers that tell what has it: the first, and how many
    small     whether it is of what is small, and often lies amiss
    """

    first: int
    by: int
    many: int
    small: bool


class Tried(NamedTuple):
    """Numbers that places tell, and points among which it is tried what draws a picture best.

    first   of the numbers
    points  to be tried beside what was read
    """

    first: int
    points: Sequence[Sequence[float]]


class Equipment(NamedTuple):
    """What a decoder draws with.

    atlases  of each frame, last of the place: `side` nodes a side, `width` features, and `groups`
             of landmarks, each (first, count), that have a plane
    frames   of how many landmarks the frames are known
    inks     colours beside those that are told
    colours  the first numbers of the colours told
    places   the first landmark of places, and how many there are
    alone    how many of the landmarks, from the first, mind what tells of one thing
    names    what has a name in figures, and in places
    solved   which of the colours are solved for
    tried    what of places is tried
    """

    atlases: Sequence[dict[str, Any]]
    frames: int
    inks: int
    colours: Sequence[int]
    places: Sequence[int]
    alone: int
    names: tuple[Sequence[Named], Sequence[Named]] = ((), ())
    solved: Sequence[Solved] = ()
    tried: Sequence[Tried] = ()

    def atlas(self, index: int) -> Atlas:
        """A new one."""
        what = self.atlases[index]
        return Atlas([LandmarkGroup(*each) for each in what["groups"]], what["side"], what["width"])


class Known(NamedTuple):
    """What is known of cells before they are drawn.

    x        (n, width, h, w)  features
    told     (n, t, h, w)  what they agree on
    near     (n, landmarks, h, w)  landmarks, as `decided`
    maps     (n, h, w, frames, 2, 3)  of spots to frames
    spots    where in its subject each cell is
    subject  (n, h, w) of bool: whether there is one
    around   (n, t + landmarks)  what is told of the place, and how near that is to landmarks
    place    where in the place each cell is
    """

    x: torch.Tensor
    told: torch.Tensor
    near: torch.Tensor
    maps: torch.Tensor
    spots: Spots
    subject: torch.Tensor
    around: torch.Tensor
    place: Spots


def _inks(known: int, width: int, count: int) -> nn.Sequential:
    """What is told to so many colours, which differ as they begin."""
    out = nn.Linear(width, 3 * count)
    nn.init.uniform_(out.bias, -1, 1)
    return nn.Sequential(nn.Linear(known, width), nn.ReLU(), out)


class Figures(nn.Module):
    """Cells with subjects to pixels, and how much these hide of what is behind."""

    def __init__(
        self, telling: Telling, equipment: Equipment, cells: int, size: tuple[int, int]
    ) -> None:
        """`size`: width and depth."""
        super().__init__()
        self.colours = equipment.colours
        frames = range(len(equipment.atlases) - 1)
        self.atlases = nn.ModuleList(equipment.atlas(index) for index in frames)
        waved = 4 * len(WAVES) * len(frames)
        seen = waved + sum(equipment.atlases[index]["width"] for index in frames)
        self.inks = _inks(telling.told + telling.landmarks, cells, equipment.inks)
        # The last share is that of the subject in a pixel.
        count = equipment.inks + len(equipment.colours) + 1
        self.inking = Inking((seen, cells), *size, count, POINTS)

    def forward(
        self, cells: Known, here: torch.Tensor, raster: Raster
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(m, q, q, 3) and (m, q, q, 1) of the m cells `here` (n, h, w), which have subjects."""
        shares, inks = self.shares(cells, here, raster)
        return inked(shares[..., :-1], inks), torch.sigmoid(shares[..., -1:].float())

    def shares(
        self, cells: Known, here: torch.Tensor, raster: Raster, among: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (m, q, q, k + 1) of k inks and, last, of the subject; and the inks (m, k, 3), of
        which those that are told are the first.

        among  (n, h, w) of bool: cells of one subject, what they know goes over into each other;
               else each draws by itself
        """
        told, near, x = (values.permute(0, 2, 3, 1) for values in (cells.told, cells.near, cells.x))
        known = alone(x[here]) if among is None else nearby(x, here, among)
        told, near = told[here], near[here]
        maps, points = cells.maps[here], cells.spots.points(raster.at)[here]
        at = [placed(maps[:, index], points) for index in range(maps.shape[1])]
        looked = [atlas(near, where) for atlas, where in zip(self.atlases, at, strict=True)]
        seen = torch.cat([*looked, *(waves(where, WAVES) for where in at)], -1)
        shares = self.inking.shares(self.inking.features(seen, known, raster), raster)
        inks = self.inks(torch.cat([told.float(), near], -1))
        inks = inks.reshape(len(inks), inks.shape[1] // 3, 3)
        own = [told[:, first : first + 3] for first in self.colours]
        if own:
            inks = torch.cat([torch.stack(own, 1).to(inks.dtype), inks], 1)
        return shares, inks


class Behind(nn.Module):
    """The place, in every cell."""

    def __init__(self, telling: Telling, equipment: Equipment, size: tuple[int, int]) -> None:
        """`size`: width and depth."""
        super().__init__()
        self.told, known = telling.told, telling.told + telling.landmarks
        last = len(equipment.atlases) - 1
        self.atlas = equipment.atlas(last)
        waved = 4 * len(WAVES)
        self.code = nn.Sequential(nn.Linear(known, 2 * CODE), nn.ReLU(), nn.Linear(2 * CODE, CODE))
        self.inks = _inks(known, 2 * CODE, equipment.inks)
        seen = waved + equipment.atlases[last]["width"]
        self.inking = Inking((seen, CODE), *size, equipment.inks, POINTS)

    def forward(
        self,
        around: torch.Tensor,
        place: Spots,
        here: torch.Tensor,
        raster: Raster,
        among: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (m, q, q, k) of k inks in the m cells `here` (n, h, w), and the inks (m, k, 3).

        around, place  as in `Known`
        among          as in `Figures.shares`
        """
        picture = here.nonzero()[:, 0]
        code, inks = self.code(around), self.inks(around)[picture]
        at = place.points(raster.at)[here]
        looked = self.atlas(around[picture, self.told :], at)
        seen = torch.cat([looked, waves(at, WAVES)], -1)
        known = alone(code, picture) if among is None else nearby(code, here, among)
        shares = self.inking.shares(self.inking.features(seen, known, raster), raster)
        return shares, inks.reshape(len(inks), inks.shape[1] // 3, 3)


class Decoder(nn.Module):
    """What cells tell to pixels: the place, and subjects before it."""

    def __init__(
        self,
        telling: Telling,
        equipment: Equipment,
        widths: tuple[int, int, int],
        depths: tuple[int, int, int],
    ) -> None:
        """`widths` and `depths` at cells, of subjects and of places."""
        super().__init__()
        self.telling, self.equipment, told = telling, equipment, telling.told
        cells, subjects, places = widths
        self.landmarks = Landmarks(telling.landmarks, told)
        self.frames = Frames(equipment.frames, told, len(equipment.atlases) - 1)
        known = 2 * (told + telling.landmarks) + 8 * len(CELL_WAVES)
        self.into = nn.Conv2d(known, cells, 1)
        self.cells = nn.Sequential(*(Block(cells) for _ in range(depths[0])))
        self.figures = Figures(telling, equipment, cells, (subjects, depths[1]))
        self.behind = Behind(telling, equipment, (places, depths[2]))

    def _named(self, near: torch.Tensor, told: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """How near landmarks are as far as that is decided, and what is told as if it were so."""
        near = decided(near, sum(self.equipment.places))
        return near, snapped(told.float(), near[:, : self.equipment.alone], self.landmarks)

    def drawn(self, told: torch.Tensor, here: torch.Tensor, raster: Raster) -> torch.Tensor:
        """Some cells of what is told (n, t, h, w), as those around them leave them.

        here  (n, h, w) of bool: which m of them

        Returns:
          (m, q, q, 3)
        """
        cells = self.known(told)
        if torch.is_grad_enabled():
            return self._drawn(cells, here, raster)
        return torch.cat([self._drawn(cells, lot, raster) for lot in lots_of(here)])

    def _drawn(self, cells: Known, here: torch.Tensor, raster: Raster) -> torch.Tensor:
        """`drawn`, at once."""
        pixels = inked(*self.behind(cells.around, cells.place, here, raster))
        subject = cells.subject[here]
        before, share = self.figures(cells, here & cells.subject, raster)
        both = torch.lerp(pixels[subject], before, share)
        return pixels.masked_scatter(subject[:, None, None, None], both)

    def known(self, told: torch.Tensor) -> Known:
        """(n, t, h, w) to what is known of cells before they are drawn."""
        told, spots = agreed(told, self.telling.sizes)
        if self.telling.mirror is not None:
            spots = spots.mirrored(told[:, self.telling.mirror, None])
        near = self.landmarks(told)
        first, count = self.equipment.places
        subject = near[:, : first + count].argmax(1) < first
        around, place = amid(told, spots, ~subject)
        figures, places = self.equipment.names
        told = torch.where(subject[:, None], settled(told, figures), settled(told, places))
        near = self.landmarks(told)
        near, told = self._named(near, told)
        around = self.place(around)
        at = [
            waves(where.at.permute(0, 2, 3, 1).float(), CELL_WAVES).permute(0, 3, 1, 2)
            for where in (spots, place)
        ]
        everywhere = around[:, :, None, None].expand(-1, -1, *told.shape[-2:])
        read = [told, near, everywhere, *at]
        x = self.cells(self.into(torch.cat(read, 1).to(told.dtype)))
        around = around.to(told.dtype)
        return Known(x, told, near, self.frames(told), spots, subject, around, place)

    def place(self, told: torch.Tensor) -> torch.Tensor:
        """What is told of places (n, t, 1, 1), and how near that is to landmarks: (n, t + m)."""
        told = settled(told, self.equipment.names[1])
        return torch.cat(self._named(self.landmarks(told), told)[::-1], 1).flatten(1)


def lots_of(here: torch.Tensor) -> Iterator[torch.Tensor]:
    """Some cells (n, h, w), as many at once as memory allows, each lot like `here`."""
    for lot in torch.split(here.flatten().nonzero()[:, 0], LOT):
        part = torch.zeros_like(here)
        part.view(-1)[lot] = True
        yield part


def in_picture(cells: torch.Tensor, high: int, wide: int) -> torch.Tensor:
    """All cells of pictures (n·h·w, q, q, k) to (n, k, q·h, q·w)."""
    pixels = cells.reshape(-1, high, wide, *cells.shape[1:]).permute(0, 5, 1, 3, 2, 4)
    return pixels.flatten(4).flatten(2, 3)
