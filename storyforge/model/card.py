"""What a concept's file says of itself, read from its header alone: no torch, no tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open

from storyforge.errors import EnvironmentProblem

CARRIED: Final = "statistics."
"""How tensors and metadata begin that are not the concept but what is seen while it is drawn."""

_DOWN = ".lora_A.weight"

_BYTES: Final = {"I16": 2, "F16": 2, "F32": 4}
"""Of a number, by the name that safetensors has for its type; statistics hold no others."""


@dataclass(frozen=True, slots=True)
class Card:
    """One concept's file.

    words       (words, groups, d) of its embeddings
    changed     part of the base -> how many of its linears the concept changes
    rank        largest of these changes; 0 without any
    size        bytes of the file
    statistics  bytes of these that hold what fusing needs to know; 0 if it has to be watched
    """

    path: Path
    name: str
    kind: str
    class_phrase: str
    licence: str | None
    base: str
    base_hash: str
    words: tuple[int, ...]
    changed: Mapping[str, int]
    rank: int
    size: int
    statistics: int
    recipe: Mapping[str, object] = field(default_factory=dict)

    @property
    def drift(self) -> float | None:
        """How much prompts that never mention it change; None if nobody measured it."""
        drift = self.recipe.get("drift")
        return drift if isinstance(drift, float) else None

    @staticmethod
    def read(path: Path) -> Card:
        """Read the header of a concept's file.

        Raises:
          EnvironmentProblem: if it is not a concept of storyforge.
        """
        try:
            with safe_open(path, "np") as file:
                meta = file.metadata() or {}
                slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
                shapes = {k: tuple(v.get_shape()) for k, v in slices.items()}
                held = [v for k, v in slices.items() if k.startswith(CARRIED)]
                carried = sum(prod(v.get_shape()) * _BYTES[v.get_dtype()] for v in held)
        except (OSError, SafetensorError, KeyError) as exc:
            raise EnvironmentProblem(f"cannot read `{path}`: {exc}") from exc
        if "storyforge.format" not in meta or "concept.words" not in shapes:
            raise EnvironmentProblem(f"`{path}` is not a storyforge concept")
        linears = [key.removesuffix(_DOWN) for key in shapes if key.endswith(_DOWN)]
        text = sum(name.startswith("text_encoder.") for name in linears)
        try:
            return Card(
                path,
                meta["name"],
                meta["kind"],
                meta["class"],
                meta["licence"] or None,
                meta["base"],
                meta["base_hash"],
                shapes["concept.words"],
                {"text encoder": text, "unet": len(linears) - text},
                max((shapes[name + _DOWN][0] for name in linears), default=0),
                path.stat().st_size,
                carried,
                json.loads(meta["recipe"]),
            )
        except (KeyError, ValueError) as exc:
            raise EnvironmentProblem(f"`{path}` is damaged: {exc}") from exc
