"""A plain manuscript, split into pages and pictures by its own marks; no model is asked.

Understood are `PAGE` and `PANEL` lines, screenplay style (`INT.`, `EXT.`, a name in capitals above
what is said) and `NAME: words`. Without any mark, blank lines part pages. Not covered: layouts,
sounds, and directions for the camera, which stay part of the prompt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from storyforge.story.yaml import UNPRINTABLE

_ENDS: Final = r"\s*(?:[.:\u2013\u2014-]|(?=\()|[*_#=)\]]*$)"
"""What follows a mark's number: `Page 3 was missing` is a sentence. In capitals anything may."""


def _mark(words: str, number: str) -> re.Pattern[str]:
    """A line that begins with one of some words and a number, or is such a word alone."""
    loud = rf"(?-i:{words.upper()})\s+{number}\b[.:,]?"
    usual = rf"(?:{words})(?:\s+{number}{_ENDS}|\s*:|\s*$)"
    return re.compile(rf"^\W*(?:{usual}|{loud})\s*(?P<rest>.*)$", re.IGNORECASE)


_PAGE: Final = _mark("page", r"(?:\d+|[ivxlc]+)")
_PANEL: Final = _mark("(?:panel|picture)", r"\d+")
_SCENE: Final = re.compile(r"^(?:INT\./EXT|INT|EXT|I/E)[. ]+(?P<rest>.+)$")
_NAME: Final = r"(?P<name>[A-Z][A-Z0-9'’ -]{0,30}?)"
_HOW: Final = r"\s*(?:\((?P<how>[^)]*)\))?\s*"
_INLINE: Final = re.compile(rf"^{_NAME}{_HOW}:\s*(?P<words>\S.*)$")
_ALONE: Final = re.compile(rf"^{_NAME}{_HOW}$")

_KINDS: Final = {
    "whisper": "whisper",
    "quiet": "whisper",
    "think": "thought",
    "thought": "thought",
    "shout": "shout",
    "yell": "shout",
    "cry": "shout",
    "loud": "shout",
}
_NARRATORS: Final = frozenset({"CAPTION", "NARRATOR", "NARRATION", "TEXT"})


@dataclass(slots=True)
class DraftSpeech:
    """What somebody says; None is the narrator.

    how  as the manuscript says it
    """

    who: str | None
    text: str
    kind: str = "speech"
    how: str = ""


@dataclass(slots=True)
class DraftPanel:
    """One picture: what is seen, and what is said there."""

    prompt: str = ""
    says: list[DraftSpeech] = field(default_factory=list)


@dataclass(slots=True)
class DraftPage:
    """One page of a draft."""

    text: str = ""
    panels: list[DraftPanel] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether nothing stands here yet."""
        return not self.text and not self.panels


@dataclass(slots=True)
class Manuscript:
    """A title, and the pages."""

    title: str
    pages: list[DraftPage]

    @property
    def speakers(self) -> tuple[str, ...]:
        """Everybody who speaks, as they are written, in order."""
        said = (s.who for page in self.pages for panel in page.panels for s in panel.says)
        return tuple(dict.fromkeys(who for who in said if who))


def split(text: str) -> Manuscript:
    """Split a manuscript; whatever it is, every word of it lands somewhere.

    A form feed ends a line; other signs that no story may hold are left out.
    """
    readable = UNPRINTABLE.sub("", text.replace("\f", "\n"))
    lines = [line.strip() for line in re.split("\r\n|[\n\r\x85\u2028\u2029]", readable)]
    marked = any(_is_mark(line) for line in lines)
    title, lines = _title(lines)
    reader = _Splitter(marked)
    for line in lines:
        reader.read(line)
    reader.read("")
    pages = [page for page in reader.pages if not page.empty]
    return Manuscript(title or "Untitled", pages or [DraftPage(text=title)])


def _is_mark(line: str) -> bool:
    return any(mark.match(line) for mark in (_PAGE, _SCENE))


def _title(lines: list[str]) -> tuple[str, list[str]]:
    """The first line, where it stands alone and is no mark."""
    for number, line in enumerate(lines):
        if not line:
            continue
        rest = lines[number + 1 :]
        alone = not rest or not rest[0]
        plain = not (_is_mark(line) or _PANEL.match(line) or _INLINE.match(line))
        if alone and plain and len(line) <= 80:
            words = line.removeprefix("# ").removeprefix("Title: ").strip()
            return words.title() if words.isupper() else words, rest
        break
    return "", lines


@dataclass(slots=True)
class _Splitter:
    """Takes in line by line.

    marked   whether the manuscript says where pages begin
    speaker  whose words the next line is
    heading  the line above these words, as it is written
    """

    marked: bool
    pages: list[DraftPage] = field(default_factory=lambda: [DraftPage()])
    speaker: DraftSpeech | None = None
    heading: str = ""

    def read(self, line: str) -> None:
        """Take in one line."""
        page = self.pages[-1]
        if not line or any(mark.match(line) for mark in (_PAGE, _PANEL, _SCENE, _INLINE)):
            if self.speaker is not None and not self.speaker.text:
                self._unsay(page, self.speaker)
            self.speaker = None
        if not line:
            if not self.marked and not page.empty:
                self.pages.append(DraftPage())
        elif found := _PAGE.match(line):
            self.pages.append(DraftPage(text=found["rest"]))
        elif found := _PANEL.match(line):
            page.panels.append(DraftPanel(found["rest"]))
        elif found := _SCENE.match(line):
            self._scene(found["rest"])
        elif found := _INLINE.match(line):
            self._say(found["name"], found["how"], found["words"])
        elif self.speaker is not None:
            self._go_on(self.speaker, line)
        elif (found := _ALONE.match(line)) and len(line) > 1:
            self.speaker, self.heading = self._say(found["name"], found["how"], ""), line
        else:
            page.text = f"{page.text} {line}".strip()

    def _scene(self, rest: str) -> None:
        """A new place: a picture of its own."""
        place, _, hour = rest.partition(" - ")
        words = f"{place.strip().lower()}, {hour.strip().lower()}" if hour else place.lower()
        self.pages[-1].panels.append(DraftPanel(words))

    def _say(self, name: str, how: str | None, words: str) -> DraftSpeech:
        page = self.pages[-1]
        if not page.panels:
            page.panels.append(DraftPanel())
        kind = next((k for word, k in _KINDS.items() if word in (how or "").lower()), "speech")
        narrates = name.strip() in _NARRATORS
        who = None if narrates else name.strip()
        said = DraftSpeech(who, words, "caption" if narrates else kind, (how or "").strip())
        page.panels[-1].says.append(said)
        return said

    def _unsay(self, page: DraftPage, said: DraftSpeech) -> None:
        """Words in capitals with nothing below them, such as `THE END`, are the page's own."""
        panel = page.panels[-1]
        panel.says.remove(said)
        if panel == DraftPanel():
            page.panels.pop()
        page.text = f"{page.text} {self.heading}".strip()

    def _go_on(self, said: DraftSpeech, line: str) -> None:
        if line.startswith("(") and line.endswith(")") and not said.text:
            found = next((k for word, k in _KINDS.items() if word in line.lower()), None)
            said.kind = found or said.kind
            said.how = f"{said.how} {line[1:-1].strip()}".strip()
            self.heading = f"{self.heading} {line}"
        else:
            said.text = f"{said.text} {line}".strip()
