"""The sixteen concepts that measurements with many of them use."""

from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("skia")

from benchmarks import cast
from storyforge.subject import read_concept


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cast")
    cast.draw_all(folder)
    return folder


def test_every_member_is_a_concept_that_stories_can_read(drawn: Path) -> None:
    for member in cast.members():
        spec = read_concept(drawn / member.name)
        assert (spec.kind, spec.class_) == (member.kind, member.class_phrase)


def test_the_order_names_every_folder_once(drawn: Path) -> None:
    named = (drawn / "order.txt").read_text(encoding="utf-8").split()
    assert sorted(named) == sorted(file.parent.name for file in drawn.glob("*/concept.yaml"))
    assert len(named) == len(set(named)) == 16


def test_two_share_a_species_and_two_their_colours() -> None:
    looks = cast.CHARACTERS
    assert looks["ember"].species == looks["sorrel"].species
    assert (looks["ember"].fur, looks["ember"].garment_colour) == (
        looks["rusk"].fur,
        looks["rusk"].garment_colour,
    )


def test_no_two_concepts_have_the_same_pictures(drawn: Path) -> None:
    pictures = [Image.open(file).tobytes() for file in sorted(drawn.glob("*/01.png"))]
    assert len(pictures) == len(set(pictures)) == 16
