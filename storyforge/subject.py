"""What an author writes about one subject: concept.yaml, and the folder of pictures beside it.

The learnt concept is `model.concept`'s; here are only the words.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from storyforge.errors import Report, Severity, StoryError
from storyforge.lint import GROUPS, check_pictures, located
from storyforge.validation import validated
from storyforge.yamlmarks import Node, load, shortened

_STRICT: Final = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def written_as(
    pattern: str, words: str, editors: str | None = None
) -> tuple[AfterValidator, WithJsonSchema]:
    r"""Check a text against `pattern`; `words` say to the author how it is written.

    `editors` is the pattern for JSON schemas, where \w knows English letters only.
    """

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            told = {"text": shortened(text), "words": words}
            raise PydanticCustomError("written_as", "`{text}` is not {words}", told)
        return text

    return AfterValidator(check), WithJsonSchema(
        {"type": "string", "pattern": f"^{editors or pattern}$"}
    )


LANGUAGE_CODE: Final = r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*"
_LANGUAGE = written_as(LANGUAGE_CODE, "a language; write a code such as `en` or `pt-BR`")
_CONCEPT = written_as(
    r"[^\W\d_][\w-]{0,63}",
    "a name for a concept; begin with a letter, use letters, digits, `-`, `_`",
    r"[A-Za-z\u0080-\uffff][\w\u0080-\uffff-]{0,63}",
)
ConceptName = Annotated[str, *_CONCEPT]
Language = Annotated[str, *_LANGUAGE]
Rate = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Kind = Literal["character", "object", "scene"]
Layers = Literal["text", "kv", "cross", "self"]


def _text_form(value: object) -> str:
    return "languages" if isinstance(value, dict) else "text"


Text = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[dict[Language, str], Field(min_length=1), Tag("languages")],
    Discriminator(_text_form),
]
"""A text, or a map from languages to texts."""


def _whole_number(value: object) -> object:
    """Read the version, which YAML hands over as text."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


Version = Annotated[Literal[1], BeforeValidator(_whole_number)]


def text_in(text: str | dict[str, str], language: str, fallback: str) -> str:
    """The text in `language`, else in `fallback`, else in the language written first."""
    if isinstance(text, str):
        return text
    return text.get(language) or text.get(fallback) or next(iter(text.values()), "")


class TrainSettings(BaseModel):
    """How one concept is learnt; what is left out is the base family's own default."""

    model_config = _STRICT

    steps: int | None = Field(default=None, ge=1, le=1_000_000)
    """optimiser steps"""
    rank: int = Field(default=4, ge=1, le=1024)
    """rank of the low-rank deltas"""
    alpha: float | None = Field(default=None, gt=0)
    """the deltas are scaled by alpha / rank"""
    batch_size: int | None = Field(default=None, ge=1, le=4096)
    """pictures a step"""
    embedding_lr: Rate | None = None
    """learning rate of the token embeddings"""
    text_lr: Rate | None = None
    """learning rate of the text encoder's deltas"""
    unet_lr: Rate | None = None
    """learning rate of the UNet's deltas"""
    noise_offset: float | None = Field(default=None, ge=0, le=1)
    """strength of the noise that shifts whole channels"""
    seed: Seed = 0
    """seed of the training's randomness"""
    prior_share: float | None = Field(default=None, ge=0, lt=1)
    """share of each batch that shows the class instead of the concept"""
    method: Literal["ed-lora", "lora", "textual-inversion", "p-plus", "custom-diffusion"] = (
        "ed-lora"
    )
    """how the concept is learnt"""
    layers: tuple[Layers, ...] | None = Field(default=None, min_length=1)
    """which layers learn, of `text`: the text encoder; `kv`: keys and values of what is read;
    `cross`: the rest of that attention; `self`: attention within the picture. All if left out"""
    buckets: bool | None = None
    """whether pictures keep their shape; else their middle square is cut out"""
    flip: bool | None = None
    """whether pictures are shown mirrored as well; not for subjects whose sides differ"""
    optimizer: Literal["adamw", "prodigy", "adamw-8bit"] | None = None
    """what moves the weights; `prodigy` finds its own learning rate"""
    precision: Literal["fp32", "bf16", "fp16", "auto"] | None = None
    """of the passes through the model; `auto` is what the device does best"""
    accumulate: int | None = Field(default=None, ge=1, le=4096)
    """parts in which a batch is worked through, to save memory"""
    checkpointing: bool | None = None
    """whether activations are computed twice, to save memory"""
    ema: float | None = Field(default=None, ge=0, lt=1)
    """share of the past in the running mean of the weights that is kept as the concept"""
    min_snr_gamma: float | None = Field(default=None, gt=0)
    """above this signal-to-noise ratio a timestep counts less; 5 is usual"""
    norm_guard: float | None = Field(default=None, gt=0)
    """longest embedding, in lengths of the encoder's own words; 1.4 is usual"""
    attention_reg: float | None = Field(default=None, ge=0, le=1)
    """weight of the pull of the concept's attention into the masks; 0.0025 is usual"""
    statistics: Literal["full", "compact"] | None = None
    """keep what fusing needs to know in the concept's own file, so that whoever has the file fuses
    it without drawing; `compact` takes a quarter of the room"""
    composed: float | None = Field(default=None, gt=0, le=1)
    """share of the concept's pictures that show it cut out, beside others; needs masks"""
    keep: Literal["best"] | None = None
    """keep the step whose pictures a CLIP finds best, instead of the last one"""
    stop_early: int | None = Field(default=None, ge=1, le=1000)
    """end after so many checks without a better step, and keep the best one"""
    check_every: int | None = Field(default=None, ge=1, le=1_000_000)
    """steps between checks; an eighth of the run if there are any, and without `keep` only looks"""
    clip: str | None = Field(default=None, min_length=1)
    """the CLIP that checks: a folder, seen from here, or a hub id; the base's own if left out"""

    @model_validator(mode="after")
    def _with_layers(self) -> Self:
        if self.layers is not None and self.method not in {"ed-lora", "lora"}:
            message = "`{method}` has no choice of `layers`; only `ed-lora` and `lora` have"
            raise PydanticCustomError("no_layers", message, {"method": self.method})
        return self

    @property
    def judged(self) -> bool:
        """Whether pictures are drawn and judged on the way."""
        return any((self.keep, self.stop_early, self.check_every))


class ConceptSpec(BaseModel):
    """What a concept.yaml says; `name` and `folder` are filled in by the reader."""

    model_config = ConfigDict(**_STRICT, validate_by_name=True, validate_by_alias=True)

    storyforge: Version = 1
    """version of the format"""
    kind: Kind
    """what the concept is"""
    class_: str = Field(validation_alias="class", serialization_alias="class", min_length=1)
    """the everyday word for it, such as `fox` or `lantern`"""
    description: Text | None = None
    """what the concept looks like"""
    images: str = "."
    """folder of the pictures, relative to this file"""
    licence: str | None = None
    """under which the pictures may be used"""
    author: str | None = None
    """who made the pictures"""
    train: TrainSettings = TrainSettings()
    """how the concept is learnt"""
    name: str
    folder: Path

    def pictures(self) -> Path:
        """The folder of the pictures."""
        return self.folder / self.images


def read_concept(folder: Path) -> ConceptSpec:
    """The concept in `folder`, which may also name its concept.yaml; StoryError holds the mistakes.

    The concept's name is its folder's.
    """
    folder = folder.parent if folder.name == "concept.yaml" else folder
    report = Report(str(folder / "concept.yaml"))
    spec = concept_in(folder, folder.resolve().name, report)
    findings = sorted(report.findings())
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if spec is None or errors:
        raise StoryError(f"mistakes in `{report.file}`", diagnostics=errors)
    return spec


def concept_in(folder: Path, name: str, report: Report) -> ConceptSpec | None:
    """The concept in `folder` under the name `name`; None, and why in the report, if it is none."""
    root = load(folder / "concept.yaml", report)
    if root is None:
        return None
    images = root.get("images")
    pictures = folder if images is None else located(images, folder, "folder", report)
    if pictures is not None:
        check_pictures(pictures, root.mark if images is None else images.mark, report)
    return validated(ConceptSpec, root, report, {"name": name, "folder": folder})


def concepts_of(
    root: Node, folder: Path, report: Report, reports: list[Report]
) -> dict[str, ConceptSpec | Path]:
    """Every concept that the story lists and that can be read, by name."""
    concepts: dict[str, ConceptSpec | Path] = {}
    known: dict[Path, ConceptSpec | None] = {}
    for group, kind in GROUPS.items():
        for name, node in root.named(group).items():
            path = located(node, folder, "folder", report) if node.text else None
            if path is None or report.full or name in concepts:
                continue
            if path.suffix == ".safetensors" and os.path.isfile(path):
                concepts[name] = path
                continue
            path = path.parent if path.name == "concept.yaml" else path
            if not os.path.isdir(path):
                what = "file" if path.suffix == ".safetensors" else "concept folder"
                report.error(node.mark, "SF303", f"no {what} at `{path}`")
                continue
            if not os.path.isfile(path / "concept.yaml"):
                report.error(node.mark, "SF303", f"no concept.yaml in `{path}`")
                continue
            if path not in known:
                reports.append(Report(str(path / "concept.yaml")))
                known[path] = concept_in(path, name, reports[-1])
            spec = known[path]
            if spec is not None:
                concepts[name] = spec.model_copy(update={"name": name})
                if spec.kind != kind:
                    message = f"`{name}` is listed under `{group}`, and its concept.yaml says"
                    report.error(node.mark, "SF309", f"{message} it is of kind `{spec.kind}`")
    return concepts
