"""A story in several languages: texts that are maps of languages, and locales/fr.yaml beside it.

A locale file says the story's texts again, by page number and panel id. Which fonts a language
needs, and the book's own sentences, are not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from storyforge.errors import Mark, Report, StoryForgeError, closest, shortened
from storyforge.settings import written_as
from storyforge.story.concept import LANGUAGE_CODE, Version
from storyforge.story.lint.cast import no_such
from storyforge.story.validate import validated
from storyforge.story.yaml import Node, load

_STRICT: Final = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

PageNumber = Annotated[str, *written_as(r"[1-9][0-9]{0,5}", "the number of a page; the first is 1")]


class PanelWords(BaseModel):
    """One panel's texts."""

    model_config = _STRICT

    alt: str | None = None
    """the picture in words"""
    say: tuple[str | None, ...] = ()
    """the balloons, in the story's order; leave one empty that is not yet translated"""


class CoverWords(BaseModel):
    """The cover's texts."""

    model_config = _STRICT

    subtitle: str | None = None
    """the line under the title"""
    blurb: str | None = None
    """the sentences on the back of a printed cover"""


class PublishedWords(BaseModel):
    """The texts of the page behind the title."""

    model_config = _STRICT

    publisher: str | None = None
    """who publishes the book"""
    edition: str | None = None
    """which edition this is"""
    rights: str | None = None
    """whose the words and pictures are"""
    notes: str | None = None
    """more lines"""


class BookWords(BaseModel):
    """The texts before and after the story."""

    model_config = _STRICT

    cover: CoverWords | None = None
    """the front cover"""
    dedication: str | None = None
    """to whom the book is given"""
    published: PublishedWords | None = None
    """the page behind the title"""


class LocaleFile(BaseModel):
    """What a locale file says: the story's texts in one more language."""

    model_config = _STRICT

    storyforge: Version = 1
    """version of the format"""
    title: str | None = None
    """the title"""
    author: str | None = None
    """who tells the story, if the name is written another way"""
    pages: dict[PageNumber, str | None] = Field(default_factory=dict)
    """the words on the pages, by the number of the page from 1"""
    panels: dict[str, PanelWords | None] = Field(default_factory=dict)
    """alt texts and balloons, by the panel's id"""
    book: BookWords | None = None
    """the texts before and after the story"""


_Steps = tuple[str | int, ...]

_MATTER: Final[tuple[_Steps, ...]] = (
    ("book", "cover", "subtitle"),
    ("book", "cover", "blurb"),
    ("book", "dedication"),
    ("book", "published", "publisher"),
    ("book", "published", "edition"),
    ("book", "published", "rights"),
    ("book", "published", "notes"),
)
"""Where the texts before and after the story are written."""


@dataclass(frozen=True, slots=True)
class Locale:
    """One locale file, as written, with the findings in it."""

    language: str
    root: Node
    report: Report


@dataclass(frozen=True, slots=True)
class Passage:
    """One text of the story.

    path    where the story writes it
    place   where a locale file says it
    about   in words, for messages
    """

    node: Node
    path: _Steps
    place: _Steps
    about: str


def passages(root: Node) -> Iterator[Passage]:
    """Every text of the story that a reader reads, those that are empty left out."""
    for found in _places(root):
        if found.node.entries or (found.node.text or "").strip():
            yield found


def _places(root: Node) -> Iterator[Passage]:
    for key, about in (("title", "the title"), ("author", "the author's name")):
        yield from _passage(root, (key,), (key,), about)
    for path in _MATTER:
        yield from _passage(root, path, path, f"the {path[-1]}")
    for number, page in enumerate(root.each("pages"), start=1):
        at: _Steps = ("pages", number - 1)
        yield from _passage(root, (*at, "text"), ("pages", str(number)), f"page {number}")
        for index, panel in enumerate(page.each("panels")):
            within: _Steps = (*at, "panels", index)
            name = panel.text_at("id") or ""
            own = f"panel `{shortened(name)}`"
            yield from _passage(root, (*within, "alt"), ("panels", name, "alt"), f"`alt` of {own}")
            for turn, _ in enumerate(panel.each("say")):
                balloon = f"balloon {turn + 1} of {own}"
                said: _Steps = ("panels", name, "say", turn)
                yield from _passage(root, (*within, "say", turn, "text"), said, balloon)


def _passage(root: Node, path: _Steps, place: _Steps, about: str) -> Iterator[Passage]:
    node = _at(root, path)
    if node is not None:
        yield Passage(node, path, place, about)


def _at(root: Node, path: _Steps) -> Node | None:
    """The node at `path`; None if there is none."""
    node: Node | None = root
    for step in path:
        if node is None:
            return None
        if isinstance(step, int):
            node = node.items[step] if node.items is not None and step < len(node.items) else None
        else:
            node = node.get(step)
    return node


def locales_of(story: Path, language: str, reports: list[Report]) -> list[Locale]:
    """The story's locale files that can be read; findings in them go to new reports.

    They are `locales/fr.yaml`, or `locales/NAME.fr.yaml` for the story NAME.yaml alone, which is
    read instead of the other. Beside a `story.yaml`, the first are that story's alone.
    """
    folder = story.parent / "locales"
    files = sorted(file for file in folder.glob("*.y*ml") if not file.name.startswith("."))
    own = {file.stem for file in files if file.stem.startswith(f"{story.stem}.")}
    found: list[Locale] = []
    for file in files:
        owner, _, spoken = file.stem.rpartition(".")
        if f"{story.stem}.{spoken}" in own and not owner:
            continue
        if owner and owner != story.stem and (story.parent / f"{owner}.yaml").is_file():
            continue
        if not owner and _is_of_another(story, folder, spoken):
            continue
        report = Report(str(file))
        reports.append(report)
        complaint = _name_complaint(file, owner, spoken, story, language)
        if complaint is not None:
            report.error(Mark(), "SF319", complaint)
            continue
        root = load(file, report)
        if root is not None:
            validated(LocaleFile, root, report)
            found.append(Locale(spoken, root, report))
    return found


def _is_of_another(story: Path, folder: Path, spoken: str) -> bool:
    """Whether a locale file without a name of its own belongs to the `story.yaml` beside it."""
    if story.stem == "story" or not (story.parent / "story.yaml").is_file():
        return False
    return not (folder / f"story.{spoken}.yaml").is_file()


def _name_complaint(file: Path, owner: str, spoken: str, story: Path, language: str) -> str | None:
    """What is wrong with a locale file's name; None if nothing is."""
    if owner and owner != story.stem:
        return (
            f"there is no story `{owner}.yaml` for this file; name it `{story.stem}.{spoken}.yaml`"
        )
    if file.suffix != ".yaml":
        return f"name this file `{file.stem}.yaml`; as `{file.name}` it is not read"
    if re.fullmatch(LANGUAGE_CODE, spoken) is None:
        return f"`{shortened(spoken)}` is not a language; name the file by its code, as `fr.yaml`"
    if spoken == language:
        return f"`{spoken}` is the story's own language; write these texts in `{story.name}`"
    return None


def check_languages(root: Node, locales: Sequence[Locale], report: Report) -> None:
    """Report texts that a language lacks, and translations of what the story does not say."""
    language = language_of(root)
    said = list(passages(root))
    for passage in said:
        if passage.node.entries and not _words(passage.node.get(language)):
            message = f"this text has no `{language}`, the story's language"
            report.warning(passage.node.mark, "SF406", message)
    for locale in locales:
        _check_locale(locale, root, said)
    misread = {locale.language for locale in locales if locale.report.has_errors()}
    editions = {name for passage in said for name in passage.node.entries or ()}
    editions |= {locale.language for locale in locales}
    for edition in sorted(name for name in editions if re.fullmatch(LANGUAGE_CODE, name)):
        if edition != language and edition not in misread:
            report_untranslated(root, locales, edition, report)


def language_of(root: Node) -> str:
    """The story's own language."""
    return root.text_at("language") or "en"


def report_untranslated(
    root: Node, locales: Sequence[Locale], language: str, report: Report
) -> None:
    """Report every text that an edition in `language` shows in another one; names may stay."""
    spoken = [locale for locale in locales if locale.language == language]
    for passage in passages(root):
        if passage.place == ("author",) or _words(passage.node.get(language)):
            continue
        if not any(_words(_at(locale.root, passage.place)) for locale in spoken):
            report.warning(passage.node.mark, "SF422", f"{passage.about} is not in `{language}`")


def _words(node: Node | None) -> bool:
    return node is not None and bool((node.text or "").strip())


def _check_locale(locale: Locale, root: Node, said: Iterable[Passage]) -> None:
    """Whether the story has what the locale file translates, and does not translate it itself."""
    known = {passage.place: passage for passage in said}
    count = sum(1 for _ in root.each("pages"))
    panels = [
        name
        for page in root.each("pages")
        for panel in page.each("panels")
        if (name := panel.text_at("id"))
    ]
    for number in locale.root.named("pages"):
        if number.isdecimal() and not 1 <= int(number[:9]) <= count:
            message = f"no page {shortened(number)}; the story has {count}"
            locale.report.error(_key(locale, "pages", number), "SF317", message)
    for name in locale.root.named("panels"):
        if name not in panels:
            mark = _key(locale, "panels", name)
            locale.report.error(mark, "SF317", no_such("panel", name, panels))
    for place, node in _translations(locale.root):
        if place in known:
            inline = known[place].node.get(locale.language)
            if inline is not None:
                message = f"the story itself says this in `{locale.language}`"
                line = f"on line {inline.mark.line}; keep one of the two"
                locale.report.warning(node.mark, "SF410", f"{message} {line}")
        elif place[0] not in {"pages", "panels"} or _is_there(place, count, panels):
            message = f"the story has no text here to translate: {_spelt(place)}"
            locale.report.error(node.mark, "SF318", message)


def _key(locale: Locale, group: str, key: str) -> Mark:
    listed = locale.root.get(group)
    return locale.root.mark if listed is None else listed.mark_of(key)


def _is_there(place: _Steps, pages: int, panels: Sequence[str]) -> bool:
    key = str(place[1])
    if place[0] == "panels":
        return key in panels
    return key.isdecimal() and 1 <= int(key[:9]) <= pages


def _spelt(place: _Steps) -> str:
    parts = [str(step + 1) if isinstance(step, int) else shortened(step) for step in place]
    return f"`{' '.join(parts)}`"


def _translations(root: Node) -> Iterator[tuple[_Steps, Node]]:
    """Every text of a locale file with its place; what the schema refuses is left out."""
    for path in (("title",), ("author",), *_MATTER):
        yield from _translation(root, path)
    for number in root.named("pages"):
        yield from _translation(root, ("pages", number))
    for name, panel in root.named("panels").items():
        yield from _translation(root, ("panels", name, "alt"))
        for turn, _ in enumerate(panel.each("say")):
            yield from _translation(root, ("panels", name, "say", turn))


def _translation(root: Node, place: _Steps) -> Iterator[tuple[_Steps, Node]]:
    node = _at(root, place)
    if node is not None and _words(node):
        yield place, node


def check_edition(language: str | None, known: Sequence[str]) -> None:
    """Raise StoryForgeError for a language that no text of the story has."""
    if language is None or language in known:
        return
    guess = closest(language, known)
    meant = f"; did you mean `{guess}`?" if guess else ""
    there = ", ".join(f"`{name}`" for name in known)
    hint = f"write `locales/{language}.yaml`, or `{language}: …` beside the story's own words"
    if not re.fullmatch(LANGUAGE_CODE, language):
        hint = "languages are written as `de` or `pt-BR`"
    raise StoryForgeError(f"no text is in `{language}`, only in {there}{meant}", hint=hint)


def with_locales(root: Node, locales: Sequence[Locale]) -> Node:
    """The story's tree with every translation in its place; what the story itself says stays."""
    language = language_of(root)
    for passage in list(passages(root)):
        written = passage.node.entries or {language: passage.node}
        entries = {name: node for name, node in written.items() if _words(node)}
        for locale in locales:
            node = _at(locale.root, passage.place)
            if node is not None and _words(node):
                entries.setdefault(locale.language, node)
        if len(entries) > len(written):
            text = replace(passage.node, text=None, entries=entries, keys={})
            root = _with(root, passage.path, text)
    return root


def _with(node: Node, path: _Steps, value: Node) -> Node:
    """The tree with `value` at `path`; the tree given stays as it is."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        items = list(node.items or ())
        items[step] = _with(items[step], rest, value)
        return replace(node, items=items)
    entries = dict(node.entries or {})
    entries[step] = _with(entries[step], rest, value)
    return replace(node, entries=entries)
