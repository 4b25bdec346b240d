"""Stage `encoder`: the encoder learns to read what the cells of a drawing are to tell.

What is told is known of every drawing of the world, so this can run beside the denoiser's training,
which needs no encoder. The components of patches stay as they are.
"""

from typing import Final

import numpy as np
import torch
from torch import nn

from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.pocket import world
from storyforge.pocket.pretrain.latents import autoencoder_of, shown_of
from storyforge.pocket.pretrain.run import (
    Average,
    Clock,
    Job,
    Team,
    at_rate,
    descend,
    load_checkpoint,
    save_checkpoint,
    say,
    scatter,
    two_optimizers,
)

KEEP_EVERY: Final = 180.0
RATE, MUON_RATE = 1e-3, 2e-3
HELD_OUT_SEED: Final = (1 << 40) + (1 << 20)
HELD_OUT: Final = 32

EDGES: Final = ("lines", "out")
"""Layers that read pixels or write what is told."""

Batch = tuple[torch.Tensor, torch.Tensor]


def shown(pictures: list[world.Picture]) -> Batch:
    """(n, 3, 256, 256) drawings in [−1, 1] and (n, t, 16, 16) what they tell."""
    all_shown = [shown_of(picture) for picture in pictures]
    drawn, told = [each.pixels for each in all_shown], [each.told for each in all_shown]
    seen = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return seen, torch.from_numpy(np.stack(told))


class Encoding:
    """The encoder in training, with its average and its optimisers."""

    def __init__(self, job: Job, team: Team) -> None:
        """Go on from the checkpoint, or from what the last training left."""
        torch.manual_seed(job.seed)
        self.job, self.team = job, team
        self.model = autoencoder_of(job.folder)
        self.encoder = self.model.code
        self.encoder.plain.requires_grad_(False)
        self.average = Average(self.encoder, 0.998)
        self.parameters = [p for p in self.encoder.parameters() if p.requires_grad]
        self.matrices, self.optimizers = two_optimizers(self.encoder, EDGES, RATE, MUON_RATE)
        self.path = job.folder / "encoder.safetensors"
        modules: dict[str, nn.Module] = {"encoder": self.encoder}
        self.parts = modules, {"encoder": self.average}, self.optimizers
        self.step = int(load_checkpoint(self.path, *self.parts).get("step", 0))
        scatter(job, team, self.step)
        self.generator = np.random.default_rng((job.seed, 6, team.rank, self.step))

    def learn(self, factor: float) -> float:
        """One step at `factor` of the peak learning rate; the mean squared error."""
        self.step += 1
        at_rate(self.optimizers, factor)
        seen, told = shown([world.imagine(self.generator) for _ in range(self.job.batch_size)])
        with torch.autocast(self.job.device, torch.bfloat16):
            found = self.encoder(seen)
        loss = (found[:, -told.shape[1] :].float() - told).square().mean()
        torch.autograd.backward(loss)
        self.team.average(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        descend(self.matrices, self.optimizers)
        self.average.update(self.encoder)
        found_loss: float = loss.item()
        return found_loss

    def keep(self) -> None:
        """Write the checkpoint, and the averaged autoencoder in fp16; say how well it reads."""
        save_checkpoint(self.path, *self.parts, {"step": self.step})
        kept = PatchAutoencoder.from_config(self.model.config)
        kept.load_state_dict(self.model.state_dict())
        kept.code.load_state_dict(self.average.values)
        generator = np.random.default_rng(HELD_OUT_SEED)
        found = read_well(kept, [world.imagine(generator) for _ in range(HELD_OUT)])
        say(self.job, step=self.step, **found)
        kept.register_to_config(_name_or_path="")
        kept.half().save_pretrained(self.job.folder / "vae")


@torch.no_grad()
def read_well(model: PatchAutoencoder, pictures: list[world.Picture]) -> dict[str, float]:
    """The mean squared error of what is read, and of how many cells that a subject covers the kind
    is nearer to its own than to any other."""
    seen, told = shown(pictures)
    found = model.code(seen)[:, -told.shape[1] :]
    right = world.kinds(found.numpy()) == world.kinds(told.numpy())
    covered = told[:, 0].numpy() > 0
    error = float((found - told).square().mean())
    return {"error": error, "kinds": float(right[covered].mean())}


def train_encoder(job: Job, team: Team) -> None:
    """Train what reads the cells; the components of patches stay as they are."""
    learning = Encoding(job, team)
    clock, kept = Clock(job, 50), 0.0
    while (spent := team.agree(clock.spent())) < 1:
        loss = learning.learn(clock.factor(spent))
        if team.rank == 0 and learning.step % 25 == 0:
            say(job, step=learning.step, minutes=spent * job.minutes, loss=loss)
        if team.rank == 0 and spent * job.minutes * 60 - kept > KEEP_EVERY:
            kept = spent * job.minutes * 60
            learning.keep()
    if team.rank == 0:
        learning.keep()
