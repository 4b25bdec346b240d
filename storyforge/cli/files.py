"""The verbs about other tools' files: `concept import`, `concept export`, `doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from storyforge.cli.concept import concept
from storyforge.cli.options import AsJson, StoreFolder, among
from storyforge.cli.program import app
from storyforge.cli.terminal import show_table, tell, tell_json
from storyforge.errors import StoryForgeError
from storyforge.modelref import is_embedded
from storyforge.pictures import beside

if TYPE_CHECKING:
    from storyforge.model.formats.export import Target
    from storyforge.model.formats.foreign import Imported
    from storyforge.project.files import Diagnosis

_BASE = typer.Option("--base", metavar="MODEL", help="The base that it is for.")
_KINDS = ("character", "object", "scene")


@concept.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A LoRA, textual inversion, XTI, Mix-of-Show's.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Of the concept; else the file's own.")
    ] = None,
    kind: Annotated[str, typer.Option("--kind", help="character, object or scene.")] = "character",
    class_: Annotated[
        str | None, typer.Option("--class", metavar="WORD", help="The everyday word for it.")
    ] = None,
    trigger: Annotated[
        str | None, typer.Option("--trigger", metavar="WORDS", help="What calls a LoRA up.")
    ] = None,
    base: Annotated[str, _BASE] = "pocket",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where the concept goes.")
    ] = None,
    statistics: Annotated[
        str | None,
        typer.Option("--statistics", help="full or compact: keep what fusing needs in the file."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a concept of another tool's file."""
    from storyforge.model.formats.foreign import Wanted
    from storyforge.project import files

    among(kind, _KINDS, "--kind")
    if statistics is not None:
        among(statistics, ("full", "compact"), "--statistics")
    name = name or file.stem.replace(" ", "-")
    out = out or Path(f"{name}.safetensors")
    if out.exists():
        raise StoryForgeError(f"`{out}` is there already", hint="name another file with `--out`")
    wanted = Wanted(name, kind, class_ or name.replace("-", " ").replace("_", " "), trigger)
    made = files.import_file(file, wanted, base, out, statistics)
    if as_json:
        tell_json(_imported(made, out))
        return
    tell(f"wrote {out}: {_said(made)}")
    if made.left:
        tell(
            f"warning: {_layers(len(made.left))} beside the attention left out, "
            f"{made.share:.1%} of the change; name the file under `sampling: {{lora: …}}` as well"
        )


def _said(made: Imported) -> str:
    changed = _layers(len(made.concept.deltas))
    return f"`<{made.concept.name}>`, called up by {made.said}, changes {changed}"


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"


def _imported(made: Imported, out: Path) -> dict[str, object]:
    return {
        "file": str(out),
        "name": made.concept.name,
        "words": len(made.concept.tokens.words),
        "called_up_by": made.said,
        "layers": len(made.concept.deltas),
        "left_out": list(made.left),
        "left_out_share": made.share,
        "licence": made.concept.licence,
        "recipe": dict(made.concept.recipe),
    }


@concept.command()
def export(
    what: Annotated[
        str, typer.Argument(metavar="CONCEPT", help="A file, or a name of the story's.")
    ],
    story: Annotated[
        Path | None, typer.Argument(metavar="[STORY]", help="Where the name is from.")
    ] = None,
    to: Annotated[
        str,
        typer.Option("--to", help="kohya, diffusers, comfyui, webui, ti, xti or mix-of-show."),
    ] = "kohya",
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go.")] = Path(
        "export"
    ),
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Draw it with stock diffusers, or read it back, and compare."
        ),
    ] = False,
    base: Annotated[str | None, _BASE] = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Write a concept as other programs read it."""
    from storyforge.model.formats.export import TARGETS
    from storyforge.project import files

    among(to, TARGETS, "--to")
    target = cast("Target", to)
    file, own = _file_of(what, story, store)
    made = files.export_file(file, target, out)
    apart = None
    if verify:
        apart = files.verify_export(file, target, made, base or own or "pocket")
    if as_json:
        told = {"files": [str(path) for path in made.files], "use": made.use}
        how = "read back" if to in files.READ_BACK else "drawn by stock diffusers"
        tell_json(
            {
                **told,
                "spread": made.spread,
                "difference": apart,
                "verified": how if verify else None,
            }
        )
    else:
        for path in made.files:
            tell(f"wrote {path}")
        tell(f"to use it: {made.use}")
        if made.spread:
            tell(
                f"its words differ from layer to layer by {made.spread:.0%} of their length; "
                "here each is the mean, and shows the class the more"
            )
        if apart is not None:
            tell(_verified(to, apart))
    if apart is not None and apart > files.CLOSE:
        raise typer.Exit(1)


def _verified(to: str, apart: float) -> str:
    """What was compared, and how it came out."""
    from storyforge.project.files import READ_BACK

    if same := READ_BACK.get(to):
        return f"read back, its {same} the same; stock diffusers does not read it, nothing is drawn"
    return f"stock diffusers draws the same to {apart:.2f} of 255"


def _file_of(what: str, story: Path | None, store: Path | None) -> tuple[Path, str | None]:
    """A concept's file, and the base that its story names."""
    if story is None:
        if Path(what).is_file():
            return Path(what), None
        hint = "name a .safetensors file, or the story after the concept's name"
        raise StoryForgeError(f"no file at `{what}`", hint=hint)
    from storyforge.project.project import Project

    project = Project(story, store=store)
    cards = project.learnt([what])
    if not cards:
        hint = f"run `storyforge train {story} {what}`"
        raise StoryForgeError(f"`{what}` is not learnt yet, or has changed since", hint=hint)
    base = project.story.base_parts.model
    here = beside(project.story.folder, base)
    apart = not is_embedded(base) and here.exists()
    return cards[0].path, str(here) if apart else base


@app.command()
def doctor(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Of any tool, or PEFT's folder.")],
    base: Annotated[
        str | None, typer.Option("--base", metavar="MODEL", help="Say whether it fits.")
    ] = None,
    repair: Annotated[
        Path | None, typer.Option("--repair", metavar="OUT", help="Write a sound copy there.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a model's file is, what wrote it, and what is broken in it."""
    from storyforge.project import files

    found = files.diagnose(file, base)
    mended = files.repair(file, repair) if repair is not None else ()
    if as_json:
        tell_json({"file": str(file), **dict(_lines(found)), "troubles": list(found.troubles)})
    else:
        show_table(("what", "value"), list(_lines(found)))
        for trouble in found.troubles:
            tell(f"broken: {trouble}")
        for line in mended:
            tell(f"{repair}: {line}")
    if found.troubles and repair is None:
        raise typer.Exit(1)


def _lines(found: Diagnosis) -> Iterator[tuple[str, str]]:
    """What is known of the file, in the order in which one asks."""
    told = found.told
    yield "kind", told.kind
    yield "written by", told.writer
    width = f"words of {told.width} numbers" if told.width else "not stated"
    yield "for", told.family or width
    if told.words:
        words = (f"`{name or found.path.stem}` ({count})" for name, count in told.words.items())
        yield "words", ", ".join(words)
    if told.groups:
        yield "layers with words", str(told.groups)
    if found.layers:
        counts = ", ".join(f"{count} in the {part}" for part, count in found.layers.items())
        yield "layers changed", counts + (f"; {found.beside} no attention" if found.beside else "")
    if found.ranks:
        yield "rank", ", ".join(f"{rank} ({n})" for rank, n in sorted(found.ranks.items()))
    if found.strengths:
        many = sorted(found.strengths.items())
        yield "alpha / rank", ", ".join(f"{scale:g} ({n})" for scale, n in many)
    if found.unstated:
        yield "no alpha", f"in {_layers(found.unstated)}; each is taken as its rank"
    yield "called up by", found.trigger or "not stated"
    yield "licence", found.licence or "not stated"
