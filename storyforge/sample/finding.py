"""Where somebody is going to stand, seen by who reads their words while a picture begins.

The first steps of a drawing decide who stands where, long before anybody can be made out. For
regions without a place of their own the picture is begun by the panel's prompt alone; cells belong
to the subject whose words they read most (FreeFuse's idea: masks of single subjects from
cross-attention, made coherent by self-attention). Then it is drawn with these regions from the same
noise; `reinitialisation`, where it is on, then moves parts of it into them, as it does for regions
that the author placed. Costs the first steps twice; subjects that are not in the prompt are not
found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final

import torch
import torch.nn.functional as F

from storyforge.errors import StoryForgeError
from storyforge.executor import OnProgress
from storyforge.geometry.box import Box
from storyforge.geometry.outline import box_round, largest_part, outline
from storyforge.model.attention import AttentionContext, Site, levels, sites_of
from storyforge.model.attention_maps import attention_map, by_heads, hearing
from storyforge.model.base import BaseModel
from storyforge.model.concept import FusedModel
from storyforge.model.denoising import Extras, start_latents
from storyforge.model.lora import attached_locally
from storyforge.model.prompt_weights import pieces_of
from storyforge.model.tokens import counts_of, weighed_ids, word_ids
from storyforge.sample.control import Rack
from storyforge.sample.drawing import denoised
from storyforge.sample.injection import Concepts, reading_of
from storyforge.sample.regions import Size
from storyforge.tasks import ControlTask, PanelTask, RegionTask

FIRST: Final = 0.3
"""The part of the steps in which it is seen who stands where."""

_MOST: Final = 32
"""Rows and columns of the finest level that is looked at: finer ones tell texture, not subjects."""

_WORD_ENDS: Final = "</w>"
"""How the last token of a word ends, as CLIP's tokenizers cut them."""

_SURE: Final = 0.45
"""Between the least and the most that a cell reads a subject's words: from here on it is its."""


@dataclass(slots=True)
class Lookout:
    """Adds up, step by step, which cells read which words.

    asked   what the model reads while it is looked on
    places  of each subject: the places of its words in the prompt
    latent  rows and columns of the latent grid
    size    of the level that is looked at
    seen    (n, rows, columns), and `own` (cells, cells): sums over steps and sites
    """

    base: BaseModel
    asked: AttentionContext
    places: Sequence[torch.Tensor]
    latent: Size
    size: Size = field(init=False)
    seen: torch.Tensor = field(init=False)
    own: torch.Tensor = field(init=False)
    _sites: dict[str, Site] = field(init=False)
    _asked: torch.Tensor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Have seen nothing yet."""
        self.size = seen_level(self.base, self.latent)
        cells = self.size[0] * self.size[1]
        self.seen = torch.zeros(len(self.places), *self.size)
        self.own = torch.zeros(cells, cells)
        self._sites = sites_of(self.base)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look on while the block runs; the prompt is the last of every call's batch."""
        every = [name.removesuffix(".processor") for name in self.base.unet.attn_processors]
        own = [name for name in every if name not in self._sites]
        with (
            hearing(self.base, self._sites, to_q=self.cross),
            hearing(self.base, own, to_q=self._ask, to_k=self._answer),
        ):
            yield

    def cross(self, site: str, queries: torch.Tensor) -> None:
        """Take in which words the cells of one site read."""
        size = self._size_of(queries.shape[1])
        if size is None:
            return
        # Where a concept reads the prompt, K was made beforehand, and no layer says it.
        attn = self.base.unet.get_submodule(site)
        keys, _ = self.asked.keys_and_values(attn, self._sites[site], -1)
        asking = by_heads(self.base, site, queries[-1:].float())
        read = attention_map(asking, keys[-1:].float())[0]
        for index, places in enumerate(self.places):
            own = read[:, places].mean(1).reshape(1, 1, *size).cpu()
            self.seen[index] += F.interpolate(own, self.size, mode="bilinear")[0, 0]

    def _ask(self, site: str, queries: torch.Tensor) -> None:
        self._asked = queries

    def _answer(self, site: str, keys: torch.Tensor) -> None:
        """Take in how the cells of one site read each other."""
        asked, self._asked = self._asked, None
        if asked is not None and keys.shape[1] == len(self.own):
            both = (by_heads(self.base, site, x[-1:].float()) for x in (asked, keys))
            self.own += attention_map(*both)[0].cpu()

    def _size_of(self, cells: int) -> Size | None:
        """Rows and columns of a level that counts: the watched one, or the one below it."""
        for size in levels(self.base, *self.latent):
            near = 2 * size[0] >= self.size[0] >= size[0]
            if size[0] * size[1] == cells and near:
                return size
        return None

    def maps(self) -> torch.Tensor:
        """(n, rows, columns): how much each subject is looked for, 0 at its least, 1 at its most.

        What cells that belong together read is shared among them, as they read each other.
        """
        flat = self.seen.flatten(1)
        total = self.own.sum(1, keepdim=True)
        if bool((total > 0).all()):
            flat = flat @ (self.own / total).T
        low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
        return ((flat - low) / (high - low).clamp(min=1e-12)).reshape(self.seen.shape)


def seen_level(base: BaseModel, latent: Size) -> Size:
    """The finest level of the model that is no finer than subjects are."""
    sizes = levels(base, *latent)
    return next((size for size in sizes if max(size) <= _MOST), sizes[-1])


def parted(maps: torch.Tensor) -> torch.Tensor:
    """(n, rows, columns), 1 where a subject is: a cell is whose words it reads most, if enough.

    maps  (n, rows, columns) in [0, 1], each with its own most

    Nobody goes without: who has no cell of the kind gets the one that is most theirs.
    """
    first = maps.argmax(0)
    made = torch.stack([(first == index) & (each >= _SURE) for index, each in enumerate(maps)])
    for index, each in enumerate(maps):
        if not made[index].any():
            # Nobody's last cell is taken for it.
            last = (made & (made.sum((1, 2), keepdim=True) == 1)).any(0)
            theirs = (each - (maps.sum(0) - each)).masked_fill(last, -torch.inf)
            row, column = divmod(int(theirs.argmax()), each.shape[1])
            made[:, row, column] = False
            made[index, row, column] = True
    return made.float()


def unplaced(regions: Sequence[RegionTask]) -> tuple[RegionTask, ...]:
    """The regions whose place is to be found."""
    return tuple(each for each in regions if each.found is not None and each.polygon is None)


def placed(regions: Sequence[RegionTask], maps: torch.Tensor) -> tuple[RegionTask, ...]:
    """The regions, those without a place at that of their map; in the order of `unplaced`."""
    names = [each.name for each in unplaced(regions)]
    masks = dict(zip(names, parted(maps), strict=True))
    made = []
    for region in regions:
        if region.name in masks:
            part = largest_part(masks[region.name].numpy() > 0)
            x0, y0, x1, y1 = box_round(part)
            box = Box(x0=x0, y0=y0, x1=x1, y1=y1)
            region = replace(region, box=box, polygon=outline(part))
        made.append(region)
    return tuple(made)


class _SeenEnough(Exception):
    """What was to be seen of a beginning is seen."""


@torch.no_grad()
def settled(
    base: BaseModel,
    model: FusedModel,
    concepts: Concepts,
    rack: Rack,
    task: PanelTask,
    on_progress: OnProgress,
) -> PanelTask:
    """The panel with a place for every region; where one has none it is found as it begins.

    base  with the model's deltas merged into it

    Raises StoryForgeError for a region whose words are not in the panel's prompt.
    """
    asked = unplaced(task.regions)
    if not asked:
        return task
    base.check_asked({"regions: auto": True, "control": bool(task.controls)})
    with base.sized(task.decode):
        size = task.size or (base.side, base.side)
        noise = start_latents(base, [task.seed], size)
        latent = (noise.shape[2], noise.shape[3])
        places = [
            words_in(base, model, task.prompt, str(region.found), region.standing)
            for region in asked
        ]
        alone = replace(task, regions=(), controls=_of_all(task))
        reading = reading_of(base, model, concepts, alone, latent)
        lookout = Lookout(base, reading.attention, places, latent)

        def look(done: int, total: int, latents: torch.Tensor) -> None:
            """Until it is seen who is looked for where."""
            on_progress(f"finding who stands where in {task.panel}: step", done, total)
            if done >= max(1, round(FIRST * total)):
                raise _SeenEnough

        conditions = rack.controls(alone.controls, size, reading.attention.text, {})
        with attached_locally(base, reading.local), lookout.watching(), suppress(_SeenEnough):
            denoised(
                base,
                reading.attention,
                noise,
                task,
                extras=Extras(seeds=(task.seed,), conditions=conditions),
                on_step=look,
            )
    return replace(task, regions=placed(task.regions, lookout.maps()))


def _of_all(task: PanelTask) -> tuple[ControlTask, ...]:
    """What controls the whole picture, wherever anybody stands."""
    return tuple(each for each in task.controls if each.region is None)


def words_in(
    base: BaseModel, model: FusedModel, prompt: str, words: str, which: Sequence[int] = ()
) -> torch.Tensor:
    """The places of some words in a prompt, by their tokens, from 0 for the first.

    What words count, in the prompt or in themselves, is no part of them.

    which  of the times that they stand there, from 0; empty for every time

    Raises StoryForgeError if they are not in it.
    """
    names, counts = list(model.tokens), counts_of(model.tokens)
    known = word_ids(base, names, counts)
    whole, _ = weighed_ids(base.encoders[0], pieces_of(prompt), known)
    alone, _ = weighed_ids(base.encoders[0], pieces_of(words), known)
    wanted = alone[1 : alone.index(base.tokenizer.eos_token_id, 1)]
    starts = [
        place
        for place in range(1, len(whole) - len(wanted) + 1)
        if wanted and whole[place : place + len(wanted)] == wanted and _begins(base, whole, place)
    ]
    kept = [place for n, place in enumerate(starts) if not which or n in which] or starts
    found = [place + offset for place in kept for offset in range(len(wanted))]
    if not found:
        raise StoryForgeError(
            f"`{words}` is not in the prompt “{prompt[:80]}”, so nobody can say where it will be",
            hint="name it there, or give its region a place",
        )
    return torch.tensor(found, device=base.device)


def _begins(base: BaseModel, ids: Sequence[int], place: int) -> bool:
    """Whether a word begins at a token: no man is looked for at the end of a snowman."""
    last = ids[place - 1]
    known = last < len(base.tokenizer) and last not in base.tokenizer.all_special_ids
    token = str(base.tokenizer.convert_ids_to_tokens(last)) if known else ""
    return not token or token.endswith(_WORD_ENDS)
