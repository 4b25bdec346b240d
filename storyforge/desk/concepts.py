"""A concept's own page: what it is learnt from, what is wrong with that, what was learnt."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from storyforge.errors import StoryForgeError
from storyforge.evaluate.compared import comparison_of
from storyforge.pictures import PICTURES
from storyforge.pictures import sources as pictures_in
from storyforge.project import candidates
from storyforge.project.inspect import examine_folder
from storyforge.project.project import Project
from storyforge.store import write_whole
from storyforge.story.concept import ConceptSpec
from storyforge.story.story import Story
from storyforge.train.logs import PREVIEW

Values = dict[str, object]

_log = logging.getLogger(__name__)


def concepts(story: Story) -> list[Values]:
    """Every concept by name."""
    return [
        {
            "name": name,
            "kind": "file" if isinstance(spec, Path) else spec.kind,
            "class": None if isinstance(spec, Path) else spec.class_,
        }
        for name, spec in story.concepts.items()
    ]


def concept(project: Project, name: str, address: Callable[[Path], str], learning: Path) -> Values:
    """All there is to see of a concept.

    learning  where previews lie of concepts while they learn

    Raises StoryForgeError for a name that the story does not have.
    """
    spec = _spec(project.story, name)
    told: Values = {
        "name": name,
        "learnt": _learnt(project, name),
        "fusion": fusion(project),
        "learning": _learning(learning / name, address),
        "compared": _compared(project, name, address),
    }
    if isinstance(spec, Path):
        return {**told, "kind": "file", "pictures": [], "findings": [], "candidates": []}
    folder = spec.pictures()
    report = examine_folder(spec.folder, project.base.reference)
    codes = {each.file: report.codes(each) for each in report.seen}
    pictures = [
        {
            "file": each.file,
            "picture": address(folder / each.file),
            "mask": address(folder / each.mask) if each.mask else None,
            "captions": "\n".join(line.words for line in each.written),
            "codes": codes.get(each.file, []),
        }
        for each in pictures_in(folder, [seen.file for seen in report.seen])
    ]
    findings = [
        {"file": Path(each.file).name, "code": each.code, "message": each.message}
        for each in report.findings
    ]
    return {
        **told,
        "kind": spec.kind,
        "class": spec.class_,
        "pictures": pictures,
        "findings": findings,
        "candidates": _candidates(folder, address),
    }


def _learning(folder: Path, address: Callable[[Path], str]) -> list[Values]:
    """What was drawn on the way, by prompt and step: of this run, or of the last one."""
    rows: dict[int, list[Values]] = {}
    for path in sorted((folder / "previews").glob("*.png")):
        if found := PREVIEW.fullmatch(path.name):
            step = {"step": int(found[2]), "picture": address(path)}
            rows.setdefault(int(found[1]), []).append(step)
    return [{"what": _SHOWN[row % len(_SHOWN)], "steps": rows[row]} for row in sorted(rows)]


_SHOWN: Final = ("by itself", "in another place", "the class without it, which ought to stay")
"""What the rows of previews show."""


def _compared(project: Project, name: str, address: Callable[[Path], str]) -> list[Values]:
    """What the base, the concept alone and the fused model draw, as far as it is drawn."""
    try:
        plan = project.plan()
    except StoryForgeError:
        return []  # which the page of what is drawn tells
    found: list[Values] = []
    for row in comparison_of(plan, project.base, name):
        tasks = {"base": row.base, "alone": row.alone, "fused": row.fused}
        there = {
            who: address(project.store.path("panels", task.key))
            for who, task in tasks.items()
            if task is not None and project.store.has("panels", task.key)
        }
        found.append({"prompt": row.prompt, "pictures": there})
    return found


def _candidates(folder: Path, address: Callable[[Path], str]) -> list[Values]:
    """All that was drawn of a concept that is made from words."""
    seen = candidates.read_candidates(folder)
    return [
        {**asdict(each), "picture": address(candidates.drawn_at(folder, each.number))}
        for each in seen
    ]


def choose(story: Story, name: str, numbers: Sequence[int]) -> None:
    """Let a concept be learnt from these of its candidates.

    Raises StoryForgeError for numbers that are none, or a concept without candidates.
    """
    spec = _spec(story, name)
    if isinstance(spec, Path):
        raise StoryForgeError(f"`{name}` is a file; it was learnt elsewhere")
    candidates.choose(spec.pictures(), numbers)


def _learnt(project: Project, name: str) -> Values | None:
    """What the concept's file says; None if there is none that can be read."""
    try:
        cards = project.learnt([name])
    except StoryForgeError as exc:
        _log.info("%s: %s", name, exc.message)
        return None
    for card in cards:
        return {"rank": card.rank, "drift": card.drift}
    return None


def _spec(story: Story, name: str) -> ConceptSpec | Path:
    if name not in story.concepts:
        raise StoryForgeError(f"no concept named `{name}` in this story")
    return story.concepts[name]


def write_caption(story: Story, name: str, file: str, text: str) -> None:
    """Write the captions of one picture, a line each, into the `.txt` beside it.

    Raises StoryForgeError for a file that is no picture of the concept.
    """
    spec = _spec(story, name)
    folder = None if isinstance(spec, Path) else spec.pictures()
    named = Path(file).name == file and Path(file).suffix.lower() in PICTURES
    if folder is None or not named or not (folder / file).is_file():
        raise StoryForgeError(f"`{name}` has no picture `{file}`")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    write_whole((folder / file).with_suffix(".txt"), "".join(f"{x}\n" for x in lines).encode())


def fusion(project: Project) -> Values | None:
    """What fusing cost whom, by stage; None if the story is not fused as it is now."""
    task = project.plan().fuse
    if task is None or not project.store.has("fused", task.key):
        return None
    try:
        path = project.store.path("fused", task.key) / "manifest.json"
        report = json.loads(path.read_text(encoding="utf-8"))["report"]
    except (OSError, ValueError, KeyError):
        return None
    return {name: report.get(name) for name in ("interference", "residuals", "warnings")}
