"""The catalogue of codes: it has every code that the program can say, and says how to mend it."""

from __future__ import annotations

import ast
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import storyforge
from storyforge.cli.program import app
from storyforge.errors import Diagnostic, Severity, StoryForgeError
from storyforge.story.codes import catalogue, entry
from storyforge.story.sarif import sarif

PACKAGE = Path(storyforge.__file__).parent


def calls() -> Iterator[tuple[str, str]]:
    """Every code in the program with the name of the function that it is handed to."""
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
                yield from ((code, name) for each in node.args for code in codes_in(each))
            else:
                values = ast.iter_child_nodes(node) if not isinstance(node, ast.expr) else ()
                yield from ((code, "") for each in values for code in codes_in(each))
                if isinstance(node, ast.Dict | ast.Tuple):
                    yield from ((code, "") for each in ast.walk(node) for code in codes_in(each))


def codes_in(node: ast.AST) -> list[str]:
    text = node.value if isinstance(node, ast.Constant) else None
    return [text] if isinstance(text, str) and text[:2] == "SF" and text[2:].isdecimal() else []


def test_the_catalogue_has_every_code_and_no_other() -> None:
    assert {code for code, _ in calls()} == set(catalogue())


def test_errors_are_errors_and_warnings_warnings() -> None:
    said = {(code, name) for code, name in calls() if name in {"error", "warning"}}
    assert len(said) > 40
    assert [pair for pair in said if catalogue()[pair[0]].severity != pair[1]] == []


def test_codes_stand_in_order_and_titles_are_their_own() -> None:
    assert list(catalogue()) == sorted(catalogue())
    titles = [each.title for each in catalogue().values()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("code", catalogue())
def test_an_entry_says_what_it_means_and_shows_a_way_out(code: str) -> None:
    about = catalogue()[code]
    warns = code.startswith("SF4") or code == "SF501" or "SF520" <= code < "SF540"
    warns = warns or "SF650" <= code < "SF700"
    assert about.severity == ("warning" if warns else "error")
    assert about.title == about.title.strip().rstrip(".")
    for words in (about.means, about.mend):
        assert words[0].isupper() or words[0] == "`"
        assert words.strip()[-1] in ".?"
    assert about.wrong.strip() != about.right.strip()
    assert yaml.safe_load(about.right) is not None


@pytest.mark.parametrize("written", ["SF300", "sf300", "300", " SF300 "])
def test_a_code_is_found_however_it_is_written(written: str) -> None:
    assert entry(written).title == "no such concept"


@pytest.mark.parametrize(
    ("written", "meant"), [("SF3220", "SF322"), ("399", "SF400"), ("S300", "SF300")]
)
def test_an_unknown_code_is_told_with_the_nearest(written: str, meant: str) -> None:
    with pytest.raises(StoryForgeError, match=f"did you mean `{meant}`"):
        entry(written)


def test_explain_prints_the_entry_and_without_a_code_the_list() -> None:
    one = CliRunner().invoke(app, ["explain", "SF402"])
    assert one.exit_code == 0
    assert one.stdout.startswith("SF402 warning: a region too small to be drawn\n")
    assert "right:\n    box: [0.3, 0.3, 0.6, 0.7]" in one.stdout
    every = CliRunner().invoke(app, ["explain"]).stdout.splitlines()
    assert len(every) == 1 + len(catalogue())
    assert CliRunner().invoke(app, ["explain", "SF120"]).exit_code == 1


def test_explain_speaks_json() -> None:
    told = json.loads(CliRunner().invoke(app, ["explain", "--json"]).stdout)
    assert [each["code"] for each in told["codes"]] == list(catalogue())


FINDINGS = (
    Diagnostic("stories/a b.yaml", 3, 7, "SF300", "no concept named `pipp`"),
    Diagnostic("stories/a b.yaml", 5, 1, "SF401", "never shown", Severity.WARNING, hint="show it"),
    Diagnostic("/elsewhere/b.yaml", 1, 1, "SF300", "no concept named `x`"),
)


def test_sarif_names_rules_results_and_places() -> None:
    document = json.loads(json.dumps(sarif(FINDINGS)))
    assert (document["version"], len(document["runs"])) == ("2.1.0", 1)
    (run,) = document["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["SF300", "SF401"]
    assert [rule["defaultConfiguration"]["level"] for rule in rules] == ["error", "warning"]
    for finding, result in zip(FINDINGS, run["results"], strict=True):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == finding.code
        assert result["level"] == finding.severity
        assert finding.message in result["message"]["text"]
        (place,) = result["locations"]
        region = place["physicalLocation"]["region"]
        assert (region["startLine"], region["startColumn"]) == (finding.line, finding.column)
    places = [each["locations"][0]["physicalLocation"] for each in run["results"]]
    assert [place["artifactLocation"]["uri"] for place in places] == [
        "stories/a%20b.yaml",
        "stories/a%20b.yaml",
        "file:///elsewhere/b.yaml",
    ]


def test_sarif_without_findings_is_a_run_without_results() -> None:
    (run,) = sarif(())["runs"]
    assert run["results"] == []


def test_the_catalogue_is_plain_data() -> None:
    written = tomllib.loads((PACKAGE / "story" / "codes.toml").read_text(encoding="utf-8"))
    assert all(isinstance(text, str) for fields in written.values() for text in fields.values())
