"""The verbs about single concepts: their pictures before training, their files after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from storyforge.cli.options import AsJson, StoreFolder
from storyforge.cli.program import group
from storyforge.cli.terminal import (
    card_content,
    finding_content,
    finding_line,
    show_table,
    size,
    tell,
    tell_json,
)
from storyforge.errors import Severity, StoryForgeError

if TYPE_CHECKING:
    from storyforge.model.card import Card
    from storyforge.train.report import DataReport

concept = group("concept", "Look at a concept: at its pictures, at what was learnt.")


@concept.command("check")
def check_pictures(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="With concept.yaml, or bare pictures.")
    ],
    base: Annotated[
        str, typer.Option("--base", metavar="MODEL", help="Whose picture size counts.")
    ] = "pocket",
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="FILE", help="Show all pictures on a PNG as well."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with a concept's pictures before it is learnt from them."""
    from storyforge.project import inspect

    report = inspect.examine_folder(folder, base)
    if sheet is not None:
        inspect.draw_sheet(report, sheet)
    if as_json:
        tell_json(_content(report, sheet))
    else:
        _show(report)
        if sheet is not None:
            tell(f"all pictures: {sheet}")
    if report.errors or (strict and report.findings):
        raise typer.Exit(1)


@concept.command()
def show(
    what: Annotated[
        str, typer.Argument(metavar="CONCEPT", help="A file, or a name of the story's.")
    ],
    story: Annotated[
        Path | None, typer.Argument(metavar="[STORY]", help="Where the name is from.")
    ] = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Say what a concept's file holds, and how it was learnt."""
    from storyforge.model.card import Card
    from storyforge.project.project import Project

    if story is not None:
        cards = Project(story, store=store).learnt([what])
        if not cards:
            hint = f"run `storyforge train {story} {what}`"
            raise StoryForgeError(f"`{what}` is not learnt yet, or has changed since", hint=hint)
        card = cards[0]
    elif Path(what).is_file():
        card = Card.read(Path(what))
    else:
        hint = "name a .safetensors file, or the story after the concept's name"
        raise StoryForgeError(f"no file at `{what}`", hint=hint)
    if as_json:
        tell_json(card_content(card))
        return
    show_table(("what", "value"), list(_lines(card)))


def _lines(card: Card) -> Iterator[tuple[str, str]]:
    """What the file says, in the order in which one asks."""
    yield "concept", card.name
    yield "kind", card.kind
    yield "class", card.class_phrase
    yield "licence", card.licence or "not stated"
    yield "base", f"{card.base} ({card.base_hash[:12]})"
    words, groups, width = card.words
    yield "embeddings", f"{words} words x {groups} groups x {width}"
    changed = ", ".join(f"{count} in the {part}" for part, count in card.changed.items() if count)
    yield "layers changed", f"{changed}, rank {card.rank}" if changed else "none"
    yield "drift", "not measured" if card.drift is None else f"{card.drift:.1%}"
    yield "file", f"{size(card.size)}, {card.path}"
    yield "statistics", f"{size(card.statistics)} of the file" if card.statistics else "not in it"
    for name, value in sorted(card.recipe.items()):
        if name != "drift":
            yield name.replace("_", " "), f"{value:.6g}" if isinstance(value, float) else str(value)


def _show(report: DataReport) -> None:
    rows = [
        (
            each.file,
            f"{each.size[0]} x {each.size[1]}",
            f"{each.sharpness:.0f}",
            "-" if each.masked is None else f"{each.masked:.0%}",
            str(each.captions) if each.captions else "-",
            " ".join(report.codes(each)) or "fine",
        )
        for each in report.seen
    ]
    if rows:
        show_table(("picture", "pixels", "sharpness", "mask", "captions", "verdict"), rows)
    for finding in report.findings:
        tell(finding_line(finding))
    errors, warnings = report.errors, len(report.findings) - report.errors
    tell(f"{len(rows)} pictures, {_counted(errors, 'error')}, {_counted(warnings, 'warning')}")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _content(report: DataReport, sheet: Path | None) -> dict[str, object]:
    warnings = sum(finding.severity is Severity.WARNING for finding in report.findings)
    return {
        "folder": str(report.folder),
        "errors": report.errors,
        "warnings": warnings,
        "pictures": [
            {
                "file": each.file,
                "width": each.size[0],
                "height": each.size[1],
                "sharpness": round(each.sharpness, 1),
                "masked": None if each.masked is None else round(each.masked, 4),
                "captions": each.captions,
                "codes": report.codes(each),
            }
            for each in report.seen
        ],
        "findings": [finding_content(finding) for finding in report.findings],
        "sheet": None if sheet is None else str(sheet),
    }
