"""A story whose concept is learnt in one step, on a base of random weights: seconds in all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

STORY = """\
storyforge: 1
title: Tiny
base: %s
size: [32, 32]
sampling: {steps: 1}
characters: {pip: concepts/pip}
book: {formats: [html], colophon: false}
pages:
"""
PAGE = """\
  - panels:
      - id: p%d
        prompt: a meadow %d
        alt: A meadow.
        regions: {one: {at: left, concept: pip, mask: mask.png}, two: {at: right, prompt: an owl}}
"""


def write_story(folder: Path, panels: int = 2) -> Path:
    """A story whose concept is learnt in one step; its base lies beside it."""
    concept = folder / "concepts" / "pip"
    concept.mkdir(parents=True)
    (concept / "concept.yaml").write_text(
        "kind: character\nclass: fox\ntrain: {steps: 1, rank: 1, batch_size: 1, prior_share: 0}\n"
    )
    pixels = np.random.default_rng(5).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(concept / "1.png")
    Image.new("L", (8, 8), 255).save(folder / "mask.png")
    story = folder / "tale.yaml"
    base = folder.parent / "base"
    story.write_text(STORY % base + "".join(PAGE % (n, n) for n in range(panels)))
    return story


def products(story: Path) -> dict[str, bytes]:
    """What of a store has to be the same everywhere."""
    root = story.parent / ".storyforge"
    kept = [root / name for name in ("concepts", "fused", "panels", "books")]
    files = [file for folder in kept for file in folder.rglob("*") if file.suffix != ".sha256"]
    return {str(f.relative_to(root)): f.read_bytes() for f in files if f.is_file()}
