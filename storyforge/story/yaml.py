"""YAML with its positions, read so that no file can do harm.

Every scalar stays the text that was written: `no` is Norwegian until a schema asks for a switch,
`1984` a title until a schema asks for a number. Not covered, and refused with a message: tags,
merge keys (`<<`), keys that are not text, several documents in one file.
"""

from __future__ import annotations

import logging
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

import yaml

from storyforge.errors import Mark, Report, shortened

_log = logging.getLogger(__name__)

MAX_BYTES: Final = 1_000_000
"""A long picture book is some 50 kB of YAML."""
MAX_VALUES: Final = 50_000
"""Values after every alias is unfolded: a book of a thousand panels has about 20 000."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may hold at most: bytes, and values after every alias is unfolded."""

    bytes: int = MAX_BYTES
    values: int = MAX_VALUES


_LETTERS_A_VALUE: Final = 100
"""A text counts as one value more for each so many letters: aliases of long texts are bombs too."""
MAX_DEPTH: Final = 32
"""Nesting; a story needs nine levels."""

UNPRINTABLE: Final = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
"""Signs that no story holds."""

_TAG_DIRECTIVE: Final = re.compile(r"^%TAG ", re.MULTILINE)
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TEXT_TAGS: Final = frozenset({None, "!", "tag:yaml.org,2002:str"})
_LOADER: Final = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


@dataclass(slots=True)
class Node:
    """A value of the file: a text, nothing, a list (`items`) or a map (`entries`)."""

    mark: Mark
    text: str | None = None
    items: list[Node] | None = None
    entries: dict[str, Node] | None = None
    keys: dict[str, Mark] = field(default_factory=dict)
    size: int = 1
    depth: int = 1
    lead: int | None = None
    """signs between the mark and the text's first letter; None if it is not written plainly"""

    @property
    def empty(self) -> bool:
        """Whether nothing, or `null`, is written here."""
        return self.text is None and self.items is None and self.entries is None

    def plain(self) -> object:
        """The value as text, None, lists and dicts."""
        if self.entries is not None:
            return {key: node.plain() for key, node in self.entries.items()}
        if self.items is not None:
            return [node.plain() for node in self.items]
        return self.text

    def get(self, key: str) -> Node | None:
        """The value under `key`; None if this is no map or has no such key."""
        return None if self.entries is None else self.entries.get(key)

    def text_at(self, key: str) -> str | None:
        """The text under `key`; None if there is none."""
        node = self.get(key)
        return None if node is None else node.text

    def each(self, key: str) -> Iterator[Node]:
        """The members of the list under `key`; none if it is not a list."""
        node = self.get(key)
        yield from (node.items or ()) if node is not None else ()

    def named(self, key: str) -> dict[str, Node]:
        """The entries of the map under `key`; none if it is not a map."""
        node = self.get(key)
        return (node.entries or {}) if node is not None else {}

    def mark_of(self, key: str) -> Mark:
        """Where `key` stands; where the map begins if it has no such key."""
        return self.keys.get(key, self.mark)

    def mark_within(self, start: int) -> Mark:
        """Where the letter `start` of the text stands, or the text itself if that is not known."""
        if self.lead is None:
            return self.mark
        return Mark(self.mark.line, self.mark.column + self.lead + start)

    def described(self) -> str:
        """The value in a few words, for messages."""
        if self.entries is not None:
            return "a map"
        if self.items is not None:
            return "a list"
        return "nothing" if self.text is None else f"`{shortened(self.text)}`"


class _Refused(Exception):
    """The file cannot be read any further."""

    def __init__(self, mark: Mark, code: str, message: str) -> None:
        super().__init__(message)
        self.mark, self.code, self.message = mark, code, message


def load(path: Path, report: Report, limits: Limits = Limits()) -> Node | None:
    """The file as a tree with positions; None, and the reason in the report, if that cannot be.

    limits  an author's own, unless a machine wrote the file
    """
    _log.debug("reading %s", path)
    try:
        data = _bytes(path, limits.bytes)
    except _Refused as refusal:
        report.error(refusal.mark, refusal.code, refusal.message)
        return None
    return _composed(data, report, limits)


def load_text(text: str, report: Report, limits: Limits = Limits()) -> Node | None:
    """The same for a text that lies in no file yet."""
    data = text.encode(errors="replace")
    if len(data) > limits.bytes:
        report.error(Mark(), "SF104", _too_large(len(data), limits.bytes))
        return None
    return _composed(data, report, limits)


def _composed(data: bytes, report: Report, limits: Limits) -> Node | None:
    text = ""
    try:
        text = _decoded(data)
        return _Composer(report, limits.values).compose(text)
    except _Refused as refusal:
        report.error(refusal.mark, refusal.code, refusal.message)
    except yaml.MarkedYAMLError as exc:
        report.error(*_syntax(exc, text))
    except yaml.YAMLError as exc:
        report.error(Mark(), "SF102", f"not YAML: {shortened(str(exc))}")
    return None


def _bytes(path: Path, most: int) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            what = (
                "a folder, name the file in it"
                if stat.S_ISDIR(status.st_mode)
                else "not a plain file"
            )
            raise _Refused(Mark(), "SF100", f"cannot read: this is {what}")
        if status.st_size > most:
            raise _Refused(Mark(), "SF104", _too_large(status.st_size, most))
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise _Refused(Mark(), "SF100", f"cannot read: {reason.lower()}") from exc
    if len(data) > most:
        raise _Refused(Mark(), "SF104", _too_large(len(data), most))
    return data


def _too_large(size: int, most: int) -> str:
    return (
        f"too large: {size / 1e6:.1f} MB, and {most / 1e6:.0f} MB is the limit; "
        "pictures and models stay in files of their own"
    )


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _Refused(Mark(), "SF101", "the file is UTF-16; save it as UTF-8")
    if b"\0" in data:
        before = data[: data.index(b"\0")].decode("utf-8-sig", errors="replace")
        raise _Refused(_end_of(before), "SF101", "a binary file, not YAML")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        before = data[: exc.start].decode("utf-8-sig", errors="ignore")
        message = f"not UTF-8: byte 0x{data[exc.start]:02x}; save the file as UTF-8"
        raise _Refused(_end_of(before), "SF101", message) from exc
    directive = _TAG_DIRECTIVE.search(text)
    if directive is not None:
        where = _end_of(text[: directive.start()])
        raise _Refused(where, "SF102", "tags are not read; remove this line")
    strange = UNPRINTABLE.search(text)
    if strange is not None:
        raise _Refused(_end_of(text[: strange.start()]), "SF101", _strange(strange[0]))
    return text


def _strange(character: str) -> str:
    return f"control character U+{ord(character):04X}; remove it"


def _end_of(text: str) -> Mark:
    return Mark(text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1)


_SYNTAX: Final = (
    ("found unexpected end of stream", "this quote is never closed", True),
    ("expected ',' or ']'", "this `[` is never closed, or a comma is missing", True),
    ("expected ',' or '}'", "this `{` is never closed, or a comma is missing", True),
    ("could not find expected ':'", "a `:` is missing after this key", True),
    (
        "mapping values are not allowed",
        "a `:` where no key can stand; check the indentation, or put the text in quotes",
        False,
    ),
    (
        "did not find expected key",
        "a key is expected here; check the indentation, and put texts that hold quotes in quotes",
        False,
    ),
    ("expected '-' indicator", "a `-` is expected here; check the indentation", False),
    ("expected node content", "a value is expected here", False),
    ("alphabetic or numeric", "put a text that begins with `*` or `&` in quotes", False),
    ("unknown escape", "unknown escape; write `\\\\` for a backslash, or use single quotes", False),
    ("<document start>", "nothing can follow here; check the indentation", False),
    ("cannot start any token", "a text cannot begin with this character; put it in quotes", False),
)
"""What the parser says, what the author needs to hear, and whether the place is the opening."""


class _Position(Protocol):
    """The parser's mark, both numbers from 0."""

    @property
    def line(self) -> int:
        """From 0."""

    @property
    def column(self) -> int:
        """From 0."""


def _mark(at: _Position | None) -> Mark:
    return Mark() if at is None else Mark(at.line + 1, at.column + 1)


def _syntax(error: yaml.MarkedYAMLError, text: str) -> tuple[Mark, str, str]:
    """Place, code and words for a syntax error of the parser."""
    said = " ".join(part for part in (error.context, error.problem) if part)
    words, opening = f"not YAML: {shortened(said)}", False
    for sign, known, at_opening in _SYNTAX:
        if sign in said:
            words, opening = known, at_opening
            break
    at = (error.context_mark if opening else None) or error.problem_mark or error.context_mark
    mark = _mark(at)
    line = text.split("\n", mark.line)[mark.line - 1 : mark.line]
    if line and line[0][mark.column - 1 : mark.column] == "\t":
        words = "a tab; YAML is indented with spaces"
    return mark, "SF102", words


def _lead(event: yaml.ScalarEvent) -> int | None:
    """How far from its mark a text begins that stands on one line, letter for letter."""
    start, end = _mark(event.start_mark), _mark(event.end_mark)
    around = end.column - start.column - len(event.value)
    if start.line != end.line or around != (2 if event.style else 0):
        return None
    return around // 2


@dataclass(slots=True)
class _Frame:
    """A list or map that is still being read."""

    node: Node
    anchor: str | None
    key: str | None = None
    key_mark: Mark = Mark()
    skipping: bool = False


class _Composer:
    """Builds the tree from the parser's events, with a stack of its own: depth is no risk."""

    def __init__(self, report: Report, most: int) -> None:
        self._report = report
        self._most = most
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node | None] = {}
        self._root: Node | None = None

    def compose(self, text: str) -> Node:
        """The tree of the only document in `text`."""
        for event in yaml.parse(text, Loader=_LOADER):
            mark = _mark(event.start_mark)
            if isinstance(event, yaml.AliasEvent):
                self._alias(str(event.anchor), mark)
            elif isinstance(event, yaml.ScalarEvent):
                self._scalar(event, mark)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._open(event, mark)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._close()
            elif isinstance(event, yaml.DocumentStartEvent) and self._root is not None:
                raise _Refused(mark, "SF102", "a second document begins here; keep one in a file")
        if self._root is None or self._root.empty:
            raise _Refused(Mark(), "SF105", "the file is empty")
        return self._root

    def _alias(self, anchor: str, mark: Mark) -> None:
        if anchor not in self._anchors:
            message = f"no anchor `&{anchor}` above; put a text that begins with `*` in quotes"
            raise _Refused(mark, "SF102", message)
        known = self._anchors[anchor]
        if known is None:
            raise _Refused(mark, "SF104", f"`*{anchor}` stands inside of itself")
        self._place(replace(known, mark=mark, lead=None), mark)

    def _scalar(self, event: yaml.ScalarEvent, mark: Mark) -> None:
        self._refuse_tag(event.tag, mark)
        strange = UNPRINTABLE.search(event.value)
        if strange is not None:
            raise _Refused(mark, "SF101", _strange(strange[0]))
        frame = self._stack[-1] if self._stack else None
        if frame is not None and frame.node.entries is not None and frame.key is None:
            self._key(frame, event.value, mark)
            return
        empty = event.implicit[0] and event.value in _NULLS
        if empty and not event.value and frame is not None and frame.key is not None:
            mark = frame.key_mark
        size = 1 + len(event.value) // _LETTERS_A_VALUE
        text = None if empty else event.value
        node = Node(mark, text=text, size=size, lead=_lead(event))
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._place(node, mark)

    def _key(self, frame: _Frame, key: str, mark: Mark) -> None:
        frame.key, frame.key_mark, frame.skipping = key, mark, False
        if key == "<<":
            self._report.error(mark, "SF102", "merge keys (`<<`) are not read; write the keys out")
            frame.skipping = True
        elif key in frame.node.keys:
            line = frame.node.keys[key].line
            message = f"`{shortened(key)}` is written twice; the first is on line {line}"
            self._report.error(mark, "SF103", message)
            frame.skipping = True
        else:
            frame.node.keys[key] = mark

    def _open(self, event: yaml.CollectionStartEvent, mark: Mark) -> None:
        self._refuse_tag(None if event.implicit else event.tag, mark)
        if len(self._stack) >= MAX_DEPTH:
            raise _Refused(mark, "SF104", f"nested more than {MAX_DEPTH} levels deep")
        frame = self._stack[-1] if self._stack else None
        if frame is not None and frame.node.entries is not None and frame.key is None:
            raise _Refused(mark, "SF102", "a key must be a text, not a list or a map")
        if isinstance(event, yaml.MappingStartEvent):
            node = Node(mark, entries={})
        else:
            node = Node(mark, items=[])
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._stack.append(_Frame(node, event.anchor))

    def _close(self) -> None:
        frame = self._stack.pop()
        if frame.anchor is not None:
            self._anchors[frame.anchor] = frame.node
        self._place(frame.node, frame.node.mark)

    def _place(self, node: Node, mark: Mark) -> None:
        """Put a finished value where it belongs, and count what it unfolds to."""
        if not self._stack:
            self._root = node
            return
        frame = self._stack[-1]
        parent = frame.node
        parent.size += node.size
        parent.depth = max(parent.depth, node.depth + 1)
        if parent.size > self._most:
            message = f"too large: more than {self._most} values once every alias is unfolded"
            raise _Refused(mark, "SF104", message)
        if len(self._stack) - 1 + parent.depth > MAX_DEPTH:
            raise _Refused(mark, "SF104", f"nested more than {MAX_DEPTH} levels deep")
        if parent.items is not None:
            parent.items.append(node)
        elif parent.entries is not None:
            if frame.key is None:
                raise _Refused(mark, "SF102", "a key must be a text, not an alias")
            if not frame.skipping:
                parent.entries[frame.key] = node
            frame.key = None

    def _refuse_tag(self, tag: str | None, mark: Mark) -> None:
        if tag not in _TEXT_TAGS:
            message = f"tags such as `{shortened(str(tag))}` are not read; remove it"
            raise _Refused(mark, "SF102", message)
