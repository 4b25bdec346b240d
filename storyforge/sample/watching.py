"""Records, while a picture is drawn, how much each of its cells reads the words of each region.

Nothing is computed twice: queries are seen as they pass, and the words' keys are there. Outside of
its region a subject's words are not heard, but whether a cell would read them can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import torch
import torch.nn.functional as F

from storyforge.model.attention import AttentionContext, levels, sites_of
from storyforge.model.attention_maps import attention_map, by_heads, hearing
from storyforge.model.base import BaseModel
from storyforge.model.concept import FusedModel
from storyforge.model.dit.door import Door
from storyforge.sample.guidance import word_positions
from storyforge.sample.regions import Size
from storyforge.sample.whereabouts import Whereabouts, whereabouts
from storyforge.tasks import PanelTask

_SETTLED: Final = 0.4
"""Part of the steps after which a picture's parts stay where they are."""

_CELLS: Final = 16
"""Along a side, about, of the level at which words are looked for: coarser ones have no shapes, at
finer ones attention is to edges (Tang et al. 2022). Where there is no such level, as in
transformers, so many cells are taken together."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What is looked for while panels are drawn, and what was seen of it.

    level  rows and columns of the cells that read
    size   rows and columns of what is kept of them, at most as many
    words  of every region, one panel after the other, its words' places in its prompt
    sums   of each region seen, (rows, columns)
    """

    base: BaseModel
    level: Size
    size: Size
    words: Sequence[torch.Tensor]
    sums: dict[int, torch.Tensor] = field(default_factory=dict)

    @contextmanager
    def __call__(self, done: float, asked: AttentionContext) -> Iterator[None]:
        """Look on during one call of the model.

        done   part of the steps that are done after it
        asked  what the model reads
        """
        if done <= _SETTLED:
            yield
        elif self.base.door is not None:
            with self._joint(self.base.door):
                yield
        else:
            with self._crossed(asked):
                yield

    @contextmanager
    def _crossed(self, asked: AttentionContext) -> Iterator[None]:
        sites, cells = sites_of(self.base), math.prod(self.level)

        def see(name: str, queries: torch.Tensor) -> None:
            """What one site reads of each region's words."""
            if queries.shape[1] != cells:
                return
            attn = self.base.unet.get_submodule(name)
            for number, words in enumerate(self.words):
                # The prompts come after the negative ones.
                row = (asked.regions[number].rows or (len(queries) - 1,))[-1]
                asking = by_heads(self.base, name, queries[row : row + 1].float())
                keys, _ = asked.keys_and_values(attn, sites[name], number)
                self._add(number, attention_map(asking, keys[-1:].float())[0][:, words])

        with hearing(self.base, sites, to_q=see):
            yield

    @contextmanager
    def _joint(self, door: Door) -> Iterator[None]:
        def seen(read: Mapping[int, torch.Tensor]) -> None:
            """What one layer reads; the global text comes before the regions'."""
            for number, words in enumerate(self.words):
                if number + 1 in read:
                    self._add(number, read[number + 1][:, words])

        recorder, cells = door.recorder(self.base.unet), math.prod(self.level)
        with recorder.watching(self.base.regions, cells, seen, filled=door.filled):
            yield

    def _add(self, number: int, read: torch.Tensor) -> None:
        """(cells, words) of a region at one site and step; each counts the same."""
        if read.shape[1] == 0:
            return  # nobody is looked for where nothing is said
        grid = read.mean(1).reshape(1, 1, *self.level)
        mean = F.adaptive_avg_pool2d(grid, self.size)[0, 0]
        self.sums[number] = self.sums.get(number, 0) + mean / mean.amax().clamp(min=1e-12)

    def found(self, tasks: Sequence[PanelTask]) -> list[dict[str, Whereabouts]]:
        """Of each panel, where the subjects of its regions are, as far as they stand out."""
        made: list[dict[str, Whereabouts]] = []
        first = 0
        for task in tasks:
            regions = dict(enumerate(task.regions, first))
            first += len(task.regions)
            seen = [number for number in regions if number in self.sums]
            made.append({})
            if seen:
                maps = torch.stack([self.sums[number] for number in seen]).cpu()
                boxes = [regions[number].box for number in seen]
                found = whereabouts(maps, boxes)
                made[-1] = {
                    regions[number].name: each
                    for number, each in zip(seen, found, strict=True)
                    if each is not None
                }
        return made


def watch_of(
    base: BaseModel, model: FusedModel, tasks: Sequence[PanelTask], latent: Size
) -> Watch | None:
    """What is looked for while panels are drawn; None if they have no regions."""
    regions = [region for task in tasks for region in task.regions]
    if not regions:
        return None
    level = min(levels(base, *latent), key=lambda size: abs(math.log(min(size) / _CELLS)))
    together = max(1, round(min(level) / _CELLS))
    size = math.ceil(level[0] / together), math.ceil(level[1] / together)
    return Watch(base, level, size, [word_positions(base, model, region) for region in regions])
