"""The command line: read what is asked, call one function of `workflow`, show what comes of it.

The only module that prints: data to stdout, progress and complaints to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer.core import TyperGroup

from storyforge import __version__
from storyforge.errors import Severity, StoryForgeError
from storyforge.terminal import (
    Progress,
    counted,
    duration,
    error_content,
    finding_content,
    finding_for_github,
    finding_line,
    outcome_content,
    show_products,
    show_survey,
    show_table,
    tell,
    tell_bug,
    tell_error,
    tell_json,
)

if TYPE_CHECKING:
    from storyforge.executor import Tell
    from storyforge.golden import Review
    from storyforge.plan import Order
    from storyforge.workflow import Outcome

_INTERRUPTED: Final = 130
_SOME_FAILED: Final = 4


class _Verbs(TyperGroup):
    """All verbs; what goes wrong in one is told in the author's words, with its exit code."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Run the verb; never a traceback, unless STORYFORGE_TRACEBACK asks for one."""
        as_json = "--json" in ctx.args
        if not os.environ.get("STORYFORGE_TRACEBACK"):
            sys.excepthook = tell_bug
        for library in ("TRANSFORMERS", "DIFFUSERS"):
            os.environ.setdefault(f"{library}_VERBOSITY", "error")
        try:
            return super().invoke(ctx)
        except StoryForgeError as exc:
            tell_error(exc)
            if as_json:
                tell_json({"error": error_content(exc)})
            raise typer.Exit(exc.exit_code) from exc
        except KeyboardInterrupt as exc:
            tell("interrupted; run the same command again to go on")
            raise typer.Exit(_INTERRUPTED) from exc


app = typer.Typer(
    cls=_Verbs,
    name="storyforge",
    help="Make illustrated books whose characters look the same in every picture.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
cache = typer.Typer(help="Look after the store of finished products.", no_args_is_help=True)
app.add_typer(cache, name="cache")
layout = typer.Typer(help="See which layouts there are.", no_args_is_help=True)
app.add_typer(layout, name="layout")
golden = typer.Typer(help="Compare a story's pictures with those kept.", no_args_is_help=True)
app.add_typer(golden, name="golden")


class Format(StrEnum):
    """How findings are written."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


StoryFile = Annotated[Path, typer.Argument(metavar="STORY", help="The story file.")]
StoreFolder = Annotated[
    Path | None,
    typer.Option("--store", metavar="DIR", help="Where products are kept [.storyforge/]."),
]
OutFolder = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Where books are put [build/].")
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Concepts learnt at a time [one a processor].")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Formats = Annotated[
    str | None, typer.Option("--to", metavar="FORMATS", help="Such as `pdf,html` [the story's].")
]
Steps = Annotated[
    int | None, typer.Option("--steps", min=1, help="Denoising steps; few for a draft.")
]
Language = Annotated[
    str | None, typer.Option("--lang", help="Language of the book's texts [the story's].")
]
GoldensFolder = Annotated[
    Path | None,
    typer.Option("--goldens", metavar="DIR", help="Where they are [../tests/goldens/<story>]."),
]
Place = Annotated[
    Path, typer.Argument(metavar="WHERE", help="A story, its folder, or a store's folder.")
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"storyforge {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which this is.")
    ] = False,
) -> None:
    pass


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
) -> None:
    """Begin a story: copy the sample with its concepts and layouts."""
    from storyforge.scaffold import scaffold

    story = scaffold(folder)
    typer.echo(story)
    tell(f"next: storyforge render {story}")


@app.command()
def check(
    story: StoryFile,
    format_: Annotated[Format, typer.Option("--format", help="Of the findings.")] = Format.TEXT,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail.")] = False,
    as_json: AsJson = False,
) -> None:
    """List every mistake in a story, each with its place."""
    from storyforge.story import check as findings_in

    findings = findings_in(story)
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    if as_json or format_ is Format.JSON:
        told = [finding_content(finding) for finding in findings]
        tell_json({"errors": errors, "warnings": len(findings) - errors, "findings": told})
    else:
        for finding in findings:
            typer.echo(
                finding_for_github(finding) if format_ is Format.GITHUB else finding_line(finding)
            )
    if not findings and format_ is Format.TEXT and not as_json:
        tell(f"no mistakes in {story}")
    if errors or (strict and findings):
        raise typer.Exit(1)


@app.command()
def schema() -> None:
    """Print the JSON schema of story.yaml, for editors."""
    from storyforge.story import schema as schema_of_story

    typer.echo(json.dumps(schema_of_story(), indent=2, ensure_ascii=False))


@app.command()
def plan(
    story: StoryFile,
    to: Formats = None,
    lang: Language = None,
    steps: Steps = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Say what would be made, and why; make nothing."""
    from storyforge import workflow

    survey = workflow.plan(workflow.Run(story, _order(to, lang, steps), store))
    show_survey(survey, as_json)


@app.command()
def train(
    story: StoryFile,
    concepts: Annotated[list[str] | None, typer.Argument(help="By name; all if none.")] = None,
    jobs: Jobs = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Learn the story's concepts from their pictures."""
    from storyforge import workflow

    run = workflow.Run(story, store=store, jobs=jobs)
    _show(lambda tell: workflow.train(run, concepts or (), tell), as_json)


@app.command()
def fuse(
    story: StoryFile, jobs: Jobs = None, store: StoreFolder = None, as_json: AsJson = False
) -> None:
    """Fuse the concepts into one model, learning those that are missing."""
    from storyforge import workflow

    run = workflow.Run(story, store=store, jobs=jobs)
    _show(lambda tell: workflow.fuse(run, tell), as_json)


@app.command()
def render(
    story: StoryFile,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="PANEL", help="Draw only these panels.")
    ] = None,
    out: OutFolder = None,
    to: Formats = None,
    lang: Language = None,
    steps: Steps = None,
    jobs: Jobs = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Make all that is missing, then the book."""
    from storyforge import workflow

    run = workflow.Run(story, _order(to, lang, steps), store, out, jobs)
    panels = [name for names in only or () for name in names.split(",")]
    _show(lambda tell: workflow.render(run, panels, tell), as_json)


@app.command()
def book(
    story: StoryFile,
    out: OutFolder = None,
    to: Formats = None,
    lang: Language = None,
    steps: Steps = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Set the book from pictures that exist."""
    from storyforge import workflow

    run = workflow.Run(story, _order(to, lang, steps), store, out)
    _show(lambda tell: workflow.book(run, tell), as_json)


@app.command()
def sheet(
    story: StoryFile,
    out: OutFolder = None,
    steps: Steps = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show every picture beside its concepts' own pictures, on one sheet."""
    from storyforge import workflow

    path = workflow.sheet(workflow.Run(story, _order(None, None, steps), store, out))
    if as_json:
        tell_json({"sheet": str(path)})
    else:
        typer.echo(path)


@layout.command("list")
def list_layouts(
    story: Annotated[
        Path | None, typer.Argument(metavar="[STORY]", help="Add the layouts beside it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the layouts: their regions, and what they are good for."""
    from storyforge import workflow

    found = workflow.layouts(story)
    if as_json:
        tell_json({"layouts": [each.model_dump(mode="json") for each in found]})
        return
    rows = [(each.name, ", ".join(each.regions), each.description) for each in found]
    show_table(("layout", "regions", "for"), rows)


@cache.command("ls")
def list_products(where: Place = Path(), as_json: AsJson = False) -> None:
    """List what is finished and kept."""
    from storyforge import workflow

    products = workflow.store_at(where).ls()
    show_products(products, as_json, f"{len(products)} products")


@cache.command()
def gc(
    where: Place = Path(),
    dry: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what no story needs any more."""
    from storyforge import workflow

    products = workflow.store_at(where).gc(dry=dry)
    show_products(products, as_json, f"{'would remove' if dry else 'removed'} {len(products)}")


@cache.command()
def verify(where: Place = Path(), as_json: AsJson = False) -> None:
    """Remove products that were damaged; they are made again by the next run."""
    from storyforge import workflow

    products = workflow.store_at(where).verify()
    show_products(products, as_json, f"removed {len(products)} damaged products")
    if products:
        raise typer.Exit(1)


@golden.command("check")
def check_goldens(story: StoryFile, goldens: GoldensFolder = None, as_json: AsJson = False) -> None:
    """Draw every panel small and compare it with its golden."""
    from storyforge.golden import check as compared

    with Progress() as progress:
        review = compared(story, goldens, progress)
    _show_review(review, as_json)
    if not review.passed:
        raise typer.Exit(1)


@golden.command("update")
def update_goldens(
    story: StoryFile,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why they change.")],
    goldens: GoldensFolder = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Renew the goldens, and their trained concepts if the base changed."""
    from storyforge.golden import update

    with Progress() as progress:
        review = update(story, reason, goldens=goldens, store=store, tell=progress)
    _show_review(review, as_json)


def _order(to: str | None, language: str | None, steps: int | None) -> Order:
    """What is asked beyond the story; an unknown format is a mistake in the command."""
    from storyforge.plan import FORMATS, Order

    if to is None:
        return Order(None, language, steps)
    asked = [name.strip() for name in to.split(",")]
    for name in asked:
        if name not in FORMATS:
            raise typer.BadParameter(f"`{name}` is none of {', '.join(FORMATS)}", param_hint="--to")
    return Order(tuple(name for name in FORMATS if name in asked), language, steps)


def _show(work: Callable[[Tell], Outcome], as_json: bool) -> None:
    """Do the work with its progress shown, then say what came of it."""
    with Progress() as progress:
        outcome = work(progress)
    for trouble in outcome.troubles:
        tell_error(trouble.error, trouble.subject)
    tell(f"made {counted(outcome.made)} in {duration(outcome.seconds)}")
    if as_json:
        tell_json(outcome_content(outcome))
    else:
        for path in outcome.books:
            typer.echo(path)
    if outcome.troubles:
        raise typer.Exit(_SOME_FAILED)


def _show_review(review: Review, as_json: bool) -> None:
    """Print how much each panel differs from its golden, in 1/255."""
    sheet = None if review.sheet is None else str(review.sheet)
    if as_json:
        panels = [asdict(verdict) for verdict in review.verdicts]
        told = {"passed": review.passed, "panels": panels, "sheet": sheet, "note": review.note}
        tell_json({"goldens": str(review.folder), **told})
        return
    rows = [
        (each.panel, str(seen.largest), f"{seen.mean:.3f}", f"{seen.ssim:.4f}", each.said)
        if (seen := each.likeness)
        else (each.panel, "-", "-", "-", each.said)
        for each in review.verdicts
    ]
    show_table(("panel", "max", "mean", "ssim", "verdict"), rows)
    for words in (review.note, sheet and f"old, new and difference: {sheet}"):
        if words:
            tell(words)
