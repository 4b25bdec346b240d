"""The verbs that make: a plan, concepts, the fused model, pictures, books."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast

import typer

from storyforge.cli.options import (
    AsJson,
    Assets,
    ClusterOption,
    CoverWrap,
    Formats,
    Jobs,
    LanguageOption,
    NoWait,
    OutFolder,
    Ppi,
    StepsOption,
    StoreFolder,
    StoryArgument,
    Token,
    among,
    cluster_at,
    formats,
)
from storyforge.cli.program import app
from storyforge.cli.progress import ProgressLine
from storyforge.cli.terminal import (
    card_content,
    counted,
    duration,
    finding_line,
    findings_content,
    outcome_content,
    plural,
    recipe_words,
    show_path,
    show_survey,
    show_table,
    tell,
    tell_error,
    tell_json,
)
from storyforge.errors import Severity, StoryForgeError

if TYPE_CHECKING:
    from storyforge.executor import OnProgress
    from storyforge.fuse.checkpoint import Target
    from storyforge.plan.plan import Order
    from storyforge.project.approve import Takes
    from storyforge.project.making import Outcome
    from storyforge.project.project import Project

_SOME_FAILED: Final = 4


@app.command()
def plan(
    story: StoryArgument,
    to: Formats = None,
    lang: LanguageOption = None,
    steps: StepsOption = None,
    store: StoreFolder = None,
    check: Annotated[
        bool, typer.Option("--check", help="Fail if anything is to be made, for CI.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what would be made, why, and what it may take; make nothing."""
    from storyforge.plan.plan import Order
    from storyforge.project.project import Project

    survey = Project(story, store=store).status(Order(formats(to), lang, steps))
    show_survey(survey, as_json)
    if check and survey.stale:
        raise typer.Exit(1)


@app.command()
def train(
    story: StoryArgument,
    concepts: Annotated[list[str] | None, typer.Argument(help="By name; all if none.")] = None,
    jobs: Jobs = None,
    store: StoreFolder = None,
    no_wait: NoWait = False,
    cluster: ClusterOption = None,
    token: Token = None,
    logs: Annotated[
        Path | None,
        typer.Option("--logs", metavar="DIR", help="Write losses, curves and previews there."),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files into --logs as well.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Learn the story's concepts from their pictures."""
    from storyforge.project.project import Project
    from storyforge.train.logs import Logs

    if tensorboard and logs is None:
        raise typer.BadParameter("needs `--logs DIR`", param_hint="--tensorboard")
    kept = None if logs is None else Logs(logs, tensorboard)
    where = cluster_at(cluster, token)
    project = Project(story, store=store, wait=not no_wait, cluster=where)
    wanted = concepts or ()
    for finding in project.examine(wanted):
        tell(finding_line(finding))
    outcome = _done(lambda tell: project.train(wanted, jobs=jobs, logs=kept, on_progress=tell))
    cards = project.learnt(wanted)
    if as_json:
        told = [card_content(card) for card in cards]
        tell_json({**outcome_content(outcome), "concepts": told})
    elif cards:
        rows = [(c.name, *recipe_words(c), str(c.path)) for c in cards]
        show_table(("concept", "method", "steps", "loss", "drift", "file"), rows)
    _end(outcome)


@app.command()
def fuse(
    story: StoryArgument,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Write what it cost there.")
    ] = None,
    merge: Annotated[
        Path | None,
        typer.Option("--merge", metavar="DIR", help="Write a model for other programs there."),
    ] = None,
    to: Annotated[
        str, typer.Option("--to", help="What --merge writes: diffusers or single-file.")
    ] = "diffusers",
    full: Annotated[
        bool, typer.Option("--full", help="Write it in full precision, twice as large.")
    ] = False,
    jobs: Jobs = None,
    store: StoreFolder = None,
    no_wait: NoWait = False,
    cluster: ClusterOption = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Fuse the concepts into one model, learning those that are missing."""
    from storyforge.project.fused import check_vacant
    from storyforge.project.project import Project

    where = cluster_at(cluster, token)
    project = Project(story, store=store, wait=not no_wait, cluster=where)
    if merge is not None:
        check_vacant(merge)
        among(to, ("diffusers", "single-file"), "--to")
    show_outcome(lambda tell: project.fuse(jobs=jobs, on_progress=tell), as_json)
    fusion = project.fusion()
    if fusion is None:
        tell("no panel shows a concept, so there is nothing to fuse")
        return
    for warning in fusion.warnings():
        tell(f"warning: {warning}")
    for path in fusion.report(report) if report is not None else ():
        tell(f"wrote {path}")
    if merge is not None:
        tell(f"wrote {fusion.merge(merge, cast('Target', to), half=not full)}")


_Drawn = Annotated[list[str] | None, typer.Argument(metavar="[PANEL]...", help="Draw only these.")]
_Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="PANEL", help="Draw only these panels.")
]
_Takes = Annotated[
    int | None,
    typer.Option("--takes", min=1, max=64, help="Draw the panels so many times, to `pick`."),
]
_Draft = Annotated[
    bool, typer.Option("--draft", help="In seconds, by the embedded model; nothing is learnt.")
]
_TakesJudge = Annotated[
    str | None, typer.Option("--clip", help="Judges the takes: a folder or hub id.")
]
_Previews = Annotated[
    Path | None,
    typer.Option("--previews", metavar="DIR", help="Show pictures there as they are drawn."),
]


@app.command()
def render(
    story: StoryArgument,
    panels: _Drawn = None,
    only: _Only = None,
    takes: _Takes = None,
    draft: _Draft = False,
    clip: _TakesJudge = None,
    previews: _Previews = None,
    out: OutFolder = None,
    to: Formats = None,
    assets: Assets = False,
    ppi: Ppi = None,
    lang: LanguageOption = None,
    steps: StepsOption = None,
    jobs: Jobs = None,
    store: StoreFolder = None,
    no_wait: NoWait = False,
    cluster: ClusterOption = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Make all that is missing, then the book."""
    from storyforge.plan.plan import Order
    from storyforge.project.project import Project

    where = cluster_at(cluster, token)
    project = Project(story, store=store, out=out, wait=not no_wait, cluster=where)
    wanted = [*(panels or ()), *(name for names in only or () for name in names.split(","))]
    if draft:
        _refuse({"--takes": takes, "--clip": clip, "--jobs": jobs, "--cluster": cluster})
        order = Order(formats(to), lang, steps, ppi, assets)
        show_outcome(
            lambda tell: project.draft(wanted, order, previews=previews, on_progress=tell), as_json
        )
        return
    if takes is not None:
        _show_takes(project, wanted, takes, steps, jobs, previews, clip, as_json)
        return
    asked = formats(to)
    if not wanted and project.story.draft is not None:
        _show_draft(project, Order(asked, lang, steps, ppi, assets))
    show_outcome(
        lambda tell: project.render(
            wanted,
            formats=asked,
            language=lang,
            steps=steps,
            ppi=ppi,
            assets=assets,
            jobs=jobs,
            previews=previews,
            on_progress=tell,
        ),
        as_json,
        _expected(project, Order(asked, lang, steps, ppi, assets), wanted),
    )
    _show_untranslated(project, lang)


def _refuse(asked: Mapping[str, object]) -> None:
    """Refuse options that drafts do not obey.

    Raises StoryForgeError if one is set.
    """
    said = " and ".join(f"`{name}`" for name, value in asked.items() if value is not None)
    if said:
        raise StoryForgeError(f"drafts do not obey {said}", hint=f"leave out {said}, or `--draft`")


def _show_draft(project: Project, order: Order) -> None:
    """Lay out the book with drafts, to be looked at while the pictures of `order` are drawn."""
    with ProgressLine() as progress:
        made = project.draft(order=replace(order, steps=None), real=order, on_progress=progress)
    for path in made.books:
        tell(f"for now, with drafts: {path}")
    for trouble in made.troubles:
        tell(f"warning: no draft of {trouble.subject}: {trouble.error.message}")


def _show_takes(
    project: Project,
    panels: Sequence[str],
    count: int,
    steps: int | None,
    jobs: int | None,
    previews: Path | None,
    clip: str | None,
    as_json: bool,
) -> None:
    """Draw takes, and print the contact sheets that show them."""
    from storyforge.plan.plan import Order
    from storyforge.project.making import Making

    how = Making(project.out, jobs, previews=previews, cluster=project.cluster)
    order = Order(steps=steps)
    with ProgressLine() as progress:
        drawn = project.takes(panels, count, order, how=how, clip=clip, on_progress=progress)
    _tell_outcome(drawn.outcome)
    sheets = [str(path) for path in drawn.sheets]
    if as_json:
        ranking = {panel: list(takes) for panel, takes in drawn.ranking.items()}
        judged = {name: _scores(drawn, name) for name in ("likeness", "obedience", "eyes")}
        told = {"sheets": sheets, **judged, "ranking": ranking}
        tell_json({**outcome_content(drawn.outcome), **told})
    else:
        for path in sheets:
            show_path(path)
    _tell_ranking(drawn)
    tell(f"next: look at the numbers there, then `storyforge pick {project.path} PANEL TAKE`")
    _end(drawn.outcome)


def _tell_ranking(drawn: Takes) -> None:
    """Which take of each panel to look at first, and by what."""
    for panel, takes in drawn.ranking.items():
        for place, number in enumerate(takes):
            if said := str(drawn.scores[panel][number]):
                tell(f"{panel}: {'then' if place else 'first'} take {number} ({said})")
    if any(len(takes) > 1 for takes in drawn.ranking.values()):
        tell("takes without eyes come last, the others by likeness and obedience together")


def _scores(drawn: Takes, name: str) -> dict[str, dict[int, float]]:
    """Panel -> take -> one of its scores, where there is one."""
    return {
        panel: {n: each.known[name] for n, each in takes.items() if name in each.known}
        for panel, takes in drawn.scores.items()
    }


@app.command()
def book(
    story: StoryArgument,
    out: OutFolder = None,
    to: Formats = None,
    assets: Assets = False,
    cover_wrap: CoverWrap = False,
    ppi: Ppi = None,
    lang: LanguageOption = None,
    steps: StepsOption = None,
    store: StoreFolder = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Set the book from pictures that exist."""
    from storyforge.plan.plan import Order
    from storyforge.project.project import Project

    project = Project(story, store=store, out=out, wait=not no_wait)
    order = Order(formats(to), lang, steps, ppi, assets, cover_wrap)
    show_outcome(lambda tell: project.book(order, on_progress=tell), as_json)
    _show_untranslated(project, lang)


@app.command()
def preflight(
    story: StoryArgument,
    strict: Annotated[bool, typer.Option("--strict", help="Let warnings fail.")] = False,
    lang: LanguageOption = None,
    steps: StepsOption = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """List what a printer would send back: pictures, bleed, gutter, letters, pages, the PDF."""
    from storyforge.plan.plan import Order
    from storyforge.project.project import Project

    with ProgressLine() as progress:
        order = Order(language=lang, steps=steps)
        findings = Project(story, store=store).preflight(order, on_progress=progress)
    content = findings_content(findings)
    if as_json:
        tell_json(content)
    else:
        for finding in findings:
            typer.echo(finding_line(finding))
        errors = sum(finding.severity is Severity.ERROR for finding in findings)
        warnings = len(findings) - errors
        tell(f"{plural(errors, 'error')}, {plural(warnings, 'warning')}")
    if content["errors"] or (strict and findings):
        raise typer.Exit(1)


@app.command()
def narrate(
    story: StoryArgument,
    lang: LanguageOption = None,
    voice: Annotated[
        str | None,
        typer.Option("--voice", help="One of espeak-ng's, or a Piper model (.onnx)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let a machine read out the pages that have no recording, for `book.read_along`."""
    from storyforge.project.project import Project

    project = Project(story)
    with ProgressLine() as progress:
        files = project.narrate(lang, voice, on_progress=progress)
    if as_json:
        tell_json({"files": [str(path) for path in files]})
        return
    for path in files:
        show_path(path)
    if not project.story.book.read_along:
        tell("next: write `read_along: true` under `book`")


@app.command()
def sheet(
    story: StoryArgument,
    out: OutFolder = None,
    steps: StepsOption = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show every picture beside its concepts' own pictures, on one sheet."""
    from storyforge.plan.plan import Order
    from storyforge.project.project import Project

    path = Project(story, store=store, out=out).sheet(Order(steps=steps))
    if as_json:
        tell_json({"sheet": str(path)})
    else:
        show_path(path)


def show_outcome(
    work: Callable[[OnProgress], Outcome],
    as_json: bool,
    expected: Callable[[], Mapping[str, float]] | None = None,
) -> None:
    """Do the work with its progress shown, then say what came of it.

    expected  the seconds that each task may take, by its subject
    """
    outcome = _done(work, expected)
    if as_json:
        tell_json(outcome_content(outcome))
    else:
        for path in outcome.books:
            show_path(path)
    _end(outcome)


def _expected(
    project: Project, order: Order, panels: Sequence[str] = ()
) -> Callable[[], Mapping[str, float]]:
    """What the run may take, task by task, when it is asked: of these panels, or of all."""

    def looked_up() -> Mapping[str, float]:
        """Seconds by subject, of what is to be made."""
        left_out = {f"panel {t.panel}" for t in project.plan(order).panels if t.panel not in panels}
        return {
            line.subject: line.cost.seconds
            for line in project.status(order).stale
            if line.cost.seconds and not (panels and line.subject in left_out)
        }

    return looked_up


def _done(
    work: Callable[[OnProgress], Outcome],
    expected: Callable[[], Mapping[str, float]] | None = None,
) -> Outcome:
    with ProgressLine(expected) as progress:
        outcome = work(progress)
    _tell_outcome(outcome)
    return outcome


def _tell_outcome(outcome: Outcome) -> None:
    for trouble in outcome.troubles:
        tell_error(trouble.error, trouble.subject)
    if outcome.damaged:
        tell(f"damaged, and set aside: {', '.join(outcome.damaged)}")
    if outcome.taken:
        tell(f"from the shared cache: {', '.join(outcome.taken)}")
    for warning in outcome.warnings:
        tell(f"warning: {warning}")
    if outcome.pinned:
        names = ", ".join(f"`{name}`" for name in outcome.pinned)
        tell(f"pinned, kept as they are: {names}")
    tell(f"made {counted(outcome.made)} in {duration(outcome.seconds)}")
    if outcome.findings:
        errors = sum(finding.severity is Severity.ERROR for finding in outcome.findings)
        warnings = plural(len(outcome.findings), "warning")
        told = plural(errors, "error") if errors else warnings
        tell(f"not quite fit to print: {told}; `storyforge preflight` lists them")


def _end(outcome: Outcome) -> None:
    if outcome.troubles:
        raise typer.Exit(_SOME_FAILED)


def _show_untranslated(project: Project, language: str | None) -> None:
    """List the texts that an edition shows in the story's own language for want of another."""
    for finding in project.untranslated(language):
        tell(finding_line(finding))
