"""The decoder of the embedded model: cells that tell what is there, to pixels.

Cells first agree on what they tell. Then the place is drawn in every cell, and before it, in the
cells that tell of one, the subject: in canonical frames, so that a head is the same head wherever
it is and however it leans, and in inks, so that it is the same in all colours. Each point of a cell
is drawn for itself, and drawings are vectors, so their lines are as crisp in any size. Components
of patches, where they are known, correct what was drawn by what is told. Not covered: how it is
trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from storyforge.model.agreement import Spots, Telling, agreed, kinship
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
from storyforge.model.convolution import Block, silence
from storyforge.model.ink import Grid, Inking, Raster, inked, parts_of
from storyforge.modelref import PATCH_SCALES

PATCH, DRAWN = PATCH_SCALES[:2]
"""Pixels a side of the patches that the encoder reads, and of what the decoder itself writes."""
POINTS = Grid(4, DRAWN // 4)
"""Points of a cell that are enough to learn from, and what each writes."""
COARSE = Raster(POINTS.points, PATCH // POINTS.points)
"""How a picture is drawn in the size that the encoder reads, for a fraction of the work."""
FINE, LARGE = (Raster(16, side // 16, middle=True) for side in PATCH_SCALES[1:])
"""How pictures are drawn that one looks at."""
LOT = 64
"""Cells that are drawn at once where nothing is learnt: 16 × 16 points each take memory."""
CELL_WAVES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Half turns in half of a subject or place: what cells know of where they are."""
WAVES = (*CELL_WAVES, 16.0, 32.0)
"""Half turns in half of a frame: what points know of it."""
BELIEF = 4.0
"""Before any training components are believed so many logits."""
SAID = 0.05
"""Components that are all smaller are not known."""
SEEN, LITTLE = 20.0, 2.0
"""Pixels of a colour that count as much as how it was read, and those of what is small."""
BETTER = 0.7
"""Of what a picture lacks so much may be left with what was not read but tried."""
WEIGHED, NEARLY = 8, 0.1
"""How often pixels are weighed anew, and how much may lack of one that is right."""
APART = 0.4
"""How far apart colours are that lie on each other."""
BELIEVED = 0.7
"""How far off a colour that was read may be."""
THERE = 0.5
"""What tells of something is at least this where it is there."""
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

    atlases  of each frame, last of the place: `side`, `width`, and `groups` of landmarks
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
        self, cells: Known, here: torch.Tensor, raster: Raster
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (m, q, q, k + 1) of k inks and, last, of the subject; and the inks (m, k, 3), of
        which those that are told are the first."""
        told, near, x = (
            values.permute(0, 2, 3, 1)[here] for values in (cells.told, cells.near, cells.x)
        )
        maps, points = cells.maps[here], cells.spots.points(raster.at)[here]
        at = [placed(maps[:, index], points) for index in range(maps.shape[1])]
        looked = [atlas(near, where) for atlas, where in zip(self.atlases, at, strict=True)]
        seen = torch.cat([*looked, *(waves(where, WAVES) for where in at)], -1)
        shares = self.inking.shares(self.inking.features(seen, x, raster), raster)
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
        self, around: torch.Tensor, place: Spots, here: torch.Tensor, raster: Raster
    ) -> torch.Tensor:
        """(m, q, q, 3) of the m cells `here` (n, h, w).

        around, place  as in `Known`
        """
        picture = here.nonzero()[:, 0]
        code, inks = self.code(around)[picture], self.inks(around)[picture]
        at = place.points(raster.at)[here]
        looked = self.atlas(around[picture, self.told :], at)
        features = self.inking.features(torch.cat([looked, waves(at, WAVES)], -1), code, raster)
        shares = self.inking.shares(features, raster)
        return inked(shares, inks.reshape(len(inks), inks.shape[1] // 3, 3))


class Decoder(nn.Module):
    """Cells to pixels: the place, subjects before it, and what components add."""

    basis: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        channels: int,
        telling: Telling,
        equipment: Equipment,
        widths: tuple[int, int, int],
        depths: tuple[int, int, int],
    ) -> None:
        """The last of the channels tell. `widths` and `depths` at cells, of subjects and of
        places."""
        super().__init__()
        self.telling, self.equipment, told = telling, equipment, telling.told
        cells, subjects, places = widths
        self.components = channels - told
        self.register_buffer("basis", torch.zeros(self.components, 3 * PATCH**2))
        self.register_buffer("mean", torch.zeros(3 * PATCH**2))
        self.register_buffer("scale", torch.ones(()))
        self.landmarks = Landmarks(telling.landmarks, told)
        self.frames = Frames(equipment.frames, told, len(equipment.atlases) - 1)
        known = 2 * (told + telling.landmarks) + self.components + 8 * len(CELL_WAVES)
        self.into = nn.Conv2d(known, cells, 1)
        self.cells = nn.Sequential(*(Block(cells) for _ in range(depths[0])))
        self.trust = nn.Conv2d(cells, self.components, 1)
        self.figures = Figures(telling, equipment, cells, (subjects, depths[1]))
        self.behind = Behind(telling, equipment, (places, depths[2]))
        silence(self.trust)

    def forward(self, latents: torch.Tensor, raster: Raster = FINE) -> torch.Tensor:
        """(n, c, h, w) to (n, 3, q·h, q·w) in [−1, 1], or a little beyond; q by default 32."""
        shape = len(latents), *latents.shape[-2:]
        every = torch.ones(shape, dtype=torch.bool, device=latents.device)
        pixels = self.drawn(latents, every, raster)
        pixels = pixels.reshape(*shape, *pixels.shape[1:]).permute(0, 5, 1, 3, 2, 4)
        made: torch.Tensor = pixels.flatten(4).flatten(2, 3).to(latents.dtype)
        return made

    def coarse(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) to (n, 3, 16·h, 16·w), for a fraction of the work."""
        made: torch.Tensor = self(latents, COARSE)
        return made

    def _named(self, near: torch.Tensor, told: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """How near landmarks are as far as that is decided, and what is told as if it were so."""
        near = decided(near, sum(self.equipment.places))
        return near, snapped(told.float(), near[:, : self.equipment.alone], self.landmarks)

    def drawn(self, latents: torch.Tensor, here: torch.Tensor, raster: Raster) -> torch.Tensor:
        """Some cells of latents (n, c, h, w), as those around them leave them.

        here  (n, h, w) of bool: which m of them

        Returns:
          (m, q, q, 3)
        """
        cells = self.known(latents)
        if torch.is_grad_enabled():
            return self._drawn(cells, latents, here, raster)
        made = []
        for lot in torch.split(here.flatten().nonzero()[:, 0], LOT):
            part = torch.zeros_like(here)
            part.view(-1)[lot] = True
            made.append(self._drawn(cells, latents, part, raster))
        return torch.cat(made)

    def _drawn(
        self, cells: Known, latents: torch.Tensor, here: torch.Tensor, raster: Raster
    ) -> torch.Tensor:
        """`drawn`, at once."""
        pixels: torch.Tensor = self.behind(cells.around, cells.place, here, raster)
        subject = cells.subject[here]
        before, share = self.figures(cells, here & cells.subject, raster)
        both = torch.lerp(pixels[subject], before, share)
        pixels = pixels.masked_scatter(subject[:, None, None, None], both)
        if raster.side % PATCH:
            # These are not all the pixels of a patch.
            return pixels
        # 1 as it begins.
        trust = torch.sigmoid(self.trust(cells.x) + BELIEF) * (1 + math.exp(-BELIEF))
        known = latents[:, : self.components]
        some = known.abs().amax((1, 2, 3), keepdim=True) > SAID
        return self._corrected(pixels, *(_of(each, here) for each in (known, trust * some)))

    def known(self, latents: torch.Tensor) -> Known:
        """(n, c, h, w) to what is known of cells before they are drawn."""
        told, spots = agreed(latents[:, self.components :], self.telling.sizes)
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
        read = [latents[:, : self.components], told, near, everywhere, *at]
        x = self.cells(self.into(torch.cat(read, 1).to(told.dtype)))
        around = around.to(told.dtype)
        return Known(x, told, near, self.frames(told), spots, subject, around, place)

    @torch.no_grad()
    def looked_over(self, latents: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
        """Latents (n, c, h, w) that were read off pictures (n, 3, 16·h, 16·w), and told better
        where drawing them shows how."""
        return self._coloured(self._tried(latents, _patches(pictures)), _patches(pictures))

    def _tried(self, latents: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """With what draws the place of each picture best, of what is tried."""
        cells = self.known(latents)
        here = ~cells.subject
        if not (self.equipment.tried and here.any()):
            return latents
        wanted = patches[here]

        def lack(told: torch.Tensor) -> torch.Tensor:
            """Of each picture where it shows the place."""
            around = self.place(told[..., None, None])
            error = self.behind(around, cells.place, here, COARSE).float() - wanted
            each = error.new_zeros(here.shape)
            each[here] = error.abs().mean((1, 2, 3))
            found: torch.Tensor = each.sum((1, 2))
            return found

        told, made = cells.around[:, : self.telling.told].float(), latents.clone()
        least = lack(told)
        for first, points in self.equipment.tried:
            field, better = slice(first, first + len(points[0])), torch.zeros_like(least).bool()
            for point in points:
                other = told.clone()
                other[:, field] = torch.tensor(point, device=told.device)
                left = lack(other)
                now = left < BETTER * least
                told = torch.where(now[:, None], other, told)
                least, better = torch.where(now, left, least), better | now
            at = slice(self.components + first, self.components + field.stop)
            where = (better[:, None, None] & here)[:, None]
            made[:, at] = torch.where(where, told[:, field, None, None].to(made.dtype), made[:, at])
        return made

    def _coloured(self, latents: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """With some of the colours that subjects tell as pictures have them.

        A pixel is so much of each ink, and some inks are colours told. So which of them draws a
        subject best can be solved for, however small what has the colour is. What is hardly seen
        stays as it was read, and what would be quite another colour.
        """
        cells, solved = self.known(latents), self.equipment.solved
        here = cells.subject
        if not (solved and here.any()):
            return latents
        own = [[*self.equipment.colours].index(colour.first) for colour in solved]
        shares, inks = self.figures.shares(cells, here, COARSE)
        parts, inks = parts_of(shares[..., :-1]), inks.float()
        covered = torch.sigmoid(shares[..., -1:].float()).flatten(1, 2)
        parts = parts / parts.sum(-1, keepdim=True) * covered
        behind = self.behind(cells.around, cells.place, here, COARSE).float().flatten(1, 2)
        wanted = patches[here].flatten(1, 2)
        lack = wanted - (behind * (1 - covered) + parts @ inks)
        alike = kinship(cells.told, self.telling.sizes)
        told, made = cells.told.permute(0, 2, 3, 1)[here], latents.permute(0, 2, 3, 1).clone()
        values, beneath = made[here], inks[:, own[0]]
        # What is small lies on what is large: that is solved for first.
        for colour, index in sorted(zip(solved, own, strict=True), key=lambda each: each[0].small):
            read, seen = inks[:, index], parts[..., index : index + 1]
            other = beneath - read if colour.small else None
            change = _solved(seen, lack, alike, here, other)
            there = told[:, colour.by : colour.by + colour.many].abs().amax(1, keepdim=True) > THERE
            if not colour.small:
                there = there & (change.norm(dim=-1, keepdim=True) < BELIEVED)
            change = change * there
            lack = lack - seen @ change[:, None]
            found = (read + change).clamp(-1, 1)
            if not colour.small:
                beneath = torch.where(there, found, beneath)
            at = slice(self.components + colour.first, self.components + colour.first + 3)
            values[:, at] = torch.where(there, found.to(values.dtype), values[:, at])
        made[here] = values
        return made.permute(0, 3, 1, 2).contiguous()

    def place(self, told: torch.Tensor) -> torch.Tensor:
        """What is told of places (n, t, 1, 1), and how near that is to landmarks: (n, t + m)."""
        told = settled(told, self.equipment.names[1])
        return torch.cat(self._named(self.landmarks(told), told)[::-1], 1).flatten(1)

    def _corrected(
        self, pixels: torch.Tensor, known: torch.Tensor, trust: torch.Tensor
    ) -> torch.Tensor:
        """Pixels (m, q, q, 3) with the components (m, k) that are known, as far as these are
        trusted."""
        times = pixels.shape[1] // PATCH
        with torch.autocast(pixels.device.type, enabled=False):
            parts = pixels.float().reshape(-1, PATCH, times, PATCH, times, 3)
            there = (parts.mean((2, 4)).flatten(1) - self.mean.float()) @ self.basis.float().T
            lack = (known.float() * self.scale.float() - there) * trust.float()
            change = (lack @ self.basis.float()).reshape(-1, PATCH, 1, PATCH, 1, 3)
            return (parts + change).reshape(pixels.shape)


def _patches(pictures: torch.Tensor) -> torch.Tensor:
    """(n, 3, 16·h, 16·w) to (n, h, w, 16, 16, 3)."""
    count, _, high, wide = pictures.shape
    parts = pictures.float().reshape(count, 3, high // PATCH, PATCH, wide // PATCH, PATCH)
    made: torch.Tensor = parts.permute(0, 2, 4, 3, 5, 1)
    return made


def _of(values: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
    """(n, c, h, w) to (m, c)."""
    return values.permute(0, 2, 3, 1)[here]


def _solved(
    parts: torch.Tensor,
    lack: torch.Tensor,
    alike: torch.Tensor,
    here: torch.Tensor,
    other: torch.Tensor | None = None,
) -> torch.Tensor:
    """(m, 3) by how much an ink is to be other than it is, one answer a subject.

    parts  (m, p, 1)  what it has of each pixel of m cells
    lack   (m, p, 3)  what is missing there
    alike  (n, h·w, h·w)  how surely two cells are of one subject
    here   (n, h, w) of bool: which m cells
    other  (m, 3)  by how much what it lies on is other: pixels that have that colour do not count

    Where a line lies amiss a pixel lacks much whatever an ink is: errors count, and not their
    squares (weighed anew, Holland and Welsch 1977).
    """
    counts = torch.ones_like(lack[..., :1])
    if other is not None:
        apart = (lack - parts * other[:, None]).square().sum(-1, keepdim=True)
        counts = apart / (apart + APART**2)
    change = lack.new_zeros(len(lack), 3)
    for _ in range(WEIGHED):
        missing = (lack - parts * change[:, None]).norm(dim=-1, keepdim=True)
        weights = counts * NEARLY / (missing + NEARLY) * parts
        both = torch.cat([(weights * parts).sum(1), (weights * lack).sum(1)], -1)
        # Sums over all cells of a subject.
        sums = both.new_zeros(*here.shape, 4)
        sums[here] = both
        sums = (alike @ sums.flatten(1, 2)).reshape(sums.shape)[here]
        change = sums[:, 1:] / (sums[:, :1] + (SEEN if other is None else LITTLE))
    return change
