"""The manual is built without a complaint, and what it tells to write and to run is right."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from storyforge.cli.program import app
from storyforge.errors import Severity
from storyforge.project.project import Project
from storyforge.story.codes import catalogue
from storyforge.story.scaffold import scaffold
from storyforge.story.schema import schema

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
QUICK = ("check", "plan", "explain", "schema", "layout", "preview", "init", "new", "pack", "unpack")
"""Verbs that open no model."""


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(page: str) -> list[list[str]]:
    told = [block.splitlines() for block in blocks(page, "console")]
    lines = [line[2:] for each in told for line in each if line.startswith("$ ")]
    return [shlex.split(line) for line in lines if line.startswith("storyforge ")]


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_tells_to_run_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if page != "ten-minutes.md":
        scaffold(tmp_path / "demo")
    (tmp_path / "layouts").mkdir()
    script = next(iter(blocks("new.md", "text")), "")
    (tmp_path / "manuscript.txt").write_text(script, encoding="utf-8")
    for _, *words in commands(page):
        if words[0] in QUICK:
            result = CliRunner().invoke(app, words)
            assert result.exit_code == 0, (words, result.output)


@pytest.mark.parametrize("page", PAGES)
def test_the_verbs_of_a_page_exist(page: str) -> None:
    known = CliRunner().invoke(app, ["--help"]).stdout
    for _, verb, *_rest in commands(page):
        assert re.search(rf"^\W*{verb}\b", known, re.MULTILINE), verb


@pytest.mark.parametrize("recipe", blocks("recipes.md", "yaml"))
def test_a_recipe_is_a_sound_story(recipe: str, tmp_path: Path) -> None:
    path = scaffold(tmp_path / "demo")
    story, said = yaml.safe_load(path.read_text(encoding="utf-8")), yaml.safe_load(recipe)
    for key, value in said.get("story", {}).items():
        story[key] = {**story[key], **value} if isinstance(story.get(key), dict) else value
    if "panel" in said:
        alt = {"alt": "As the recipe says."}
        if "outfit" in recipe:
            story["outfits"] = {"pip": {"scarf": "a red scarf"}}
        story["pages"].append({"panels": [alt | said["panel"]]})
    if "picture" in said.get("panel", {}):
        (tmp_path / "demo" / "drawings").mkdir()
        Image.new("RGB", (800, 800), "teal").save(tmp_path / "demo" / said["panel"]["picture"])
    path.write_text(yaml.safe_dump(story, sort_keys=False), encoding="utf-8")
    found = [each for each in Project(path).check() if each.severity is Severity.ERROR]
    assert not found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    made = tmp_path_factory.mktemp("manual") / "site"
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--site-dir"]
    done = subprocess.run([*command, made], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return made


def test_every_key_of_a_story_has_its_line(site: Path) -> None:
    page = (site / "reference" / "story.html").read_text(encoding="utf-8")
    keys = [key for part in schema()["$defs"].values() for key in part.get("properties", {})]
    assert not [key for key in keys if f"<code>{key}</code>" not in page]


def test_keys_that_show_have_a_picture(site: Path) -> None:
    page = (site / "reference" / "story.html").read_text(encoding="utf-8")
    named = yaml.safe_load((DOCS / "pictured.yaml").read_text(encoding="utf-8"))
    known = schema()["$defs"]
    for part, key in (name.split(".") for name in named):
        assert key in known[part]["properties"]
        file = f"keys/{part}.{key}.png"
        assert f'src="{file}"' in page
        with Image.open(site / "reference" / file) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 16)) > 4  # not an empty sheet


def test_every_code_has_its_place(site: Path) -> None:
    page = (site / "reference" / "codes.html").read_text(encoding="utf-8")
    assert not [code for code in catalogue() if f'id="{code.lower()}"' not in page]


def test_the_manual_asks_nobody_for_anything(site: Path) -> None:
    loads = re.compile(r'(?:src|<link[^>]+href)="(?:https?:)?//', re.IGNORECASE)
    found = [path.name for path in site.rglob("*.html") if loads.search(path.read_text("utf-8"))]
    assert not found


def test_the_manual_is_one_file_as_well(site: Path) -> None:
    with zipfile.ZipFile(site / "storyforge-manual.zip") as archive:
        names = archive.namelist()
    assert "storyforge-manual/index.html" in names
    assert "storyforge-manual/gallery.html" in names


def test_the_readme_fits_on_a_screen_and_leads_on() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 90
    linked = re.findall(r"\]\(docs/([\w-]+\.md)\)", text)
    assert not [page for page in linked if not (DOCS / page).is_file()]
