"""Layer-wise concept tokens: `<pip>` in a prompt is some words, each with one embedding per group.

A group is a cross-attention site (Mix-of-Show §3.2, after P+). A prompt is tokenised once; group k
reads its own embeddings through a module that stands in for the encoder's table while a block runs,
so the vocabulary never grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from storyforge.errors import StoryForgeError
from storyforge.model.base import BaseModel, Encoder
from storyforge.model.card import WORDS
from storyforge.model.dit import reading
from storyforge.model.dit.door import Door
from storyforge.model.family import TextEncoder, text_embeddings, token_table
from storyforge.model.prompt_weights import WeightedPiece, pieces_of
from storyforge.model.weighting import emphasised
from storyforge.model.wordtable import PLACEHOLDER, WordTable


@dataclass(frozen=True, slots=True)
class ConceptTokens:
    """The words of one concept.

    words  (n, G, d)  for instance V_rand⁺ and V_class⁺, one row per group; G may be 1 if all agree.
                      Of two text encoders each has its part of d, one behind the other
    """

    name: str
    words: torch.Tensor


@dataclass(frozen=True, slots=True)
class PromptEmbeds:
    """What a U-Net reads of n prompts.

    features  (G, n, T, d)
    pooled    (n, p) each prompt as a whole, in models that read it; else None
    """

    features: torch.Tensor
    pooled: torch.Tensor | None = None

    def __len__(self) -> int:
        """How many prompts."""
        return self.features.shape[1]

    def rows(self, chosen: slice | list[int]) -> PromptEmbeds:
        """Some of the prompts."""
        pooled = None if self.pooled is None else self.pooled[chosen]
        return PromptEmbeds(self.features[:, chosen], pooled)

    @staticmethod
    def joined(parts: Sequence[PromptEmbeds]) -> PromptEmbeds:
        """The prompts of all parts."""
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return PromptEmbeds(
            torch.cat([part.features for part in parts], 1), torch.cat(pooled) if pooled else None
        )


def new_tokens(
    base: BaseModel, name: str, class_phrase: str, generator: torch.Generator
) -> ConceptTokens:
    """Tokens before training: noise of the table's own spread, and the mean of the class phrase."""
    words = [_first_words(each, name, class_phrase, generator) for each in base.encoders]
    return ConceptTokens(name, torch.cat(words, -1)[:, None].repeat(1, base.family.groups, 1))


def _first_words(
    encoder: Encoder, name: str, class_phrase: str, generator: torch.Generator
) -> torch.Tensor:
    """(2, d): both words as one text encoder has them."""
    table = token_table(encoder.model).float()
    ids = encoder.tokenizer(class_phrase, add_special_tokens=False).input_ids
    if not ids:
        raise StoryForgeError(f"the class of `{name}` is empty", hint="for instance `class: fox`")
    klass = table[torch.tensor(ids, device=table.device)].mean(0)
    noise = torch.randn(klass.shape, generator=generator).to(klass) * table.std(0).mean()
    return torch.stack([noise, klass])


def counts_of(tokens: Mapping[str, ConceptTokens]) -> dict[str, int]:
    """How many words each concept has."""
    return {name: len(each.words) for name, each in tokens.items()}


def word_ids(
    base: BaseModel, names: Sequence[str], counts: Mapping[str, int] | None = None
) -> dict[str, range]:
    """The ids of every concept's words, from the (first) text encoder's table's size on.

    counts  of a concept's words, where it has not `WORDS`
    """
    return _word_ids(base.encoders[0], names, counts)


def _word_ids(
    encoder: Encoder, names: Sequence[str], counts: Mapping[str, int] | None
) -> dict[str, range]:
    first = len(token_table(encoder.model))
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

    Of two text encoders these are the first one's; in both, a word stands at the same place.

    Raises:
      StoryForgeError: for an unknown `<name>`, or a prompt longer than the encoder takes.
    """
    pieces, own = ((prompt, 1.0),), word_ids(base, names, counts)
    if base.door is not None:
        return reading.framed_ids(base.door, base.tokenizer, pieces, own)[0]
    return weighed_ids(base.encoders[0], pieces, own)[0]


def weighed_ids(
    encoder: Encoder, pieces: Sequence[WeightedPiece], own: Mapping[str, range]
) -> tuple[list[int], list[float]]:
    """Ids of a prompt in pieces, padded, and what each counts.

    own  the ids of every concept's words
    """
    tokenizer = encoder.tokenizer
    ids: list[int] = []
    weights: list[float] = []
    for text, weight in pieces:
        ids += _ids(encoder, text, own)
        weights += [weight] * (len(ids) - len(weights))
    room = int(encoder.model.config.max_position_embeddings)
    if len(ids) + 2 > room:
        prompt = "".join(text for text, _ in pieces)
        raise StoryForgeError(
            f"a prompt is {len(ids)} tokens long and the model takes {room - 2}: “{prompt[:80]}…”",
            hint="shorten the prompt, the scene's words or the story's `style:`",
        )
    left = room - len(ids) - 2
    padded = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
    return padded + [tokenizer.pad_token_id] * left, [1.0, *weights, 1.0, *[1.0] * left]


def _ids(encoder: Encoder, text: str, own: Mapping[str, range]) -> list[int]:
    tokenizer = encoder.tokenizer
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


@contextmanager
def _standing_in(
    text_encoder: TextEncoder, words: torch.Tensor, groups: torch.Tensor
) -> Iterator[None]:
    embeddings = text_embeddings(text_encoder)
    table = embeddings.token_embedding
    assert isinstance(table, nn.Module)
    embeddings.token_embedding = WordTable(table, words, groups)
    try:
        yield
    finally:
        embeddings.token_embedding = table


Pieces = tuple[WeightedPiece, ...]


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the text encoders are asked for: each prompt once, or once for every group.

    prompts   of each row
    group_of  each row
    first     of each prompt, its first row
    layered   of each prompt, whether it has a row for every group
    """

    prompts: list[Pieces]
    group_of: list[int]
    first: dict[Pieces, int]
    layered: dict[Pieces, bool]

    @staticmethod
    def of(prompts: Sequence[Pieces], tokens: Mapping[str, ConceptTokens], groups: int) -> _Rows:
        """The rows that prompts and groups come to, none twice."""
        made = _Rows([], [], {}, {})
        for prompt in dict.fromkeys(prompts):
            names = [match[1] for text, _ in prompt for match in PLACEHOLDER.finditer(text)]
            layered = any(tokens[name].words.shape[1] > 1 for name in names if name in tokens)
            made.first[prompt], made.layered[prompt] = len(made.prompts), layered
            copies = groups if layered else 1
            made.prompts.extend([prompt] * copies)
            made.group_of.extend(range(copies))
        return made

    def of_prompt(self, prompt: Pieces, groups: int) -> list[int]:
        """Of every group, the row that is the prompt."""
        first = self.first[prompt]
        return [first + (group if self.layered[prompt] else 0) for group in range(groups)]


def encode(
    base: BaseModel, prompts: Sequence[str], tokens: Mapping[str, ConceptTokens]
) -> PromptEmbeds:
    """Text features of every prompt for every group, each prompt as it is written.

    A prompt without concepts, or whose concepts have one row for all groups, is the same for all
    of them and is encoded once; so is a prompt that comes twice.

    Of two text encoders (SDXL) the features after the last layer but one stand side by side, as the
    U-Net was trained on, and a prompt as a whole is the mean of its groups.
    """
    return encode_pieces(base, [((prompt, 1.0),) for prompt in prompts], tokens)


def encode_weighted(
    base: BaseModel, prompts: Sequence[str], tokens: Mapping[str, ConceptTokens]
) -> PromptEmbeds:
    """The same, with words that count more or less, as `weighting` reads them."""
    return encode_pieces(base, [pieces_of(prompt) for prompt in prompts], tokens)


def encode_pieces(
    base: BaseModel, prompts: Sequence[Pieces], tokens: Mapping[str, ConceptTokens]
) -> PromptEmbeds:
    """The same of prompts in pieces, each with its weight."""
    if base.door is not None:
        return _read_jointly(base, base.door, prompts, tokens)
    groups = base.family.groups
    rows = _Rows.of(prompts, tokens, groups)
    device = base.device
    words = torch.zeros(0, sum(base.widths), device=device)
    if tokens:
        words = torch.cat([own.words.expand(-1, groups, -1) for own in tokens.values()]).to(device)
    parts = torch.split(words, base.widths, -1)
    read = [
        _read(each, part, tokens, rows) for each, part in zip(base.encoders, parts, strict=True)
    ]
    picked = torch.tensor([rows.of_prompt(p, groups) for p in prompts], device=device).T
    if len(read) == 1:
        return PromptEmbeds(read[0].last_weighed[picked])
    features = torch.cat([each.last_but_one_weighed for each in read], -1)[picked]
    pooled = read[-1].whole(base.encoders[-1])[picked].mean(0)
    if base.empty_is_zero:
        said = [any(text for text, _ in prompt) for prompt in prompts]
        kept = torch.tensor(said, device=device)[:, None]
        features, pooled = features * kept[..., None], pooled * kept
    return PromptEmbeds(features, pooled)


def _read_jointly(
    base: BaseModel, door: Door, prompts: Sequence[Pieces], tokens: Mapping[str, ConceptTokens]
) -> PromptEmbeds:
    """The same for a transformer: one group, filled up to one length."""
    own = word_ids(base, list(tokens), counts_of(tokens))
    rows = [each.words[:, 0] for each in tokens.values()]
    words = (torch.cat(rows) if rows else torch.zeros(0, sum(base.widths))).to(base.device)
    features = reading.read(door, base.text_encoder, base.tokenizer, prompts, own, words)
    return PromptEmbeds(features[None])


@dataclass(frozen=True, slots=True)
class _States:
    """What a text encoder says of (rows, T) ids: (rows, T, d) after its last layers."""

    ids: torch.Tensor
    weights: Sequence[Sequence[float]]
    last: torch.Tensor
    last_but_one: torch.Tensor

    @property
    def last_weighed(self) -> torch.Tensor:
        """After the last layer, each word counting what it is to."""
        return emphasised(self.last, self.weights)

    @property
    def last_but_one_weighed(self) -> torch.Tensor:
        """After the last layer but one, each word counting what it is to."""
        return emphasised(self.last_but_one, self.weights)

    def whole(self, encoder: Encoder) -> torch.Tensor:
        """(rows, p): each row as a whole, which is said at its end.

        Not what the encoder itself returns: some configurations look for the end at the largest id,
        and that is a concept's.
        """
        ends = (self.ids == encoder.tokenizer.eos_token_id).int().argmax(1)
        at_end = self.last[torch.arange(len(ends), device=ends.device), ends]
        pooled: torch.Tensor = encoder.model.text_projection(at_end)
        return pooled


def _read(
    encoder: Encoder, words: torch.Tensor, tokens: Mapping[str, ConceptTokens], rows: _Rows
) -> _States:
    own = _word_ids(encoder, list(tokens), counts_of(tokens))
    told = {prompt: weighed_ids(encoder, prompt, own) for prompt in dict.fromkeys(rows.prompts)}
    ids = torch.tensor([told[prompt][0] for prompt in rows.prompts], device=words.device)
    groups = torch.tensor(rows.group_of, device=words.device)
    with _standing_in(encoder.model, words, groups):
        made = encoder.model(ids, output_hidden_states=True)
    weights = [told[prompt][1] for prompt in rows.prompts]
    return _States(ids, weights, made.last_hidden_state, made.hidden_states[-2])
