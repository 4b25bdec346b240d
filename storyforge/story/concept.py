"""What an author writes about one subject: concept.yaml, and the folder of pictures beside it.

The learnt concept is `model.concept`'s; here are only the words.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
)

from storyforge.errors import Report, Severity, StoryError, shortened
from storyforge.modelref import HUB_ID, is_embedded, own_clip
from storyforge.settings import Kind, TrainSettings, written_as
from storyforge.story.lint.cast import GROUPS
from storyforge.story.lint.joint import check_learnt_jointly
from storyforge.story.lint.models import is_model_file, transformer_of
from storyforge.story.lint.paths import check_pictures, located
from storyforge.story.validate import validated
from storyforge.story.yaml import Node, load

_STRICT: Final = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


LANGUAGE_CODE: Final = r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*"
_LANGUAGE = written_as(LANGUAGE_CODE, "a language; write a code such as `en` or `pt-BR`")
Language = Annotated[str, *_LANGUAGE]

_CLASS: Final = written_as(r"[\s\S]*\S[\s\S]*", "a word; write an everyday one, such as `fox`")


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


class ConceptSpec(BaseModel):
    """What a concept.yaml says; `name` and `folder` are filled in by the reader."""

    model_config = ConfigDict(**_STRICT, validate_by_name=True, validate_by_alias=True)

    storyforge: Version = 1
    """version of the format"""
    kind: Kind
    """what the concept is"""
    class_: Annotated[str, *_CLASS] = Field(validation_alias="class", serialization_alias="class")
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


def concept_in(
    folder: Path,
    name: str,
    report: Report,
    base: str | None = None,
    transformer: str | None = None,
) -> ConceptSpec | None:
    """The concept in `folder` under the name `name`; None, and why in the report, if it is none.

    base         what it is going to be learnt on, if that is known
    transformer  what the makers call that, if it is one
    """
    root = load(folder / "concept.yaml", report)
    if root is None:
        return None
    images = root.get("images")
    pictures = folder if images is None else located(images, folder, "folder", report)
    if pictures is not None:
        check_pictures(pictures, root.mark if images is None else images.mark, report)
    _check_clip(root, folder, base, report)
    if transformer is not None:
        check_learnt_jointly(root, transformer, report)
    return validated(ConceptSpec, root, report, {"name": name, "folder": folder})


def _check_clip(root: Node, folder: Path, base: str | None, report: Report) -> None:
    """Whether there is a CLIP, where one is to judge pictures while the concept is learnt."""
    train = root.get("train") or root
    clip = train.get("clip")
    asked = [key for key in ("keep", "stop_early", "check_every") if train.get(key) is not None]
    if clip is not None and clip.text and not HUB_ID.fullmatch(clip.text):
        path = located(clip, folder, "folder", report)
        if not is_embedded(clip.text) and path is not None and not os.path.isdir(path):
            report.error(clip.mark, "SF303", f"no CLIP at `{path}`")
    elif asked and clip is None and base is not None and own_clip(base) is None:
        message = f"a CLIP is to judge pictures, and `{shortened(base)}` has none of its own"
        report.error(train.mark_of(asked[0]), "SF335", f"{message}; name one as `clip`")


def concepts_of(
    root: Node, folder: Path, report: Report, reports: list[Report]
) -> dict[str, ConceptSpec | Path]:
    """Every concept that the story lists and that can be read, by name."""
    concepts: dict[str, ConceptSpec | Path] = {}
    known: dict[Path, ConceptSpec | None] = {}
    base = root.text_at("base") or (root.get("base") or root).text_at("model") or "pocket"
    transformer = transformer_of(root, folder)
    for group, kind in GROUPS.items():
        for name, node in root.named(group).items():
            if node.text == "":
                report.error(node.mark, "SF303", f"`{name}` names no folder; write where it lies")
            path = located(node, folder, "folder", report) if node.text else None
            if path is None or report.full or name in concepts:
                continue
            if is_model_file(path) and not os.path.isfile(path / "concept.yaml"):
                concepts[name] = path
                continue
            path = path.parent if path.name == "concept.yaml" else path
            if not os.path.isdir(path):
                what = "file" if path.suffix else "concept folder"
                if os.path.isfile(path):
                    message = f"`{path.name}` is neither a concept's folder nor a file of tensors"
                    report.error(node.mark, "SF331", message)
                    continue
                report.error(node.mark, "SF303", f"no {what} at `{path}`")
                continue
            if not os.path.isfile(path / "concept.yaml"):
                report.error(node.mark, "SF303", f"no concept.yaml in `{path}`")
                continue
            if path not in known:
                reports.append(Report(str(path / "concept.yaml")))
                known[path] = concept_in(path, name, reports[-1], base, transformer)
            spec = known[path]
            if spec is not None:
                concepts[name] = spec.model_copy(update={"name": name})
                if spec.kind != kind:
                    message = f"`{name}` is listed under `{group}`, and its concept.yaml says"
                    report.error(node.mark, "SF309", f"{message} it is of kind `{spec.kind}`")
    return concepts
