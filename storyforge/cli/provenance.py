"""The verbs about where a picture comes from: read its recipe, draw it again, sign files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from storyforge.cli.make import show_outcome
from storyforge.cli.options import AsJson, OutFolder, StoreFolder
from storyforge.cli.program import app
from storyforge.cli.terminal import tell_json

if TYPE_CHECKING:
    from storyforge.provenance.recipe import PictureMetadata


@app.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A picture, as PNG.")],
    again: Annotated[
        Path | None,
        typer.Option("--again", metavar="STORY", help="Draw it again from this story."),
    ] = None,
    out: OutFolder = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Say what a picture was drawn from: prompts, seed, model, regions."""
    from storyforge.project.project import Project
    from storyforge.provenance import recipe

    shown = recipe.read_metadata(file)
    if again is not None:
        project = Project(again, store=store, out=out)
        keys = {task.panel: task.key for task in project.plan().panels}
        panel = recipe.again(shown, keys)
        show_outcome(lambda tell: project.render([panel], on_progress=tell), as_json)
        return
    if as_json:
        said = {"recipe": dict(shown.recipe), "parameters": shown.parameters}
        tell_json({"file": str(file), "size": [shown.width, shown.height], **said})
        return
    for line in _lines(shown):
        typer.echo(line)


def _lines(shown: PictureMetadata) -> Iterator[str]:
    yield f"{shown.path}: {shown.width} x {shown.height} pixels"
    if shown.by_model:
        yield "made by a trained model, as the file says"
    if not shown.recipe:
        yield shown.parameters or "it does not say what it was drawn from"
        return
    for name, value in shown.recipe.items():
        if name == "regions" or value in (None, "", [], {}):
            continue
        yield f"{name}: {_told(value)}"
    regions = shown.recipe.get("regions")
    for region in regions if isinstance(regions, list) else []:
        if isinstance(region, dict):
            told = (f"{key} {_told(value)}" for key, value in region.items() if value)
            yield f"region {', '.join(told)}"


def _told(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@app.command()
def sign(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="PNG, JPEG or PDF.")],
    certificate: Annotated[
        Path,
        typer.Option("--certificate", metavar="PEM", help="Yours, and those above it."),
    ],
    key: Annotated[Path, typer.Option("--key", metavar="PEM", help="Its private key.")],
    as_json: AsJson = False,
) -> None:
    """Sign files with your certificate: Content Credentials that say a model made the pictures."""
    from storyforge.provenance import c2pa

    made = c2pa.sign(files, certificate, key)
    if as_json:
        tell_json({"files": [str(path) for path in made]})
        return
    for path in made:
        typer.echo(path)
