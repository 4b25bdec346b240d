"""A story as data: what the reader gives for what the author wrote."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from headed import shared_concept
from pydantic import ValidationError

from storyforge.book.typeface import TEXT_FACES
from storyforge.engine.engine import proof
from storyforge.errors import StoryError
from storyforge.geometry.box import PLACES, Box
from storyforge.story.concept import ConceptSpec, read_concept, text_in
from storyforge.story.families import FAMILIES
from storyforge.story.layout import shipped
from storyforge.story.schema import What, schema
from storyforge.story.story import Panel, Story, StoryFile, check, read
from storyforge.story.trims import TRIMS

STORY = """\
storyforge: 1
title: {en: The Fox, nb: Reven, no: Reven}
language: no
characters: {pip: ../concepts/pip, ann: ../lent/ann.safetensors}
objects: {lantern: ../concepts/lantern/concept.yaml}
scenes: {wood: ../concepts/wood}
pages:
  - text: 1984
    panels:
      - id: on
        scene: wood
        layout: two-side-by-side
        prompt: 2024-01-31
        regions:
          right: {concept: lantern, z: 2}
          left: {concept: pip, weight: 0.5}
          sky: {at: top-third, prompt: stars}
        alt: no
      - id: 007
        alt: A fox in a wood.
        regions: {fox: {concept: ann, box: [0.25, 0, 0.75, 1]}}
  - kind: blank
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The story above, its concepts one folder up, one of them shared as weights."""
    for name, kind in (("pip", "character"), ("lantern", "object"), ("wood", "scene")):
        folder = tmp_path / "concepts" / name
        (folder / "pictures").mkdir(parents=True)
        text = f"kind: {kind}\nclass: {name}\nimages: pictures\ntrain: {{steps: 50}}\n"
        (folder / "concept.yaml").write_text(text)
        (folder / "pictures" / "1.PNG").write_bytes(b"")
    (tmp_path / "lent").mkdir()
    shared_concept(tmp_path / "lent" / "ann.safetensors")
    (tmp_path / "story").mkdir()
    story = tmp_path / "story" / "story.yaml"
    story.write_text(STORY)
    return story


@pytest.fixture
def story(path: Path) -> Story:
    return read(path)


def test_texts_are_kept_as_written(story: Story) -> None:
    assert story.pages[0].text == "1984"
    assert [panel.id for _, panel in story.panels()] == ["on", "007"]
    assert story.pages[0].panels[0].prompt == "2024-01-31"
    assert story.pages[0].panels[0].alt == "no"


def test_norwegian_is_a_language(story: Story) -> None:
    assert story.language == "no"
    assert text_in(story.title, "no", "en") == "Reven"


def test_a_text_falls_back_to_another_language_and_then_to_the_first() -> None:
    text = {"fr": "Le Renard", "en": "The Fox"}
    assert text_in(text, "de", "en") == "The Fox"
    assert text_in(text, "de", "no") == "Le Renard"
    assert text_in("The Fox", "de", "no") == "The Fox"


def test_numbers_and_switches_are_read_where_the_schema_asks_for_them(path: Path) -> None:
    text = "seed: 12\nsize: [64, 96]\nbook: {colophon: off}\nsampling: {guidance_scale: 7.5}\n"
    path.write_text(STORY + text)
    story = read(path)
    assert (story.seed, story.size, story.book.colophon) == (12, (64, 96), False)
    assert story.sampling.guidance_scale == 7.5


def test_panels_come_with_the_number_of_their_page(path: Path) -> None:
    path.write_text(STORY + "  - panels: [{id: last, alt: The end.}]\n")
    assert [(page, panel.id) for page, panel in read(path).panels()] == [
        (1, "on"),
        (1, "007"),
        (3, "last"),
    ]


def test_the_cast_is_the_scene_and_then_the_regions_each_once(story: Story) -> None:
    first, second = (panel for _, panel in story.panels())
    assert story.cast(first) == ("wood", "lantern", "pip")
    assert story.cast(second) == ("ann",)


def test_regions_stand_where_the_layout_or_the_author_says(story: Story) -> None:
    first, second = (panel for _, panel in story.panels())
    boxes = story.region_boxes(first)
    assert list(boxes) == ["right", "left", "sky"]
    assert boxes["left"] == Box(x0=0, y0=0.15, x1=0.5, y1=1)
    assert boxes["sky"] == Box(x0=0, y0=0, x1=1, y1=1 / 3)
    assert story.region_boxes(second) == {"fox": Box(x0=0.25, y0=0, x1=0.75, y1=1)}
    shapes = story.region_shapes(first)
    assert (shapes["right"].z, shapes["left"].weight) == (2, 0.5)


def test_concepts_are_read_with_their_folders(story: Story, path: Path) -> None:
    root = path.parent.parent
    pip, lantern = story.concepts["pip"], story.concepts["lantern"]
    assert isinstance(pip, ConceptSpec)
    assert isinstance(lantern, ConceptSpec)
    assert (pip.name, pip.kind, pip.class_, pip.train.steps) == ("pip", "character", "pip", 50)
    assert pip.pictures() == root / "concepts" / "pip" / "pictures"
    assert lantern.folder == root / "concepts" / "lantern"
    assert story.concepts["ann"] == root / "lent" / "ann.safetensors"


@pytest.mark.parametrize("end", ["", "concept.yaml"])
def test_a_concept_is_read_by_its_folder_or_file(end: str, path: Path) -> None:
    spec = read_concept(path.parent.parent / "concepts" / "pip" / end)
    assert (spec.name, spec.class_) == ("pip", "pip")


def test_a_concept_with_mistakes_raises_them_all(path: Path) -> None:
    folder = path.parent.parent / "concepts" / "pip"
    (folder / "concept.yaml").write_text("kind: charakter\nclas: fox\nname: pip\nimages: no\n")
    with pytest.raises(StoryError) as caught:
        read_concept(folder)
    lines = [(each.line, each.code) for each in caught.value.diagnostics]
    assert lines == [(1, "SF202"), (2, "SF200"), (3, "SF200"), (4, "SF303")]


def test_one_concept_under_two_names_is_two_concepts(path: Path) -> None:
    path.write_text(
        STORY.replace("{pip: ../concepts/pip,", "{pip: ../concepts/pip, pop: ../concepts/pip,")
    )
    names = [spec.name for spec in read(path).concepts.values() if isinstance(spec, ConceptSpec)]
    assert names == ["pip", "pop", "lantern", "wood"]


def test_what_the_reader_fills_in_cannot_be_written(path: Path) -> None:
    path.write_text(STORY + "path: elsewhere\n")
    assert [found.message for found in check(path) if found.code == "SF200"][0].startswith(
        "unknown key `path`"
    )


def test_a_story_cannot_be_changed(story: Story) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        story.seed = 1


def test_a_byte_order_mark_and_windows_lines_are_read(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + STORY.replace("\n", "\r\n").encode())
    assert read(path).pages[0].text == "1984"


def test_aliases_are_read_as_what_they_stand_for(path: Path) -> None:
    path.write_text(STORY.replace("alt: no", "alt: &alt no").replace("A fox in a wood.", "*alt"))
    assert [panel.alt for _, panel in read(path).panels()] == ["no", "no"]


def test_reading_twice_gives_the_same_story(path: Path) -> None:
    assert read(path) == read(path)


def test_everything_written_survives_a_round_trip(story: Story, path: Path) -> None:
    written = story.model_dump(
        mode="json", exclude={"path", "concepts", "layouts"}, exclude_unset=True, by_alias=True
    )
    for page in written["pages"]:
        for panel in page.get("panels", ()):
            for region in panel.get("regions", {}).values():
                if "box" in region:
                    region["box"] = list(region["box"].values())
    path.write_text(yaml.safe_dump(written, sort_keys=False))
    assert read(path) == story


def properties(part: object) -> set[str]:
    """The keys that a JSON schema knows anywhere."""
    if isinstance(part, list):
        return {key for each in part for key in properties(each)}
    if not isinstance(part, dict):
        return set()
    own = part.get("properties", {})
    return {*own, *(key for each in part.values() for key in properties(each))}


def test_the_schema_knows_every_key_with_a_description() -> None:
    made = schema()
    assert set(StoryFile.model_fields) | set(Panel.model_fields) <= properties(made)
    assert made["additionalProperties"] is False
    definitions = made["$defs"]
    assert isinstance(definitions, dict)
    for name, part in definitions.items():
        for key, value in part.get("properties", {}).items():
            assert "description" in value or "$ref" in value, f"{name}.{key}"


def test_the_schema_names_what_editors_can_complete() -> None:
    written = json.dumps(schema())
    assert '"two-side-by-side"' in written
    assert '"top-third"' in written
    assert '"minItems": 4' in written


def test_the_schema_knows_page_sizes_schedulers_and_keys_by_their_form() -> None:
    made = json.loads(json.dumps(schema()))
    parts = made["$defs"]
    named, _ = parts["BookSettings"]["properties"]["trim"]["oneOf"]
    assert named["enum"] == list(TRIMS)
    assert parts["BookSettings"]["properties"]["font"]["examples"] == list(FAMILIES)
    assert '"dpm++2m"' in json.dumps(parts["Sampling"]["properties"]["scheduler"])
    characters = made["properties"]["characters"]
    assert characters["additionalProperties"] is False
    (pattern,) = characters["patternProperties"]
    assert [bool(re.search(pattern, name)) for name in ("pip", "élan", "7x", "a b")] == [
        True,
        True,
        False,
        False,
    ]
    place = parts["RegionPrompt"]["properties"]["at"]["pattern"]
    for name in (*PLACES, "A1", "A1:B3", "A1:D2/2x4"):
        assert re.search(place, name), name
    assert not re.search(place, "lefd")


@pytest.mark.parametrize(
    ("what", "keys"),
    [
        ("concept", {"kind", "class", "images", "licence", "train", "description"}),
        ("layout", {"description", "regions"}),
        ("locale", {"title", "pages", "panels", "book"}),
    ],
)
def test_every_file_has_a_schema_without_what_the_reader_fills_in(
    what: What, keys: set[str]
) -> None:
    made = schema(what)
    assert made["title"] == f"storyforge {what}"
    assert made["additionalProperties"] is False
    assert isinstance(made["properties"], dict)
    assert keys <= set(made["properties"])
    assert not {"name", "folder"} & {*made["properties"], *made.get("required", [])}


def test_fonts_known_by_name_are_those_there_are() -> None:
    assert {family.casefold() for family in FAMILIES} == set(TEXT_FACES)


def test_the_schema_leaves_out_what_the_reader_fills_in() -> None:
    own = schema()["properties"]
    assert isinstance(own, dict)
    assert not {"path", "concepts", "layouts"} & set(own)


@pytest.mark.parametrize(
    "path", sorted(shipped("stories").glob("*.yaml")), ids=lambda path: path.stem
)
def test_a_sample_story_has_no_findings(path: Path) -> None:
    assert [str(found) for found in check(path)] == []


def test_every_language_of_a_sample_story_fits_its_pages() -> None:
    story = read(shipped("stories") / "fox-and-lantern.yaml")
    assert story.languages() == ("en", "fr")
    proof(story, "fr")
