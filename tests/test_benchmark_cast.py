"""The sixteen concepts that measurements with many of them use."""

from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("skia")

from benchmarks import cast
from storyforge.story.concept import read_concept


def test_every_member_is_a_concept_that_stories_can_read(cast_folder: Path) -> None:
    for member in cast.members():
        spec = read_concept(cast_folder / member.name)
        assert (spec.kind, spec.class_) == (member.kind, member.class_phrase)


def test_the_order_names_every_folder_once(cast_folder: Path) -> None:
    named = (cast_folder / "order.txt").read_text(encoding="utf-8").split()
    assert sorted(named) == sorted(file.parent.name for file in cast_folder.glob("*/concept.yaml"))
    assert len(named) == len(set(named)) == 16


def test_two_share_a_species_and_two_their_colours() -> None:
    looks = cast.CHARACTERS
    assert looks["ember"].species == looks["sorrel"].species
    assert (looks["ember"].fur, looks["ember"].garment_colour) == (
        looks["rusk"].fur,
        looks["rusk"].garment_colour,
    )


def test_no_two_concepts_have_the_same_pictures(cast_folder: Path) -> None:
    pictures = [Image.open(file).tobytes() for file in sorted(cast_folder.glob("*/01.png"))]
    assert len(pictures) == len(set(pictures)) == 16
