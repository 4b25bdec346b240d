"""What may be written in a story.yaml, as data: every key, its bounds, and what it means.

What a story refers to, and whether its parts agree, is `story.story`'s and `lint`'s.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from storyforge.geometry.box import Box
from storyforge.settings import (
    Color,
    Compose,
    ConceptName,
    Control,
    Edge,
    FuseSettings,
    GuidanceScale,
    Made,
    Rate,
    Refine,
    Sampling,
    Seed,
    Steps,
    written_as,
)
from storyforge.store.shared import SIGNER
from storyforge.story.book_settings import BalloonKind, BookSettings, FrameStyle
from storyforge.story.concept import Language, Text, Version
from storyforge.story.gridform import Grid
from storyforge.story.layout import AUTO, RegionShape, names

_STRICT: Final = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

_PANEL = written_as(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "an id for a panel; use a-z, digits, `-`, `_` and `.`"
)
PanelId = Annotated[str, *_PANEL]
Signer = Annotated[
    str, *written_as(SIGNER.pattern, "a public key; `storyforge cache key` prints one")
]
PageKind = Literal[
    "auto", "full-bleed", "spread", "art-over-text", "text-beside-art", "grid", "strip", "blank"
]
Side = Annotated[int, Field(ge=16, le=8192)]


class Speech(BaseModel):
    """One balloon or caption."""

    model_config = _STRICT

    who: str | None = None
    """the concept that speaks; the narrator if left out"""
    text: Text
    """the words"""
    kind: BalloonKind = "speech"
    """the form of the balloon"""
    at: Box | None = None
    """where the balloon stands; found by itself if left out"""
    from_: Edge | None = Field(default=None, alias="from")
    """the side from which somebody speaks who is not in the picture: the tail leads there"""
    tail: tuple[Rate, Rate] | None = None
    """where the tail points, in fractions of the picture from its top left corner; to the speaker
    if left out"""

    @model_validator(mode="after")
    def _one_tail(self) -> Self:
        if self.from_ is not None and self.tail is not None:
            raise PydanticCustomError("two_tails", "one of `from` and `tail` says where it leads")
        return self


class Variant(BaseModel):
    """Clothes of somebody, or a side from which a scene is seen; words alone may stand for it."""

    model_config = _STRICT

    prompt: str = ""
    """the words for it"""
    concept: str | None = None
    """the name of another concept, learnt from pictures of it, that is drawn then"""

    @model_validator(mode="before")
    @classmethod
    def _in_words(cls, value: object) -> object:
        return {"prompt": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Editors are told that words alone will do."""
        return {"anyOf": [{"type": "string"}, handler(core_schema)]}


class RegionPrompt(RegionShape):
    """What a region shows; its place comes from the layout, or is written out here."""

    concept: str | None = None
    """the name of a character or object; without one, the prompt alone"""
    outfit: str | None = None
    """what the one here wears from now on, by a name under `outfits`; `usual` ends it"""
    state: str | None = None
    """how the one here looks from now on, such as `wet and muddy`; an empty text ends it"""
    prompt: str = ""
    """what is seen here"""
    negative: str | None = None
    """what is not to be seen here"""
    guidance_scale: GuidanceScale | None = None
    """how closely the region keeps to its prompt; the panel's if left out"""


def _known_layouts(schema: JsonDict) -> None:
    schema["examples"] = list(names())


class _AutoRegions:
    """Tells editors that `auto` may stand for the map; the reader writes it out."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """One word, or the map."""
        return {"anyOf": [{"const": AUTO}, handler(core_schema)]}


class Panel(BaseModel):
    """One picture."""

    model_config = _STRICT

    id: PanelId
    """the panel's name; its seed depends on it"""
    scene: str | None = None
    """the name of a scene"""
    view: str | None = None
    """from where the scene is seen, by a name under `views`"""
    time: str | None = None
    """the hour, such as `at night`; its scene keeps it until an empty text ends it"""
    weather: str | None = None
    """such as `in the rain`; its scene keeps it until an empty text ends it"""
    layout: str | None = Field(default=None, json_schema_extra=_known_layouts)
    """the name of a layout, which says where the regions are"""
    prompt: str = ""
    """what the whole picture shows"""
    negative: str | None = None
    """what is not to be seen; replaces the story's"""
    picture: str | None = Field(default=None, min_length=1)
    """a picture of one's own, shown as it is: a file beside the story; then nothing is drawn"""
    made: Made | None = None
    """who made that picture: a `hand`, a `model`, or a model and a hand after it (`retouched`); as
    its file says if left out, by hand if it says nothing"""
    fit: Literal["cover", "contain"] = "cover"
    """whether the picture may be cropped to fill its frame, or shows whole; spreads are filled"""
    regions: Annotated[dict[str, RegionPrompt], _AutoRegions] = Field(
        default_factory=dict, max_length=32
    )
    """who and what stands where; `auto` finds it for all whom the prompt names as `<name>`"""
    inset: Box | None = None
    """where the panel lies over the one before it, in fractions of that one's picture"""
    frame: FrameStyle | None = None
    """how this panel ends, where it does not fill its page; as the book says if left out"""
    alt: Text | None = None
    """the picture in words, for those who do not see it"""
    decorative: bool = False
    """whether the picture says nothing that the text does not; then it needs no `alt`"""
    say: tuple[Speech, ...] = ()
    """the balloons, in the order of reading"""
    quiet: tuple[Box, ...] = Field(default=(), max_length=8)
    """parts of the picture where nothing happens: words go there first"""
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
    control: tuple[Control, ...] = Field(default=(), max_length=8)
    """pictures that say where things stand"""
    refine: Refine | None = None
    """draw over the first drawing, larger or by another prompt"""


class Page(BaseModel):
    """One page: pictures, text, or both."""

    model_config = _STRICT

    text: Text | None = None
    """the words on the page"""
    panels: tuple[Panel, ...] = ()
    """the pictures, in reading order"""
    narration: Text | None = None
    """a recording of the page's words, read out: an .mp3 or .m4a beside the story; by language
    where editions have other words"""
    kind: PageKind = "auto"
    """how pictures and text share the page; a `spread` fills two pages that face each other"""
    grid: Grid | None = None
    """rows x columns of the panels, such as `2x2`, or their cells row by row, such as `AAB/CCB`"""
    gutter: float | None = Field(default=None, ge=0, le=72)
    """points between the panels of a grid or a strip; 14 if left out"""
    text_size: float | None = Field(default=None, ge=11, le=72)
    """points of this page's letters at their largest; the book's if left out"""
    text_color: Color | None = None
    """the colour of this page's letters, such as `#1b2a4a`; the book's if left out"""
    text_place: Literal["top", "bottom"] | None = None
    """where this page's words stand by its pictures or on one; where they suit best if left out"""


class BaseFile(BaseModel):
    """A model with parts of it from elsewhere."""

    model_config = _STRICT

    model: str = Field(min_length=1)
    """`pocket`, a folder, a hub id with or without @revision, or a .safetensors file"""
    vae: str | None = Field(default=None, min_length=1)
    """another autoencoder: a folder, a hub id or a .safetensors file"""
    scheduler: str | None = Field(default=None, min_length=1)
    """another noise schedule: a scheduler_config.json, or the folder of one"""
    prediction: Literal["epsilon", "v", "sample"] | None = None
    """what the model predicts, where it does not say so itself"""


def _base_form(value: object) -> str:
    return "parts" if isinstance(value, dict | BaseFile) else "line"


Base = Annotated[
    Annotated[str, Field(min_length=1), Tag("line")] | Annotated[BaseFile, Tag("parts")],
    Discriminator(_base_form),
]
"""A model, or a map of what it is put together from."""


class CacheFile(BaseModel):
    """A place where products are shared, and whose are taken from there."""

    model_config = _STRICT

    at: str = Field(min_length=1)
    """a folder, or a URL such as `s3://bucket/folder`"""
    trust: tuple[Signer, ...] = ()
    """public keys, as `storyforge cache key` prints them: what they signed is taken"""


Cache = Annotated[
    Annotated[str, Field(min_length=1), Tag("line")] | Annotated[CacheFile, Tag("parts")],
    Discriminator(lambda value: "parts" if isinstance(value, dict | CacheFile) else "line"),
]
"""Where products are shared, and with whose signature."""


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
    base: Base = Field(default="pocket", json_schema_extra={"examples": ["pocket"]})
    """the model: `pocket`, a folder, a hub id with or without @revision, or a .safetensors file"""
    draft: Literal["pocket"] | None = None
    """`pocket` shows every picture as a draft by the embedded model until the base has drawn it"""
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
    outfits: dict[ConceptName, dict[str, Variant]] = Field(default_factory=dict)
    """what characters wear besides their usual clothes: words, or a concept learnt from pictures"""
    views: dict[ConceptName, dict[str, Variant]] = Field(default_factory=dict)
    """the sides from which a scene is seen: words, or a concept learnt from pictures"""
    compose: Compose = "fused"
    """several concepts in one picture: by one fused model, or by each concept in its own region"""
    sampling: Sampling = Sampling()
    """how pictures are drawn"""
    fuse: FuseSettings = FuseSettings()
    """how the concepts are fused into one model"""
    book: BookSettings = BookSettings()
    """how the pages become a book"""
    cache: Cache | None = None
    """a folder or URL where others find what was made here, and the other way round"""
    pages: tuple[Page, ...] = Field(min_length=1)
    """the pages, from first to last"""
