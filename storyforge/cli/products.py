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
    as_json: AsJson = False,
) -> None:
    """Set aside what is damaged, and what was made from it; the next run makes it again."""
    from storyforge.project import stores
    from storyforge.project.project import Project

    if repair and not where.is_file():
        raise typer.BadParameter("needs a story's file", param_hint="--repair")
    waste = stores.verify(where)
    show_waste(waste, as_json, "damaged, or made from what is, and set aside")
    if repair:
        with ProgressLine() as progress:
            outcome = Project(where).render(on_progress=progress)
        for trouble in outcome.troubles:
            raise trouble.error
    elif waste:
        raise typer.Exit(1)


@cache.command()
def key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the key is written.")],
) -> None:
    """Make the key that signs what you put into a shared cache; prints what others trust."""
    from storyforge.store.shared import new_key

    typer.echo(new_key(file))
    tell(f"keep `{file}` to yourself, and set STORYFORGE_CACHE_KEY to its path")
