"""The verbs that look after what was made."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from storyforge.cli.options import AsJson, PlaceOption
from storyforge.cli.program import group
from storyforge.cli.progress import ProgressLine
from storyforge.cli.terminal import (
    plural,
    show_products,
    show_waste,
    tell,
    tell_waste,
)
from storyforge.errors import StoryForgeError

if TYPE_CHECKING:
    from storyforge.store.tidying import Waste

cache = group("cache", "Look after the store of finished products.")


@cache.command("ls")
def list_products(where: PlaceOption = Path(), as_json: AsJson = False) -> None:
    """List what is finished and kept."""
    from storyforge.project.stores import names_in, store_at

    store = store_at(where)
    products = store.ls()
    show_products(products, as_json, plural(len(products), "product"), names_in(store))


@cache.command()
def gc(
    where: PlaceOption = Path(),
    dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Throw away what no story needs; pinned pictures stay, and the trash keeps it for a while."""
    from storyforge.project import stores

    waste = stores.gc(where, dry=True)
    if not waste or dry:
        show_waste(waste, as_json, "to throw away")
        return
    if not yes:
        _ask(waste)
    show_waste(stores.gc(where), as_json, "thrown away")


def _ask(waste: Sequence[Waste]) -> None:
    """Let the author see what would go, and say so; where nobody sits, that is `--yes`."""
    tell_waste(waste)
    if not sys.stdin.isatty():
        message = "nothing was thrown away: nobody is here to be asked"
        raise StoryForgeError(message, hint="say `--yes`, or `--dry-run`")
    typer.confirm("throw these away?", abort=True, err=True)


@cache.command()
def verify(
    where: PlaceOption = Path(),
    repair: Annotated[
        bool, typer.Option("--repair", help="Make it again at once; WHERE is a story then.")
    ] = False,
    again: Annotated[
        str | None,
        typer.Option(
            "--re-execute",
            metavar="SHARE",
            help="Make so many, such as `1%`, again and compare; WHERE is a story then.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set aside what is damaged, and what was made from it; the next run makes it again."""
    from storyforge.project import stores
    from storyforge.project.project import Project

    share = None if again is None else _share(again)
    if (repair or share) and not where.is_file():
        raise typer.BadParameter("needs a story's file", param_hint="WHERE")
    waste, turned = stores.verify(where), stores.turned()
    show_waste(waste, as_json, "damaged, or made from what is, and set aside")
    for path in turned:
        tell(f"warning: `{path}` is not what it was when it was first read; get it again")
    if repair:
        with ProgressLine() as progress:
            outcome = Project(where).render(on_progress=progress)
        for trouble in outcome.troubles:
            raise trouble.error
    other = [] if share is None else _made_otherwise(where, share)
    if (waste and not repair) or turned or other:
        raise typer.Exit(1)


def _made_otherwise(story: Path, share: float) -> list[str]:
    """Make products again, and tell which of them are others now."""
    from storyforge.project.project import Project

    with ProgressLine() as progress:
        made = Project(story).remade(share, on_progress=progress)
    other = [each.subject for each in made if not each.same]
    for subject in other:
        tell(f"{subject}: made again, it has other bytes; something that decides is not in its key")
    tell(f"{len(made)} made again, {len(made) - len(other)} of them with the same bytes")
    return other


def _share(text: str) -> float:
    """A share as `1%` or `0.01`."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise typer.BadParameter(f"`{text}` is no share, such as `1%`", param_hint="--re-execute")
    return share


@cache.command()
def key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the key is written.")],
) -> None:
    """Make the key that signs what you put into a shared cache; prints what others trust."""
    from storyforge.store.shared import new_key

    typer.echo(new_key(file))
    tell(f"keep `{file}` to yourself, and set STORYFORGE_CACHE_KEY to its path")
