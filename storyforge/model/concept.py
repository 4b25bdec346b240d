"""A learnt concept and a fused model: what they hold, and their files.

Both are safetensors that describe themselves in their metadata; no pickle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from storyforge.errors import EnvironmentProblem
from storyforge.headers.checked import sort_head
from storyforge.model.base import BaseModel
from storyforge.model.card import CARRIED, check_shapes, recipe_in
from storyforge.model.lora import Delta
from storyforge.model.tokens import ConceptTokens
from storyforge.settings import Kind

FORMAT = "1"
_PART = "transformer."
ARCHITECTURES = {
    768: "stable-diffusion-v1",
    1024: "stable-diffusion-v2",
    2048: "stable-diffusion-xl-v1-base",
}
"""Numbers of a word -> the architecture, as ModelSpec calls it."""

_JOINT = (
    (("transformer_blocks.", "single_transformer_blocks."), "flux-2-klein"),
    (("layers.", "noise_refiner.", "context_refiner."), "z-image"),
)
"""How the names of a transformer's layers begin -> its architecture."""


@dataclass(frozen=True, slots=True)
class Concept:
    """One learnt subject.

    deltas  linear name -> low-rank change
    alpha   of the LoRA; the change is alpha / rank · up @ down
    recipe  how it was trained, plain JSON
    """

    name: str
    kind: str
    class_phrase: str
    tokens: ConceptTokens
    deltas: dict[str, Delta]
    base: str
    base_hash: str
    recipe: Mapping[str, object] = field(default_factory=dict)
    licence: str | None = None

    def renamed(self, name: str) -> Concept:
        """The same concept under the name that a story gives it."""
        return Concept(
            name,
            self.kind,
            self.class_phrase,
            ConceptTokens(name, self.tokens.words),
            self.deltas,
            self.base,
            self.base_hash,
            self.recipe,
            self.licence,
        )

    @property
    def joint(self) -> bool:
        """Whether it changes a transformer, in which text and picture are one sequence."""
        return any(name.startswith(_PART) for name in self.deltas)

    @property
    def architecture(self) -> str | None:
        """What ModelSpec calls the kind of base that it was learnt on; None if nothing tells."""
        joint = [n.removeprefix(_PART) for n in self.deltas if n.startswith(_PART)]
        for marks, name in _JOINT:
            if any(linear.startswith(marks) for linear in joint):
                return name
        return None if joint else ARCHITECTURES.get(self.tokens.words.shape[-1])

    def alone(self) -> FusedModel:
        """The model that knows this concept and nothing else."""
        return FusedModel(self.base, self.base_hash, {self.name: self.tokens}, self.deltas)

    def save(self, path: Path | str) -> None:
        """Write one `.safetensors` file in half precision."""
        tensors = {"concept.words": self.tokens.words}
        for name, delta in self.deltas.items():
            tensors[f"{name}.lora_A.weight"] = delta.down
            tensors[f"{name}.lora_B.weight"] = delta.up * delta.scale
        architecture = self.architecture
        metadata = {
            "storyforge.format": FORMAT,
            "name": self.name,
            "kind": self.kind,
            "class": self.class_phrase,
            "base": self.base,
            "base_hash": self.base_hash,
            "recipe": json.dumps(dict(self.recipe), sort_keys=True),
            "licence": self.licence or "",
            "modelspec.sai_model_spec": "1.0.1",
            "modelspec.implementation": "storyforge",
            "modelspec.title": self.name,
            "modelspec.trigger_phrase": f"<{self.name}>",
            "modelspec.license": self.licence or "",
        }
        if architecture is not None:
            metadata["modelspec.architecture"] = f"{architecture}/storyforge-concept"
        save_file(_half(tensors), path, metadata)
        sort_head(Path(path))

    @staticmethod
    def load(path: Path | str) -> Concept:
        """Read a concept.

        Raises:
          EnvironmentProblem: if the file is not a concept of storyforge.
        """
        tensors, meta = _open(Path(path))
        if meta.get("storyforge.format") != FORMAT or "concept.words" not in tensors:
            raise EnvironmentProblem(f"`{path}` is not a storyforge concept")
        try:
            check_shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()})
            name, kind = meta["name"], meta["kind"]
            if kind not in get_args(Kind):
                raise ValueError(f"`{kind}` is no kind of concept")
            return Concept(
                name,
                kind,
                meta["class"],
                ConceptTokens(name, tensors["concept.words"]),
                _deltas(tensors),
                meta["base"],
                meta["base_hash"],
                recipe_in(meta["recipe"]),
                meta["licence"] or None,
            )
        except (KeyError, ValueError) as exc:
            raise EnvironmentProblem(f"`{path}` is damaged: {exc}") from exc

    def fits(self, base: BaseModel) -> None:
        """Check that it was learnt on `base`.

        Raises:
          EnvironmentProblem: naming both bases.
        """
        self.fits_hash(base.reference, base.hash)

    def fits_hash(self, reference: str, base_hash: str) -> None:
        """The same without opening the base."""
        if self.base_hash != base_hash:
            raise EnvironmentProblem(
                f"the concept `{self.name}` was trained on another base "
                f"({self.base_hash[:12]}) than `{reference}` ({base_hash[:12]})",
                hint="train it again on this base",
            )


@dataclass(frozen=True, slots=True)
class FusedModel:
    """Several concepts in one change of the base: rank N·r deltas and everybody's tokens."""

    base: str
    base_hash: str
    tokens: dict[str, ConceptTokens]
    deltas: dict[str, Delta]
    report: Mapping[str, object] = field(default_factory=dict)

    def save(self, folder: Path | str) -> None:
        """Write `deltas.safetensors` and `manifest.json` into an existing folder."""
        folder = Path(folder)
        tensors = {f"concept.{name}": t.words for name, t in self.tokens.items()}
        for name, delta in self.deltas.items():
            tensors[f"{name}.lora_A.weight"] = delta.down
            tensors[f"{name}.lora_B.weight"] = delta.up * delta.scale
        save_file(_half(tensors), folder / "deltas.safetensors", {"storyforge.fused": FORMAT})
        manifest = {
            "storyforge.fused": FORMAT,
            "base": self.base,
            "base_hash": self.base_hash,
            "concepts": list(self.tokens),
            "report": dict(self.report),
        }
        (folder / "manifest.json").write_text(
            json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )

    @staticmethod
    def load(folder: Path | str) -> FusedModel:
        """Read a fused model.

        Raises:
          EnvironmentProblem: if the folder does not hold one.
        """
        folder = Path(folder)
        tensors, meta = _open(folder / "deltas.safetensors")
        if meta.get("storyforge.fused") != FORMAT:
            raise EnvironmentProblem(f"`{folder}` is not a fused model")
        try:
            check_shapes({name: tuple(tensor.shape) for name, tensor in tensors.items()})
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            tokens = {n: ConceptTokens(n, tensors[f"concept.{n}"]) for n in manifest["concepts"]}
            deltas, report = _deltas(tensors), manifest["report"]
            return FusedModel(manifest["base"], manifest["base_hash"], tokens, deltas, report)
        except (OSError, KeyError, ValueError, TypeError, RecursionError) as exc:
            raise EnvironmentProblem(f"`{folder}` is damaged: {exc}") from exc


def plain(base: BaseModel) -> FusedModel:
    """The base itself: no tokens, no change. One door for the sampler."""
    return FusedModel(base.reference, base.hash, {}, {})


def _half(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v.detach().cpu().half().contiguous() for k, v in tensors.items()}


def _open(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            own = [key for key in file.keys() if not key.startswith(CARRIED)]  # noqa: SIM118
            return {key: file.get_tensor(key).float() for key in own}, file.metadata() or {}
    except (OSError, SafetensorError) as exc:
        raise EnvironmentProblem(f"cannot read `{path}`: {exc}") from exc


def _deltas(tensors: Mapping[str, torch.Tensor]) -> dict[str, Delta]:
    ending = ".lora_A.weight"
    names = [key.removesuffix(ending) for key in tensors if key.endswith(ending)]
    return {
        name: Delta(tensors[f"{name}.lora_B.weight"], tensors[f"{name}.lora_A.weight"])
        for name in names
    }
