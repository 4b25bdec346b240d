"""How things are said on a terminal: progress, complaints, tables and JSON documents.

Belongs to `cli`, which decides what is said. Progress and complaints go to stderr, data to stdout.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

import typer

from storyforge.errors import Diagnostic, Severity, StoryError, StoryForgeError, visible

if TYPE_CHECKING:
    from storyforge.engine.maker import Counts
    from storyforge.model.card import Card
    from storyforge.plan.cost import Cost
    from storyforge.plan.status import StatusLine
    from storyforge.project.making import Outcome
    from storyforge.project.survey import Survey
    from storyforge.store import Product
    from storyforge.store.tidying import Waste

SCHEMA_VERSION: Final = 1
"""Of every JSON document printed; a later one may have more keys, not fewer."""

_BUG: Final = 70
"""What sysexits.h calls an internal error."""


_HALF: Final = re.compile("[\ud800-\udfff]")
"""What stands in a name for bytes that are no letters; no stream takes it."""


def tell(words: str) -> None:
    """Say something beside the data."""
    typer.echo(_HALF.sub("�", words), err=True)


def tell_json(content: Mapping[str, object]) -> None:
    """Print the one JSON document of a command."""
    document = {"schema_version": SCHEMA_VERSION, **content}
    show_json(document)


def show_json(document: object) -> None:
    """Print a document as JSON; half letters, which no encoding has, as JSON writes them."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    typer.echo(_HALF.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def show_path(path: Path | str) -> None:
    """Print a path: as it is for other programs, with escapes for people."""
    typer.echo(visible(str(path)) if sys.stdout.isatty() else os.fsencode(path))


def tell_error(error: StoryForgeError, subject: str | None = None) -> None:
    """Say what is wrong, where, and what to do next."""
    if isinstance(error, StoryError):
        for finding in error.diagnostics:
            tell(finding_line(finding))
    about = f"{subject}: {error.message}" if subject else error.message
    tell(f"{colored('error:', 'red', bold=True)} {visible(about)}")
    if error.hint:
        tell(f"{colored('hint:', 'cyan')} {visible(error.hint)}")
    if os.environ.get("STORYFORGE_TRACEBACK"):
        tell(error.trace or "".join(traceback.format_exception(error)))


def log_to_stderr(level: int) -> Callable[[], None]:
    """From now on show what modules log, from this level on; call what it gives back to end it."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("storyforge")
    logger.addHandler(handler)
    logger.setLevel(level)

    def end() -> None:
        """Show no more."""
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)

    return end


def error_content(error: StoryForgeError) -> dict[str, object]:
    """The same as JSON."""
    findings = error.diagnostics if isinstance(error, StoryError) else ()
    return {
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
        "findings": [finding_content(finding) for finding in findings],
    }


def finding_line(finding: Diagnostic) -> str:
    """A finding for people and editors; where it is shown on a terminal, its parts have colours."""
    warns = finding.severity is Severity.WARNING
    place = colored(f"{visible(finding.file)}:{finding.line}:{finding.column}", bold=True)
    code = colored(finding.code, "yellow" if warns else "red", bold=True)
    kind = colored("warning: ", "yellow") if warns else ""
    hint = colored(f" ({visible(finding.hint)})", "cyan") if finding.hint else ""
    return f"{place} {code} {kind}{visible(finding.message)}{hint}"


def colored(words: str, color: str | None = None, *, bold: bool = False) -> str:
    """Words in a colour, unless the author wants none; away from a terminal `echo` drops it."""
    if os.environ.get("NO_COLOR"):
        return words
    return typer.style(words, fg=color, bold=bold or None)


def plural(count: int, word: str) -> str:
    """So many of something, in words."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def finding_content(finding: Diagnostic) -> dict[str, object]:
    """A finding as JSON."""
    return {
        "file": finding.file,
        "line": finding.line,
        "column": finding.column,
        "code": finding.code,
        "severity": finding.severity.value,
        "message": finding.message,
        "hint": finding.hint,
    }


def findings_content(findings: Sequence[Diagnostic]) -> dict[str, object]:
    """Findings as JSON, with their number."""
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    told = [finding_content(finding) for finding in findings]
    return {"errors": errors, "warnings": len(findings) - errors, "findings": told}


def finding_for_github(finding: Diagnostic) -> str:
    """A finding as a workflow command, which GitHub shows beside the line."""
    places = {
        "file": finding.file,
        "line": str(finding.line),
        "col": str(finding.column),
        "title": finding.code,
    }
    fields = ",".join(f"{name}={_escaped(value, ':,')}" for name, value in places.items())
    return f"::{finding.severity.value} {fields}::{_escaped(finding.message, '')}"


def _escaped(text: str, further: str) -> str:
    for character in f"%\r\n{further}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def outcome_content(outcome: Outcome) -> dict[str, object]:
    """What a run did, as JSON."""
    content: dict[str, object] = {
        "made": asdict(outcome.made),
        "skipped": asdict(outcome.skipped),
        "pinned": list(outcome.pinned),
        "damaged": list(outcome.damaged),
        "taken": list(outcome.taken),
        "warnings": list(outcome.warnings),
        "books": [str(path) for path in outcome.books],
        "seconds": round(outcome.seconds, 2),
    }
    if any(path.suffix == ".pdf" for path in outcome.books):
        content["preflight"] = findings_content(outcome.findings)
    if outcome.troubles:
        content["failed"] = [
            {"subject": trouble.subject, **error_content(trouble.error)}
            for trouble in outcome.troubles
        ]
    return content


def tell_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say that the program itself is wrong; meant as `sys.excepthook`."""
    tell(f"error: a mistake in storyforge: {kind.__name__}: {error}")
    tell("hint: please report it with what STORYFORGE_TRACEBACK=1 in the environment adds")
    sys.stdout.flush()
    os._exit(_BUG)


def show_table(
    heading: Sequence[str], rows: Sequence[Sequence[str]], colors: Mapping[str, str] | None = None
) -> None:
    """Print rows in columns; on a terminal the last column wraps, elsewhere every row is a line.

    colors  of the rows that begin with a word
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, name in enumerate(heading):
        table.add_column(name, no_wrap=index < len(heading) - 1)
    for row in rows:
        first = Text(visible(row[0]), style=(colors or {}).get(row[0], ""))
        table.add_row(first, *map(visible, row[1:]))
    console = Console(highlight=False, markup=False)
    console.width = console.width if console.is_terminal else _widest(heading, rows)
    console.print(table)


def _widest(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    columns = zip(*(heading, *rows), strict=True)
    return sum(max(map(len, column)) + 2 for column in columns)


def duration(seconds: float) -> str:
    """A time in words."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: int) -> str:
    """A number of bytes in words."""
    amount, units = float(count), ["B", "kB", "MB", "GB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return (
        f"{amount:.0f} {units[0]}"
        if amount >= 10 or units[0] == "B"
        else f"{amount:.1f} {units[0]}"
    )


def counted(counts: Counts) -> str:
    """What was made, in words."""
    named = {
        "concept": counts.concepts,
        "fused model": counts.fused,
        "panel": counts.panels,
        "book": counts.books,
    }
    told = [f"{count} {what}{'s' * (count > 1)}" for what, count in named.items() if count]
    return ", ".join(told) or "nothing new"


def show_survey(survey: Survey, as_json: bool) -> None:
    """Print a plan: what would be made, why, and what it may take."""
    from storyforge.plan.status import chains

    if as_json:
        tell_json(survey_content(survey))
        return
    rows = [
        (line.state, line.subject, *(_costs(line.cost) if line.state == "stale" else "---"), why)
        for line in survey.lines
        for why in [line.reason or _ignoring(line)]
    ]
    show_table(("state", "what", "time", "memory", "disk", "why"), rows, _STATE_COLORS)
    for chain in chains(survey.lines):
        typer.echo(chain)
    for panel in survey.strange:
        tell(f"a picture is pinned for `{panel}`, which is no panel of this story")
    if survey.placed is not None:
        tell(f"the base would lie on {survey.placed}")
    tell(_summary(survey))


_STATE_COLORS: Final = {"fresh": "green", "stale": "yellow", "pinned": "cyan", "unneeded": "dim"}


def _summary(survey: Survey) -> str:
    if not survey.stale:
        return "nothing to make"
    if survey.total.seconds is not None:
        time, memory, disk = (words.lstrip("~") for words in _costs(survey.total))
        told = f"{len(survey.stale)} to make: about {time}, {memory} of memory, {disk} on disk"
        if survey.total.rough:
            return f"{told}; what has a ~ was not made here yet: that long it took elsewhere"
        return told
    known = [line.cost.seconds for line in survey.stale if line.cost.seconds is not None]
    if not known:
        return f"{len(survey.stale)} to make; nothing like it was made in this store: time unknown"
    told = f"about {duration(sum(known))} for {len(known)} of them"
    return f"{len(survey.stale)} to make: {told}, unknown for {len(survey.stale) - len(known)}"


def _costs(cost: Cost) -> tuple[str, str, str]:
    """Time, memory and room on disk in words."""
    mark = "~" if cost.rough else ""
    return (
        "unknown" if cost.seconds is None else f"{mark}{duration(cost.seconds)}",
        "unknown" if cost.memory is None else f"{mark}{size(cost.memory)}",
        "unknown" if cost.size is None else f"{mark}{size(cost.size)}",
    )


def _ignoring(line: StatusLine) -> str:
    return f"ignores: {', '.join(line.ignores)}" if line.ignores else ""


def survey_content(survey: Survey) -> dict[str, object]:
    """A plan as JSON; times in seconds, memory and disk in bytes, null for what is not known."""
    from storyforge.plan.status import chains

    tasks = [
        {
            "subject": line.subject,
            "key": line.task.key,
            "needs": list(survey.needs.get(line.task.key, ())),
            "state": line.state,
            "reason": line.reason,
            "ignores": list(line.ignores),
            **_cost_content(line.cost),
        }
        for line in survey.lines
    ]
    return {
        "store": str(survey.store),
        "stale": len(survey.stale),
        "total": _cost_content(survey.total),
        "chains": list(chains(survey.lines)),
        "strange_pins": list(survey.strange),
        "placement": survey.placed,
        "tasks": tasks,
    }


def _cost_content(cost: Cost) -> dict[str, object]:
    told = {"seconds": cost.seconds, "memory": cost.memory, "bytes": cost.size}
    return {**told, "rough": cost.rough}


def show_products(
    products: Sequence[Product],
    as_json: bool,
    summary: str,
    names: Mapping[str, str] | None = None,
) -> None:
    """Print finished products and what they weigh; by `names`, what they are."""
    if as_json:
        named = names or {}
        told = [{**product_content(each), "what": named.get(each.key)} for each in products]
        tell_json({"products": told, "bytes": sum(each.size for each in products)})
        return
    if products:
        rows = [
            (each.shelf, each.key, size(each.size), (names or {}).get(each.key, "-"))
            for each in products
        ]
        show_table(("kind", "key", "size", "what"), rows)
    tell(f"{summary}, {size(sum(each.size for each in products))}")


def show_waste(waste: Sequence[Waste], as_json: bool, what: str) -> None:
    """Print what goes of a store, what it weighs and why."""
    products = [each.product for each in waste]
    if as_json:
        told = [{**product_content(each.product), "reason": each.reason} for each in waste]
        tell_json({"products": told, "bytes": sum(each.size for each in products)})
        return
    if waste:
        show_table(("kind", "key", "size", "why"), _waste_rows(waste))
    tell(f"{len(products)} {what}, {size(sum(each.size for each in products))}")


def tell_waste(waste: Sequence[Waste]) -> None:
    """Say the same beside the data, before it happens."""
    for row in _waste_rows(waste):
        tell("  ".join(row))


def _waste_rows(waste: Sequence[Waste]) -> list[tuple[str, str, str, str]]:
    return [
        (each.product.shelf, each.product.key, size(each.product.size), each.reason)
        for each in waste
    ]


def product_content(product: Product) -> dict[str, object]:
    """A product as JSON."""
    return {
        "kind": product.shelf,
        "key": product.key,
        "path": str(product.path),
        "bytes": product.size,
    }


def recipe_words(card: Card) -> tuple[str, str, str, str]:
    """Method, steps, last loss and drift of a concept; `-` for what its file does not say."""

    def told(name: str, form: str) -> str:
        """A number of the recipe, or a dash."""
        value = card.recipe.get(name)
        return format(value, form) if isinstance(value, int | float) else "-"

    method = card.recipe.get("method")
    words = method if isinstance(method, str) else "-"
    return words, told("steps", "d"), told("loss_last_tenth", ".4f"), told("drift", ".1%")


def card_content(card: Card) -> dict[str, object]:
    """What a concept's file says, as JSON."""
    return {
        "name": card.name,
        "kind": card.kind,
        "class": card.class_phrase,
        "licence": card.licence,
        "base": card.base,
        "base_hash": card.base_hash,
        "words": list(card.words),
        "changed": dict(card.changed),
        "rank": card.rank,
        "drift": card.drift,
        "bytes": card.size,
        "statistics_bytes": card.statistics,
        "path": str(card.path),
        "recipe": dict(card.recipe),
    }
