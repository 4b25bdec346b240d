"""What an author writes: story.yaml and what it refers to, as data that can be trusted.

`check` lists every mistake with its place, `read` gives the story or raises them all. Nothing here
looks into a model: whether the base exists is found out when it is opened. Which keys there are is
`story.form`'s.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field, PrivateAttr

from storyforge.errors import Diagnostic, Report, Severity, StoryError
from storyforge.geometry.box import Box
from storyforge.modelref import BaseParts
from storyforge.settings import FuseSettings, Kind, Sampling, TrainSettings
from storyforge.story.autoregions import with_auto_regions
from storyforge.story.book_settings import BookSettings, CoverSettings, PrintSettings
from storyforge.story.concept import (
    ConceptSpec,
    Text,
    concepts_of,
    read_concept,
    text_in,
)
from storyforge.story.form import (
    CacheFile,
    Page,
    PageKind,
    Panel,
    PanelId,
    RegionPrompt,
    Speech,
    StoryFile,
    Variant,
)
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
    "CacheFile",
    "ConceptSpec",
    "CoverSettings",
    "FuseSettings",
    "Kind",
    "Page",
    "PageKind",
    "Panel",
    "PanelId",
    "PrintSettings",
    "RegionPrompt",
    "Sampling",
    "Speech",
    "Story",
    "StoryFile",
    "Text",
    "TrainSettings",
    "Variant",
    "check",
    "read",
    "read_concept",
    "read_layout",
    "text_in",
]


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
    root = with_auto_regions(root, report)
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
