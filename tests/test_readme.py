"""README's commands run as they stand, as far as they need no model; its fences are the source."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from storyforge.cli.program import app

README = Path(__file__).parents[1] / "README.md"
STORY_PAGE = README.parent / "docs" / "story.md"
QUICK = ("check", "plan", "explain", "schema", "layout", "preview", "init")
"""Verbs that open no model."""


def commands() -> list[str]:
    """Every `storyforge …` line of the console blocks, in order."""
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [line for line in lines if line.startswith(("storyforge ", "sed "))]


def test_the_readmes_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "layouts").mkdir()
    ran = []
    for line in commands():
        program, *words = shlex.split(line)
        if program == "sed":
            story = Path(words[-1])
            _, old, new, _ = words[1].split("/")
            text = story.read_text(encoding="utf-8")
            assert old in text, line
            story.write_text(text.replace(old, new), encoding="utf-8")
        elif words[0] in QUICK:
            result = CliRunner().invoke(app, words)
            assert result.exit_code == 0, (line, result.output)
            ran.append(words[0])
    assert {"init", "check", "plan", "explain"} <= set(ran)


def test_the_readmes_verbs_exist(tmp_path: Path) -> None:
    known = CliRunner().invoke(app, ["--help"]).stdout
    for line in commands():
        program, verb, *_ = shlex.split(line)
        assert program == "sed" or verb in known, line


def test_the_manuals_locale_is_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["init", "demo"]).exit_code == 0
    shutil.rmtree(tmp_path / "demo" / "locales", ignore_errors=True)
    blocks = re.findall(r"```yaml\n(.*?)```", STORY_PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (locale,) = (block for block in blocks if block.startswith("title:"))
    (tmp_path / "demo" / "locales").mkdir()
    (tmp_path / "demo" / "locales" / "fr.yaml").write_text(locale, encoding="utf-8")
    result = CliRunner().invoke(app, ["check", "demo/story.yaml"])
    assert result.exit_code == 0, result.output
