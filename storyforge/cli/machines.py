"""The verbs for many machines: a worker, and one task of a plan by its key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from storyforge.cli.make import show_outcome
from storyforge.cli.options import AsJson, StepsOption, StoreFolder, StoryArgument, Token
from storyforge.cli.program import app, group
from storyforge.cli.terminal import tell

task = group("task", "Do one task of a plan, such as in a job array.")


@app.command()
def worker(
    where: Annotated[
        str | None, typer.Argument(metavar="[WHERE]", help="Of the scheduler: tls://host:8786")
    ] = None,
    listen: Annotated[
        bool, typer.Option("--listen", help="Be the scheduler, too; WHERE is this machine's.")
    ] = False,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="Workers here [one a GPU].")
    ] = None,
    store: Annotated[
        Path | None, typer.Option("--store", metavar="DIR", help="Where they keep things.")
    ] = None,
    token: Token = None,
    new_token: Annotated[
        Path | None, typer.Option("--new-token", metavar="FILE", help="Write a token, and end.")
    ] = None,
) -> None:
    """Learn, fuse and draw for others: `render --cluster` elsewhere."""
    from storyforge.engine.opening import ClusterSpec
    from storyforge.engine.serving import Serving, serve
    from storyforge.engine.token import new_token as write_token

    if new_token is not None:
        write_token(new_token)
        tell(f"copy `{new_token}` to every machine of the cluster, and show it nobody else")
        return
    if where is None:
        raise typer.BadParameter("needs the scheduler's address, such as tls://host:8786")
    serve(Serving(ClusterSpec.read(where, token), store, count, listen), tell)


@task.command("run")
def run_task(
    story: StoryArgument,
    key: Annotated[str, typer.Argument(metavar="KEY", help="As `plan --json` lists it.")],
    steps: StepsOption = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Do one task; what it `needs` must be there already."""
    from storyforge.plan.plan import Order
    from storyforge.project.project import Project

    project, order = Project(story, store=store), Order(steps=steps)
    show_outcome(lambda tell: project.run_task(key, order, on_progress=tell), as_json)
