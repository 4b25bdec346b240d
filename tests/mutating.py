"""Stories with something changed that their form allows, or nearly: what an author might come to.

A change puts in a setting that the schema knows, with a value from its bounds or just beyond, takes
something out, says it twice, or exchanges two things.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storyforge.errors import Report
from storyforge.story.schema import schema
from storyforge.story.yaml import load

WORDS = (
    "",
    " ",
    "a fox",
    "<pip> and <juna>",
    "<nobody>",
    "ж",
    "的日本",
    "א שלום",
    "a" * 80,
    "word " * 90,
    "(very:1.4) red [fox] AND owl",
    "“No!”",
    "♥",
    "\U0001f98a",
    "*bold* _it_",
    "one\ntwo",
    "a & b < c",
    "\u200b",
)
NAMES = ("pip", "juna", "lantern", "moonwood", "mo", "left", "right", "centre", "nobody")
PLACES = ("left", "right", "centre", "A1", "B2:C3", "A1:D4")
LANGUAGES = ("en", "de", "fr", "he", "ar", "ja", "xx", "pt-BR")
FILES = (
    "white.png",
    "black.png",
    "text.png",
    "none.png",
    "fox-and-lantern.yaml",
    "fonts/VarelaRound-Regular.ttf",
    "../concepts/pip",
    "pocket/keypose",
    "pocket/sketch",
    "pocket/nothing",
    "own/name",
    "lanczos",
    "none",
)
"""What is written where a file is asked for; the first three lie beside the stories."""

NUMBERS = (0, 1, 2, 3, 7, 16, 17, 64, 96, 128, 250, 256, 1000)
PARTS = (0.0, 1e-9, 0.1, 0.25, 0.5, 0.75, 0.99, 1.0, 1.5, 4.0, 11.0, 20.0, 72.0)

_BY_KEY: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("concept", "who", "scene", "region", "panel"), NAMES),
    **dict.fromkeys(("file", "picture", "mask", "font", "title_font", "adapter", "upscale"), FILES),
    **dict.fromkeys(("images", "clip", "vae", "scheduler"), FILES),
    "at": PLACES,
    "language": LANGUAGES,
}

Tree = Any  # A story as lists, maps and texts, whatever mutations have made of it.
Schema = Mapping[str, Any]
Path_ = tuple[str | int, ...]


def tree_of(path: Path) -> Tree:
    """A file as our own reader sees it, every value still the text that was written."""
    root = load(path, Report(str(path)))
    assert root is not None
    return root.plain()


@dataclass(frozen=True)
class Mutator:
    """Changes trees of one kind of file by its schema."""

    schema: Schema
    chance: random.Random
    ids: Sequence[str] = ()

    @staticmethod
    def of(kind: Any, chance: random.Random, ids: Sequence[str] = ()) -> Mutator:
        return Mutator(schema(kind), chance, ids)

    def change(self, tree: Tree) -> None:
        """Change one thing, in place."""
        spots = list(self._spots(tree, self.schema))
        path, part = self.chance.choice(spots)
        kind = self.chance.randrange(8)
        if not path or kind < 3:
            self._put_in([spot for spot in spots if isinstance(_at(tree, spot[0]), dict)], tree)
            return
        around, key = _at(tree, path[:-1]), path[-1]
        match kind:
            case 3:
                del around[key]
            case 4 if isinstance(around, list):
                around.insert(key, copy.deepcopy(around[key]))
            case 5:
                self._exchange(tree, path, [spot for spot, _ in spots])
            case 6:
                around[key] = self.chance.choice((None, "", [], {}, "x", "-1", "yes", [[]], "0.5"))
            case _:
                around[key] = self.value(part or {"type": "string"}, str(key))

    def _put_in(self, maps: Sequence[tuple[Path_, Schema]], tree: Tree) -> None:
        known = [(path, self._object(part)) for path, part in maps]
        path, part = self.chance.choice([each for each in known if each[1].get("properties")])
        key = self.chance.choice(list(part["properties"]))
        _at(tree, path)[key] = self.value(part["properties"][key], key)

    def _exchange(self, tree: Tree, path: Path_, spots: Sequence[Path_]) -> None:
        """Two values of one type, neither of which holds the other."""
        mine = _at(tree, path)
        others = [
            spot
            for spot in spots
            if spot and type(_at(tree, spot)) is type(mine)
            if spot[: len(path)] != path and path[: len(spot)] != spot
        ]
        if others:
            other = self.chance.choice(others)
            here, there = _at(tree, path[:-1]), _at(tree, other[:-1])
            here[path[-1]], there[other[-1]] = there[other[-1]], mine

    def value(self, part: Schema, key: str, depth: int = 0) -> Tree:
        """Something that a part of the schema allows, or nearly."""
        part, chance = self._followed(part), self.chance
        choices = [each for each in part.get("anyOf", part.get("oneOf", ())) if each != _NULL]
        if choices:
            return self.value(chance.choice(choices), key, depth)
        match part:
            case {"const": value}:
                return value
            case {"enum": values}:
                return chance.choice(values)
            case {"type": "object"}:
                return self._map(part, key, depth)
            case {"type": "array", "prefixItems": items}:
                return [self.value(each, key, depth + 1) for each in items]
            case {"type": "array"}:
                least = part.get("minItems", 0)
                count = chance.randint(least, least + 2)
                return [self.value(part.get("items", {}), key, depth + 1) for _ in range(count)]
            case {"type": "boolean"}:
                return chance.choice((True, False))
            case {"type": "integer" | "number" as type_}:
                return self._number(part, NUMBERS if type_ == "integer" else PARTS)
        named = [*part.get("examples", ()), *_BY_KEY.get(key, ())]
        return chance.choice([*named, *self.ids] if named else WORDS)

    def _map(self, part: Schema, key: str, depth: int) -> Tree:
        needed, often = part.get("required", ()), 0.35 if depth < 2 else 0.15
        made = {
            name: self.value(inner, name, depth + 1)
            for name, inner in part.get("properties", {}).items()
            if name in needed or self.chance.random() < often
        }
        more = part.get("additionalProperties") or next(
            iter(part.get("patternProperties", {}).values()), None
        )
        if isinstance(more, dict):
            made[self.chance.choice(NAMES)] = self.value(more, key, depth + 1)
        return made

    def _number(self, part: Schema, pool: Sequence[float]) -> float:
        low = part.get("minimum", part.get("exclusiveMinimum", -10))
        high = part.get("maximum", part.get("exclusiveMaximum", 1e9))
        fitting = [each for each in pool if low <= each <= high]
        return self.chance.choice(fitting if fitting and self.chance.random() < 0.9 else pool)

    def _spots(self, tree: Tree, part: Schema, path: Path_ = ()) -> Iterator[tuple[Path_, Schema]]:
        """Every place of a tree, with what the schema says of it."""
        yield path, part
        if isinstance(tree, dict):
            inner = self._object(part)
            more = inner.get("additionalProperties")
            for key, value in tree.items():
                own = inner.get("properties", {}).get(key, more if isinstance(more, dict) else {})
                yield from self._spots(value, own, (*path, key))
        elif isinstance(tree, list):
            inner = next((each for each in self._forms(part) if each.get("type") == "array"), {})
            for index, value in enumerate(tree):
                yield from self._spots(value, inner.get("items") or {}, (*path, index))

    def _object(self, part: Schema) -> Schema:
        return next((each for each in self._forms(part) if each.get("type") == "object"), {})

    def _forms(self, part: Schema) -> list[Schema]:
        """The forms that a part may have, one if it is not a choice."""
        part = self._followed(part)
        choices = part.get("anyOf", part.get("oneOf"))
        return [self._followed(each) for each in choices] if choices else [part]

    def _followed(self, part: Schema) -> Schema:
        """The part itself, where the schema names it elsewhere."""
        while "$ref" in part:
            found: Any = self.schema
            for step in part["$ref"].split("/")[1:]:
                found = found[step]
            part = {**found, **{key: value for key, value in part.items() if key != "$ref"}}
        return part


_NULL = {"type": "null"}


def _at(tree: Tree, path: Path_) -> Tree:
    for step in path:
        tree = tree[step]
    return tree
