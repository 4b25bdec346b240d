"""The verb that opens a story in the browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from storyforge.cli.options import AsJson, StoreFolder, StoryArgument
from storyforge.cli.program import app
from storyforge.cli.terminal import tell, tell_json
from storyforge.errors import EnvironmentProblem

if TYPE_CHECKING:
    from storyforge.desk.serve import Addresses


@app.command()
def desk(
    story: StoryArgument,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="On this machine [any].")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Whether to open the page.")
    ] = True,
    phone: Annotated[
        bool, typer.Option("--phone", help="Let others in this network look on, and no more.")
    ] = False,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """See the book in the browser while it is written; draw and choose its pictures there."""
    try:
        from storyforge.desk.serve import serve
    except ModuleNotFoundError as exc:
        message = f"the desk needs `{exc.name}`"
        raise EnvironmentProblem(message, hint="pip install 'storyforge[desk]'") from exc

    def ready(where: Addresses) -> None:
        if as_json:
            tell_json({"desk": where.desk, "looking": where.looking, "phone": where.phone})
        else:
            typer.echo(where.desk)
            tell(f"to look on: {where.phone or where.looking}")
            tell("Ctrl-C ends it; what is drawn is kept, and what waits goes on next time")
        if browser:
            webbrowser.open(where.desk)

    serve(Path(story), port=port, store=store, phone=phone, on_ready=ready)
