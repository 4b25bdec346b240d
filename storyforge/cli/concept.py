"""The verbs about single concepts: their pictures before training, their files after it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

from storyforge.cli.options import AsJson, StepsOption, StoreFolder, among
from storyforge.cli.program import group
from storyforge.cli.progress import ProgressLine
from storyforge.cli.terminal import (
    card_content,
    finding_content,
    finding_line,
    show_path,
    show_table,
    size,
    tell,
    tell_json,
)
from storyforge.errors import Severity, StoryForgeError

if TYPE_CHECKING:
    from storyforge.model.card import Card
    from storyforge.project.described import ConceptDraft
    from storyforge.settings import Kind
    from storyforge.train.report import DataReport

_KINDS: Final = ("character", "object", "scene")

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
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the concept, and its folder.")],
    words: Annotated[
        str, typer.Option("--describe", metavar="TEXT", help="Such as `a fox with a golden horn`.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the folder goes.")
    ] = Path("concepts"),
    kind: Annotated[str, typer.Option("--kind", help="character, object or scene.")] = "character",
    class_: Annotated[
        str | None, typer.Option("--class", metavar="WORD", help="The everyday word for it.")
    ] = None,
    base: Annotated[
        str, typer.Option("--base", metavar="MODEL", help="Who draws the pictures.")
    ] = "pocket",
    style: Annotated[str, typer.Option("--style", help="Words added to every prompt.")] = "",
    candidates: Annotated[
        int, typer.Option("--candidates", min=2, max=400, help="Pictures to choose from.")
    ] = 24,
    keep: Annotated[int, typer.Option("--keep", min=1, max=100, help="Pictures to choose.")] = 8,
    seed: Annotated[int, typer.Option("--seed", min=0, max=20_000, help="Others, other ones.")] = 0,
    steps: StepsOption = None,
    adapter: Annotated[
        str | None,
        typer.Option("--adapter", metavar="DIR", help=r"Reads poses \[the base's own]."),
    ] = None,
    clip: Annotated[
        str | None, typer.Option("--clip", help=r"Chooses: a folder or hub id \[the base's own].")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a concept from words: draw candidates, keep those that show one and the same."""
    from storyforge.project.described import Description, describe

    _check_name(name)
    among(kind, _KINDS, "--kind")
    if keep > candidates:
        raise typer.BadParameter(f"there are {candidates} to choose from", param_hint="--keep")
    sort = cast("Kind", kind)
    asked = Description(
        out / name, words, sort, class_, base, style, candidates, keep, seed, steps, adapter, clip
    )
    with ProgressLine() as progress:
        made = describe(asked, progress)
    if as_json:
        tell_json(_described(made))
        return
    show_path(made.folder)
    chosen = [str(each.number) for each in made.seen if each.chosen]
    tell(f"chosen: {', '.join(chosen)} of {len(made.seen)}, all on {made.sheet}")
    mine, all_ = made.consistency
    tell(f"alike {mine:.2f} (all candidates {all_:.2f}), obedient {made.text:.2f}")
    for finding in made.findings:
        tell(finding_line(finding))
    tell(f"others: storyforge concept choose {made.folder} NUMBER...")
    tell(f"next: write `{kind}s: {{{name}: {made.folder}}}` into a story and train it")


@concept.command()
def choose(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Of `concept new`.")],
    numbers: Annotated[list[int], typer.Argument(metavar="NUMBER...", help="As on the sheet.")],
    as_json: AsJson = False,
) -> None:
    """Choose by hand which of the pictures of `concept new` it is learnt from."""
    from storyforge.project import candidates

    seen = candidates.choose(folder, numbers)
    if as_json:
        tell_json({"folder": str(folder), "chosen": [s.number for s in seen if s.chosen]})
    else:
        show_path(folder)


def _check_name(name: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    from storyforge.settings import ConceptName

    try:
        TypeAdapter(ConceptName).validate_python(name)
    except ValidationError as exc:
        raise StoryForgeError(exc.errors()[0]["msg"], hint="such as `pip`") from exc


def _described(made: ConceptDraft) -> dict[str, object]:
    mine, all_ = made.consistency
    return {
        "folder": str(made.folder),
        "class": made.word,
        "drawn": made.drawn,
        "consistency": round(mine, 4) if isfinite(mine) else None,
        "consistency_of_all": round(all_, 4) if isfinite(all_) else None,
        "text_alignment": round(made.text, 4),
        "candidates": [asdict(each) for each in made.seen],
        "findings": [finding_content(each) for each in made.findings],
        "sheet": str(made.sheet),
    }


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
