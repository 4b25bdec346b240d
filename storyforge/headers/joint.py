"""What bases that are transformers cannot be asked for, and why: for `check` and for the stages.

Their text and picture are one sequence. There is no cross-attention to pull, and no adapter is
read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from storyforge.errors import StoryForgeError

WITHOUT: Final = {
    "control": "its adapters are made for U-Nets",
    "compose: training-free": "there is no cross-attention of a region's own",
    "regions: exact": "its layers read text and picture at once; `exact-text` is drawn",
    "enhancement": "there is no cross-attention that could be pulled",
    "isolation": "its regions are kept apart by what they read",
    "reinitialisation": "there is no cross-attention that could tell where a subject begins",
    "regions: auto": "there is no cross-attention that could tell where somebody is going to stand",
    "scheduler": "its way from noise to a picture is a straight one",
    "layers": "every one of them reads text and picture at once, and all learn",
    "min_snr_gamma": "along its way to a picture all noise counts alike",
    "attention_reg": "there is no cross-attention that could be held to masks",
    "method: custom-diffusion": "it has no keys and values of the text alone",
    "method: p-plus": "the text enters once; `textual-inversion` learns the same word",
    "area: subject": "there is no cross-attention that could tell where a concept is",
    "solver: custom-diffusion": "it has no keys and values of the text alone",
}
"""What is written -> why a transformer does not do it."""


def not_there(name: str, written: str) -> str:
    """The sentence; `name` is the family's, or the base's."""
    return f"`{written}` is not there for {name}: {WITHOUT[written]}"


def refuse_joint(name: str, asked: Mapping[str, bool]) -> None:
    """Raise StoryForgeError for what is asked, by its name, of a transformer that has no such."""
    for written, wanted in asked.items():
        if wanted:
            raise StoryForgeError(not_there(name, written), hint="leave it out")
