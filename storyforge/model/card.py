"""What a concept's file says of itself, read from its header alone: no torch, no tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from storyforge.errors import EnvironmentProblem
from storyforge.headers.checked import head_of, json_of

CARRIED: Final = "statistics."
"""How tensors and metadata begin that are not the concept but what is seen while it is drawn."""

_DOWN = ".lora_A.weight"
_UP = ".lora_B.weight"

WORDS: Final = 2
"""Words of a concept that is learnt here: V_rand⁺ and V_class⁺. One from elsewhere has its own."""


def check_shapes(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Whether tensors can be a concept's: its words, and pairs that make low-rank changes.

    Raises ValueError, which names the tensor.
    """
    for name, shape in shapes.items():
        if name.startswith("concept.") and (len(shape) != 3 or 0 in shape):
            raise ValueError(f"`{name}` is of shape {list(shape)}, not words × groups × width")
        if not name.endswith((_DOWN, _UP)):
            continue
        linear = name.removesuffix(_DOWN).removesuffix(_UP)
        down, up = shapes.get(linear + _DOWN), shapes.get(linear + _UP)
        if down is None or up is None or len(down) != 2 or len(up) != 2 or down[0] != up[1]:
            raise ValueError(f"`{name}` is of shape {list(shape)}, and its other half does not fit")


def recipe_in(text: str) -> dict[str, object]:
    """Settings written as JSON; ValueError for anything else."""
    recipe = json_of(text)
    if not isinstance(recipe, dict):
        raise ValueError("its recipe is no list of settings")
    return recipe


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
            head = head_of(path)
        except (OSError, ValueError) as exc:
            raise EnvironmentProblem(f"cannot read `{path}`: {exc}") from exc
        meta = head.metadata
        shapes = {name: tensor.shape for name, tensor in head.tensors.items()}
        carried = sum(
            tensor.size for name, tensor in head.tensors.items() if name.startswith(CARRIED)
        )
        if "storyforge.format" not in meta or "concept.words" not in shapes:
            raise EnvironmentProblem(f"`{path}` is not a storyforge concept")
        try:
            check_shapes(shapes)
        except ValueError as exc:
            raise EnvironmentProblem(f"`{path}` is damaged: {exc}") from exc
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
                recipe_in(meta["recipe"]),
            )
        except (KeyError, ValueError) as exc:
            raise EnvironmentProblem(f"`{path}` is damaged: {exc}") from exc
