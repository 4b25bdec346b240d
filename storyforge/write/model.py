"""Drafts by a language model, asked at an address that speaks as OpenAI's does; none is shipped.

What it writes is data: it is checked like any story, sent back with what is wrong, and never run.
Models, pictures and addresses that it names are refused.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Final

from storyforge.errors import Diagnostic, EnvironmentProblem, Report, Severity, StoryForgeError
from storyforge.executor import OnProgress
from storyforge.store import write_whole
from storyforge.story.layout import find, names
from storyforge.story.lint.cast import GROUPS
from storyforge.story.story import read_layout
from storyforge.story.yaml import Node, load_text
from storyforge.write.draft import Cast

ROUNDS: Final = 5
"""Times that a draft goes back with what is wrong; what is not sound then hardly becomes so."""

_PATIENCE: Final = 600.0
_MOST: Final = 2_000_000
"""Bytes of an answer."""

_REFUSED: Final = frozenset(
    [
        "adapter",
        "base",
        "cache",
        "control",
        "font",
        "fuse",
        "lora",
        "mask",
        "narration",
        "people",
        "picture",
        "profile",
        "refine",
        "sampling",
        "title_font",
        "upscale",
    ]
)
"""Keys that name files, models or addresses."""

_NAMES: Final = {**dict.fromkeys(GROUPS, 1), "outfits": 2, "views": 2, "regions": 1}
"""Keys -> how many levels of names lie under them, which their author is free to choose."""

Check = Callable[[Path], Sequence[Diagnostic]]

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """Where a model answers, such as `http://127.0.0.1:8080/v1`, and how it is called there."""

    address: str
    name: str = "default"


def written(
    idea: str,
    story: Path,
    cast: Cast,
    model: LanguageModel,
    check: Check,
    *,
    pages: int = 8,
    on_progress: OnProgress,
) -> str:
    """Ask for a story until it passes; its text, which lies in `story` as well.

    check  what is wrong with a file

    Raises EnvironmentProblem if nobody answers there, and StoryForgeError, with the last draft left
    in `story`, if what comes does not pass.
    """
    asked: list[Message] = [
        {"role": "system", "content": _rules(cast)},
        {"role": "user", "content": f"Write a picture book of {pages} pages. The idea:\n{idea}"},
    ]
    wrong: list[str] = []
    for turn in range(ROUNDS):
        on_progress("writing", turn, ROUNDS)
        answer = _answer(model, asked)
        text = _yaml_in(answer)
        write_whole(story, text.encode())
        wrong = _wrong(text, story, cast, check)
        if not wrong:
            return text
        asked = [
            *asked[:2],
            {"role": "assistant", "content": f"```yaml\n{text}```"},
            {
                "role": "user",
                "content": "Mend these and write all of it again:\n" + "\n".join(wrong),
            },
        ]
    message = f"the model's draft still has {len(wrong)} mistakes: {wrong[0]}"
    raise StoryForgeError(message, hint=f"the last draft is `{story}`; mend it by hand")


def _wrong(text: str, story: Path, cast: Cast, check: Check) -> list[str]:
    root = load_text(text, Report(str(story)))
    strange = [
        f"`{key}` is not yours to say; leave it out" for key in _keys(root) if key in _REFUSED
    ]
    if root is not None:
        strange += [
            f"there is no {place.described()}; list only those that you were told"
            for group in GROUPS
            for place in root.named(group).values()
            if place.text not in cast.places.values()
        ]
    found = check(story)
    told = [
        f"line {each.line}: {each.message}" + (f" ({each.hint})" if each.hint else "")
        for each in found
        if each.severity is Severity.ERROR
    ]
    return [*dict.fromkeys(strange), *told][:40]


def _keys(node: Node | None, named: int = 0) -> Iterator[str]:
    """Every key in a tree, wherever it stands, but for names.

    named  how many levels of the tree have names instead of keys
    """
    if node is not None:
        for name, child in (node.entries or {}).items():
            if not named:
                yield name
            yield from _keys(child, named - 1 if named else _NAMES.get(name, 0))
        for child in node.items or ():
            yield from _keys(child)


def _yaml_in(answer: str) -> str:
    """The block of YAML in an answer, or all of it."""
    found = re.search(r"```(?:ya?ml)?\s*\n(.*?)```", answer, re.DOTALL)
    return (found[1] if found else answer).strip() + "\n"


def _rules(cast: Cast) -> str:
    """What a story looks like, and who there is."""
    known = [
        f"  {name}: {cast.places[name]}   # {spec.kind}, a {spec.class_}"
        for name, spec in cast.specs.items()
    ]
    paths = ((name, find(name)) for name in names())
    places = [
        f"  {name}: {', '.join(read_layout(path).regions) or 'no regions'}"
        for name, path in paths
        if path is not None
    ]
    return "\n".join(
        [
            "You write picture books as YAML, and nothing but YAML in one ```yaml block.",
            "Keys: storyforge: 1, title, pages, and maps of name: folder under characters, objects",
            "and scenes.",
            "A page has text, and panels. A panel has id, layout, prompt, alt, and may have scene,",
            "regions (a map of the layout's region: {concept: name, prompt: words}) and say",
            "(a list of {who: name, text: words}). Every panel needs an alt text. Prompts name",
            "what is seen, in a few words. Who speaks must stand in a region of that panel.",
            "List only these under characters, objects and scenes, as they are written here:",
            *(known or ["  nobody: leave these keys out, and describe figures in prompts"]),
            "Layouts, and their regions:",
            *places,
        ]
    )


def _answer(model: LanguageModel, messages: list[Message]) -> str:
    """What the model says."""
    address = model.address
    if not address.startswith(("http://", "https://")):
        raise StoryForgeError(f"`{address}` is no address", hint="such as http://127.0.0.1:8080/v1")
    body = json.dumps({"model": model.name, "messages": messages, "temperature": 0.7}).encode()
    request = urllib.request.Request(
        f"{address.rstrip('/')}/chat/completions", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
            told = json.loads(response.read(_MOST))
        content = told["choices"][0]["message"]["content"]
    except (OSError, HTTPException) as exc:
        message = f"no language model answers at `{address}`: {exc}"
        raise EnvironmentProblem(message, hint="start one, such as llama-server") from exc
    except (ValueError, KeyError, IndexError, TypeError) as exc:
        raise EnvironmentProblem(f"what `{address}` answers is no chat completion") from exc
    if not isinstance(content, str):
        raise EnvironmentProblem(f"`{address}` answers with no text")
    return content
