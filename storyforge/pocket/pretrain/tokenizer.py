"""A CLIP-form byte-level BPE tokenizer: the world's words whole, any other text in pieces.

When the world learns new words, the vocabulary grows behind what is there, so that every old word
keeps its id and a text encoder that knows it goes on from where it was.
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTextModel, CLIPTokenizer

from storyforge.pocket import world
from storyforge.pocket.pretrain.parts import POSITIONS

START, END = "<|startoftext|>", "<|endoftext|>"
SELDOM = 20
"""A pair that comes less often in the corpus is not worth a token."""

Pair = tuple[str, str]
CONFIG = {
    "tokenizer_class": "CLIPTokenizer",
    "model_max_length": POSITIONS,
    "bos_token": START,
    "eos_token": END,
    "pad_token": END,
    "unk_token": END,
}


def grow_tokenizer(
    folder: Path, known: Path | None, captions: int = 20000, most: int = 2000
) -> CLIPTokenizer:
    """Add merges for the captions of today's world to those in `known`; write vocab.json,
    merges.txt and tokenizer_config.json.

    known  folder of a tokenizer whose ids stay; None begins with bytes alone
    most   size of the vocabulary at the end, at most
    """
    if known is None:
        vocab, merges = _bytes(), list[Pair]()
    else:
        vocab = json.loads((known / "vocab.json").read_text(encoding="utf-8"))
        lines = (known / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
        merges = [(a, b) for a, b in (line.split() for line in lines)]
    words = _corpus(captions)
    for a, b in _more_merges(words, merges, most - len(vocab)):
        merges.append((a, b))
        vocab.setdefault(a + b, len(vocab))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    (folder / "tokenizer_config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    return CLIPTokenizer.from_pretrained(folder)


def _bytes() -> dict[str, int]:
    letters = _byte_letters()
    words = [*letters, *(letter + "</w>" for letter in letters), START, END]
    return {word: index for index, word in enumerate(words)}


def _corpus(captions: int) -> Counter[tuple[str, ...]]:
    """Words of as many captions, in letters, with how often they come."""
    blank = CLIPTokenizer(vocab={START: 0, END: 1}, merges=[]).backend_tokenizer
    rng = np.random.default_rng(0)
    words: Counter[str] = Counter()
    for _ in range(captions):
        text = blank.normalizer.normalize_str(world.describe(world.imagine(rng), rng))
        words.update(word for word, _ in blank.pre_tokenizer.pre_tokenize_str(text))
    return Counter({(*word[:-1], word[-1] + "</w>"): count for word, count in words.items()})


def _more_merges(words: Counter[tuple[str, ...]], known: list[Pair], most: int) -> list[Pair]:
    """Byte-pair encoding (Sennrich et al. 2016) gone on with: the most frequent pair, again and
    again, of words in which the known pairs are merged already."""
    split = {word: word for word in words}
    for pair in known:
        split = {word: _merged(parts, pair) for word, parts in split.items()}
    found: list[Pair] = []
    while len(found) < most:
        pairs: Counter[Pair] = Counter()
        for word, parts in split.items():
            for pair in zip(parts, parts[1:], strict=False):
                pairs[pair] += words[word]
        if not pairs:
            break
        best, count = max(pairs.items(), key=lambda item: (item[1], item[0]))
        if count < SELDOM:
            break
        found.append(best)
        split = {word: _merged(parts, best) for word, parts in split.items()}
    return found


def _merged(parts: tuple[str, ...], pair: Pair) -> tuple[str, ...]:
    made: list[str] = []
    for part in parts:
        if made and (made[-1], part) == pair:
            made[-1] += part
        else:
            made.append(part)
    return tuple(made)


@torch.no_grad()
def grow_text_encoder(
    text: CLIPTextModel, before: CLIPTokenizer, after: CLIPTokenizer
) -> CLIPTextModel:
    """Give it rows for the words that `after` has beyond `before`; each begins as the mean of
    the pieces that stood for it."""
    old = text.get_input_embeddings().weight
    rows = [row.clone() for row in old]
    names = after.convert_ids_to_tokens(list(range(len(before), len(after))))
    for name in names:
        pieces = before(name.removesuffix("</w>"), add_special_tokens=False).input_ids
        rows.append(old[pieces].mean(0) if pieces else old.mean(0))
    text.resize_token_embeddings(len(after), mean_resizing=False)
    text.get_input_embeddings().weight.copy_(torch.stack(rows))
    return text


def _byte_letters() -> list[str]:
    """The 256 printable stand-ins of byte-level BPE (GPT-2), in CLIP's order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(moved))]
