"""What was read off a picture, looked over: drawn again, it shows what was told amiss.

Colours of subjects are solved for, and what of a place hardly shows in one cell is tried. Not
covered: how a picture is read, and how cells are drawn.
"""

from __future__ import annotations

import torch

from storyforge.model.agreement import kinship
from storyforge.model.cell_decoder import COARSE, PATCH, Decoder
from storyforge.model.ink import inked, parts_of

SEEN, LITTLE = 20.0, 2.0
"""Pixels of a colour that count as much as how it was read, and those of what is small."""
BETTER = 0.93
"""Of what a picture lacks so much may be left with what was not read but tried."""
WEIGHED, NEARLY = 8, 0.1
"""How often pixels are weighed anew, and how much may lack of one that is right."""
APART = 0.4
"""How far apart colours are that lie on each other."""
BELIEVED = 0.7
"""How far off a colour that was read may be."""
THERE = 0.5
"""What tells of something is at least this where it is there."""


@torch.no_grad()
def looked_over(decoder: Decoder, told: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """What was read (n, t, h, w) off pictures (n, 3, 16·h, 16·w), told better where drawing it
    shows how."""
    patches = _patches(pictures)
    return _coloured(decoder, _tried(decoder, told, patches), patches)


def _tried(decoder: Decoder, read: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    """With what draws the place of each picture best, of what is tried."""
    cells = decoder.known(read)
    here = ~cells.subject
    if not (decoder.equipment.tried and here.any()):
        return read
    wanted = patches[here]

    def lack(told: torch.Tensor) -> torch.Tensor:
        """Of each picture where it shows the place."""
        around = decoder.place(told[..., None, None])
        error = inked(*decoder.behind(around, cells.place, here, COARSE)) - wanted
        each = error.new_zeros(here.shape)
        each[here] = error.abs().mean((1, 2, 3))
        found: torch.Tensor = each.sum((1, 2))
        return found

    told, made = cells.around[:, : decoder.telling.told].float(), read.clone()
    for first, listed in decoder.equipment.tried:
        field, rows = slice(first, first + len(listed[0])), torch.arange(len(told))
        others = told.repeat(len(listed), 1, 1)
        others[..., field] = torch.tensor(listed).to(told)[:, None]
        least, best = torch.stack([lack(other) for other in others]).min(0)
        better = (least < BETTER * lack(told))[:, None]
        told = torch.where(better, others[best, rows], told)
        where = better[:, :, None, None] & here[:, None]
        made[:, field] = torch.where(
            where, told[:, field, None, None].to(made.dtype), made[:, field]
        )
    return made


def _coloured(decoder: Decoder, read: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    """With some of the colours that subjects tell as pictures have them.

    A pixel is so much of each ink, and some inks are colours told. So which of them draws a
    subject best can be solved for, however small what has the colour is. What is hardly seen
    stays as it was read, and what would be quite another colour.
    """
    cells, solved = decoder.known(read), decoder.equipment.solved
    here = cells.subject
    if not (solved and here.any()):
        return read
    own = [[*decoder.equipment.colours].index(colour.first) for colour in solved]
    shares, inks = decoder.figures.shares(cells, here, COARSE)
    parts, inks = parts_of(shares[..., :-1]), inks.float()
    covered = torch.sigmoid(shares[..., -1:].float()).flatten(1, 2)
    parts = parts / parts.sum(-1, keepdim=True) * covered
    behind = inked(*decoder.behind(cells.around, cells.place, here, COARSE)).flatten(1, 2)
    wanted = patches[here].flatten(1, 2)
    lack = wanted - (behind * (1 - covered) + parts @ inks)
    alike = kinship(cells.told, decoder.telling.sizes)
    told, made = cells.told.permute(0, 2, 3, 1)[here], read.permute(0, 2, 3, 1).clone()
    values, beneath = made[here], inks[:, own[0]]
    # What is small lies on what is large: that is solved for first.
    for colour, index in sorted(zip(solved, own, strict=True), key=lambda each: each[0].small):
        own_ink, seen = inks[:, index], parts[..., index : index + 1]
        other = beneath - own_ink if colour.small else None
        change = _solved(seen, lack, alike, here, other)
        there = told[:, colour.by : colour.by + colour.many].abs().amax(1, keepdim=True) > THERE
        if not colour.small:
            there = there & (change.norm(dim=-1, keepdim=True) < BELIEVED)
        change = change * there
        lack = lack - seen @ change[:, None]
        found = (own_ink + change).clamp(-1, 1)
        if not colour.small:
            beneath = torch.where(there, found, beneath)
        at = slice(colour.first, colour.first + 3)
        values[:, at] = torch.where(there, found.to(values.dtype), values[:, at])
    made[here] = values
    return made.permute(0, 3, 1, 2).contiguous()


def _patches(pictures: torch.Tensor) -> torch.Tensor:
    """(n, 3, 16·h, 16·w) to (n, h, w, 16, 16, 3)."""
    count, _, high, wide = pictures.shape
    parts = pictures.float().reshape(count, 3, high // PATCH, PATCH, wide // PATCH, PATCH)
    made: torch.Tensor = parts.permute(0, 2, 4, 3, 5, 1)
    return made


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
