"""Stages `keypose`, `sketch` and `controlnet-sketch`: control for the embedded model as it is.

The U-Net and the text encoder that were trained stay as they are; a T2I-Adapter (Mou et al.,
2023, https://arxiv.org/abs/2302.08453) or a ControlNet (Zhang et al., 2023,
https://arxiv.org/abs/2302.05543) learns beside them, from drawings and their conditions.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from diffusers import ControlNetModel, T2IAdapter, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

from storyforge.pocket import world
from storyforge.pocket.pretrain import parts
from storyforge.pocket.pretrain.conditions import CONDITIONS
from storyforge.pocket.pretrain.latents import Latents
from storyforge.pocket.pretrain.run import (
    Average,
    Clock,
    Job,
    Team,
    load_checkpoint,
    narrowly,
    save_checkpoint,
    say,
    scatter,
    under,
)
from storyforge.pocket.pretrain.text import captions, token_ids

Adapter: TypeAlias = T2IAdapter | ControlNetModel

CAPTION_DROPOUT = 0.3
"""Share of captions that are empty: what the words leave out, the condition has to say."""
CONDITION_DROPOUT = 0.1
"""Share of conditions that are black: where nothing is drawn, nothing is to be changed."""
PEAK = {"keypose": 1e-3, "sketch": 1e-3, "controlnet-sketch": 1e-3}
"""Learning rates, and the names of the adapters."""
SUBJECT_WEIGHT = 8.0
"""How much more a cell counts where a subject is: that is all that these conditions speak of."""
SAVE_EVERY = 240.0


def new_adapter(name: str, unet: Path) -> Adapter:
    """An untrained adapter for the U-Net in that folder; a ControlNet begins as its encoder."""
    if name == "keypose":
        return T2IAdapter(3, list(parts.WIDTHS), 2, parts.DOWNSCALE)
    if name == "sketch":
        return T2IAdapter(1, list(parts.WIDTHS), 2, parts.DOWNSCALE)
    net = parts.new_controlnet()
    kept = net.state_dict()
    known = load_file(unet / "diffusion_pytorch_model.safetensors")
    net.load_state_dict({k: known[k].float() if k in known else v for k, v in kept.items()})
    return net


FIRST = "adapter.conv_in.weight"
"""The layer of a T2I-Adapter that reads all pixels of a cell."""


def widened(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of a T2I-Adapter that reads pictures of twice the side, and says of each what this
    one says of its means of 2 × 2 pixels.

    It is trained on pictures of the smaller side, which are a quarter of the work, and shipped for
    those that the model makes: stock pipelines want a condition to be as large as the picture.
    """
    cells = _by_pixel(weights[FIRST])
    wide = cells.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4
    return {**weights, FIRST: wide.reshape(len(cells), -1, *cells.shape[4:])}


def narrowed(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inverse of `widened`."""
    cells = _by_pixel(weights[FIRST])
    count, colours, side, _, *kernel = cells.shape
    cells = cells.reshape(count, colours, side // 2, 2, side // 2, 2, *kernel).sum((3, 5))
    return {**weights, FIRST: cells.reshape(count, -1, *kernel)}


def _by_pixel(weight: torch.Tensor) -> torch.Tensor:
    """(out, colours · pixels, 3, 3) as (out, colours, rows, columns, 3, 3), for RGB or grey."""
    for colours in (3, 1):
        side = math.isqrt(weight.shape[1] // colours)
        if colours * side**2 == weight.shape[1]:
            return weight.reshape(len(weight), colours, side, side, *weight.shape[2:])
    raise ValueError(f"{weight.shape[1]} channels are no square of pixels")


def _begun(job: Job) -> Adapter:
    """The shipped adapter where it fits, else an untrained one, but for sketches one that already
    knows how to speak to the U-Net."""
    unet, known = parts.part_folder(job.folder, "unet"), job.folder / "keypose.safetensors"
    adapter = new_adapter(job.stage, unet)
    shipped = parts.adapters_folder() / job.stage / "diffusion_pytorch_model.safetensors"
    if shipped.is_file():
        weights = {name: value.float() for name, value in load_file(shipped).items()}
        weights = narrowed(weights) if isinstance(adapter, T2IAdapter) else weights
        if all(
            name in weights and weights[name].shape == value.shape
            for name, value in adapter.state_dict().items()
        ):
            adapter.load_state_dict(weights)
            return adapter
    if job.stage == "sketch" and known.is_file():
        weights = under(load_file(known), "ema.adapter.")
        cells = _by_pixel(weights[FIRST])
        adapter.load_state_dict(weights | {FIRST: cells.sum(1).flatten(1, 2)})
    return adapter


class Conditions:
    """What an adapter reads beside each picture, drawn when it is first asked for and kept."""

    def __init__(self, job: Job, pictures: Sequence[world.Picture]) -> None:
        """For the adapter of this stage; a ControlNet reads in colour whatever it is."""
        self.seed, self.pictures = job.seed, pictures
        self.draw = CONDITIONS[job.stage.removeprefix("controlnet-")]
        # A ControlNet's reader has no wider twin: it learns on pictures as large as the model's.
        self.side = 2 * parts.PICTURE if job.stage.startswith("controlnet") else parts.PICTURE
        self.colour = job.stage != "sketch"
        self.kept: dict[int, bytes] = {}
        told = [any(_shown(job.stage, each) for each in picture.subjects) for picture in pictures]
        self.odds = np.array(told, dtype=float)

    def tensors(self, rows: np.ndarray, generator: np.random.Generator) -> torch.Tensor:
        """(n, channels, h, w) in [0, 1]; some of them black."""
        pixels = [self._pixels(int(row)) for row in rows]
        seen = torch.from_numpy(np.stack(pixels)).float() / 255
        said = torch.from_numpy(generator.random(len(rows)) >= CONDITION_DROPOUT)
        return seen.permute(0, 3, 1, 2) * said[:, None, None, None]

    def _pixels(self, row: int) -> np.ndarray:
        if row not in self.kept:
            file = io.BytesIO()
            made = self.draw(
                self.pictures[row], np.random.default_rng((self.seed, 6, row)), self.side
            )
            made.save(file, "PNG", compress_level=1)
            self.kept[row] = file.getvalue()
        with Image.open(io.BytesIO(self.kept[row])) as file_read:
            picture = file_read.convert("RGB" if self.colour else "L")
        return np.asarray(picture).reshape(*picture.size[::-1], -1)


def _shown(stage: str, subject: world.Subject) -> bool:
    """Whether the condition shows this subject: things have no pose."""
    return stage != "keypose" or not isinstance(subject.what, world.Thing)


def residuals(
    adapter: Adapter,
    noisy: torch.Tensor,
    steps: torch.Tensor,
    features: torch.Tensor,
    seen: torch.Tensor,
) -> dict[str, object]:
    """What the adapter adds to the U-Net, as arguments of the U-Net."""
    if isinstance(adapter, T2IAdapter):
        return {"down_intrablock_additional_residuals": list(adapter(seen))}
    down, mid = adapter(noisy, steps, features, seen, return_dict=False)
    return {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}


class Learner:
    """The frozen model, the adapter in training, its average and its optimiser."""

    def __init__(self, job: Job, team: Team) -> None:
        """Go on from the checkpoint, else from nothing."""
        self.job, self.team = job, team
        self.tokenizer = CLIPTokenizer.from_pretrained(parts.part_folder(job.folder, "tokenizer"))
        self.scheduler = parts.new_scheduler()
        self.text, self.unet = (
            kind.from_pretrained(parts.part_folder(job.folder, name), dtype=torch.float32)
            .to(job.device)
            .eval()
            .requires_grad_(False)
            for kind, name in ((CLIPTextModel, "text_encoder"), (UNet2DConditionModel, "unet"))
        )
        self.adapter = _begun(job).to(job.device)
        self.average = Average(self.adapter, 0.99)
        self.parameters = list(self.adapter.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=0.0, weight_decay=0.01)
        self.path = job.folder / f"{job.stage}.safetensors"
        progress = load_checkpoint(
            self.path, {"adapter": self.adapter}, {"adapter": self.average}, self.optimizer
        )
        self.step, self.samples = int(progress.get("step", 0)), int(progress.get("samples", 0))

    def learn(
        self, latents: Latents, conditions: Conditions, rows: np.ndarray, factor: float
    ) -> tuple[float, float]:
        """One step; the loss with the adapter and, every fiftieth step, without it (else 0)."""
        self.step += 1
        self.samples += len(rows) * self.team.size
        generator = np.random.default_rng((self.job.seed, 7, self.team.rank, self.step))
        for group in self.optimizer.param_groups:
            group["lr"] = PEAK[self.job.stage] * factor
        texts = captions([latents.pictures[i] for i in rows], generator)
        texts = ["" if generator.random() < CAPTION_DROPOUT else text for text in texts]
        device = self.job.device
        seen = conditions.tensors(rows, generator).to(device)
        drawn, cover = latents.rows(rows)
        counts = (1 + SUBJECT_WEIGHT * cover) * latents.fineness
        counts[:, parts.READ] = 0
        clean, weight = (torch.from_numpy(x).to(device) for x in (drawn, counts))
        noise, steps = torch.randn_like(clean), self._noise_levels(len(rows), generator)
        noisy = parts.unheard(self.scheduler.add_noise(clean, noise, steps))
        with torch.no_grad():
            features = self.text(token_ids(self.tokenizer, texts).to(device)).last_hidden_state
            plain = self.unet(noisy, steps, features).sample if self.step % 50 == 0 else clean
        with narrowly(device):
            added = residuals(self.adapter, noisy, steps, features, seen)
            made = self.unet(noisy, steps, features, **added).sample
        loss = _error(made.float(), clean, weight)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.team.average(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.average.update(self.adapter)
        return loss.item(), _error(plain, clean, weight).item()

    def _noise_levels(self, count: int, generator: np.random.Generator) -> torch.Tensor:
        """Mostly high ones, for there a picture's layout is decided (T2I-Adapter, §3.4)."""
        levels = 1 - generator.random(count) ** 3
        most = self.scheduler.config.num_train_timesteps - 1
        return torch.from_numpy((levels * most).round().astype(np.int64)).to(self.job.device)

    def keep(self) -> None:
        """Write the checkpoint."""
        progress: dict[str, float] = {"step": self.step, "samples": self.samples}
        modules, averages = {"adapter": self.adapter}, {"adapter": self.average}
        save_checkpoint(self.path, modules, averages, self.optimizer, progress)


def _error(made: torch.Tensor, wanted: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return ((made - wanted).square() * weight).mean() / weight.mean()


def train_adapter(job: Job, team: Team) -> None:
    """Train the adapter that the stage is named after, or go on from its checkpoint."""
    torch.manual_seed(job.seed)
    learner, latents = Learner(job, team), Latents(job.folder / "latents")
    conditions = Conditions(job, latents.pictures)
    latents.odds = latents.odds * conditions.odds / (latents.odds * conditions.odds).sum()
    scatter(job, team, learner.step)
    generator = np.random.default_rng((job.seed, 8, team.rank, learner.step))
    batches = latents.batches(job.batch_size, generator)
    clock, saved, recent = Clock(job, 50), 0.0, 0.0
    while (spent := team.agree(clock.spent())) < 1:
        loss, plain = learner.learn(latents, conditions, next(batches), clock.factor(spent))
        recent = loss if recent == 0 else 0.98 * recent + 0.02 * loss
        if team.rank == 0 and learner.step % 50 == 0:
            figures = {"step": learner.step, "samples": learner.samples, "spent": spent}
            say(job, **figures, loss=recent, once=loss, without=plain)
        if team.rank == 0 and spent * job.minutes * 60 - saved > SAVE_EVERY:
            saved = spent * job.minutes * 60
            learner.keep()
    if team.rank == 0:
        learner.keep()
