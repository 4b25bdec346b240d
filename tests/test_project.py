"""One road to every verb: a story is read once, and planned once for what is asked of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from storyforge.cli import app
from storyforge.errors import StoryError
from storyforge.plan.plan import Order
from storyforge.project.project import Project

STORY = """
storyforge: 1
title: {en: The Fox, fr: Le renard}
characters: {pip: concepts/pip, owl: concepts/owl}
pages:
- text: Once upon a time.
  panels:
  - {id: found, layout: two-side-by-side, regions: {left: {concept: pip}, right: {concept: owl}}}
- text: The end.
  panels: [{id: end, layout: one-centre, regions: {centre: {concept: pip}}}]
"""


@pytest.fixture
def story(tmp_path: Path) -> Path:
    for name in ("pip", "owl"):
        folder = tmp_path / "concepts" / name
        folder.mkdir(parents=True)
        (folder / "concept.yaml").write_text("kind: character\nclass: fox\n")
        Image.effect_noise((80, 80), 80).save(folder / "1.png")
    (tmp_path / "locales").mkdir()
    (tmp_path / "locales" / "fr.yaml").write_text("pages: {1: Il était une fois., 2: Fin.}\n")
    path = tmp_path / "story.yaml"
    path.write_text(STORY)
    return path


@contextmanager
def heard(module: str) -> Iterator[list[Path]]:
    """The files that a module says it is at while the block runs."""
    logger, files = logging.getLogger(module), list[Path]()
    handler = logging.Handler()
    handler.emit = lambda record: files.append(Path(str(record.args[0])))  # type: ignore[method-assign, index]
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield files
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@pytest.mark.parametrize(
    "verb",
    [
        "check {story}",
        "plan {story}",
        "preview {story} --to html",
        "preview {story} --to html --with-art",
        "book {story}",
        "book {story} --lang fr",
        "preflight {story}",
        "sheet {story}",
        "concept show pip {story}",
        "pin {story}",
        "render {story} nobody",
        "train {story} nobody",
    ],
)
def test_no_command_parses_a_file_twice(story: Path, verb: str) -> None:
    with heard("storyforge.story.yaml") as read, heard("storyforge.plan.plan") as plans:
        done = CliRunner().invoke(app, verb.format(story=story).split())
    assert isinstance(done.exception, SystemExit | None), done.exception
    names = [each.parent.name if each.name == "concept.yaml" else each.name for each in read]
    assert sorted(names) == sorted(set(names))
    assert {"story.yaml", "pip", "owl", "fr.yaml", "one-centre.yaml"} <= set(names)
    assert len(plans) <= 1


def test_a_project_is_read_when_something_is_asked_of_it(tmp_path: Path) -> None:
    project = Project(tmp_path / "none.yaml")
    with pytest.raises(StoryError):
        project.status()


def test_every_order_has_one_plan(story: Path) -> None:
    project = Project(story)
    assert project.plan() is project.plan(Order())
    assert project.plan(Order(steps=3)).panels[0].steps == 3
    assert project.plan().panels[0].steps is None


def test_places_of_words_are_kept(story: Path) -> None:
    told = Project(story).story
    assert told.places.find(("page", 2, "text"))[1].line == 9
    assert told.places.find(("panel", "found", "regions", "right"))[1].line == 8
    assert told.places.find(("page", 1, "text"), "fr")[0].endswith("fr.yaml")
    assert told.places.panel("end").line == 10
