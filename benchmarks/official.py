"""A training step as Mix-of-Show's published code does it, to be timed beside storyforge's own.

After TencentARC/Mix-of-Show, `trainer_edlora.py` and `train_edlora.py`: every prompt is sixteen
sentences, each encoded on its own in every step; the whole table of embeddings is trained and all
rows but the new ones are put back after each step; pictures pass through the VAE in every step. The
low-rank changes, the way through the U-Net and the loss are storyforge's, which cost the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from storyforge.model.attention import AttentionContext, attending, predict
from storyforge.model.base import BaseModel
from storyforge.model.card import WORDS
from storyforge.model.family import text_embeddings
from storyforge.model.lora import attached
from storyforge.model.tokens import PromptEmbeds, token_ids
from storyforge.train.config import TrainConfig
from storyforge.train.dataset import Example
from storyforge.train.loss import masked_loss
from storyforge.train.trainable import TrainableConcept


def with_room(table: nn.Embedding, rows: int) -> nn.Embedding:
    """The table with so many rows more, all of it trained."""
    made = nn.Embedding(table.num_embeddings + rows, table.embedding_dim)
    with torch.no_grad():
        made.weight[: table.num_embeddings] = table.weight
    return made


@dataclass(slots=True)
class Official:
    """One run on a base of one concept; the base's table of embeddings is replaced by its own."""

    base: BaseModel
    trainable: TrainableConcept
    recipe: TrainConfig
    table: nn.Embedding = field(init=False)
    before: Tensor = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    scheduler: DDPMScheduler = field(init=False)

    def __post_init__(self) -> None:
        """Grow the table, copy it, and have all of it trained."""
        embeddings = text_embeddings(self.base.text_encoder)
        plain = embeddings.token_embedding
        assert isinstance(plain, nn.Embedding)
        self.table = with_room(plain, WORDS * self.base.family.groups)
        embeddings.token_embedding = self.table
        self.before = self.table.weight.detach().clone()
        low_rank = self.trainable.rates(self.recipe)[1:]
        groups = [{"params": [self.table.weight], "peak": self.recipe.embedding_lr}, *low_rank]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-5)
        self.scheduler = DDPMScheduler.from_config(self.base.scheduler_config)

    def sentences(self, prompts: Sequence[str]) -> Tensor:
        """(G · n, T) ids: every prompt once for each group, with that group's own two tokens."""
        groups, size = self.base.family.groups, self.table.num_embeddings
        own = size - WORDS * groups
        rows = []
        for group in range(groups):
            for prompt in prompts:
                # A word of the concept has an id after the table's end: the end counts from 0.
                ids = token_ids(self.base, prompt, [self.trainable.name])
                rows.append([own + (i - size) * groups + group if i >= size else i for i in ids])
        return torch.tensor(rows)

    def step(self, examples: Sequence[Example], generator: torch.Generator) -> float:
        """One step on these pictures; its loss."""
        prompts = [example.captions[0] for example in examples]
        latents = self.base.encode(torch.stack([example.pixels for example in examples]))
        noise = torch.randn(latents.shape, generator=generator)
        total = int(self.scheduler.config.num_train_timesteps)
        times = torch.randint(0, total, (len(examples),), generator=generator)
        noisy = self.scheduler.add_noise(latents, noise, times)
        self.optimizer.zero_grad()
        with attached(self.base, self.trainable.deltas()):
            read = self.base.text_encoder(self.sentences(prompts)).last_hidden_state
            shape = (self.base.family.groups, len(prompts), *read.shape[1:])
            text = PromptEmbeds(read.view(shape))
            with attending(self.base, AttentionContext(text)):
                made = predict(self.base, noisy, times, text)
        loss = masked_loss(made, noise, torch.ones_like(noise[:, :1]))
        torch.autograd.backward(loss)
        self.optimizer.step()
        self._put_back()
        return loss.item()

    @torch.no_grad()
    def _put_back(self) -> None:
        """All rows but the new ones are what they were."""
        kept = torch.ones(self.table.num_embeddings, dtype=torch.bool)
        kept[-WORDS * self.base.family.groups :] = False
        self.table.weight[kept] = self.before[kept]
