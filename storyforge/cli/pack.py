"""The verbs that carry a story to another machine: `pack` and `unpack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from storyforge.cli.options import AsJson, StoreFolder, StoryArgument
from storyforge.cli.program import app
from storyforge.cli.terminal import show_path, tell, tell_json


@app.command()
def pack(
    story: StoryArgument,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="[STORY.storyforge.zip]")
    ] = None,
    pictures: Annotated[
        bool,
        typer.Option(
            "--pictures/--no-pictures", help="Whether the pictures that were learnt from go along."
        ),
    ] = True,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Put a story, its concepts, pins, fonts and finished pictures into one file."""
    from storyforge.project.project import Project

    packed = Project(story, store=store).pack(out, pictures=pictures)
    if as_json:
        told = {"files": packed.files, "products": packed.products, "left_out": packed.left_out}
        tell_json({"pack": str(packed.path), **told})
        return
    show_path(packed.path)
    tell(f"{packed.files} files, {packed.products} of them finished products")
    if packed.left_out:
        tell(f"left out, because they lie outside the story's folder: {', '.join(packed.left_out)}")


@app.command()
def unpack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `pack` wrote.")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A new or empty folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Open a packed story in a folder of its own."""
    from storyforge.project.pack import unpack as unpack_file

    story = unpack_file(file, folder)
    if as_json:
        tell_json({"story": str(story)})
        return
    show_path(story)
    tell(f"next: storyforge book {story}")
