"""Which skips are expected: `pytest --skips FILE` fails on any that the file does not name.

The file has a `[[skip]]` table for each reason: what is `missing` then, and how many tests are
skipped for it `at_most`.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest


def read_budget(path: Path) -> dict[str, int]:
    """How many tests may be skipped, by a part of their reason."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))["skip"]
    return {table["reason"]: table["at_most"] for table in tables}


def beyond(budget: dict[str, int], reasons: Iterable[str]) -> list[str]:
    """The reasons that nobody expected, and those with more skips than they may have."""
    counts = Counter(
        next((part for part in budget if part in reason), reason) for reason in reasons
    )
    return [
        f"{count} × {reason} (at most {budget.get(reason, 0)})"
        for reason, count in counts.items()
        if count > budget.get(reason, 0)
    ]


def reasons_in(reporter: pytest.TerminalReporter) -> list[str]:
    """Why each skipped test was skipped; `longrepr` is its file, line and reason."""
    return [each.longrepr[2] for each in reporter.stats.get("skipped", [])]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--skips", type=Path, metavar="FILE", help="fail on a skip it does not name")


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Iterator[None]:
    """Count what was skipped by its reason; with `--skips`, say which of it was not expected."""
    yield
    if (budget := config.getoption("--skips")) is None:
        return
    reasons = reasons_in(terminalreporter)
    terminalreporter.section(f"{len(reasons)} skipped")
    for reason, count in Counter(reasons).most_common():
        terminalreporter.line(f"{count} × {reason}")
    for fault in beyond(read_budget(budget), reasons):
        terminalreporter.line(f"not in the budget: {fault}", red=True)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Where tests were skipped that had to run, a run that passed has failed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    budget = session.config.getoption("--skips")
    if budget is None or reporter is None or exitstatus != pytest.ExitCode.OK:
        return
    if beyond(read_budget(budget), reasons_in(reporter)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
