"""Stages `critic` and `double`: the decoder meets a critic; then its pictures are made larger.

A critic of patches, which sees no more than a few lines at a time, tells decoded pictures from
drawings: what is uncertain comes out crisp rather than as the mean of all that it could be.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from storyforge.model.cell_decoder import DRAWN
from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.pocket import world
from storyforge.pocket.pretrain.decoder import (
    CELLS,
    Decoding,
    known_latents,
    picture_loss,
)
from storyforge.pocket.pretrain.latents import keep_autoencoder
from storyforge.pocket.pretrain.run import Clock, Job, Team, narrowly, say

CRITIC_SHARE = 0.25
"""Of the gradient of the other losses at the last layer: what the critic may add to it."""
WIDTHS = (32, 64, 96)


class Critic(nn.Module):
    """Says of every patch of a picture whether it is drawn (above 0) or decoded (below)."""

    def __init__(self) -> None:
        """Untrained."""
        super().__init__()
        self.first = nn.Conv2d(12, WIDTHS[0], 3, padding=1)
        self.second = nn.Conv2d(WIDTHS[0], WIDTHS[1], 3, stride=2, padding=1)
        self.third = nn.Conv2d(WIDTHS[1], WIDTHS[2], 3, stride=2, padding=1)
        self.last = nn.Conv2d(WIDTHS[2], 1, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) to (n, 1, h/8, w/8)."""
        x = F.pixel_unshuffle(pictures, 2)
        for layer in (self.first, self.second, self.third):
            x = F.leaky_relu(layer(x), 0.2)
        said: torch.Tensor = self.last(x)
        return said


def train_with_critic(job: Job, team: Team) -> None:
    """Go on with the decoder against a critic."""
    learning = Decoding(job, team, rate=3e-4)
    critic = Critic().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    against = torch.optim.AdamW(critic.parameters(), lr=3e-4, betas=(0.5, 0.9))
    last = learning.decoder.refiner.second.weight
    while (spent := learning.spent()) < 1:
        crops = learning.crops()
        made = learning.made(crops)
        _teach(critic, against, made.detach(), crops.pixels)
        loss = picture_loss(made, crops.pixels, crops.weights)
        with narrowly(job.device):
            doubt = -critic(made).float().mean()
        pulls = [torch.autograd.grad(x, last, retain_graph=True)[0].norm() for x in (loss, doubt)]
        share = CRITIC_SHARE * min(1.0, 4 * spent) * pulls[0] / (pulls[1] + 1e-6)
        learning.learn(loss + share.clamp(max=1.0) * doubt, spent)
    if team.rank == 0:
        learning.keep()


def _teach(
    critic: Critic, optimizer: torch.optim.Optimizer, made: torch.Tensor, drawn: torch.Tensor
) -> None:
    """One step of the critic on decoded and on drawn pictures (hinge loss)."""
    critic.requires_grad_(True)
    with narrowly("cpu"):
        said = [critic(each).float() for each in (made, drawn)]
    loss = F.relu(1 + said[0]).mean() + F.relu(1 - said[1]).mean()
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()
    critic.requires_grad_(False)


def train_doubler(job: Job, team: Team) -> None:
    """Teach the last layer to write pictures of twice the size; nothing else changes."""
    torch.manual_seed(job.seed)
    model: PatchAutoencoder = PatchAutoencoder.from_pretrained(job.folder / "vae").float()
    doubler, side = model.decoder.doubler, CELLS * DRAWN
    optimizer = torch.optim.AdamW(doubler.parameters(), lr=2e-3)
    generator = np.random.default_rng((job.seed, 2, team.rank))
    clock, step = Clock(job, 50), 0
    while (spent := team.agree(clock.spent())) < 1:
        step += 1
        picture = world.imagine(np.random.default_rng((job.seed, 2, team.rank, step)))
        large = torch.from_numpy(world.draw(picture, 2 * side)[0]).permute(2, 0, 1)[None]
        large = large.float() / 127.5 - 1
        with torch.no_grad():
            decoded = model.decoder(known_latents(model, picture))
        at = generator.integers(0, (side - 128) // 2, size=(job.batch_size, 2)) * 2
        seen = torch.cat([decoded[..., y : y + 128, x : x + 128] for y, x in at])
        wanted = torch.cat([large[..., 2 * y : 2 * y + 256, 2 * x : 2 * x + 256] for y, x in at])
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * clock.factor(spent)
        loss = picture_loss(doubler(seen), wanted, torch.ones(len(seen), 1, 1, 1))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        team.average(doubler.parameters())
        optimizer.step()
        if team.rank == 0 and step % 50 == 0:
            say(job, step=step, spent=spent, loss=loss.item())
    if team.rank == 0:
        keep_autoencoder(model, job.folder)
