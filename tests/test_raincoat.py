"""The fourth sample, with all that an author may ask of one book, in both of its languages."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bookmaking import placeholders
from epubs import complaints

from storyforge.book.epub import write_epub
from storyforge.book.page import bind
from storyforge.engine.books import art_of
from storyforge.project.project import Project
from storyforge.story.layout import shipped
from storyforge.story.story import read

SAMPLE = shipped("stories") / "the-raincoat.yaml"


def test_it_holds_no_mistake_and_no_warning() -> None:
    assert Project(SAMPLE).check() == ()


@pytest.mark.parametrize("language", ["en", "de"])
def test_its_epub_is_sound(language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story = read(SAMPLE)
    book = bind(story, placeholders(story, tmp_path), language)
    epub = write_epub(book, tmp_path / "book.epub")
    assert complaints(epub, book.title, monkeypatch) == []
    kinds = [leaf.kind for leaf in book.leaves]
    assert {"imprint", "lives", "colophon", "back"} <= set(kinds)
    assert sum(leaf.spread is not None for leaf in book.leaves) == 2
    spoken = [leaf.number for leaf in book.leaves if leaf.narration]
    assert len(spoken) == (language == "en")


def test_its_own_picture_is_by_hand_and_the_others_are_not(tmp_path: Path) -> None:
    for name in ("stories", "concepts", "layouts"):
        shutil.copytree(SAMPLE.parent.parent / name, tmp_path / name)
    project = Project(tmp_path / "stories" / SAMPLE.name)
    drawn = placeholders(project.story, tmp_path)
    for panel, art in drawn.items():
        if panel != "puddle":
            project.pin_picture(panel, art.path, "model")
    outcome = project.render(formats=("html",))
    assert not outcome.troubles
    made = {panel: art_of(panel, project.picture(panel)).made for panel in drawn}
    assert [panel for panel, who in made.items() if who == "hand"] == ["puddle"]
    assert set(made.values()) == {"hand", "model"}
