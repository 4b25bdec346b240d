"""What a concept's file says of itself, read from its header alone: no torch, no tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open

from storyforge.errors import EnvironmentProblem

_DOWN = ".lora_A.weight"


@dataclass(frozen=True, slots=True)
class Card:
    """One concept's file.

    words    (words, groups, d) of its embeddings
    changed  part of the base -> how many of its linears the concept changes
    rank     largest of these changes; 0 without any
    size     bytes of the file
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
                shapes = {k: tuple(file.get_slice(k).get_shape()) for k in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as exc:
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
                json.loads(meta["recipe"]),
            )
        except (KeyError, ValueError) as exc:
            raise EnvironmentProblem(f"`{path}` is damaged: {exc}") from exc
