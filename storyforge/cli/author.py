"""The verbs for one who writes: begin a story, check it, see which layouts there are."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from storyforge.cli.options import AsJson, StoryFile
from storyforge.cli.program import app, group
from storyforge.errors import Severity
from storyforge.terminal import (
    finding_content,
    finding_for_github,
    finding_line,
    show_table,
    tell,
    tell_json,
)

layout = group("layout", "See which layouts there are.")


class Format(StrEnum):
    """How findings are written."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


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
    from storyforge.schemas import schema as schema_of_story

    typer.echo(json.dumps(schema_of_story(), indent=2, ensure_ascii=False))


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
