"""The verbs that choose pictures and keep them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from storyforge.cli.options import AsJson, StoreFolder, StoryArgument
from storyforge.cli.program import app
from storyforge.cli.terminal import show_path, tell, tell_json
from storyforge.settings import Made

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storyforge.project.approve import Approval

Panels = Annotated[list[str] | None, typer.Argument(metavar="[PANEL]...", help="All if none.")]


class MadeBy(StrEnum):
    """Who made a picture."""

    HAND = "hand"
    RETOUCHED = "retouched"
    MODEL = "model"


_MADE: Final[dict[MadeBy, Made]] = {
    MadeBy.HAND: "hand",
    MadeBy.RETOUCHED: "retouched",
    MadeBy.MODEL: "model",
}


@app.command()
def pick(
    story: StoryArgument,
    panel: Annotated[str, typer.Argument(metavar="PANEL", help="Whose take it is.")],
    take: Annotated[int, typer.Argument(metavar="TAKE", min=0, help="Its number on the sheet.")],
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Approve one take of a panel; the book shows it from now on."""
    from storyforge.project.project import Project

    _show_approved([Project(story, store=store).pick(panel, take)], as_json)


@app.command()
def pin(
    story: StoryArgument,
    panels: Panels = None,
    mend: Annotated[
        bool, typer.Option("--mend", help="Write the list of pins anew, after a cut or a merge.")
    ] = False,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE", help="Keep this for the panel: retouched, say."),
    ] = None,
    made: Annotated[
        MadeBy | None,
        typer.Option("--made", help=r"Who made it \[retouched, if the panel was drawn]."),
    ] = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Keep pictures as they are, whatever changes in the story."""
    from storyforge.project.project import Project

    project = Project(story, store=store)
    if picture is not None:
        if panels is None or len(panels) != 1:
            raise typer.BadParameter("needs one PANEL", param_hint="--picture")
        who = None if made is None else _MADE[made]
        _show_approved([project.pin_picture(panels[0], picture, who)], as_json)
        return
    if made is not None:
        raise typer.BadParameter("needs `--picture FILE`", param_hint="--made")
    if mend:
        mended = project.mend_pins()
        tell(f"{len(mended)} pinned: {', '.join(mended)}")
        return
    _show_approved(project.pin(panels or ()), as_json)
    waiting = project.unpinned() if not panels else ()
    if waiting:
        tell(f"not drawn yet, and not pinned: {', '.join(waiting)}")


@app.command()
def unpin(
    story: StoryArgument, panels: Panels = None, store: StoreFolder = None, as_json: AsJson = False
) -> None:
    """Let go of pinned pictures; they are drawn anew if something changed."""
    from storyforge.project.project import Project

    released = Project(story, store=store).unpin(panels or ())
    if as_json:
        tell_json({"unpinned": [each.panel for each in released]})
        return
    for each in released:
        typer.echo(each.panel)
        if each.take is not None:
            tell(f"take {each.take} was picked; write `take: {each.take}` there to go on with it")
    if not released:
        tell("nothing was pinned")


def _show_approved(approved: Sequence[Approval], as_json: bool) -> None:
    """Print the pictures that are kept from now on, and say what they do not follow."""
    if as_json:
        told = [
            {
                "panel": each.panel,
                "take": each.take,
                "picture": str(each.picture),
                "ignores": list(each.ignores),
            }
            for each in approved
        ]
        tell_json({"pinned": told})
        return
    for each in approved:
        show_path(each.picture)
        ignores = f"; ignores: {', '.join(each.ignores)}" if each.ignores else ""
        tell(f"pinned take {each.take} of panel `{each.panel}`{ignores}")
    if not approved:
        tell("everything was pinned already")
