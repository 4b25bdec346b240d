"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from storyforge.errors import StoryForgeError, closest

if TYPE_CHECKING:
    from storyforge.engine.opening import ClusterSpec
    from storyforge.settings import Format

_FORMATS = "pdf, html, web, epub, epub-reflow, cbz, png, cover, inside, booklet, mp4"

StoryArgument = Annotated[Path, typer.Argument(metavar="STORY", help="The story file.")]
StoreFolder = Annotated[
    Path | None,
    typer.Option("--store", metavar="DIR", help="Where products are kept [.storyforge/]."),
]
OutFolder = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help=r"Where books are put \[build/].")
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", min=1, help=r"Concepts learnt at a time \[one a processor].")
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Fail where another run is making the same.")
]
ClusterOption = Annotated[
    str | None,
    typer.Option("--cluster", metavar="WHERE", help="local:4, slurm:8, ssh:HOSTS, tls://host:8786"),
]
Token = Annotated[
    Path | None,
    typer.Option("--token", metavar="FILE", help="What the members of a cluster share."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Formats = Annotated[
    str | None, typer.Option("--to", metavar="FORMATS", help=rf"Any of {_FORMATS} \[the story's].")
]
StepsOption = Annotated[
    int | None, typer.Option("--steps", min=1, help="Denoising steps; few for a draft.")
]
LanguageOption = Annotated[
    str | None, typer.Option("--lang", help=r"Language of the book's texts \[the story's].")
]
Assets = Annotated[
    bool, typer.Option("--assets", help="Lay the HTML's pictures beside it, in a folder.")
]
CoverWrap = Annotated[
    bool, typer.Option("--cover-wrap", help="Also what a printer takes: wrap cover and inside.")
]
Ppi = Annotated[
    int | None,
    typer.Option(
        "--ppi", min=36, max=600, help=r"Pixels an inch of pages as `png` \[the story's]."
    ),
]
PlaceOption = Annotated[
    Path, typer.Argument(metavar="WHERE", help="A story, its folder, or a store's folder.")
]


def cluster_at(where: str | None, token: Path | None) -> ClusterSpec | None:
    """The cluster asked for; None for this machine."""
    from storyforge.engine.opening import ClusterSpec

    if where is not None:
        return ClusterSpec.read(where, token)
    if token is not None:
        raise StoryForgeError("`--token` belongs to a `--cluster`", hint="say which, too")
    return None


def formats(to: str | None) -> tuple[Format, ...] | None:
    """The formats asked for, None for the story's; an unknown one is a mistake in the command."""
    from storyforge.plan.plan import FORMATS

    if to is None:
        return None
    asked = [name.strip() for name in to.split(",")]
    for name in asked:
        if name not in FORMATS:
            raise typer.BadParameter(f"`{name}` is none of {', '.join(FORMATS)}", param_hint="--to")
    return tuple(name for name in FORMATS if name in asked)


def among(word: str, known: tuple[str, ...], option: str) -> None:
    """Raise StoryForgeError for a word that an option does not know, with what was meant."""
    if word not in known:
        guess = closest(word, known)
        hint = f"did you mean `{guess}`?" if guess else "known: " + ", ".join(known)
        raise StoryForgeError(f"`{option}` knows no `{word}`", hint=hint)
