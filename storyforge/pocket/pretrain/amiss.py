"""What cells tell, put amiss as a denoiser leaves it: a decoder must draw it rightly all the same.

A denoiser tells what is to be seen, a little otherwise in every cell. What it tells wrongly of a
whole figure is what is to be drawn then, and nothing that a decoder could mend.
"""

from typing import Final

import torch

from storyforge.model.agreement import half_size
from storyforge.pocket import world

AMISS: Final = 0.25
"""Spread of what is told too much or too little of a whole picture; colours have a fifth of it."""
ROUGH: Final = 0.2
"""Spread of the normal law whose size is the spread of what each cell tells amiss for itself."""
OFTEN, OUTLINES = 0.6, 0.25
"""Share of the pictures of which something is told amiss, and of those with outlines amiss."""
PARTS_AMISS: Final = 4
"""Cells a side of the parts of which all lie amiss alike."""
SPOT: Final = world.SPOT
SIZE: Final = world.PLACE_OF["size"].start


def amiss(told: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """What is told (n, t, h, w) as a denoiser tells it: too loud or too low, a little other all
    over, rough, and with outlines that lie amiss; or as it is."""
    size = (len(told), 1, 1, 1)
    told = torch.where(_sometimes(size, generator, OUTLINES), amid_others(told, generator), told)
    loud = (0.8 + 0.6 * torch.rand(size, generator=generator)) ** _ALIKE
    wrong = _AMISS * torch.randn((len(told), len(_AMISS), 1, 1), generator=generator)
    rough = ROUGH * torch.randn(size, generator=generator).abs()
    changed = told * loud + wrong + rough * torch.randn(told.shape, generator=generator)
    return torch.where(_sometimes(size, generator), changed, told)


def amid_others(told: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """What is told (n, t, h, w), some parts of it by cells that tell what their neighbours should.

    Each cell still tells rightly where it is in what it says it is a part of.
    """
    count, _, high, wide = told.shape
    parts = (count, 2, -(-high // PARTS_AMISS), -(-wide // PARTS_AMISS))
    by = torch.randint(-1, 2, parts, generator=generator)
    by = by.repeat_interleave(PARTS_AMISS, -1).repeat_interleave(PARTS_AMISS, -2)
    by = by[..., :high, :wide]
    rows, columns = torch.arange(high)[:, None], torch.arange(wide)
    row, column = (rows + by[:, 0]).clamp(0, high - 1), (columns + by[:, 1]).clamp(0, wide - 1)
    made = told[torch.arange(count)[:, None, None], :, row, column].permute(0, 3, 1, 2).clone()
    half = half_size(made[:, SIZE], world.SIZE_LAW)
    made[:, SPOT] += (columns - column) / half
    made[:, SPOT + 1] += (rows - row) / half
    return made


def _sometimes(
    size: tuple[int, ...], generator: torch.Generator, often: float = OFTEN
) -> torch.Tensor:
    return torch.rand(size, generator=generator) < often


def _per_number(usual: float, colours: float) -> torch.Tensor:
    """(t, 1, 1) a value for each number told: 0 where it tells where, `colours` for colours."""
    made = torch.full((world.MEANINGS, 1, 1), usual)
    for name, place in world.PLACE_OF.items():
        if name in ("covered", "spot", "size"):
            made[place] = 0.0
        elif name.endswith("colour"):
            made[place] = colours
    return made


_ALIKE, _AMISS = _per_number(1.0, 0.0), _per_number(AMISS, AMISS / 5)
