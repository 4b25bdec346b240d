"""What surrounds the code says the same everywhere: versions, Pythons, rooms, dependencies."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import yaml
from typer.testing import CliRunner

import storyforge
from storyforge.cli.program import app

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def read_yaml(name: str) -> dict[str, object]:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_changelog_and_citation_name_this_version() -> None:
    first = re.search(r"^## (\S+),", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert first is not None
    assert first[1] == read_yaml("CITATION.cff")["version"] == storyforge.__version__


def test_ci_tries_every_python_that_the_package_claims() -> None:
    job = read_yaml(".github/workflows/ci.yml")["jobs"]["everything"]
    claimed = re.findall(r"Python :: (3\.\d+)", str(PROJECT["project"]["classifiers"]))
    assert job["strategy"]["matrix"]["python"] == claimed
    assert job["steps"][-1] == {"run": ".ci/run"}


def test_every_file_that_ci_repeats_is_there() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    lines = script[script.index("numeric=(") : script.index("if python -c")]
    told = subprocess.run(
        ["bash", "-c", f"{lines}\nprintf '%s\n' \"${{files[@]/%/.py}}\""],
        capture_output=True,
        text=True,
        check=True,
    )
    names = told.stdout.split()
    assert len(names) > 20
    assert not [name for name in names if not (ROOT / name).is_file()]
    assert '"${files[@]/%/.py}"' in script


def test_every_requirement_has_a_tested_version() -> None:
    pinned = {
        name.lower()
        for name in re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    }
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    names = {re.split(r"[<>=~[]", each)[0].lower() for each in wanted}
    assert names <= pinned


def test_the_command_line_knows_the_verbs_of_authors_alone() -> None:
    assert "golden" not in CliRunner().invoke(app, ["--help"]).stdout
    assert CliRunner().invoke(app, ["golden"]).exit_code == 2


def test_no_file_of_tests_imports_another() -> None:
    here = Path(__file__).parent
    wrong = [
        path.name
        for path in here.glob("test_*.py")
        if re.search(r"^(from|import) test_", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert not wrong
