"""Changes to a story's text that leave every other sign where it was: comments, order, spelling.

One value at a time is set or taken out, at the marks of the parser. Not covered, and refused: what
is written by an alias (`*name`), because it would change wherever the anchor is used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import yaml

from storyforge.errors import StoryForgeError

KeyPath = Sequence[str | int]
"""Keys of maps and places in lists, from the root."""

_LOADER: Final = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_NULL: Final = "tag:yaml.org,2002:null"
_PLAIN: Final = re.compile(r"[^\W\d_][\w ./()'!-]*(?<! )")
"""Texts that every reader of YAML takes for texts: a letter first, and no `?` in a flow map."""

_BREAKS: Final = re.compile("[\x85\u2028\u2029]")
"""What YAML takes for the end of a line, besides those that are."""

_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off"})
"""Not texts to every reader of YAML."""


BOM: Final = "\ufeff"
"""How some editors begin a file; parsers do not count it, and their marks are of what follows."""


def quoted(text: str) -> str:
    """The text as YAML writes it within a line, plain if that is sure to be read back as text."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    escaped = escaped.replace("\t", "\\t").replace("\r", "\\r")
    return '"' + _BREAKS.sub(lambda found: f"\\u{ord(found[0]):04x}", escaped) + '"'


def numbers(values: Sequence[float]) -> str:
    """A flow list of numbers, three digits behind the point at most."""
    return f"[{', '.join(f'{round(value, 3) + 0:g}' for value in values)}]"


def set_value(text: str, path: KeyPath, written: str) -> str:
    """The text with `written`, a value of one line, at `path`; its map must be there.

    Raises StoryForgeError where the value, or what it stands in, is written by an alias.
    """
    bare = text.removeprefix(BOM)
    return text[: len(text) - len(bare)] + _with_value(bare, path, written)


def _with_value(text: str, path: KeyPath, written: str) -> str:
    parent, key = _map_at(text, path[:-1]), str(path[-1])
    found = _entry(parent.node, key)
    if found is None:
        return _inserted(text, parent, key, written)
    name, value = found
    _refuse_shared(parent.shared, value)
    start, end = value.start_mark.index, value.end_mark.index
    if value.tag == _NULL and start == end:
        at = text.index(":", name.end_mark.index) + 1
        return f"{text[:at]} {written}{text[at:]}"
    return f"{text[:start]}{written}{text[_end_of(text, name, value) :]}"


def remove_value(text: str, path: KeyPath) -> str:
    """The text without the key at `path` and its value; unchanged if there is none."""
    bare = text.removeprefix(BOM)
    return text[: len(text) - len(bare)] + _without_value(bare, path)


def _without_value(text: str, path: KeyPath) -> str:
    parent, key = _map_at(text, path[:-1]), str(path[-1])
    found = _entry(parent.node, key)
    if found is None:
        return text
    name, value = found
    _refuse_shared(parent.shared, value)
    start, end = name.start_mark.index, _end_of(text, name, value)
    if parent.node.flow_style:
        after = re.compile(r"\s*,\s*").match(text, end)
        before = re.compile(r"\s*,\s*$").search(text[:start])
        if before is not None:
            return text[: before.start()] + text[end:]
        return text[:start] + text[after.end() if after else end :]
    if len(parent.node.value) == 1:  # without its only key, the map would be no map
        return f"{text[:start]}{{}}{text[end:]}"
    line = text.rfind("\n", 0, start) + 1
    if text[line:start].strip():  # the first key behind a `-`
        rest = re.compile(r"[^\n]*\n\s*").match(text, end)
        return text[:start] + text[rest.end() if rest else end :]
    rest = re.compile(r"[^\n]*(\n|$)").match(text, end)
    return text[:line] + text[rest.end() if rest else end :]


@dataclass(frozen=True, slots=True)
class _Map:
    """A map of the file.

    shared    what stands at more than one place
    empty_at  where it is to be written, if nothing is there yet
    """

    node: yaml.MappingNode
    shared: set[int]
    empty_at: int | None = None


def _map_at(text: str, path: KeyPath) -> _Map:
    root = yaml.compose(text, Loader=_LOADER)
    if root is None:
        raise StoryForgeError("the story is empty")
    shared = _shared(root)
    node: yaml.Node = root
    owner: yaml.ScalarNode | None = None
    for step in path:
        found: tuple[yaml.ScalarNode | None, yaml.Node] | None = None
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            found = None, node.value[step]
        elif isinstance(node, yaml.MappingNode):
            found = _entry(node, str(step))
        if found is None:
            raise StoryForgeError(f"the story has no `{step}` here")
        owner, node = found
        _refuse_shared(shared, node)
    if isinstance(node, yaml.MappingNode):
        return _Map(node, shared)
    if isinstance(node, yaml.ScalarNode) and node.tag == _NULL and owner is not None:
        at = text.index(":", owner.end_mark.index) + 1
        made = yaml.MappingNode("", [], node.start_mark, node.end_mark, flow_style=True)
        return _Map(made, shared, at)
    raise StoryForgeError("a map is expected here")


def _entry(node: yaml.MappingNode, key: str) -> tuple[yaml.ScalarNode, yaml.Node] | None:
    for name, value in node.value:
        if isinstance(name, yaml.ScalarNode) and name.value == key:
            return name, value
    return None


def _shared(root: yaml.Node) -> set[int]:
    """Which nodes stand at more than one place, by identity."""
    seen: set[int] = set()
    twice: set[int] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if id(node) in seen:
            twice.add(id(node))
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            todo += [each for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            todo += node.value
    return twice


def _refuse_shared(shared: set[int], node: yaml.Node) -> None:
    if id(node) in shared:
        line = node.start_mark.line + 1
        message = (
            f"what is written on line {line} stands at other places too, by an alias (`*name`)"
        )
        raise StoryForgeError(message, hint="write it out at each place to change one of them")


def _inserted(text: str, parent: _Map, key: str, written: str) -> str:
    node = parent.node
    if parent.empty_at is not None:
        return f"{text[: parent.empty_at]} {{{key}: {written}}}{text[parent.empty_at :]}"
    if node.flow_style:
        if not node.value:
            at = text.index("{", node.start_mark.index) + 1
            return f"{text[:at]}{key}: {written}{text[at:]}"
        last = node.value[-1][1]
        at = _end_of(text, node.value[-1][0], last)
        return f"{text[:at]}, {key}: {written}{text[at:]}"
    name, last = node.value[-1]
    at = text.find("\n", _end_of(text, name, last))
    indent = " " * name.start_mark.column
    line = f"{indent}{key}: {written}"
    ending = "\r\n" if "\r\n" in text else "\n"
    if at == -1:
        return f"{text}{ending}{line}"
    at += 1
    return f"{text[:at]}{line}{ending}{text[at:]}"


def _end_of(text: str, name: yaml.Node, value: yaml.Node) -> int:
    """Where an entry's last sign stands: block values end where the next thing begins."""
    start, end = name.start_mark.index, value.end_mark.index
    end = max(end, name.end_mark.index)
    kept = text[start:end].rstrip()
    if kept == text[start : name.end_mark.index]:
        return text.index(":", name.end_mark.index) + 1
    if isinstance(value, yaml.CollectionNode) and not value.flow_style and value.value:
        last = value.value[-1]
        inner = last[1] if isinstance(last, tuple) else last
        return _end_of(text, last[0] if isinstance(last, tuple) else inner, inner)
    return start + len(kept)
