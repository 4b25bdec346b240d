"""What an author may say of a base."""

from __future__ import annotations

from pathlib import Path

import pytest

from storyforge.modelref import USUAL_SIZE, Defaults, defaults_of, files_here, picture_size
from storyforge.story.story import check, read

STORY = """\
storyforge: 1
title: T
base:{base}
pages:
  - panels: [{{id: one, prompt: a fox, alt: A fox.}}]
"""


def story(folder: Path, base: str) -> Path:
    path = folder / "story.yaml"
    path.write_text(STORY.format(base=base), encoding="utf-8")
    return path


def test_a_base_may_be_a_map_of_where_its_parts_come_from(tmp_path: Path) -> None:
    told = "\n  model: owner/name@v1\n  vae: ./vae\n  prediction: v"
    parts = read(story(tmp_path, told)).base_parts
    assert (parts.model, parts.vae, parts.prediction) == ("owner/name@v1", "./vae", "v")


def test_a_base_that_is_a_name_has_no_parts_from_elsewhere(tmp_path: Path) -> None:
    assert read(story(tmp_path, " owner/name")).base_parts.reference == "owner/name"


def test_a_misspelt_part_of_a_base_is_found_where_it_stands(tmp_path: Path) -> None:
    found = check(story(tmp_path, "\n  model: owner/name\n  vea: ./vae"))
    assert [(each.code, each.line) for each in found if each.code == "SF200"] == [("SF200", 5)]


def test_a_model_in_a_map_that_is_not_there_is_found_where_it_stands(tmp_path: Path) -> None:
    found = check(story(tmp_path, "\n  model: ./nowhere"))
    assert [(each.code, each.line) for each in found if each.code == "SF421"] == [("SF421", 4)]


@pytest.mark.parametrize(
    "name", ["owner/a..b", "owner/a-", f"o/{'n' * 300}", "o/n@" + "r" * 300, "n" * 300]
)
def test_an_id_that_the_hub_would_not_take_is_not_looked_for(name: str) -> None:
    assert files_here(name) == Path(name)
    assert picture_size(name) == USUAL_SIZE


def test_a_base_that_says_nothing_of_itself_likes_what_is_usual(tmp_path: Path) -> None:
    assert Defaults.read(tmp_path / "storyforge.json") == Defaults()
    assert defaults_of(tmp_path) == Defaults()
