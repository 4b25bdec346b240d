"""What the steps of a run draw from: latents of the examples, and of the base's own pictures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from storyforge.model.base import BaseModel
from storyforge.model.prediction import Noising, random_times, target
from storyforge.train.config import TrainConfig
from storyforge.train.dataset import Example
from storyforge.train.prior import PriorSet

CAPTION_DROPOUT = 0.2
"""Part of the prior pictures that go without a caption, so that the empty prompt stays put."""

_TOGETHER = 4
"""Pictures that are encoded at once: the VAE's memory is not to outgrow that of the steps."""


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """What a step draws from.

    latents   (c, h, w) of each example
    masks     (1, h, w) weight of each latent cell in the loss
    composed  how many of the examples, the last ones, show the concept pasted beside others
    """

    examples: list[Example]
    latents: list[torch.Tensor]
    masks: list[torch.Tensor]
    prior: PriorSet | None
    composed: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures of one shape.

    clean    (b, c, h, w) latents
    weights  (b, 1, h, w) of each cell in the loss
    pointed  which of them have a mask that says where the concept is
    """

    clean: torch.Tensor
    weights: torch.Tensor
    prompts: list[str]
    pointed: list[bool]


@dataclass(frozen=True, slots=True)
class Noised:
    """A batch on its way.

    noisy, wanted  (b, c, h, w) what the model sees, and what it is to say
    times          (b,) timesteps
    weights        (b, 1, h, w)
    """

    noisy: torch.Tensor
    wanted: torch.Tensor
    times: torch.Tensor
    weights: torch.Tensor
    prompts: list[str]
    pointed: list[bool]

    def parts(self, count: int) -> list[Noised]:
        """The same in at most `count` parts of about one size."""
        size = -(-len(self.prompts) // count)
        return [self._cut(start, start + size) for start in range(0, len(self.prompts), size)]

    def _cut(self, start: int, stop: int) -> Noised:
        return Noised(
            self.noisy[start:stop],
            self.wanted[start:stop],
            self.times[start:stop],
            self.weights[start:stop],
            self.prompts[start:stop],
            self.pointed[start:stop],
        )


def training_set(
    base: BaseModel, examples: list[Example], prior: PriorSet | None, kept: Path | None = None
) -> TrainingSet:
    """Encode the examples once; a cell that any part of the subject touches counts in full.

    `kept` is a folder where latents are kept by the content of the pictures that they are of.
    """
    latents: list[torch.Tensor] = [torch.empty(0)] * len(examples)
    shapes = list(dict.fromkeys(tuple(e.pixels.shape) for e in examples))
    for shape in shapes:
        rows = [i for i, e in enumerate(examples) if tuple(e.pixels.shape) == shape]
        made = _encoded(base, torch.stack([examples[i].pixels for i in rows]), kept)
        for row, each in zip(rows, made, strict=True):
            latents[row] = each
    masks = []
    for example, each in zip(examples, latents, strict=True):
        cells = each.shape[-2:]
        mask = torch.ones(1, *cells)
        if example.mask is not None:
            mask = F.adaptive_max_pool2d(example.mask[None], cells)
        masks.append(mask.to(base.device))
    return TrainingSet(examples, latents, masks, prior)


def _encoded(base: BaseModel, pixels: torch.Tensor, kept: Path | None) -> torch.Tensor:
    """(n, c, h, w) latents of (n, 3, H, W) pictures, from `kept` if they lie there."""
    if kept is None:
        return _few_by_few(base, pixels)
    about = f"{base.hash} {base.device.type} {base.dtype} {tuple(pixels.shape)} ".encode()
    digest = hashlib.sha256(about + pixels.contiguous().numpy().tobytes()).hexdigest()[:20]
    path = kept / f"{digest}.safetensors"
    if path.is_file():
        return load_file(path)["latents"].to(base.device)
    latents = _few_by_few(base, pixels)
    kept.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    save_file({"latents": latents.cpu().contiguous()}, part)
    part.replace(path)
    return latents


def _few_by_few(base: BaseModel, pixels: torch.Tensor) -> torch.Tensor:
    """Encode (n, 3, H, W) pictures, not all of them in memory at once."""
    return torch.cat([base.encode(some.to(base.device)) for some in torch.split(pixels, _TOGETHER)])


def draw_batches(seen: TrainingSet, config: TrainConfig, generator: torch.Generator) -> list[Batch]:
    """The pictures of one step, those of one shape together, in the order in which they came."""
    ordinary = _whole(config.prior_rows, generator) if seen.prior else 0
    own = config.batch_size - ordinary
    rows = _own_rows(seen, config, own, generator)
    prompts = []
    for row in rows:
        captions = seen.examples[row].captions
        prompts.append(captions[int(torch.randint(0, len(captions), (1,), generator=generator))])
    clean, weights = [seen.latents[row] for row in rows], [seen.masks[row] for row in rows]
    pointed = [seen.examples[row].mask is not None for row in rows]
    if seen.prior and ordinary:
        extra = torch.randint(0, len(seen.prior.prompts), (ordinary,), generator=generator).tolist()
        silent = torch.rand(ordinary, generator=generator) < CAPTION_DROPOUT
        prompts += [
            "" if quiet else seen.prior.prompts[row]
            for row, quiet in zip(extra, silent.tolist(), strict=True)
        ]
        latents = seen.prior.latents[extra].to(seen.latents[0])
        clean += list(latents)
        weights += list(torch.ones_like(latents[:, :1]))
        pointed += [False] * ordinary
    return [_together(clean, weights, prompts, pointed, shape) for shape in _shapes(clean)]


def _whole(mean: float, generator: torch.Generator) -> int:
    """A whole number that is `mean` on average; nothing is thrown where `mean` is whole."""
    least = int(mean)
    return least + (mean > least and float(torch.rand(1, generator=generator)) < mean - least)


def _own_rows(
    seen: TrainingSet, config: TrainConfig, count: int, generator: torch.Generator
) -> list[int]:
    """Which examples are shown; some of them are composed if the recipe says so."""
    plain = len(seen.examples) - seen.composed
    rows: list[int] = torch.randint(0, plain, (count,), generator=generator).tolist()
    if not seen.composed or config.composed is None:
        return rows
    others = torch.randint(plain, len(seen.examples), (count,), generator=generator).tolist()
    chosen = torch.rand(count, generator=generator) < config.composed
    return [b if yes else a for a, b, yes in zip(rows, others, chosen.tolist(), strict=True)]


def _shapes(clean: Sequence[torch.Tensor]) -> list[torch.Size]:
    return list(dict.fromkeys(each.shape for each in clean))


def _together(
    clean: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    prompts: Sequence[str],
    pointed: Sequence[bool],
    shape: torch.Size,
) -> Batch:
    rows = [i for i, each in enumerate(clean) if each.shape == shape]
    return Batch(
        torch.stack([clean[i] for i in rows]),
        torch.stack([weights[i] for i in rows]),
        [prompts[i] for i in rows],
        [pointed[i] for i in rows],
    )


def noised(
    batch: Batch, config: TrainConfig, scheduler: Noising, generator: torch.Generator
) -> Noised:
    """Add noise of a random timestep to every picture; some of it shifts whole channels."""
    clean = batch.clean
    noise = torch.randn(clean.shape, generator=generator)
    noise += config.noise_offset * torch.randn(*clean.shape[:2], 1, 1, generator=generator)
    noise = noise.to(clean)
    times = random_times(scheduler, len(clean), generator).to(clean.device)
    noisy, wanted = scheduler.add_noise(clean, noise, times), target(scheduler, clean, noise, times)
    return Noised(noisy, wanted, times, batch.weights, batch.prompts, batch.pointed)
