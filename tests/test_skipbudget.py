"""A skip that nobody expected fails the run, in one process and in several."""

from __future__ import annotations

from pathlib import Path

import pytest
from skipbudget import beyond, read_budget

pytest_plugins = ["pytester"]

BUDGET = Path(__file__).with_name("skips.toml")


def test_a_skip_within_the_budget_is_fine() -> None:
    assert beyond({"needs Java": 2}, ["Skipped: EPUBCheck needs Java, alas"] * 2) == []


def test_one_skip_too_many_is_named_with_its_reason() -> None:
    assert beyond({"needs Java": 1}, ["needs Java", "needs Java"]) == ["2 × needs Java (at most 1)"]


def test_an_unknown_skip_is_named_with_its_reason() -> None:
    assert beyond({"needs Java": 1}, ["no goldens"]) == ["1 × no goldens (at most 0)"]


def test_the_budget_names_what_is_missing_for_every_skip() -> None:
    assert min(read_budget(BUDGET).values()) > 0


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(("reason", "exit_code"), [("on the moon", 0), ("because", 1)])
def test_the_run_fails_on_an_unexpected_skip(
    pytester: pytest.Pytester, workers: str, reason: str, exit_code: int
) -> None:
    plugin = Path(__file__).with_name("skipbudget.py").read_text(encoding="utf-8")
    pytester.makeconftest("pytest_plugins = ['skipbudget']")
    pytester.makepyfile(
        skipbudget=plugin,
        test_it=f"import pytest\n@pytest.mark.skip(reason={reason!r})\ndef test_a(): pass\n",
    )
    budget = pytester.path / "skips.toml"
    budget.write_text("[[skip]]\nreason = 'on the moon'\nat_most = 1\n")
    done = pytester.runpytest_subprocess("-n", workers, f"--skips={budget}")
    assert done.ret == exit_code
