"""How a large language model reads prompts: framed as a question, and a concept's words in it.

A concept's words stand in the place of its placeholder and of the space before it; what is left
around them, and around what counts more or less, is tokenised in parts. A prompt without either is
tokenised as a whole, as diffusers' pipelines do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from storyforge.errors import StoryForgeError
from storyforge.model.dit.door import LONGEST, Door
from storyforge.model.prompt_weights import WeightedPiece
from storyforge.model.weighting import emphasised
from storyforge.model.wordtable import PLACEHOLDER, WordTable

Ids = Mapping[str, range]
"""Of each concept, the ids of its words."""

Pieces = tuple[WeightedPiece, ...]

Number = TypeVar("Number")

_HERE: Final = "\x00"
"""Stands for the prompt while its frame is made."""


def framed_ids(
    door: Door, tokenizer: PreTrainedTokenizerBase, prompt: Pieces, own: Ids
) -> tuple[list[int], list[float]]:
    """Ids of a prompt in its frame, and what each counts.

    Raises:
      StoryForgeError: for an unknown `<name>`, or a prompt longer than is read.
    """
    before, after = _frame(door, tokenizer)
    ids: list[int] = []
    weights: list[float] = []
    for part, weight in _joined([(before, 1.0), *_parts(prompt, own), (after, 1.0)]):
        if isinstance(part, str):
            part = tokenizer(part, add_special_tokens=False).input_ids
        ids += part
        weights += [weight] * (len(ids) - len(weights))
    if len(ids) > LONGEST:
        text = "".join(text for text, _ in prompt)
        frames = len(_framing(tokenizer, before + after))
        raise StoryForgeError(
            f"a prompt is {len(ids) - frames} tokens long and the model takes {LONGEST - frames}: "
            f"“{text[:80]}…”",
            hint="shorten the prompt, the scene's words or the story's `style:`",
        )
    return ids, weights


def _frame(door: Door, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """What stands before and after a prompt."""
    asked = [{"role": "user", "content": _HERE}]
    frame = tokenizer.apply_chat_template(
        asked, tokenize=False, add_generation_prompt=True, enable_thinking=door.thinks
    )
    before, _, after = str(frame).partition(_HERE)
    return before, after


def places_of(
    door: Door, tokenizer: PreTrainedTokenizerBase, prompt: Pieces, own: Ids, name: str | None
) -> list[int]:
    """Where in its features a prompt's words for a concept are; all its words without any.

    Nowhere in a prompt that says nothing: its frame is no subject.
    """
    ids, _ = framed_ids(door, tokenizer, prompt, own)
    filling = LONGEST - len(ids) if door.filled and tokenizer.padding_side == "left" else 0
    words = own.get(name or "", range(0))
    found = [place for place, each in enumerate(ids) if each in words]
    if not found:
        before, after = (len(_framing(tokenizer, part)) for part in _frame(door, tokenizer))
        found = list(range(before, len(ids) - after))
    return [filling + place for place in found]


def _framing(tokenizer: PreTrainedTokenizerBase, frame: str) -> list[int]:
    ids: list[int] = tokenizer(frame, add_special_tokens=False).input_ids
    return ids


_Part = tuple[str | range, float]


def _parts(prompt: Pieces, own: Ids) -> Iterator[_Part]:
    """The prompt's words as text, and those of concepts as ids."""
    for text, weight in prompt:
        start = 0
        for match in PLACEHOLDER.finditer(text):
            if match[1] not in own:
                raise StoryForgeError(
                    f"the prompt “{text}” names `<{match[1]}>`, which is not among the concepts",
                    hint="known: " + (", ".join(own) or "none"),
                )
            yield text[start : match.start()], weight
            yield own[match[1]], weight
            start = match.end()
        yield text[start:], weight


def _joined(parts: Sequence[_Part]) -> list[_Part]:
    """Neighbouring texts of one weight as one; a space at a text's end goes to what follows."""
    made: list[_Part] = []
    for part, weight in parts:
        last, of_last = made[-1] if made else ("", weight)
        if not isinstance(part, str) or not isinstance(last, str):
            made.append((part, weight))
        elif weight == of_last:
            made[-1:] = [(last + part, weight)]
        elif part:
            moved = last[len(last.rstrip(" ")) :]
            made[-1:] = [(last.rstrip(" "), of_last), (moved + part, weight)]
    for index, (part, _) in enumerate(made[1:]):
        last, weight = made[index]
        if isinstance(part, range) and isinstance(last, str):
            made[index] = (last.removesuffix(" "), weight)
    return [(part, weight) for part, weight in made if part]


@contextmanager
def _standing_in(model: PreTrainedModel, words: torch.Tensor, rows: int) -> Iterator[None]:
    table = model.get_input_embeddings()
    assert isinstance(table, nn.Module)
    groups = torch.zeros(rows, dtype=torch.long, device=words.device)
    model.set_input_embeddings(WordTable(table, words[:, None], groups))
    try:
        yield
    finally:
        model.set_input_embeddings(table)


def read(
    door: Door,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Pieces],
    own: Ids,
    words: torch.Tensor,
) -> torch.Tensor:
    """(n, LONGEST, d) features of prompts; rows of zeros at the end of one are no tokens.

    own    the ids of every concept's words
    words  (words, d) their embeddings, from the first such id on
    """
    different = list(dict.fromkeys(prompts))
    told = [framed_ids(door, tokenizer, prompt, own) for prompt in different]
    length = LONGEST if door.filled else max(len(ids) for ids, _ in told)
    filler = tokenizer.pad_token_id
    left = door.filled and tokenizer.padding_side == "left"
    rows = [_filled(ids, length, filler, left) for ids, _ in told]
    real = [_filled([1] * len(ids), length, 0, left) for ids, _ in told]
    weights = [_filled(each, length, 1.0, left) for _, each in told]
    core = getattr(model, "model", model)  # without the head that would speak
    with _standing_in(core, words, len(rows)):
        said = core(
            input_ids=torch.tensor(rows, device=words.device),
            attention_mask=torch.tensor(real, device=words.device),
            output_hidden_states=True,
            use_cache=False,
        )
    features = door.features(said.hidden_states)
    if not door.filled:
        # Before words are weighed: what fills a prompt up beside a longer one counts nothing there.
        kept = torch.tensor(real, device=words.device, dtype=torch.bool)
        features = torch.where(kept[..., None], features, 0)
    features = emphasised(features, weights)
    features = nn.functional.pad(features, (0, 0, 0, LONGEST - length))
    return features[[different.index(prompt) for prompt in prompts]]


def _filled(row: list[Number], length: int, filler: Number, left: bool) -> list[Number]:
    rest: list[Number] = [filler] * (length - len(row))
    return [*rest, *row] if left else [*row, *rest]
