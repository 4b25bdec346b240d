"""What is trained of a concept: its words and the changes of the base's linears."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from storyforge.model.base import BaseModel
from storyforge.model.card import WORDS
from storyforge.model.concept import Concept
from storyforge.model.family import token_table
from storyforge.model.lora import Delta
from storyforge.model.tokens import ConceptTokens, new_tokens
from storyforge.settings import Layers
from storyforge.tasks import TrainTask
from storyforge.train.config import METHODS, TrainConfig, TrainMethod


class TrainableConcept(nn.Module):
    """The words and the low-rank factors of one concept."""

    def __init__(self, base: BaseModel, name: str, class_phrase: str, config: TrainConfig) -> None:
        """Begin with `up` = 0: the untrained concept is the base with a new name."""
        super().__init__()
        generator = torch.Generator().manual_seed(config.seed)
        method = METHODS[config.method]
        self.name, self.class_phrase, self.groups = name, class_phrase, base.family.groups
        words = new_tokens(base, name, class_phrase, generator).words
        words = words if method.layered else words[:, :1]
        self.words = nn.Parameter(words[: method.words].clone())
        self.register_buffer("fixed", words[method.words :].clone(), persistent=False)
        self.widths = base.widths
        tables = [token_table(each.model).float() for each in base.encoders]
        self.word_lengths = [table.norm(dim=-1).mean().item() for table in tables]
        full = method.linears == "kv"
        self.scale = 1.0 if full else config.alpha / config.rank
        self.names = list(_changed(base, method, config.layers))
        downs, ups = [], []
        for linear in (base.linears[each] for each in self.names):
            rank = linear.in_features if full else config.rank
            down = torch.eye(rank)
            if not full:
                down = torch.randn(rank, linear.in_features, generator=generator) / rank
            downs.append(nn.Parameter(down.to(base.device), requires_grad=not full))
            ups.append(nn.Parameter(torch.zeros(linear.out_features, rank).to(base.device)))
        self.downs, self.ups = nn.ParameterList(downs), nn.ParameterList(ups)

    def deltas(self) -> dict[str, Delta]:
        """The changes as they are now; gradients flow."""
        return {
            name: Delta(up, down, self.scale)
            for name, up, down in zip(self.names, self.ups, self.downs, strict=True)
        }

    def tokens(self) -> dict[str, ConceptTokens]:
        """The words as they are now; gradients flow. One group stands for all where they agree."""
        fixed = self.fixed
        assert isinstance(fixed, torch.Tensor)
        words = self.words if len(self.words) == WORDS else torch.cat([self.words, fixed])
        return {self.name: ConceptTokens(self.name, words)}

    def finished(self, task: TrainTask, base: BaseModel, config: Mapping[str, object]) -> Concept:
        """The concept as it is now."""
        words = self.tokens()[self.name].words
        return Concept(
            task.concept,
            task.kind,
            task.class_phrase,
            ConceptTokens(self.name, words.expand(-1, self.groups, -1)),
            self.deltas(),
            base.name,
            base.hash,
            config,
            task.licence,
        )

    def learnt(self) -> list[nn.Parameter]:
        """What the optimiser moves."""
        return [p for p in self.parameters() if p.requires_grad and p.numel()]

    def rates(self, config: TrainConfig) -> list[dict[str, object]]:
        """Parameter groups of the optimiser, each with its learning rate: words, text, U-Net."""
        text = [n.startswith("text_encoder.") for n in self.names]
        pairs = list(zip(text, self.ups, self.downs, strict=True))

        def moved(of_text: bool) -> list[nn.Parameter]:
            """The parameters of the text encoder, or of the rest, that learn."""
            return [p for t, *ps in pairs if t is of_text for p in ps if p.requires_grad]

        words = [self.words] if self.words.numel() else []
        return [
            {"params": words, "peak": config.embedding_lr, "weight_decay": 0.0},
            {"params": moved(True), "peak": config.text_lr},
            {"params": moved(False), "peak": config.unet_lr},
        ]

    @torch.no_grad()
    def guard(self, most: float) -> None:
        """Shorten embeddings to `most` times the mean length of each encoder's own words."""
        parts = torch.split(self.words, self.widths, -1)
        for part, usual in zip(parts, self.word_lengths, strict=True):
            length = part.norm(dim=-1, keepdim=True).clamp(min=1e-12)
            part.mul_((most * usual / length).clamp(max=1))


def _changed(base: BaseModel, method: TrainMethod, layers: Sequence[str] | None) -> Iterator[str]:
    """The linears that learn; of a method that changes all, those of the chosen layers."""
    chosen = layers if method.linears == "all" else {"kv": ("kv",), "none": ()}[method.linears]
    for linear in base.linears:
        if chosen is None or _layers(base, linear) in chosen:
            yield linear


def _layers(base: BaseModel, linear: str) -> Layers:
    stage = base.family.stage(linear)
    if stage == "spatial":
        return "cross" if ".attn2." in linear else "self"
    return stage


class WeightAverage:
    """A running mean of the weights (EMA), shorter at the start so that it soon forgets it."""

    def __init__(self, trainable: TrainableConcept, decay: float) -> None:
        """Begin with the weights as they are."""
        self.decay, self.weights = decay, [p.detach().clone() for p in trainable.learnt()]

    @torch.no_grad()
    def update(self, trainable: TrainableConcept, step: int) -> None:
        """Take in the weights after step `step`, from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for mean, weight in zip(self.weights, trainable.learnt(), strict=True):
            mean.lerp_(weight, 1 - decay)

    @contextmanager
    def standing_in(self, trainable: TrainableConcept) -> Iterator[None]:
        """Let the learner have the mean weights while the block runs."""
        with torch.no_grad():
            own = [p.detach().clone() for p in trainable.learnt()]
            self.give(trainable)
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, kept in zip(trainable.learnt(), own, strict=True):
                    weight.copy_(kept)

    @torch.no_grad()
    def give(self, trainable: TrainableConcept) -> None:
        """Make the mean the learner's own weights."""
        for weight, mean in zip(trainable.learnt(), self.weights, strict=True):
            weight.copy_(mean)
