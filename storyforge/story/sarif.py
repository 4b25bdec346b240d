"""Findings as SARIF 2.1.0, the form in which code scanning services and editors read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from storyforge import __version__
from storyforge.errors import Diagnostic
from storyforge.story.codes import Code, catalogue

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(findings: Sequence[Diagnostic]) -> dict[str, object]:
    """One run with its findings; files are named as seen from the working folder."""
    codes = sorted({finding.code for finding in findings})
    rules = [_rule(catalogue()[code]) for code in codes]
    driver = {"name": "storyforge", "version": __version__, "rules": rules}
    results = [_result(finding, codes.index(finding.code)) for finding in findings]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(entry: Code) -> dict[str, object]:
    example = f"```yaml\n# wrong\n{entry.wrong.strip()}\n# right\n{entry.right.strip()}\n```"
    return {
        "id": entry.code,
        "name": entry.title,
        "shortDescription": {"text": entry.title},
        "fullDescription": {"text": entry.means},
        "help": {"text": entry.mend, "markdown": f"{entry.mend}\n\n{example}"},
        "defaultConfiguration": {"level": entry.severity},
    }


def _result(finding: Diagnostic, rule: int) -> dict[str, object]:
    hint = f" ({finding.hint})" if finding.hint else ""
    place = {
        "artifactLocation": {"uri": _uri(finding.file)},
        "region": {"startLine": finding.line, "startColumn": finding.column},
    }
    return {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": finding.severity.value,
        "message": {"text": f"{finding.message}{hint}"},
        "locations": [{"physicalLocation": place}],
    }


def _uri(file: str) -> str:
    """The file as a URI: relative to the working folder where it lies below it."""
    path = Path(file).absolute()
    below = path.is_relative_to(Path.cwd())
    prefix = f"{Path.cwd().as_uri().rstrip('/')}/"
    return path.as_uri().removeprefix(prefix) if below else path.as_uri()
