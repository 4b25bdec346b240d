"""Figures as wholes: who the cells of a picture tell of, and where each is.

A denoiser tells every cell for itself, and at the rim of a figure, or where regions meet, a few
tell something else: drawn cell by cell a figure ends in steps there. But its cells agree on one
middle, one size and all that it looks like, so it can be drawn as it is where it reaches, one
figure over the other, and where each is need not be looked for in the picture. Not covered: what
cells agree on, pictures of which nothing is told.
"""

from __future__ import annotations

from functools import cmp_to_key
from typing import NamedTuple

import torch
import torch.nn.functional as F

from storyforge.geometry.box import Box
from storyforge.model.agreement import LEAST_COVERED, OWN, agreed, half_size, kinship, middles
from storyforge.model.cell_decoder import COARSE, Decoder, Known, in_picture

FEWEST = 6
"""Fewer cells are a smudge, and no figure."""
KIN = 0.5
"""From here on two cells are of one figure."""
REACH = (1.5, 1.7)
"""Half sizes from its middle, across and down, beyond which nothing of a figure is."""
ROUNDS = 8
"""How often at most it is seen which cells a figure covers, and how much of each."""
SETTLED = 0.02
"""How much of a cell it covers is known so well."""
GROWS = 0.2
"""A figure reaches into the cells beside one of which it covers so much."""
COVERED = 0.3
"""It hides others where it covers so much of a cell."""
SEEN = 0.3
"""So much of what a figure would cover must tell of it; else it is a smudge, or all but hidden."""
FEATURELESS = 0.35
"""A face of which less is there than this is hidden, or turned away."""


Corners = tuple[float, float, float, float]
"""Left, top, right and bottom."""


class Faces(NamedTuple):
    """Where faces lie.

    kinds  the landmarks of those that have one: the first, and how many
    frame  of which canonical frame
    box    where there
    """

    kinds: tuple[int, int]
    frame: int
    box: Corners


class ToldFigure(NamedTuple):
    """Somebody or something in a picture, in fractions of it.

    body  what shows of it
    face  what shows of that, if it has one
    """

    body: Box
    face: Box | None


class Said(NamedTuple):
    """What the cells of a figure say together.

    own     (h, w) of bool: which cells
    same    (t − `OWN`,) what is one over it
    middle  (2,) in cells, and `half` of its size
    spots   (2, h, w) where in it each cell of the picture is
    """

    own: torch.Tensor
    same: torch.Tensor
    middle: torch.Tensor
    half: torch.Tensor
    spots: torch.Tensor


class Whole(NamedTuple):
    """A figure wherever it reaches.

    said   what its cells say
    cells  what is known of a picture with nobody else in it
    here   (1, h, w) of bool: the cells where it may be drawn
    cover  (h, w) how much of each it covers
    """

    said: Said
    cells: Known
    here: torch.Tensor
    cover: torch.Tensor


@torch.no_grad()
def wholes(decoder: Decoder, told: torch.Tensor, cells: Known) -> list[Whole]:
    """The figures of one picture (1, t, h, w), from back to front.

    cells  what is known of it
    """
    agreeing, _ = agreed(told.float(), decoder.telling.sizes)
    kin = kinship(agreeing, decoder.telling.sizes)[0] > KIN
    groups = _groups(kin, cells.subject.flatten())
    said = [_said(decoder, agreeing, each) for each in groups]
    spread = [_spread(decoder, told.dtype, cells, each) for each in said]
    there = [each for each in spread if each is not None and _seen(each)]
    return sorted(there, key=cmp_to_key(_before))


def _groups(kin: torch.Tensor, subject: torch.Tensor) -> list[torch.Tensor]:
    """The cells of each figure, (h·w) of bool: those that are of one with another, and so on."""
    left, groups = subject.clone(), []
    while left.any():
        group = torch.zeros_like(left)
        group[left.nonzero()[0, 0]] = True
        while not torch.equal(wider := (kin[group].any(0) & left) | group, group):
            group = wider
        left &= ~group
        if group.sum() >= FEWEST:
            groups.append(group)
    return groups


def _said(decoder: Decoder, told: torch.Tensor, group: torch.Tensor) -> Said:
    """What a group of cells (h·w) says, of all that cells agree on (1, t, h, w)."""
    sizes, at = decoder.telling.sizes, middles(told)[0]
    says = told[0].flatten(1)[:, group]
    weights = torch.sigmoid(4 * (says[0] + 0.5)) + LEAST_COVERED
    weights = weights / weights.sum()
    same = (says[OWN:] * weights).sum(1)
    half = half_size(same[0], sizes)
    middle = ((at[:, group] - says[1:OWN] * half_size(says[OWN], sizes)) * weights).sum(1)
    shape = told.shape[-2:]
    spots = ((at - middle[:, None]) / half).reshape(2, *shape)
    return Said(group.reshape(shape), same, middle, half, spots)


def _spread(decoder: Decoder, dtype: torch.dtype, cells: Known, said: Said) -> Whole | None:
    """A figure wherever it reaches; None if nothing of it would be drawn.

    cells  what is known of the picture
    """
    reach = (said.spots[0].abs() <= REACH[0]) & (said.spots[1].abs() <= REACH[1])
    place, cover = _place(decoder, cells), torch.full_like(said.spots[0], 0.5)
    made, mine = None, said.own
    for _ in range(ROUNDS):
        told, alone = cover, place.clone()
        alone[0, mine] = 2 * cover[mine] - 1
        alone[1:OWN, mine] = said.spots[:, mine]
        alone[OWN:, mine] = said.same[:, None]
        known = decoder.known(alone[None].to(dtype))
        here = known.subject & mine
        if not here.any():
            return None
        shares, _ = decoder.figures.shares(known, here, COARSE)
        cover = torch.zeros_like(cover)
        cover[here[0]] = torch.sigmoid(shares[..., -1].float()).mean((1, 2))
        made = Whole(said, known, here, cover)
        before, mine = mine, _beside(cover > GROWS) & reach
        # Edges are drawn by how much of a cell is told to be covered.
        if torch.equal(mine, before) and (cover - told).abs().max() < SETTLED:
            break
    return made


def _beside(cells: torch.Tensor) -> torch.Tensor:
    """(h, w) of bool: some cells, and those beside them."""
    return F.max_pool2d(cells.float()[None], 3, 1, 1)[0].bool()


def _place(decoder: Decoder, cells: Known) -> torch.Tensor:
    """(t, h, w) what the place of one picture tells, all over it."""
    high, wide = cells.subject.shape[1:]
    told = cells.around[0, : decoder.telling.told].float()
    told = told[:, None, None].repeat(1, high, wide)
    told[0] = -1
    at = middles(told[None])[0].reshape(2, high, wide)
    told[1:OWN] = 2 * at / told.new_tensor([wide, high])[:, None, None] - 1
    return told


def _seen(figure: Whole) -> bool:
    """Whether enough of what it would cover tells of it."""
    covers = figure.cover > COVERED
    return bool((covers & figure.said.own).sum() >= SEEN * covers.sum())


def _before(one: Whole, other: Whole) -> int:
    """Above 0 if one figure stands before another: it has more of the cells that both cover, else
    it stands further right, as those who were drawn later do."""
    both = (one.cover > COVERED) & (other.cover > COVERED)
    more = int((both & one.said.own).sum()) - int((both & other.said.own).sum())
    return more or (1 if one.said.middle[0] > other.said.middle[0] else -1)


def figures_of(decoder: Decoder, faces: Faces, told: torch.Tensor) -> list[list[ToldFigure]]:
    """The figures of each picture (n, c, h, w), from back to front."""
    return [_figures(decoder, faces, one) for one in torch.split(told, 1)]


@torch.no_grad()
def _figures(decoder: Decoder, faces: Faces, told: torch.Tensor) -> list[ToldFigure]:
    """`figures_of`, of one picture."""
    cells = decoder.known(told)
    found: list[ToldFigure] = []
    high, wide = (side * COARSE.side for side in cells.subject.shape[1:])
    before = torch.zeros(high, wide, dtype=torch.bool)
    for figure in reversed(wholes(decoder, told, cells)):
        shares, _ = decoder.figures.shares(figure.cells, figure.here, COARSE)
        drawn = torch.zeros(before.numel() // COARSE.side**2, COARSE.side, COARSE.side, 1)
        drawn[figure.here.flatten().cpu()] = (shares[..., -1:] > 0).float().cpu()
        shown = in_picture(drawn, *cells.subject.shape[1:])[0, 0] > 0
        seen, before = shown & ~before, before | shown
        if seen.any():
            found.append(_figure(seen, _face(decoder, faces, figure)))
    return found[::-1]


def _face(decoder: Decoder, faces: Faces, figure: Whole) -> Corners | None:
    """Left, top, right and bottom of a face in fractions, wherever that is; None for what has
    none."""
    cells, said = figure.cells, figure.said
    high, wide = said.own.shape
    # What is one over a figure is the same in every cell where it may be drawn.
    _, row, column = figure.here.nonzero()[0].tolist()
    first, many = faces.kinds
    kind = cells.near[0, : decoder.equipment.places[0], row, column].argmax()
    if not first <= int(kind) < first + many:
        return None
    left, top, right, bottom = faces.box
    corners = torch.tensor([(x, y) for x in (left, right) for y in (top, bottom)])
    of = cells.maps[0, row, column, faces.frame].float()
    spots = torch.linalg.solve(of[:, :2], corners.to(of).T - of[:, 2:])
    # Who looks the other way has spots that run the other way.
    turned = torch.sign(cells.spots.slope[0, :, row, column].float())
    x, y = (said.middle[:, None] + turned[:, None] * spots * said.half).cpu()
    sides = x.min() / wide, y.min() / high, x.max() / wide, y.max() / high
    return tuple(float(side) for side in sides)  # type: ignore[return-value]


def _figure(shown: torch.Tensor, face: Corners | None) -> ToldFigure:
    """What shows of a figure, and of its face.

    shown  (h, w) of bool: pixels
    """
    body = _extent(shown)
    if face is None:
        return ToldFigure(body, None)
    high, wide = shown.shape
    left, right = (min(max(round(x * wide), 0), wide) for x in face[::2])
    top, bottom = (min(max(round(y * high), 0), high) for y in face[1::2])
    part = torch.zeros_like(shown)
    part[top:bottom, left:right] = shown[top:bottom, left:right]
    whole = (face[2] - face[0]) * wide * (face[3] - face[1]) * high
    return ToldFigure(body, _extent(part) if part.sum() >= FEATURELESS * whole else None)


def _extent(pixels: torch.Tensor) -> Box:
    """The box around some of (h, w)."""
    high, wide = pixels.shape
    rows, columns = pixels.any(1).nonzero()[:, 0], pixels.any(0).nonzero()[:, 0]
    return Box(
        x0=int(columns[0]) / wide,
        y0=int(rows[0]) / high,
        x1=(int(columns[-1]) + 1) / wide,
        y1=(int(rows[-1]) + 1) / high,
    )
