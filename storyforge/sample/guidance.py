"""Latent guidance and isolation by region (LoRA-Composer §3.3 and §3.4), with or without fusion.

Enhancement pulls the attention to each region's words into the region and lets it fill it, by one
gradient step on the latents before a denoising step. Isolation keeps regions from reading each
other in self-attention; cells are grouped by their regions, so there is no mask that could be
infinite. Re-initialisation moves the noise that suits a region best into it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from storyforge.model.attention import (
    AttentionContext,
    Group,
    attending,
    levels,
    predict,
    sites_of,
)
from storyforge.model.attention_maps import AttentionRecorder, attention_map
from storyforge.model.base import BaseModel
from storyforge.model.concept import FusedModel
from storyforge.model.denoising import BeforeStep, make_scheduler
from storyforge.model.dit.reading import places_of
from storyforge.model.prompt_weights import pieces_of
from storyforge.model.tokens import counts_of, weighed_ids, word_ids
from storyforge.sample.regions import Size
from storyforge.tasks import PanelTask, RegionTask

_ENHANCE, _FILL, _ISOLATE = 8.0, 2.0, 10.0
"""Weights of the three losses in the authors' code."""

_STRENGTH = 20.0
"""Length of a gradient step in the authors' code, which falls to √½ of it."""

_FARTHEST = 0.1
"""The most that one step changes the latents, by their standard deviation: models whose gradients
are larger than those of Stable Diffusion are not thrown off."""

_TOP = 0.2
"""Part of a region's cells whose attention counts."""

_UNTIL, _PATIENCE = 0.5, 0.1
"""Parts of the steps: guidance ends at the first at the latest, and after the second as soon as
the loss rises."""


@dataclass(frozen=True, slots=True)
class GuidedSubject:
    """One region on the level that is watched.

    inside  (rows, columns) 1 where it is
    bell    (rows, columns) highest in its middle, 0 outside
    """

    inside: torch.Tensor
    bell: torch.Tensor


@dataclass(frozen=True, slots=True)
class SeenAttention:
    """What attention was on the level that is watched, a map for every site, mean of the heads.

    cross  of each region: (b, cells, words), how its words are read
    own    (b, cells, cells), how cells read each other
    """

    cross: list[list[torch.Tensor]]
    own: list[torch.Tensor]


def isolated(region_weights: Mapping[int, torch.Tensor]) -> dict[int, list[Group]]:
    """Cells of a level -> its groups: a cell reads the background and those of its own regions.

    region_weights  cells of a level -> (r, cells)

    A cell that belongs to several regions reads all of them; one that belongs to none reads all.
    """
    return {cells: list(_groups(grid)) for cells, grid in region_weights.items()}


def _groups(grid: torch.Tensor) -> Iterator[Group]:
    code = _codes(grid)
    for own in torch.unique(code).tolist():
        seen = (code & own != 0) | (code == 0) if own else torch.ones_like(code, dtype=torch.bool)
        yield Group((code == own).nonzero().flatten(), seen.nonzero().flatten())


def _codes(grid: torch.Tensor) -> torch.Tensor:
    """(cells,): of each cell one bit for every region that it belongs to."""
    most = grid.amax(0)
    member = (grid >= most / 2) & (most > 0) & (grid.sum(0) >= 0.5)
    bits = 2 ** torch.arange(len(grid), device=grid.device)
    return (member * bits[:, None]).sum(0)


def word_positions(base: BaseModel, model: FusedModel, region: RegionTask) -> torch.Tensor:
    """Where a region's concept stands in its prompt, by its tokens; all its words if there is none.

    Returns:
      (words,) places, from 0 for the first token; none for a prompt without any words
    """
    names, counts = list(model.tokens), counts_of(model.tokens)
    known = word_ids(base, names, counts)
    if base.door is not None:
        prompt = pieces_of(region.prompt)
        found = places_of(base.door, base.tokenizer, prompt, known, region.concept)
        return torch.tensor(found, dtype=torch.long, device=base.device)
    ids, _ = weighed_ids(base.encoders[0], pieces_of(region.prompt), known)
    own = known.get(region.concept or "", range(0))
    found = [place for place, each in enumerate(ids) if each in own]
    if not found:
        end = ids.index(base.tokenizer.eos_token_id, 1)
        found = list(range(1, end))
    return torch.tensor(found, dtype=torch.long, device=base.device)


def watched_level(base: BaseModel, latent: Size) -> Size:
    """The second coarsest level, at which subjects have a shape (1/32 of the pixels of SD 1.x)."""
    return levels(base, *latent)[-2:][0]


def guided_subject(share: torch.Tensor, size: Size) -> GuidedSubject:
    """A region's shape on a level from its (cells,) shares."""
    grid = share.reshape(size)
    inside = (grid >= grid.max() / 2).to(grid)
    rows, columns = inside.amax(1).nonzero().flatten(), inside.amax(0).nonzero().flatten()
    y = torch.zeros(size[0], device=grid.device)
    x = torch.zeros(size[1], device=grid.device)
    y[rows[0] : rows[-1] + 1] = _bell(int(rows[-1] - rows[0]) + 1).to(grid)
    x[columns[0] : columns[-1] + 1] = _bell(int(columns[-1] - columns[0]) + 1).to(grid)
    bell = y[:, None] * x * inside
    return GuidedSubject(inside, bell / bell.max())


def _bell(count: int) -> torch.Tensor:
    """A Gaussian of deviation 1 on [−1, 1]."""
    places = (torch.arange(count) + 0.5) / count * 2 - 1
    return torch.exp(-(places**2) / 2)


def attention_loss(
    seen: SeenAttention, subjects: Sequence[GuidedSubject], size: Size
) -> torch.Tensor:
    """How far the words of each region are from being in it (L_ce and L_fill), summed."""
    loss = torch.zeros((), device=subjects[0].inside.device)
    for maps, subject in zip(seen.cross, subjects, strict=True):
        read = torch.stack(maps).mean((0, 1)).float().T.reshape(-1, *size)
        read = _smoothed(read) * subject.inside
        count = max(1, round(_TOP * float(subject.inside.sum())))
        best = (read * subject.bell).flatten(1).topk(count).values.mean(1)
        rows, columns = subject.inside.amax(1) > 0, subject.inside.amax(0) > 0
        gaps = (1 - read.amax(2))[:, rows].mean(1) + (1 - read.amax(1))[:, columns].mean(1)
        loss = loss + (_ENHANCE * (1 - best) + _FILL * gaps).sum()
    return loss


def isolation_loss(seen: SeenAttention, subjects: Sequence[GuidedSubject]) -> torch.Tensor:
    """How much of the self-attention of each region leaves it (L_region), by its worst cells."""
    own = torch.stack(seen.own).mean((0, 1)).float()
    loss = torch.zeros((), device=own.device)
    for subject in subjects:
        inside = subject.inside.flatten() > 0
        if not inside.all():
            leaving = own[inside][:, ~inside].sum(1)
            loss = loss + leaving.topk(max(1, round(_TOP * len(leaving)))).values.mean()
    return _ISOLATE * loss


def _smoothed(maps: torch.Tensor) -> torch.Tensor:
    """(n, h, w) under a 3 × 3 Gaussian of deviation ½."""
    side = torch.exp(-2 * torch.tensor([-1.0, 0, 1], device=maps.device) ** 2)
    kernel = torch.outer(side, side) / side.sum() ** 2
    wide = F.pad(maps[:, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(wide, kernel[None, None])[:, 0]


@contextmanager
def _checkpointing(base: BaseModel) -> Iterator[None]:
    """Keep no activations inside blocks of the U-Net: they are made again on the way back."""
    before = base.unet.is_gradient_checkpointing
    base.unet.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if not before:
            base.unet.disable_gradient_checkpointing()


@dataclass(slots=True)
class Guide:
    """Guidance of one panel: what it watches, and whether it has come to its end.

    checkpointing  whether activations are made again on the way back, to save memory
    """

    base: BaseModel
    attention: AttentionContext
    positions: Sequence[torch.Tensor]
    subjects: Sequence[GuidedSubject]
    size: Size
    isolating: bool
    checkpointing: bool = True
    last: float = field(default=float("inf"), init=False)
    done: bool = field(default=False, init=False)

    @contextmanager
    def seen(self, latents: torch.Tensor, timestep: torch.Tensor) -> Iterator[SeenAttention]:
        """What the attention of the U-Net is at a step, by the prompts alone.

        Gradients are asked for inside the block: what checkpointing makes again reads the same.
        """
        cells = self.size[0] * self.size[1]
        sites = [name.removesuffix(".processor") for name in self.base.unet.attn_processors]
        recorder = AttentionRecorder(self.base, sites, cells)
        with attending(self.base, self.attention):
            with recorder.watching():
                predict(self.base, latents, timestep, self.attention.text)
            yield self._maps(recorder)

    def _maps(self, recorder: AttentionRecorder) -> SeenAttention:
        cross = sites_of(self.base)
        seen = SeenAttention([[] for _ in self.positions], [])
        for name, queries in recorder.queries.items():
            q = recorder.heads(name, queries)
            if name not in cross:
                seen.own.append(attention_map(q, recorder.heads(name, recorder.keys[name])))
                continue
            attn = self.base.unet.get_submodule(name)
            for index, positions in enumerate(self.positions):
                # A region's text is none that the U-Net is given: its keys are the attention's.
                keys, _ = self.attention.keys_and_values(attn, cross[name], index)
                seen.cross[index].append(attention_map(q, keys)[..., positions])
        return seen

    def loss(self, seen: SeenAttention) -> torch.Tensor:
        """What guidance makes smaller."""
        loss = attention_loss(seen, self.subjects, self.size)
        return loss + isolation_loss(seen, self.subjects) if self.isolating else loss

    def __call__(
        self, index: int, total: int, timestep: torch.Tensor, latents: torch.Tensor
    ) -> torch.Tensor | None:
        """What one gradient step adds to the latents; None once guidance has ended."""
        if self.done or not self.subjects or index >= max(1, round(_UNTIL * total)):
            return None
        saving = _checkpointing(self.base) if self.checkpointing else nullcontext()
        with torch.enable_grad(), saving:
            start = latents.detach().requires_grad_()
            with self.seen(start, timestep) as seen:
                loss = self.loss(seen)
                (slope,) = torch.autograd.grad(loss, start)
        found = float(loss.detach())
        self.done = found > self.last and index > _PATIENCE * total
        self.last = found
        if self.done:
            return None
        step = -_STRENGTH * (1 - 0.5 * index / total) ** 0.5 * slope
        longest = _FARTHEST * latents.std() / step.std().clamp(min=1e-12)
        added: torch.Tensor = step * longest.clamp(max=1)
        return added


def guide_of(
    base: BaseModel,
    model: FusedModel,
    task: PanelTask,
    attention: AttentionContext,
    region_weights: Mapping[int, torch.Tensor],
    latent: Size,
) -> Guide:
    """The guidance of a panel's regions, but for those of which nothing is seen or said."""
    size = watched_level(base, latent)
    grid = region_weights[size[0] * size[1]]
    words = [word_positions(base, model, region) for region in task.regions]
    seen = [index for index, own in enumerate(words) if len(own) and grid[index].max() > 0]
    half = attention.positive()
    half.regions = [half.regions[index] for index in seen]
    return Guide(
        base,
        half,
        [words[index] for index in seen],
        [guided_subject(grid[index], size) for index in seen],
        size,
        task.method.isolation,
    )


@torch.no_grad()
def reinitialised(guide: Guide, noise: torch.Tensor, task: PanelTask) -> torch.Tensor:
    """The noise, with the patch that draws each region's words most moved into the region.

    noise  (1, c, h, w); the result has its mean and deviation
    """
    maker = make_scheduler(guide.base, task.scheduler)
    maker.set_timesteps(task.steps or guide.base.defaults.steps, device=noise.device)
    with guide.seen(noise, maker.timesteps[0]) as found:
        pass
    result, (height, width) = noise.clone(), noise.shape[2:]
    for maps, subject in zip(found.cross, guide.subjects, strict=True):
        seen = torch.stack(maps).mean((0, 1)).sum(1).reshape(1, 1, *guide.size).float()
        seen = F.interpolate(seen, (height, width), mode="bilinear")
        inside = F.interpolate(subject.inside[None, None], (height, width))[0, 0]
        rows, columns = inside.amax(1).nonzero().flatten(), inside.amax(0).nonzero().flatten()
        tall, wide = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
        sums = F.avg_pool2d(seen, (tall, wide), stride=1)[0, 0]
        y, x = divmod(int(sums.argmax()), sums.shape[1])
        patch = noise[..., y : y + tall, x : x + wide]
        result[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = patch
    return (result - result.mean()) / result.std() * noise.std() + noise.mean()


def prepared(guide: Guide, noise: torch.Tensor, task: PanelTask) -> torch.Tensor:
    """The noise that a panel begins with."""
    return reinitialised(guide, noise, task) if task.method.reinitialisation else noise


def steering(guide: Guide, task: PanelTask) -> BeforeStep | None:
    """What changes the latents between the steps, if anything does."""
    return guide if task.method.enhancement else None
