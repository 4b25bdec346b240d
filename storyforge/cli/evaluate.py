"""The verbs that judge: how well concepts are kept, and how well they stand beside each other."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from storyforge.cli.options import AsJson, StepsOption, StoreFolder, StoryArgument
from storyforge.cli.program import group
from storyforge.cli.progress import ProgressLine
from storyforge.cli.terminal import duration, show_path, show_table, tell, tell_json

if TYPE_CHECKING:
    from storyforge.evaluate.results import Evaluation


class _Subjects(TyperGroup):
    """What can be judged; whatever is none of them is taken for a story's file."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Read `evaluate story.yaml` as `evaluate story story.yaml`."""
        asks_for_help = bool(args) and args[0] in ctx.help_option_names
        if args and args[0] not in self.commands and not asks_for_help:
            args = ["story", *args]
        return super().parse_args(ctx, args)


evaluate = group(
    "evaluate",
    "Judge pictures by a CLIP; `evaluate STORY` is short for `evaluate story STORY`.",
    _Subjects,
)


ClipOption = Annotated[
    str | None, typer.Option("--clip", help=r"A CLIP's folder or hub id \[the base's own].")
]
PromptsOption = Annotated[
    int, typer.Option("--prompts", min=1, max=5, help="Of each of the four kinds.")
]
SeedsOption = Annotated[int, typer.Option("--seeds", min=1, help="Pictures of each prompt.")]
ConceptsFolder = Annotated[
    Path, typer.Option("--concepts", metavar="DIR", help="Of concepts' folders; see `order.txt`.")
]
MethodsOption = Annotated[
    str | None, typer.Option("--methods", metavar="NAME,NAME", help=r"Which to compare \[all].")
]
DrawingSteps = Annotated[int, typer.Option("--steps", min=1, help="Denoising steps.")]
Beside = Annotated[int, typer.Option("--jobs", min=1, help="Processes side by side.")]


@evaluate.command("story")
def judge_story(
    story: StoryArgument,
    concepts: Annotated[list[str] | None, typer.Argument(help="By name; all if none.")] = None,
    clip: ClipOption = None,
    prompts: PromptsOption = 5,
    seeds: SeedsOption = 1,
    panels: Annotated[bool, typer.Option(help="Judge the story's panels too.")] = True,
    steps: StepsOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help=r"For the results \[build/<story>.evaluation/]."),
    ] = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Judge every concept alone and fused, and the panels region by region."""
    from storyforge.evaluate.report.story import story_table
    from storyforge.evaluate.story import StoryConfig
    from storyforge.project.project import Project

    config = StoryConfig(tuple(concepts or ()), clip, prompts, seeds, panels, steps, out)
    with ProgressLine() as progress:
        report = Project(story, store=store).evaluate(config, on_progress=progress)
    if as_json:
        tell_json(report.content())
        return
    show_table(*story_table(report.content()))
    if report.panels and report.panels.regions:
        told = report.panels
        nearest = f"own concept nearest in {told.found:.0%}"
        tell(f"{told.regions} regions: {nearest}, missing in {told.missing:.0%}")
    tell(f"drew {report.drawn} pictures in {duration(report.seconds)}")
    show_path(report.folder / "index.html")


@evaluate.command("fusion")
def judge_fusion(
    concepts: ConceptsFolder,
    n: Annotated[
        str | None, typer.Option("--n", metavar="N,N", help="How many to fuse [2,3,5,8,14].")
    ] = None,
    methods: MethodsOption = None,
    base: Annotated[str, typer.Option("--base", metavar="MODEL", help="Fuse on this.")] = "pocket",
    clip: ClipOption = None,
    prompts: PromptsOption = 2,
    seeds: SeedsOption = 1,
    steps: DrawingSteps = 20,
    jobs: Beside = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="For pictures and results [DIR/evaluation/]."),
    ] = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Compare ways to learn and fuse concepts, against how many there are."""
    from storyforge.evaluate.fusion import FusionConfig, evaluate_fusion, routes_named
    from storyforge.evaluate.report.fusion import fusion_table

    config = FusionConfig(
        concepts=concepts,
        counts=_numbers(n),
        routes=routes_named(_names(methods)),
        base=base,
        clip=clip,
        prompts=prompts,
        seeds=seeds,
        steps=steps,
        jobs=jobs,
        store=store,
        out=out,
        command=shlex.join(["storyforge", *sys.argv[1:]]),
    )
    with ProgressLine() as progress:
        report = evaluate_fusion(config, progress)
    _show(report, fusion_table, as_json)


@evaluate.command("regions")
def judge_regions(
    concepts: ConceptsFolder,
    n: Annotated[
        int | None, typer.Option("--n", min=2, help=r"How many concepts take part \[all].")
    ] = None,
    panels: Annotated[int, typer.Option("--panels", min=1, help="How many to draw.")] = 40,
    methods: MethodsOption = None,
    base: Annotated[
        str, typer.Option("--base", metavar="MODEL", help="Draw with this.")
    ] = "pocket",
    clip: ClipOption = None,
    steps: DrawingSteps = 20,
    jobs: Beside = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="For pictures and results [DIR/regions/]."),
    ] = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Compare ways to keep several subjects of one picture apart."""
    from storyforge.evaluate.methods import methods_named
    from storyforge.evaluate.regions import RegionsConfig, evaluate_regions
    from storyforge.evaluate.report.regions import regions_table

    config = RegionsConfig(
        concepts=concepts,
        count=n,
        panels=panels,
        methods=methods_named(_names(methods)),
        base=base,
        clip=clip,
        steps=steps,
        jobs=jobs,
        store=store,
        out=out,
        command=shlex.join(["storyforge", *sys.argv[1:]]),
    )
    with ProgressLine() as progress:
        report = evaluate_regions(config, progress)
    _show(report, regions_table, as_json)


def _show(
    report: Evaluation,
    table: Callable[[Mapping[str, object]], tuple[Sequence[str], Sequence[Sequence[str]]]],
    as_json: bool,
) -> None:
    """Print what a comparison came to, and where the rest of it lies."""
    if as_json:
        tell_json(report.content)
    else:
        show_table(*table(report.content))
    tell(f"drew {report.drawn} pictures in {duration(report.seconds)}")
    tell(str(report.folder / "index.html"))


def _names(asked: str | None) -> list[str]:
    return [name.strip() for name in asked.split(",")] if asked else []


def _numbers(asked: str | None) -> tuple[int, ...]:
    names = _names(asked)
    for name in names:
        if not name.isdecimal():
            raise typer.BadParameter(f"`{name}` is no number of concepts", param_hint="--n")
    return tuple(map(int, names))
