"""A schema's complaints, put where the author can see them.

Turns what pydantic finds wrong with a file into findings with a line, a column and a remedy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from storyforge.errors import Mark, Report, closest, shortened
from storyforge.story.yaml import Node

_CODES: Final = {
    "extra_forbidden": "SF200",
    "missing": "SF201",
    "outside_frame": "SF304",
    "no_place": "SF302",
}

_KINDS: Final = (
    ("string_type", "a text"),
    ("int_", "a whole number"),
    ("float_", "a number"),
    ("finite_number", "a number"),
    ("bool_", "`true` or `false`"),
    ("dict_type", "a map, one `key: value` on a line"),
    ("model_", "a map, one `key: value` on a line"),
    ("tuple_type", "a list, each member after a `-`"),
    ("list_type", "a list, each member after a `-`"),
)


M = TypeVar("M", bound=BaseModel)


def validated(
    model: type[M], node: Node, report: Report, filled: dict[str, object] | None = None
) -> M | None:
    """The node's value as `model`; None, and every complaint in the report, if it does not fit.

    `filled` are the fields that the reader knows and the author does not write.
    """
    value = node.plain()
    if not isinstance(value, dict):
        report.error(node.mark, "SF202", f"the file must be a map of keys, not {node.described()}")
        return None
    filled = filled or {}
    for key in filled.keys() & value.keys():
        _unknown_key(model, node, (key,), filled, report)
    try:
        made = model.model_validate(value | filled, by_alias=True, by_name=False)
        return None if filled.keys() & value.keys() else made
    except ValidationError as exc:
        findings = exc.errors(include_url=False, include_input=False)
    misspelt: set[tuple[tuple[int | str, ...], str]] = set()
    for error in sorted(findings, key=lambda error: error["type"] != "extra_forbidden"):
        if report.full:
            report.error(node.mark, "SF202", error["msg"])
        elif error["type"] == "extra_forbidden":
            guess = _unknown_key(model, node, error["loc"], filled, report)
            misspelt |= {(error["loc"][:-1], guess)} if guess else set()
        elif error["type"] != "missing" or (error["loc"][:-1], error["loc"][-1]) not in misspelt:
            _tell(error, _place(node, error["loc"]), report)
    return None


def _tell(error: ErrorDetails, place: _Place, report: Report) -> None:
    if error["type"] == "too_short" and place.node.items:
        # Members that are wrong themselves, and told as such, are not counted by pydantic.
        return
    code = _CODES.get(error["type"], "SF202")
    if error["type"] == "missing" and isinstance(error["loc"][-1], int):
        code = "SF202"
    report.error(place.mark, code, _message(error, place))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a complaint belongs: the value, the key it stands under, and the mark to point at."""

    node: Node
    label: str
    mark: Mark


_CORNERS: Final = ("x0", "y0", "x1", "y1")


def _place(root: Node, loc: Sequence[int | str]) -> _Place:
    """Follow pydantic's location through the tree; parts that are no key or index are skipped."""
    node, label, mark, key_mark = root, "", root.mark, root.mark
    for part in loc:
        step = _CORNERS.index(part) if node.items is not None and part in _CORNERS else part
        if step == "[key]":
            mark = key_mark
        elif isinstance(step, str) and node.entries is not None and step in node.entries:
            label, key_mark = step, node.mark_of(step)
            node = node.entries[step]
            mark = node.mark
        elif isinstance(step, int) and node.items is not None and step < len(node.items):
            node = node.items[step]
            mark = node.mark
    return _Place(node, label, mark)


def _unknown_key(
    model: type[BaseModel],
    root: Node,
    loc: Sequence[int | str],
    filled: Mapping[str, object],
    report: Report,
) -> str | None:
    """Report a key that the schema does not have; the key that was probably meant, or None."""
    parent, key = _place(root, loc[:-1]), str(loc[-1])
    known = [word for word in _keys(_model_at(model, loc[:-1])) if word not in filled]
    guess = closest(key, known)
    remedy = f"did you mean `{guess}`?" if guess else f"known are {_listed(known)}"
    mark = parent.node.mark_of(key)
    report.error(mark, "SF200", f"unknown key `{shortened(key)}`; {remedy}")
    return guess


def _keys(model: type[BaseModel]) -> list[str]:
    fields = model.model_fields.items()
    return [str(field.validation_alias or name) for name, field in fields]


def _model_at(model: type[BaseModel], loc: Sequence[int | str]) -> type[BaseModel]:
    """The model that describes the map at `loc`."""
    steps = iter(loc)
    for step in steps:
        found = model.model_fields.get(str(step))
        if found is None:
            continue
        if get_origin(found.annotation) is dict:
            next(steps, None)
        model = next(_models(found.annotation), model)
    return model


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _listed(words: Sequence[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _message(error: ErrorDetails, place: _Place) -> str:
    """What is wrong, and what to write instead, in the author's words."""
    kind, context = error["type"], error.get("ctx", {})
    about = f"`{shortened(place.label)}`" if place.label else "the file"
    if kind == "missing":
        last = error["loc"][-1]
        if isinstance(last, int):
            return f"{about} needs {last + 1} values or more"
        return f"`{last}` is missing" + (f" from {about}" if place.label else "")
    if place.node.empty and error["loc"][-1:] != ("[key]",):
        return f"{about} is empty; write a value or take the line out"
    if kind == "literal_error":
        return _choice(about, str(context.get("expected", "")), place.node)
    for sign, wanted in _KINDS:
        if kind.startswith(sign):
            return f"{about} must be {wanted}, not {place.node.described()}"
    return _bound(kind, context, about, place.node) or _own_words(error, about)


def _choice(about: str, expected: str, node: Node) -> str:
    allowed = [word.strip("' ") for word in expected.replace(" or ", ", ").split(", ")]
    guess = closest(node.text, allowed) if node.text is not None else None
    remedy = f"; did you mean `{guess}`?" if guess else ""
    choices = f"one of {_listed(allowed)}" if len(allowed) > 1 else _listed(allowed)
    return f"{about} must be {choices}, not {node.described()}{remedy}"


_BOUNDS: Final = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def _bound(kind: str, context: dict[str, object], about: str, node: Node) -> str | None:
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"{about} must be {words} {context[key]}, not {node.described()}"
    if kind in {"too_short", "string_too_short"}:
        return f"{about} is empty" if context.get("min_length") == 1 else f"{about} is too short"
    if kind == "too_long":
        return f"{about} has too many members: {context['max_length']} at most"
    return None


def _own_words(error: ErrorDetails, about: str) -> str:
    message = error["msg"]
    if message[:1].isupper():
        return f"{about}: {message[:1].lower()}{message[1:]}"
    return message
