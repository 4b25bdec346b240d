"""What an author writes: story.yaml and what it refers to, as data that can be trusted.

`check` lists every mistake with its place, `read` gives the story or raises them all. Nothing here
looks into a model: whether the base exists is found out when it is opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    PrivateAttr,
    Tag,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from storyforge.errors import Diagnostic, Report, Severity, StoryError
from storyforge.geometry.box import Box
from storyforge.modelref import BaseParts
from storyforge.settings import (
    Color,
    Compose,
    ConceptName,
    Control,
    Edge,
    FuseSettings,
    GuidanceScale,
    Kind,
    Made,
    Rate,
    Refine,
    Sampling,
    Seed,
    Steps,
    TrainSettings,
    written_as,
)
from storyforge.store.shared import SIGNER
from storyforge.story.book_settings import BalloonKind, BookSettings, CoverSettings, PrintSettings
from storyforge.story.concept import (
    ConceptSpec,
    Language,
    Text,
    Version,
    concepts_of,
    read_concept,
    text_in,
)
from storyforge.story.gridform import Grid
from storyforge.story.layout import Layout, RegionShape, find, names
from storyforge.story.lint import CONSEQUENCES, check_story
from storyforge.story.lint.regions import Surroundings
from storyforge.story.locales import (
    check_languages,
    language_of,
    locales_of,
    report_untranslated,
    with_locales,
)
from storyforge.story.places import Places, StoryPlace
from storyforge.story.validate import validated
from storyforge.story.yaml import Node, load, load_text

__all__ = [
    "BookSettings",
    "ConceptSpec",
    "CoverSettings",
    "FuseSettings",
    "Kind",
    "Page",
    "PageKind",
    "Panel",
    "PrintSettings",
    "RegionPrompt",
    "Sampling",
    "Speech",
    "Story",
    "StoryFile",
    "Text",
    "TrainSettings",
    "check",
    "read",
    "read_concept",
    "read_layout",
    "text_in",
]

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
    regions: dict[str, RegionPrompt] = Field(default_factory=dict, max_length=32)
    """who and what stands where"""
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


class Story(StoryFile):
    """A story that holds no mistakes, with all that its file refers to."""

    path: Path
    """the story file"""
    concepts: dict[str, ConceptSpec | Path]
    """every concept by name: its folder's file read, or a shared .safetensors file"""
    layouts: dict[str, Layout] = Field(default_factory=dict)
    """every layout that a panel names"""

    _places: Places = PrivateAttr(default_factory=Places)

    @property
    def folder(self) -> Path:
        """The folder that the story's paths are relative to."""
        return self.path.parent

    @property
    def places(self) -> Places:
        """Where its words stand."""
        return self._places

    @property
    def base_parts(self) -> BaseParts:
        """The base, with what of it comes from elsewhere."""
        if isinstance(self.base, str):
            return BaseParts.of(self.base)
        return BaseParts(**self.base.model_dump())

    def panels(self) -> Iterator[tuple[int, Panel]]:
        """Every panel with the number of its page, from 1."""
        for number, page in enumerate(self.pages, start=1):
            for panel in page.panels:
                yield number, panel

    def texts(self) -> Iterator[str | dict[str, str]]:
        """Every text that a reader reads."""
        cover = self.book.cover
        said = [self.title, self.author, self.book.dedication, cover and cover.subtitle]
        said += [page.text for page in self.pages]
        said += [text for person in self.book.people for text in (person.name, person.life)]
        for _, panel in self.panels():
            said += [panel.alt, *(speech.text for speech in panel.say)]
        yield from (text for text in said if text)

    def languages(self) -> tuple[str, ...]:
        """The languages that some text has, the story's own first."""
        named = {name for text in self.texts() if isinstance(text, dict) for name in text}
        return (self.language, *sorted(named - {self.language}))

    def region_shapes(self, panel: Panel) -> dict[str, RegionShape]:
        """The shape of each of the panel's regions; what it leaves out is the layout's."""
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


def read(path: Path) -> Story:
    """The story at `path` with all that it refers to; StoryError holds every mistake there is."""
    return sound(path, *examined(path))


def sound(path: Path, story: Story | None, findings: Sequence[Diagnostic]) -> Story:
    """The story, if nothing that was found is a mistake; else StoryError, which holds them all."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if story is None or errors:
        plural = "" if len(errors) == 1 else "s"
        raise StoryError(f"{len(errors)} mistake{plural} in `{path}`", diagnostics=errors)
    return story


def refused(story: Story, place: StoryPlace, code: str, message: str) -> StoryError:
    """The error of a story that asks for what cannot be; where it does."""
    file, mark = story.places.find(place)
    found = Diagnostic(file, mark.line, mark.column, code, message)
    return StoryError(f"a mistake in `{file}`", diagnostics=[found])


def check(path: Path) -> tuple[Diagnostic, ...]:
    """Every mistake and every warning, by file and position; no file can make this raise."""
    return examined(path)[1]


def untranslated(story: Story, language: str) -> tuple[Diagnostic, ...]:
    """A warning for every text that an edition in `language` shows in the story's own language."""
    if language == story.language:
        return ()
    lacking = Report(str(story.path))
    report_untranslated(story.places.root, story.places.locales, language, lacking)
    return tuple(sorted(lacking.findings()))


def read_layout(path: Path) -> Layout:
    """The layout in the file `path`; StoryError holds its mistakes."""
    report = Report(str(path))
    layout = _layout(path, report)
    if layout is None:
        message = f"mistakes in `{report.file}`"
        raise StoryError(message, diagnostics=sorted(report.findings()))
    return layout


def examined(path: Path, text: str | None = None) -> tuple[Story | None, tuple[Diagnostic, ...]]:
    """The story if its form is sound, and everything that was found in its files.

    text  what stands in the story's file, where that is not what lies there now
    """
    report = Report(str(path))
    root = load(path, report) if text is None else load_text(text, report)
    if root is None:
        return None, tuple(sorted(report.findings()))
    file = validated(StoryFile, root, report)
    # A misspelt key makes what it meant seem missing: that would be told twice.
    hidden = CONSEQUENCES if report.has_errors() else ()
    reports = [report]
    concepts = concepts_of(root, path.parent, report, reports)
    layouts = _layouts(root, path.parent, reports)
    known = names((path.parent / "layouts",))
    check_story(root, Surroundings(path.parent, layouts, known), report)
    locales = locales_of(path, language_of(root), reports)
    check_languages(root, locales, report)
    told = {found for each in reports for found in each.findings() if found.code not in hidden}
    findings = tuple(sorted(told))
    if file is None or any(found.severity is Severity.ERROR for found in findings):
        return None, findings
    filled: dict[str, object] = {"path": path, "concepts": concepts, "layouts": layouts}
    story = validated(Story, with_locales(root, locales), report, filled)
    if story is not None:
        story._places = Places(str(path), root, tuple(locales))
    return story, findings


def _layouts(root: Node, folder: Path, reports: list[Report]) -> dict[str, Layout | None]:
    """Every layout that a panel names and that exists; None for those with mistakes."""
    layouts: dict[str, Layout | None] = {}
    for page in root.each("pages"):
        for panel in page.each("panels"):
            name = panel.text_at("layout")
            path = None if name is None or name in layouts else find(name, [folder / "layouts"])
            if name is not None and path is not None:
                reports.append(Report(os.path.normpath(path)))
                layouts[name] = _layout(path, reports[-1])
    return layouts


def _layout(path: Path, report: Report) -> Layout | None:
    root = load(path, report)
    return None if root is None else validated(Layout, root, report, {"name": path.stem})
