"""A CLIP-form byte-level BPE tokenizer: the world's words whole, any other text in pieces."""

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, trainers
from tokenizers.models import BPE
from transformers import CLIPTokenizer

from storyforge.pocket import world
from storyforge.pocket.pretrain.parts import POSITIONS

START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(folder: Path, captions: int = 20000, vocabulary: int = 1500) -> CLIPTokenizer:
    """Learn merges from captions and write vocab.json, merges.txt and tokenizer_config.json."""
    blank = CLIPTokenizer(vocab={START: 0, END: 1}, merges=[]).backend_tokenizer
    learner = Tokenizer(BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = blank.normalizer, blank.pre_tokenizer
    dice = np.random.default_rng(0)
    corpus = (world.describe(world.imagine(dice), dice) for _ in range(captions))
    learner.train_from_iterator(
        corpus,
        trainers.BpeTrainer(vocab_size=vocabulary, end_of_word_suffix="</w>", show_progress=False),
    )
    merges = json.loads(learner.to_str())["model"]["merges"]
    letters = _byte_letters()
    words = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges)]
    vocab = {word: index for index, word in enumerate(dict.fromkeys([*words, START, END]))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": POSITIONS,
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    return CLIPTokenizer.from_pretrained(folder)


def _byte_letters() -> list[str]:
    """The 256 printable stand-ins of byte-level BPE (GPT-2), in CLIP's order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(moved))]
