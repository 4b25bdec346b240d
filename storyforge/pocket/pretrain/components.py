"""Stage `components`: the decoder learns which components go with what cells tell.

A denoiser tells rightly what a picture shows long before it knows the components of its patches.
So what draws must know them by itself: it learns them where they are hidden, mixed with noise or
blurred, from the latents that the denoiser learns from. Nothing is drawn for it, and no pixel is
decoded: ten times as many cells are seen in a minute as by stage `decoder`, which goes on from
here.
"""

from typing import Final

import numpy as np
import torch
from torch import nn

from storyforge.pocket.pretrain.amiss import amiss
from storyforge.pocket.pretrain.latents import (
    Latents,
    Layers,
    autoencoder_of,
    averaged,
    keep_autoencoder,
)
from storyforge.pocket.pretrain.parts import COMPONENTS
from storyforge.pocket.pretrain.run import (
    Average,
    Job,
    Team,
    adam,
    at_rate,
    learn_on,
    load_checkpoint,
    passed_by,
    save_checkpoint,
    say,
    scatter,
)

RATE: Final = 3e-3
LEARNT: Final = ("into", "landmarks_in_cells", "cells", "trust", "instead")
"""Layers of the decoder that this stage trains."""
SUBJECT_WEIGHT, HEAD_WEIGHT = 2.0, 3.0
SOFT: Final = 0.05
"""Errors below count by their square, others as they are: an edge is here or there, not between."""
HELD_OUT: Final = 64
"""Drawings of the last piece that nothing is learnt from."""


class Restoring:
    """The layers in training, with their average and their optimiser."""

    def __init__(self, job: Job, team: Team) -> None:
        """Go on from the checkpoint, or from what the last training left."""
        torch.manual_seed(job.seed + team.rank)
        self.job, self.team = job, team
        self.model = autoencoder_of(job.folder)
        self.decoder = self.model.decoder
        self.parts = Layers(self.decoder, LEARNT)
        self.parameters = list(self.parts.parameters())
        self.average = Average(self.parts, 0.998)
        self.optimizer = adam(self.parts, RATE)
        self.path = job.folder / "components.safetensors"
        modules: dict[str, nn.Module] = {"parts": self.parts}
        self.kept = modules, {"parts": self.average}, self.optimizer
        since = passed_by(self.path, job.folder / "decoder.safetensors")
        progress = {} if since else load_checkpoint(self.path, *self.kept)
        self.step = int(progress.get("step", 0))
        scatter(job, team, self.step)
        self.rng = np.random.default_rng((job.seed, 7, team.rank, self.step))
        self.generator = torch.Generator().manual_seed(int(self.rng.integers(1 << 60)))
        self.latents = Latents(job.folder / "latents")
        self.apart = max(1, min(HELD_OUT, len(self.latents) // 4))

    def learn(self, factor: float) -> float:
        """One step at `factor` of the peak learning rates; the loss."""
        self.step += 1
        at_rate(factor, self.optimizer)
        rows = self.rng.integers(len(self.latents) - self.apart, size=self.job.batch_size)
        loss = self.loss(rows)
        torch.autograd.backward(loss)
        self.team.average(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.average.update(self.parts)
        found: float = loss.item()
        return found

    def loss(self, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> torch.Tensor:
        """What the components lack that are made of hidden ones and of what is told amiss."""
        drawn, cover = (torch.from_numpy(each) for each in self.latents.rows(rows))
        heads = torch.from_numpy(self.latents.heads(rows))
        counts = 1 + SUBJECT_WEIGHT * cover + HEAD_WEIGHT * heads
        counts = counts * torch.from_numpy(self.latents.fineness[:COMPONENTS])
        wanted = drawn[:, :COMPONENTS]
        with torch.autocast(self.job.device, torch.bfloat16):
            made = self.decoder.believed(amiss(drawn, self.generator))[1]
        error = made[:, :COMPONENTS].float() - wanted
        lack = (error.square() + SOFT**2).sqrt() - SOFT
        return (lack * counts).sum() / counts.expand_as(lack).sum()

    @torch.no_grad()
    def keep(self) -> None:
        """Write the checkpoint, and the averaged autoencoder in fp16; say what is still unknown of
        drawings that nothing is learnt from, where nothing but what is told is there."""
        save_checkpoint(self.path, *self.kept, {"step": self.step})
        kept = averaged(self.model, "decoder", self.average)
        last = np.arange(len(self.latents) - self.apart, len(self.latents))
        drawn, cover = (torch.from_numpy(each) for each in self.latents.rows(last))
        seen = drawn.clone()
        seen[:, :COMPONENTS] = 0
        made = kept.decoder.believed(seen)[1][:, :COMPONENTS]
        wanted, inside = drawn[:, :COMPONENTS], (cover > 0.5).expand(-1, COMPONENTS, -1, -1)
        unknown = (made - wanted).square()[inside].mean() / wanted.square()[inside].mean()
        say(self.job, step=self.step, unknown=unknown.item())
        keep_autoencoder(kept, self.job.folder)


def train_components(job: Job, team: Team) -> None:
    """Train the layers that the decoder knows components by."""
    learn_on(job, team, Restoring(job, team))
