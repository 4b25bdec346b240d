"""Layer-wise concept tokens: `<pip>` in a prompt is some words, each with one embedding per group.

A group is a cross-attention site (Mix-of-Show §3.2, after P+). A prompt is tokenised once; group k
reads its own embeddings through a module that stands in for the encoder's table while a block runs,
so the vocabulary never grows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from storyforge.errors import StoryForgeError
from storyforge.model.base import BaseModel
from storyforge.model.family import text_embeddings, token_table
from storyforge.model.weighting import Piece, emphasised, pieces_of

WORDS = 2
"""Words of a concept that is learnt here: V_rand⁺ and V_class⁺. One from elsewhere has its own."""

PLACEHOLDER = re.compile(r"<([\w-]+)>")


@dataclass(frozen=True, slots=True)
class ConceptTokens:
    """The words of one concept.

    words  (n, G, d)  for instance V_rand⁺ and V_class⁺, one row per group; G may be 1 if all agree
    """

    name: str
    words: torch.Tensor


def new_tokens(
    base: BaseModel, name: str, class_phrase: str, generator: torch.Generator
) -> ConceptTokens:
    """Tokens before training: noise of the table's own spread, and the mean of the class phrase."""
    table = token_table(base.text_encoder).float()
    ids = base.tokenizer(class_phrase, add_special_tokens=False).input_ids
    if not ids:
        raise StoryForgeError(f"the class of `{name}` is empty", hint="for instance `class: fox`")
    klass = table[torch.tensor(ids, device=table.device)].mean(0)
    spread = table.std(0).mean()
    noise = torch.randn(klass.shape, generator=generator).to(klass) * spread
    words = torch.stack([noise, klass])[:, None].repeat(1, base.family.groups, 1)
    return ConceptTokens(name, words)


def counts_of(tokens: Mapping[str, ConceptTokens]) -> dict[str, int]:
    """How many words each concept has."""
    return {name: len(each.words) for name, each in tokens.items()}


def word_ids(
    base: BaseModel, names: Sequence[str], counts: Mapping[str, int] | None = None
) -> dict[str, range]:
    """The ids of every concept's words, from the table's size on.

    counts  of a concept's words, where it has not `WORDS`
    """
    first = len(token_table(base.text_encoder))
    found = {}
    for name in names:
        count = WORDS if counts is None else counts.get(name, WORDS)
        found[name] = range(first, first + count)
        first += count
    return found


def token_ids(
    base: BaseModel, prompt: str, names: Sequence[str], counts: Mapping[str, int] | None = None
) -> list[int]:
    """Ids of a prompt as it is written, padded; those of concepts as `word_ids` has them.

    Raises:
      StoryForgeError: for an unknown `<name>`, or a prompt longer than the encoder takes.
    """
    return weighed_ids(base, [(prompt, 1.0)], word_ids(base, names, counts))[0]


def weighed_ids(
    base: BaseModel, pieces: Sequence[Piece], own: Mapping[str, range]
) -> tuple[list[int], list[float]]:
    """Ids of a prompt in pieces, padded, and what each counts.

    own  the ids of every concept's words
    """
    tokenizer = base.tokenizer
    ids: list[int] = []
    weights: list[float] = []
    for text, weight in pieces:
        ids += _ids(base, text, own)
        weights += [weight] * (len(ids) - len(weights))
    room = int(base.text_encoder.config.max_position_embeddings)
    if len(ids) + 2 > room:
        prompt = "".join(text for text, _ in pieces)
        raise StoryForgeError(
            f"a prompt is {len(ids)} tokens long and the model takes {room - 2}: “{prompt[:80]}…”",
            hint="shorten the prompt, the scene's words or the story's `style:`",
        )
    left = room - len(ids) - 2
    padded = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
    return padded + [tokenizer.pad_token_id] * left, [1.0, *weights, 1.0, *[1.0] * left]


def _ids(base: BaseModel, text: str, own: Mapping[str, range]) -> list[int]:
    tokenizer = base.tokenizer
    ids: list[int] = []
    start = 0
    for match in PLACEHOLDER.finditer(text):
        ids += tokenizer(text[start : match.start()], add_special_tokens=False).input_ids
        name = match[1]
        if name not in own:
            raise StoryForgeError(
                f"the prompt “{text}” names `<{name}>`, which is not among the concepts",
                hint="known: " + (", ".join(own) or "none"),
            )
        ids += own[name]
        start = match.end()
    return ids + list(tokenizer(text[start:], add_special_tokens=False).input_ids)


class _Table(nn.Module):
    """The encoder's embedding table with concept words after its end."""

    def __init__(self, table: nn.Module, words: torch.Tensor, groups: torch.Tensor) -> None:
        super().__init__()
        self.table, self.words, self.groups = table, words, groups

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        weight: torch.Tensor = self.table.weight  # type: ignore[assignment]
        first = weight.shape[0]
        plain: torch.Tensor = self.table(ids.clamp(max=first - 1))
        if not self.words.numel():
            return plain
        slots = (ids - first).clamp(min=0)
        # Not plain indexing: its backward pass adds up in any order on several threads.
        flat = slots * self.words.shape[1] + self.groups[:, None]
        own = F.embedding(flat, self.words.flatten(0, 1))
        return torch.where((ids >= first)[..., None], own.to(plain), plain)


@contextmanager
def _standing_in(base: BaseModel, words: torch.Tensor, groups: torch.Tensor) -> Iterator[None]:
    embeddings = text_embeddings(base.text_encoder)
    table = embeddings.token_embedding
    assert isinstance(table, nn.Module)
    embeddings.token_embedding = _Table(table, words, groups)
    try:
        yield
    finally:
        embeddings.token_embedding = table


def encode(
    base: BaseModel, prompts: Sequence[str], tokens: Mapping[str, ConceptTokens]
) -> torch.Tensor:
    """Text features of every prompt for every group, each prompt as it is written.

    A prompt without concepts, or whose concepts have one row for all groups, is the same for all
    of them and is encoded once; so is a prompt that comes twice.

    Returns:
      (G, n, T, d)
    """
    return encode_pieces(base, [((prompt, 1.0),) for prompt in prompts], tokens)


def encode_weighted(
    base: BaseModel, prompts: Sequence[str], tokens: Mapping[str, ConceptTokens]
) -> torch.Tensor:
    """The same, with words that count more or less, as `weighting` reads them.

    Returns:
      (G, n, T, d)
    """
    return encode_pieces(base, [pieces_of(prompt) for prompt in prompts], tokens)


def encode_pieces(
    base: BaseModel, prompts: Sequence[tuple[Piece, ...]], tokens: Mapping[str, ConceptTokens]
) -> torch.Tensor:
    """Text features of prompts in pieces, each with its weight.

    Returns:
      (G, n, T, d)
    """
    names, groups = list(tokens), base.family.groups
    own = word_ids(base, names, counts_of(tokens))
    rows: list[list[int]] = []
    weights: list[list[float]] = []
    group_of: list[int] = []
    where: dict[tuple[Piece, ...], int] = {}
    layered: dict[tuple[Piece, ...], bool] = {}
    for prompt in prompts:
        if prompt in where:
            continue
        (ids, weighed), where[prompt] = weighed_ids(base, prompt, own), len(rows)
        layered[prompt] = any(
            tokens[match[1]].words.shape[1] > 1
            for text, _ in prompt
            for match in PLACEHOLDER.finditer(text)
        )
        copies = groups if layered[prompt] else 1
        rows += [ids] * copies
        weights += [weighed] * copies
        group_of += range(copies)
    features = emphasised(_features(base, rows, group_of, tokens), weights)
    picked = [[where[p] + (k if layered[p] else 0) for p in prompts] for k in range(groups)]
    return features[torch.tensor(picked, device=features.device)]


def _features(
    base: BaseModel,
    rows: Sequence[Sequence[int]],
    group_of: Sequence[int],
    tokens: Mapping[str, ConceptTokens],
) -> torch.Tensor:
    """(rows, T, d): what the encoder makes of ids, each row with the words of its group."""
    device, groups = base.text_encoder.device, base.family.groups
    words = (
        torch.cat([own.words.expand(-1, groups, -1) for own in tokens.values()]).to(device)
        if tokens
        else torch.zeros(0, device=device)
    )
    with _standing_in(base, words, torch.tensor(group_of, device=device)):
        features: torch.Tensor = base.text_encoder(
            torch.tensor(rows, device=device)
        ).last_hidden_state
    return features
