"""The verbs for one who writes: begin a story, check it, see what can be written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from textwrap import indent, wrap
from typing import Annotated, Final

import typer

from storyforge.cli.options import (
    AsJson,
    LanguageOption,
    OutFolder,
    StoreFolder,
    StoryArgument,
)
from storyforge.cli.program import app, group
from storyforge.cli.terminal import (
    finding_content,
    finding_for_github,
    finding_line,
    show_json,
    show_path,
    show_table,
    tell,
    tell_json,
)
from storyforge.errors import Diagnostic, Severity
from storyforge.story.codes import Code, catalogue, entry
from storyforge.story.sarif import sarif

_PROOFS: Final = ("png", "pdf", "html")

layout = group("layout", "See which layouts there are.")


class FindingsFormat(StrEnum):
    """How findings are written."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"
    SARIF = "sarif"


class SchemaName(StrEnum):
    """The author's kinds of file."""

    STORY = "story"
    CONCEPT = "concept"
    LAYOUT = "layout"
    LOCALE = "locale"


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
) -> None:
    """Begin a story: copy the sample with its concepts and layouts."""
    from storyforge.story.scaffold import scaffold

    story = scaffold(folder)
    show_path(story)
    tell(f"next: storyforge render {story}")


@app.command()
def check(
    story: StoryArgument,
    format_: Annotated[
        FindingsFormat, typer.Option("--format", help="Of the findings.")
    ] = FindingsFormat.TEXT,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail.")] = False,
    as_json: AsJson = False,
) -> None:
    """List every mistake in a story, each with its place."""
    from storyforge.project.project import Project

    findings = Project(story).check()
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    if as_json or format_ is FindingsFormat.JSON:
        told = [finding_content(finding) for finding in findings]
        tell_json({"errors": errors, "warnings": len(findings) - errors, "findings": told})
    elif format_ is FindingsFormat.SARIF:
        show_json(sarif(findings))
    else:
        line = finding_for_github if format_ is FindingsFormat.GITHUB else finding_line
        for finding in findings:
            typer.echo(line(finding))
    if format_ is FindingsFormat.TEXT and not as_json:
        _sum_up(story, findings, errors)
    if errors or (strict and findings):
        raise typer.Exit(1)


def _sum_up(story: Path, findings: Sequence[Diagnostic], errors: int) -> None:
    if not findings:
        tell(f"no mistakes in {story}")
        return
    counts = {"error": errors, "warning": len(findings) - errors}
    told = [f"{count} {what}{'s' * (count > 1)}" for what, count in counts.items() if count]
    first = min(findings, key=lambda finding: finding.severity is not Severity.ERROR)
    tell(f"{', '.join(told)}; `storyforge explain {first.code}` says more, as for every code")


@app.command()
def explain(
    code: Annotated[
        str | None, typer.Argument(metavar="[CODE]", help="Such as SF300; all if none.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a code of `check` means, and how it is mended."""
    entries = list(catalogue().values()) if code is None else [entry(code)]
    if as_json:
        tell_json({"codes": [asdict(each) for each in entries]})
    elif code is None:
        rows = [(each.code, each.severity, each.title) for each in entries]
        show_table(("code", "severity", "what is wrong"), rows)
    else:
        for line in _explained(entries[0]):
            typer.echo(line)


def _explained(about: Code) -> Iterator[str]:
    yield f"{about.code} {about.severity}: {about.title}"
    for words in (about.means, about.mend):
        yield ""
        yield from wrap(words.strip(), 80)
    for name, example in (("wrong", about.wrong), ("right", about.right)):
        yield ""
        yield f"{name}:"
        yield indent(example.strip(), "    ")


@app.command()
def schema(
    what: Annotated[
        SchemaName, typer.Argument(metavar="[FILE]", help="The kind of file.")
    ] = SchemaName.STORY,
) -> None:
    """Print the JSON schema of a story, concept, layout or locale, for editors."""
    from storyforge.story.schema import schema as schema_of

    typer.echo(json.dumps(schema_of(what.value), indent=2, ensure_ascii=False))


@layout.command("list")
def list_layouts(
    story: Annotated[
        Path | None, typer.Argument(metavar="[STORY]", help="Add the layouts beside it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the layouts: their regions, and what they are good for."""
    from storyforge.project.layouts import layouts

    found = layouts(story)
    if as_json:
        tell_json({"layouts": [each.model_dump(mode="json") for each in found]})
        return
    rows = [(each.name, ", ".join(each.regions), each.description) for each in found]
    show_table(("layout", "regions", "for"), rows)


@layout.command("show")
def show_layouts(
    name: Annotated[
        str | None, typer.Argument(metavar="[LAYOUT]", help="One by name; all if none.")
    ] = None,
    story: Annotated[
        Path | None, typer.Option("--story", metavar="STORY", help="Add the layouts beside it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The picture [LAYOUT.png].")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw a layout, or all of them on one sheet."""
    from storyforge.project.layouts import picture_layouts

    path = picture_layouts(name, story, out)
    if as_json:
        tell_json({"picture": str(path)})
    else:
        show_path(path)


@app.command()
def preview(
    story: StoryArgument,
    out: OutFolder = None,
    to: Annotated[
        str, typer.Option("--to", metavar="FORMATS", help="Any of `png,pdf,html`.")
    ] = "png,pdf,html",
    lang: LanguageOption = None,
    with_art: Annotated[
        bool, typer.Option("--with-art", help="Show the pictures that exist beneath.")
    ] = False,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show where everything will stand on every page, before a picture is drawn."""
    from storyforge.project.project import Project

    formats = [name.strip() for name in to.split(",")]
    for name in formats:
        if name not in _PROOFS:
            raise typer.BadParameter(f"`{name}` is none of {', '.join(_PROOFS)}", param_hint="--to")
    project = Project(story, store=store, out=out)
    files = project.preview(formats, language=lang, with_art=with_art)
    if as_json:
        tell_json({"files": [str(path) for path in files]})
        return
    pages = [path for path in files if path.parent.name.endswith(".proof")]
    for path in files:
        if path not in pages:
            show_path(path)
    if pages:
        show_path(pages[0].parent)
