"""The verbs about where a picture comes from: read its recipe, draw it again, sign files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from storyforge.cli.make import show_outcome
from storyforge.cli.options import AsJson, OutFolder, StoreFolder, StoryArgument
from storyforge.cli.program import app
from storyforge.cli.terminal import show_path, show_table, tell, tell_json
from storyforge.errors import StoryForgeError
from storyforge.provenance.xmp import told_by

if TYPE_CHECKING:
    from storyforge.project.project import Project
    from storyforge.provenance.recipe import PictureMetadata


@app.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A picture, as PNG, or a story.")],
    panel: Annotated[
        str | None, typer.Argument(metavar="[PANEL]", help="The story's panel to show.")
    ] = None,
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

    if panel is not None:
        file = _picture(Project(file, store=store), panel)
    elif file.suffix in _STORIES:
        raise typer.BadParameter("name a PANEL of this story as well", param_hint="FILE")
    shown = recipe.read_metadata(file)
    if again is not None:
        project = Project(again, store=store, out=out)
        keys = {task.panel: task.key for task in project.plan().panels}
        drawn = recipe.again(shown, keys)
        show_outcome(lambda tell: project.render([drawn], on_progress=tell), as_json)
        return
    if as_json:
        said = {"recipe": dict(shown.recipe), "parameters": shown.parameters}
        tell_json({"file": str(file), "size": [shown.width, shown.height], **said})
        return
    for line in _lines(shown):
        typer.echo(line)


@app.command()
def regions(
    story: StoryArgument,
    panels: Annotated[
        list[str] | None, typer.Argument(metavar="[PANEL]...", help="Only these.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Write them into the story, to be moved by hand.")
    ] = False,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Say where `regions: auto` found whom, in the pictures that are drawn."""
    from storyforge.project.project import Project

    project = Project(story, store=store)
    found = project.found(panels or ())
    kept = project.keep_found(panels or ()) if keep else ()
    if as_json:
        told = {name: {r: b.sides() for r, b in each.items()} for name, each in found.items()}
        tell_json({"panels": told, "kept": list(kept)})
        return
    rows = [
        (name, region, ", ".join(f"{side:.3g}" for side in box.sides()))
        for name, each in found.items()
        for region, box in each.items()
    ]
    if rows:
        show_table(("panel", "region", "box"), rows)
    else:
        tell("no panel that is drawn has regions that were found")
    if kept:
        tell(f"written into {story}: {', '.join(kept)}")


def _picture(project: Project, panel: str) -> Path:
    """The picture that the books show of a panel, else the one that was last drawn."""
    try:
        return project.picture(panel)
    except StoryForgeError:
        last = project.last_picture(panel)
        if last is None:
            raise
        tell("changed since; this is what was drawn last")
        return last


def _lines(shown: PictureMetadata) -> Iterator[str]:
    yield f"{shown.path}: {shown.width} x {shown.height} pixels"
    if maker := _MADE.get(told_by(shown.path) or ""):
        yield f"{maker}, as the file says"
    if not shown.recipe:
        yield shown.parameters or "it does not say what it was drawn from"
        return
    told = {name: value for name, value in shown.recipe.items() if _says(value)}
    regions, subjects = told.pop("regions", None), told.pop("subjects", None)
    places = subjects if isinstance(subjects, dict) else {}
    yield ""
    yield from _listed({name: told.pop(name) for name in _FIRST if name in told})
    for region in regions if isinstance(regions, list) else []:
        if isinstance(region, dict):
            yield ""
            yield f"region {_told(region.get('name', ''))}"
            rest = {name: each for name, each in region.items() if _says(each) and name != "name"}
            yield from _listed(rest | _drawn(places.get(str(region.get("name")))), "  ")
    yield ""
    yield from _listed({name: value for name, value in told.items() if name not in _UNTOLD})


def _drawn(place: object) -> dict[str, object]:
    """Where its subject came out, if the picture says."""
    if not isinstance(place, dict):
        return {}
    return {f"drawn {part}": box for part, box in place.items() if part in ("body", "head")}


_MADE: Final = {
    "model": "made by a trained model",
    "hand": "made by hand",
    "retouched": "made by a trained model and by hand",
}
_STORIES: Final = (".yaml", ".yml")
_FIRST: Final = (
    *(
        "panel",
        "prompt",
        "negative",
        "seed",
        "steps",
        "guidance_scale",
        "scheduler",
        "size",
        "base",
    ),
)
"""What an author asks about first, in this order."""

_UNTOLD: Final = ("schema_version", "digital_source_type")
"""What says nothing that is not said already."""


def _says(value: object) -> bool:
    return value not in (None, "", [], {})


def _listed(values: dict[str, object], indent: str = "") -> Iterator[str]:
    """A line each, with the values under each other."""
    width = max((len(name) for name in values), default=0)
    for name, value in values.items():
        yield f"{indent}{name.replace('_', ' '):{width}}  {_told(value)}"


def _told(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list) and all(isinstance(each, int | float) for each in value):
        return ", ".join(f"{each:g}" for each in value)
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
        show_path(path)
