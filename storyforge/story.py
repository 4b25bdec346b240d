"""What an author writes: story.yaml and concept.yaml, as data that can be trusted.

`check` lists every mistake with its place, `read` gives the story or raises them all. Nothing here
looks into a model: whether the base exists is found out when it is opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
)

from storyforge.layout import Box, Layout, RegionShape

_STRICT: Final = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
ConceptName = Annotated[str, StringConstraints(pattern=r"^[^\W\d_][\w-]{0,63}$")]
PanelId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Grid = Annotated[str, StringConstraints(pattern=r"^[1-9]x[1-9]$")]
Side = Annotated[int, Field(ge=16, le=8192)]
Steps = Annotated[int, Field(ge=1, le=1000)]
GuidanceScale = Annotated[float, Field(ge=0, le=100)]
Rate = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Kind = Literal["character", "object", "scene"]


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
    method: Literal["ed-lora"] = "ed-lora"
    """how the concept is learnt"""


class ConceptFile(BaseModel):
    """What a concept.yaml says."""

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


class ConceptSpec(ConceptFile):
    """A concept as a story uses it: its file, its name in the story and its folder."""

    name: str
    folder: Path

    def pictures(self) -> Path:
        """The folder of the pictures."""
        return self.folder / self.images


class Speech(BaseModel):
    """One balloon or caption."""

    model_config = _STRICT

    who: str | None = None
    """the concept that speaks; the narrator if left out"""
    text: Text
    """the words"""
    kind: Literal["speech", "thought", "shout", "whisper", "caption", "sound"] = "speech"
    """the form of the balloon"""
    at: Box | None = None
    """where the balloon stands; found by itself if left out"""


class RegionPrompt(RegionShape):
    """What a region shows; its place comes from the layout, or is written out here."""

    concept: str | None = None
    """the name of a character or object; without one, the prompt alone"""
    prompt: str = ""
    """what is seen here"""
    negative: str | None = None
    """what is not to be seen here"""


class Panel(BaseModel):
    """One picture."""

    model_config = _STRICT

    id: PanelId
    """the panel's name; its seed depends on it"""
    scene: str | None = None
    """the name of a scene"""
    layout: str | None = None
    """the name of a layout, which says where the regions are"""
    prompt: str = ""
    """what the whole picture shows"""
    negative: str | None = None
    """what is not to be seen; replaces the story's"""
    regions: dict[str, RegionPrompt] = Field(default_factory=dict, max_length=32)
    """who and what stands where"""
    alt: Text | None = None
    """the picture in words, for those who do not see it"""
    decorative: bool = False
    """whether the picture says nothing that the text does not; then it needs no `alt`"""
    say: tuple[Speech, ...] = ()
    """the balloons, in the order of reading"""
    take: int = Field(default=0, ge=0)
    """another number, another picture of the same panel"""
    steps: Steps | None = None
    """denoising steps"""
    guidance_scale: GuidanceScale | None = None
    """how closely the picture keeps to the prompt"""
    seed: Seed | None = None
    """the seed; drawn from the story's seed, the id and the take if left out"""
    size: tuple[Side, Side] | None = None
    """width and height in pixels"""


class Page(BaseModel):
    """One page: pictures, text, or both."""

    model_config = _STRICT

    text: Text | None = None
    """the words on the page"""
    panels: tuple[Panel, ...] = ()
    """the pictures, in reading order"""
    kind: Literal["auto", "full-bleed", "art-over-text", "text-beside-art", "grid", "blank"] = (
        "auto"
    )
    """how pictures and text share the page"""
    grid: Grid | None = None
    """rows x columns of the panels, such as `2x2`"""


class CoverSettings(BaseModel):
    """The front cover."""

    model_config = _STRICT

    panel: str | None = None
    """the id of the panel to show"""
    subtitle: Text | None = None
    """a line under the title"""


class BookSettings(BaseModel):
    """How the pages become a book."""

    model_config = _STRICT

    trim: str = "square-8.5"
    """the size of the cut page, by name"""
    font: str | None = None
    """the name of the typeface"""
    formats: tuple[Literal["pdf", "html", "epub", "cbz"], ...] = ("pdf", "html")
    """the files to make"""
    colophon: bool = True
    """whether a last page says how the book was made"""
    cover: CoverSettings | None = None
    """the front cover"""
    dedication: Text | None = None
    """to whom the book is given"""


class Sampling(BaseModel):
    """How pictures are drawn; what is left out is the base family's own default."""

    model_config = _STRICT

    steps: Steps | None = None
    """denoising steps"""
    guidance_scale: GuidanceScale | None = None
    """how closely pictures keep to their prompts"""
    scheduler: str | None = None
    """the name of the noise schedule's solver"""
    region_blend: float = Field(default=1.0, ge=0, le=1)
    """how much a region listens to its own prompt (1) rather than to the panel's (0)"""


class FuseSettings(BaseModel):
    """How the concepts are fused into one model."""

    model_config = _STRICT

    solver: Literal["closed-form", "average"] = "closed-form"
    """the least squares solution, or the plain mean of the deltas"""
    ridge: float | None = Field(default=None, ge=0)
    """weight of the pull towards the base's weights"""
    preservation: float | None = Field(default=None, ge=0)
    """weight of what the base says without concepts"""


class StoryFile(BaseModel):
    """What a story.yaml says."""

    model_config = _STRICT

    storyforge: Version
    """version of the format"""
    title: Text
    """the title"""
    author: Text | None = None
    """who tells the story"""
    language: Language = "en"
    """the language of texts that name none"""
    base: str = Field(default="pocket", min_length=1)
    """the model: `pocket`, a folder, a hub id with or without @revision, or a .safetensors file"""
    style: str = ""
    """words added to every prompt"""
    negative: str = ""
    """what no picture is to show"""
    seed: Seed = 0
    """from which every panel draws its own seed"""
    size: tuple[Side, Side] | None = None
    """width and height of the pictures in pixels"""
    characters: dict[ConceptName, str] = Field(default_factory=dict)
    """the characters: a name, and a concept's folder or .safetensors file"""
    objects: dict[ConceptName, str] = Field(default_factory=dict)
    """the objects: a name, and a concept's folder or .safetensors file"""
    scenes: dict[ConceptName, str] = Field(default_factory=dict)
    """the scenes: a name, and a concept's folder or .safetensors file"""
    sampling: Sampling = Sampling()
    """how pictures are drawn"""
    fuse: FuseSettings = FuseSettings()
    """how the concepts are fused into one model"""
    book: BookSettings = BookSettings()
    """how the pages become a book"""
    pages: tuple[Page, ...] = Field(min_length=1)
    """the pages, from first to last"""


class Story(StoryFile):
    """A story that holds no mistakes, with all that its file refers to."""

    path: Path
    """the story file"""
    concepts: dict[str, ConceptSpec | Path]
    """every concept by name: its folder's file read, or a shared .safetensors file"""
    layouts: dict[str, Layout] = Field(default_factory=dict)
    """every layout that a panel names"""

    @property
    def folder(self) -> Path:
        """The folder that the story's paths are relative to."""
        return self.path.parent

    def panels(self) -> Iterator[tuple[int, Panel]]:
        """Every panel with the number of its page, from 1."""
        for number, page in enumerate(self.pages, start=1):
            for panel in page.panels:
                yield number, panel

    def region_shapes(self, panel: Panel) -> dict[str, RegionShape]:
        """The shape of each of the panel's regions: its own, or else the layout's.

        A region that takes its box from the layout keeps its own z and weight if it names them.
        """
        layout = self.layouts[panel.layout].regions if panel.layout else {}
        return {name: region.over(layout.get(name)) for name, region in panel.regions.items()}

    def region_boxes(self, panel: Panel) -> dict[str, Box]:
        """The box of each of the panel's regions, the layout resolved."""
        return {name: shape.bounds() for name, shape in self.region_shapes(panel).items()}

    def cast(self, panel: Panel) -> tuple[str, ...]:
        """The names of the concepts that the panel shows, the scene first, each once."""
        scene = [panel.scene] if panel.scene else []
        shown = [region.concept for region in panel.regions.values() if region.concept]
        return tuple(dict.fromkeys([*scene, *shown]))
