"""CLIP's vocabulary, made from its merges: files of weights bring none.

A vocabulary is the bytes, the bytes at a word's end, and what each merge makes of two of its words.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Final

CONFIGS: Final = Path(__file__).parent / "configs"
"""How the families of Stable Diffusion are put together, one folder each."""

TOKENS: Final = 77
"""Tokens that CLIP reads at once."""

_PRINTABLE: Final = ((0x21, 0x7E), (0xA1, 0xAC), (0xAE, 0xFF))
"""Bytes that are written as themselves; the others are written as letters from U+0100 on."""

_SPECIAL: Final = ("<|startoftext|>", "<|endoftext|>")


def clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The words of every Stable Diffusion with their numbers, and the merges that make them."""
    packed = (CONFIGS / "clip" / "merges.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").splitlines()
    merges = [(first, second) for first, second in map(str.split, lines)]
    plain = [chr(byte) for first, last in _PRINTABLE for byte in range(first, last + 1)]
    written = [*plain, *(chr(0x100 + n) for n in range(0x100 - len(plain)))]
    words = [*written, *(f"{letter}</w>" for letter in written), *map("".join, merges), *_SPECIAL]
    return {word: number for number, word in enumerate(words)}, merges
