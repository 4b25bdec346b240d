"""Whether the model reads every prompt of a story to its end: counted before anything is drawn.

A prompt that is longer than the text encoder takes is refused when it is drawn. Every Stable
Diffusion reads CLIP's tokens; a base that brings a vocabulary of its own is counted by that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from storyforge.errors import Diagnostic, EnvironmentProblem, Report
from storyforge.model.card import WORDS, Card
from storyforge.model.prompt_weights import pieces_of
from storyforge.model.vocabulary import TOKENS, clip_vocabulary
from storyforge.modelref import DEFAULTS_FILE, Defaults, files_here, weights_at
from storyforge.pictures import beside
from storyforge.story.lint.cast import PLACEHOLDER
from storyforge.story.places import StoryPlace
from storyforge.story.prompts import head_prompt, negative_prompt, panel_prompt, region_prompt
from storyforge.story.story import Panel, Story

_ENDS: Final = 2
"""Tokens that stand before and after every prompt."""

_PATTERN: Final = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
"""How CLIP cuts a text before it looks for words (its `simple_tokenizer.py`)."""


def prompt_findings(story: Story) -> tuple[Diagnostic, ...]:
    """Every prompt that has more tokens than the story's base reads, where it is written.

    Nothing of a base that is not on this machine, nor of a transformer, which reads far more.
    """
    model = story.base_parts.model
    folder = beside(story.folder, str(weights_at(model)))
    folder = folder if os.path.exists(folder) else files_here(model)
    if not os.path.exists(folder) or (folder / "transformer").is_dir():
        return ()
    room, counted = _longest(folder) - _ENDS, _counter(folder / "tokenizer")
    own = {name: _words_of(spec) for name, spec in story.concepts.items() if isinstance(spec, Path)}
    reports: dict[str, Report] = {}
    usual, said = _usual(folder), story.sampling
    heads = usual.heads if said.heads is None else said.heads
    company = usual.company if said.company is None else said.company
    for _, panel in story.panels():
        for place, prompt in _prompts(story, panel, heads=heads, company=company):
            # A token is one byte at least: most prompts need not be counted.
            if len(prompt.encode()) + WORDS * prompt.count("<") <= room:
                continue
            length = _tokens(prompt, own, counted)
            if length > room:
                file, mark = story.places.find(place)
                message = f"with all that is added, this prompt has {length} tokens; the model"
                report = reports.setdefault(file, Report(file))
                report.error(mark, "SF334", f"{message} reads {room}")
    return tuple({each for report in reports.values() for each in report.findings()})


def _prompts(
    story: Story, panel: Panel, *, heads: bool, company: bool
) -> Iterator[tuple[StoryPlace, str]]:
    """Everything that is read to draw a panel, and where its author wrote it."""
    here: StoryPlace = ("panel", panel.id)
    yield (*here, "prompt"), panel_prompt(story, panel)
    yield (*here, "negative"), negative_prompt(story, panel)
    for name in panel.regions:
        where = (*here, "regions", name)
        yield (*where, "prompt"), region_prompt(story, panel, name, company=company)
        yield (*where, "negative"), negative_prompt(story, panel, name)
        if heads:
            yield (*where, "prompt"), head_prompt(story, panel, name)


def _usual(folder: Path) -> Defaults:
    """What the base likes; of a file that cannot be read it is told elsewhere."""
    try:
        return Defaults.read(folder / DEFAULTS_FILE)
    except EnvironmentProblem:
        return Defaults()


def _tokens(prompt: str, own: dict[str, int], counted: Callable[[str], int]) -> int:
    """How many tokens a prompt has, each concept with its own words."""
    total = 0
    for text, _ in pieces_of(prompt):
        total += sum(own.get(name, WORDS) for name in PLACEHOLDER.findall(text))
        total += sum(counted(part) for part in PLACEHOLDER.split(text)[::2])
    return total


def _words_of(file: Path) -> int:
    """How many words a concept's file has; what is not ours is told of elsewhere."""
    try:
        return Card.read(file).words[0]
    except EnvironmentProblem:
        return WORDS


def _longest(folder: Path) -> int:
    """Tokens that a base's text encoder reads; CLIP's number where nothing else is known."""
    try:
        config = json.loads((folder / "text_encoder" / "config.json").read_text(encoding="utf-8"))
        return int(config["max_position_embeddings"])
    except (OSError, ValueError, KeyError, TypeError):
        return TOKENS


@lru_cache(maxsize=4)
def _counter(own: Path) -> Callable[[str], int]:
    """Counts the tokens of a text by a base's own vocabulary; by CLIP's if it brings none."""
    try:
        vocabulary = json.loads((own / "vocab.json").read_text(encoding="utf-8"))
        lines = (own / "merges.txt").read_text(encoding="utf-8").splitlines()
        pairs = [line.split() for line in lines if not line.startswith("#version:")]
        merges = [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]
    except (OSError, ValueError):
        vocabulary, merges = clip_vocabulary()
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, end_of_word_suffix="</w>", unk_token="<|endoftext|>")
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
