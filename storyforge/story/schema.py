"""JSON schemas of the author's files, for editors that complete and explain while one writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import BaseModel

from storyforge.story.concept import ConceptSpec
from storyforge.story.form import StoryFile
from storyforge.story.layout import Layout
from storyforge.story.locales import LocaleFile

What = Literal["story", "concept", "layout", "locale"]

_FILES: Final[dict[What, type[BaseModel]]] = {
    "story": StoryFile,
    "concept": ConceptSpec,
    "layout": Layout,
    "locale": LocaleFile,
}

_PLACED: Final = ("concept", "layout")
_FILLED_IN: Final = ("name", "folder")
"""What the reader knows by the file's place, and the author does not write."""


def schema(what: What = "story") -> dict[str, object]:
    """The JSON schema of one kind of file."""
    made: dict[str, object] = _FILES[what].model_json_schema(by_alias=True)
    properties, required = made["properties"], made.get("required", [])
    if isinstance(properties, dict) and isinstance(required, list) and what in _PLACED:
        made["properties"] = {key: properties[key] for key in properties if key not in _FILLED_IN}
        made["required"] = [key for key in required if key not in _FILLED_IN]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_for_editors(made),
        "title": f"storyforge {what}",
    }


def _for_editors(part: Mapping[str, object]) -> dict[str, object]:
    """Suit the schema to editors.

    The titles that pydantic makes from names would be shown over the descriptions, and keys that
    match no pattern would go unmarked.
    """
    suited = {
        key: _suited(value)
        for key, value in part.items()
        if not (key == "title" and isinstance(value, str))
    }
    return suited | ({"additionalProperties": False} if "patternProperties" in part else {})


def _suited(value: object) -> object:
    if isinstance(value, dict):
        return _for_editors(value)
    if isinstance(value, list):
        return [_suited(each) for each in value]
    return value
