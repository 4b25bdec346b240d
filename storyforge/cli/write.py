"""The verb that makes a draft of a story from words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from storyforge.cli.options import AsJson
from storyforge.cli.program import app
from storyforge.cli.progress import ProgressLine
from storyforge.cli.terminal import finding_line, tell, tell_json
from storyforge.errors import EnvironmentProblem, StoryForgeError


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    manuscript: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="A plain text to be split.")
    ] = None,
    idea: Annotated[
        str | None, typer.Option("--idea", help="A sentence for a language model to write from.")
    ] = None,
    model_at: Annotated[
        str | None,
        typer.Option("--model-at", metavar="URL", help="Such as http://127.0.0.1:8080/v1."),
    ] = None,
    model: Annotated[str, typer.Option("--model", help="Its name, where there are several.")] = (
        "default"
    ),
    cast: Annotated[
        Path | None, typer.Option("--cast", metavar="DIR", help="A folder of concepts to show.")
    ] = None,
    pages: Annotated[int, typer.Option("--pages", min=1, max=200, help="That a model writes.")] = 8,
    as_json: AsJson = False,
) -> None:
    """Make a draft of a story: from a manuscript, or from an idea by a language model of yours."""
    from storyforge.project.project import Project
    from storyforge.store import write_whole
    from storyforge.write.draft import Cast, drafted
    from storyforge.write.manuscript import split
    from storyforge.write.model import LanguageModel, written

    if (manuscript is None) == (idea is None):
        raise typer.BadParameter("name a manuscript or an idea", param_hint="--from, --idea")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoryForgeError(f"`{folder}` is not empty", hint="name a new folder")
    story = folder / "story.yaml"
    known = Cast.of(cast, story)
    if manuscript is not None:
        text = drafted(split(_read(manuscript)), known)
        write_whole(story, text.encode())
    else:
        if model_at is None:
            hint = "start one, such as llama-server, and give its address; or write `--from FILE`"
            raise StoryForgeError("an idea needs a language model: `--model-at`", hint=hint)
        with ProgressLine() as progress:
            written(
                str(idea),
                story,
                known,
                LanguageModel(model_at, model),
                lambda path: Project(path).check(),
                pages=pages,
                on_progress=progress,
            )
    _show_draft(story, as_json)


def _show_draft(story: Path, as_json: bool) -> None:
    """Lay the schema beside a draft, and say what `check` finds in it."""
    from storyforge.project.project import Project
    from storyforge.store import write_whole
    from storyforge.story.schema import schema

    beside = json.dumps(schema(), indent=1)
    write_whole(story.parent / "story.schema.json", beside.encode())
    findings = Project(story).check()
    if as_json:
        tell_json({"story": str(story), "findings": len(findings)})
        return
    typer.echo(story)
    for finding in findings:
        tell(finding_line(finding))
    tell(f"next: storyforge desk {story}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise EnvironmentProblem(f"cannot read `{path}`: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise StoryForgeError(f"`{path}` is not UTF-8", hint="save it as UTF-8") from exc
