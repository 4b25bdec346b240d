"""The first hour with storyforge: what a newcomer reads before anything was made."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml
from PIL import Image
from pinning import made_story
from typer.testing import CliRunner

from storyforge.book.own import ready
from storyforge.cli.program import app
from storyforge.cli.progress import RunClock
from storyforge.cli.terminal import colored, finding_line, plural
from storyforge.errors import Diagnostic
from storyforge.plan.cost import Cost
from storyforge.plan.status import StatusLine
from storyforge.project.project import Project
from storyforge.settings import Format
from storyforge.story.layout import shipped
from storyforge.tasks import BookTask


def said(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


def test_the_first_plan_knows_no_unknown(tmp_path: Path) -> None:
    said("init", str(tmp_path / "demo"))
    told = said("plan", str(tmp_path / "demo" / "story.yaml"))
    assert "unknown" not in told
    assert "to make: about" in told
    assert "took elsewhere" in told


def test_what_was_made_here_speaks_before_what_was_made_elsewhere() -> None:
    elsewhere = Cost(100.0, 5, 7, rough=True)
    assert Cost(2.0, 3, 4).filled(elsewhere) == Cost(2.0, 3, 4)
    assert Cost(2.0, None, 4).filled(elsewhere) == Cost(2.0, 5, 4, rough=True)


def test_more_steps_take_longer_by_a_guess_too(tmp_path: Path) -> None:
    said("init", str(tmp_path / "demo"))
    story = str(tmp_path / "demo" / "story.yaml")
    few = json.loads(said("plan", story, "--steps", "2", "--json"))["tasks"]
    many = json.loads(said("plan", story, "--steps", "20", "--json"))["tasks"]
    seconds = [
        sum(task["seconds"] for task in tasks if task["subject"].startswith("panel"))
        for tasks in (few, many)
    ]
    assert seconds[1] == pytest.approx(10 * seconds[0])


VERBS = ("init", "check", "plan", "render", "book", "preview", "pin", "pick", "train", "fuse")


@pytest.mark.parametrize("verb", VERBS)
def test_help_loses_no_word(verb: str) -> None:
    told = " ".join(said(verb, "--help").replace("│", " ").split())
    assert " ." not in told.replace(" .s", "").replace(" ..", "")


def test_help_lists_every_format() -> None:
    told = said("render", "--help")
    assert [name for name in get_args(Format) if name not in told] == []


def test_what_init_writes_is_read_by_other_readers(tmp_path: Path) -> None:
    said("init", str(tmp_path / "demo"))
    story = tmp_path / "demo" / "story.yaml"
    first, *_ = story.read_text(encoding="utf-8").splitlines()
    assert first == "# yaml-language-server: $schema=story.schema.json"
    assert (story.parent / "story.schema.json").is_file()
    for path in (tmp_path / "demo").rglob("*.yaml"):
        assert yaml.safe_load(path.read_text(encoding="utf-8"))
    linted = subprocess.run(
        [sys.executable, "-m", "yamllint", str(tmp_path / "demo")], capture_output=True, text=True
    )
    assert "error" not in linted.stdout, linted.stdout


@pytest.mark.parametrize("story", sorted(path.name for path in shipped("stories").glob("*.yaml")))
def test_the_samples_are_plain_yaml(story: str) -> None:
    text = (shipped("stories") / story).read_text(encoding="utf-8")
    assert yaml.safe_load(text)["storyforge"] == 1


def test_one_clock_tells_of_the_whole_run() -> None:
    now = [0.0]
    clock = RunClock({"concept pip": 60.0, "panel a": 20.0, "panel b": 20.0}, lambda: now[0])
    assert (clock.done, clock.left) == (0.0, 100.0)
    clock.hear("concept pip: learning", 10, 10)
    assert clock.done == pytest.approx(57)
    clock.hear("concept pip: drawing ordinary pictures", 0, 48)
    assert clock.done == pytest.approx(57), "what was done stays done"
    clock.hear("drawing a", 1, 2)
    assert clock.done == pytest.approx(77)


def test_a_slow_machine_is_told_its_own_pace() -> None:
    now = [0.0]
    clock = RunClock({"panel a": 10.0, "panel b": 10.0}, lambda: now[0])
    now[0] = 50.0
    clock.hear("drawing a", 1, 2)
    assert clock.left == pytest.approx(50)


def test_the_store_names_what_it_keeps(tmp_path: Path) -> None:
    story = made_story(tmp_path)
    told = said("cache", "ls", str(story))
    assert "panel found" in told
    assert "concept pip" in told
    assert "book pdf en" in told


def test_a_panel_is_shown_by_its_name(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "red").save(tmp_path / "own.png")
    story = tmp_path / "story.yaml"
    story.write_text(
        "storyforge: 1\ntitle: T\npages:\n  - panels: [{id: one, picture: own.png, alt: Red.}]\n"
    )
    Project(story).render(formats=("html",))
    told = said("show", str(story), "one")
    assert "64 x 48 pixels" in told
    assert "made by hand" in told
    assert CliRunner().invoke(app, ["show", str(story), "two"]).exit_code != 0


def test_a_panel_that_was_changed_is_shown_as_it_was_last_drawn(tmp_path: Path) -> None:
    story = made_story(tmp_path)
    was = Project(story).picture("found")
    story.write_text(story.read_text().replace("pages:", "style: ink\npages:", 1))
    assert Project(story).last_picture("found") == was
    assert Project(story).last_picture("nobody") is None
    assert "changed since" in CliRunner().invoke(app, ["show", str(story), "found"]).stderr


def test_a_book_of_many_changed_panels_counts_them() -> None:
    task = BookTask("k", "pdf", "en", ())
    reasons = tuple(f"panel `{name}` changed" for name in "abc")
    few = StatusLine("book", task, "stale", (*reasons[:2], "words or settings changed"))
    many = StatusLine("book", task, "stale", (*reasons, "words or settings changed"))
    assert few.reason == "panel `a` changed, panel `b` changed, words or settings changed"
    assert many.reason == "3 panels changed, words or settings changed"


def test_a_retouched_picture_says_so(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(ready(tmp_path / "a.png", "retouched"))
    assert "by a trained model and by hand" in said("show", str(tmp_path / "b.png"))


PAINT = re.compile(r"\x1b\[[0-9;]*m")
FOUND = Diagnostic("story.yaml", 3, 5, "SF300", "no concept named `pipp`")


def test_findings_have_colours_unless_nobody_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert PAINT.sub("", finding_line(FOUND)) == "story.yaml:3:5 SF300 no concept named `pipp`"
    assert finding_line(FOUND) != PAINT.sub("", finding_line(FOUND))
    monkeypatch.setenv("NO_COLOR", "1")
    assert colored("word", "red", bold=True) == "word"


def test_one_is_not_many() -> None:
    assert [plural(1, "error"), plural(0, "error")] == ["1 error", "0 errors"]
