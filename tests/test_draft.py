"""A book at two speeds: drafts by the embedded model stand where real pictures are missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from storyforge.cli.program import app
from storyforge.errors import StoryForgeError
from storyforge.modelref import picture_size
from storyforge.plan.draft import STEPS, draft_tasks, drafted
from storyforge.plan.pins import Pin
from storyforge.plan.plan import Order
from storyforge.plan.takes import with_pins
from storyforge.project.project import Project
from storyforge.store.tidying import gc
from storyforge.story.story import check, read

STORY = """\
storyforge: 1
title: Two Speeds
base: %s
draft: pocket
size: [1024, 512]
seed: 7
characters: {pip: pip}
book: {formats: [html], colophon: false}
pages:
  - text: Hello.
    panels:
      - id: one
        prompt: <pip> in the snow
        regions:
          a: {concept: pip, at: left, pose: waving}
          b: {prompt: an owl, at: right, soft: 0.1}
        control: [{draw: pose, adapter: someone/openpose}]
        steps: 50
        guidance_scale: 9
        alt: Two.
  - panels:
      - id: two
        prompt: <pip> hugs an owl
        regions: auto
        alt: Two.
"""


@pytest.fixture
def story(tmp_path: Path) -> Path:
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "concept.yaml").write_text("kind: character\nclass: fox\n")
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "pip" / "1.png")
    path = tmp_path / "tale.yaml"
    path.write_text(STORY % "pocket")
    return path


def test_a_draft_has_the_regions_and_the_seed_of_the_picture(story: Path) -> None:
    for real, draft in zip(Project(story).plan().panels, draft_tasks(read(story)), strict=True):
        assert draft.seed == real.seed
        assert [(r.name, r.box, r.soft, r.z) for r in draft.regions] == [
            (r.name, r.box, r.soft, r.z) for r in real.regions
        ]


def test_a_draft_waits_for_nothing_that_is_learnt(story: Path) -> None:
    one, two = draft_tasks(read(story))
    assert one.fused is None
    assert not one.concepts
    assert "<" not in json.dumps([one.prompt, two.prompt, *(r.prompt for r in one.regions)])
    assert one.regions[0].prompt.startswith("a fox")
    assert (two.regions[0].found, two.prompt) == ("fox", "fox hugs an owl")


def test_two_of_one_class_are_looked_for_where_each_is_named(story: Path) -> None:
    shutil.copytree(story.parent / "pip", story.parent / "rusty")
    prompt = "a (<rusty>:1.2), a fox and a <pip>: <rusty> smiles"
    text = (STORY % "pocket").replace("{pip: pip}", "{pip: pip, rusty: rusty}")
    both = (
        "{a: {concept: pip, at: auto}, b: {concept: rusty, at: auto}, c: {prompt: a fox, at: auto}}"
    )
    text = text.replace("<pip> hugs an owl", f"'{prompt}'").replace(
        "regions: auto", f"regions: {both}"
    )
    story.write_text(text)
    two = draft_tasks(read(story))[1]
    assert two.prompt == "a (fox:1.2), a fox and a fox: fox smiles"
    told = {each.name: (each.found, each.standing) for each in two.regions}
    assert told == {"a": ("fox", (2,)), "b": ("fox", (0, 3)), "c": ("a fox", (1,))}


def test_a_draft_is_small_quick_and_in_shape(story: Path) -> None:
    one = draft_tasks(read(story))[0]
    width, height = one.size
    assert width / height == pytest.approx(2, rel=0.1)
    assert width * height == pytest.approx(picture_size("pocket").side ** 2, rel=0.1)
    assert (one.steps, one.guidance_scale) == (STEPS, None)


def test_a_drawn_pose_is_read_by_the_embedded_models_own_adapter(story: Path) -> None:
    (control,) = draft_tasks(read(story))[0].controls
    assert control.adapter.name == "keypose"


def test_drafts_name_nothing_anew(story: Path) -> None:
    before = Project(story).plan()
    story.write_text(story.read_text().replace("draft: pocket\n", ""))
    after = Project(story).plan()
    assert [task.key for task in before.tasks()] == [task.key for task in after.tasks()]


def test_a_draft_book_shows_what_is_pinned_of_the_panels_that_are_drawn(story: Path) -> None:
    one = Project(story).plan().panels[0]
    planned, _ = drafted(read(story), Order(), {"one": one.key})
    pin = Pin("one", 2, "f" * 64, "0" * 64, {}, {}, Path("one.png"))
    bound = with_pins(planned, {"one": pin}).books[0]
    assert dict(bound.panels)["one"] == pin.key
    assert bound.key != planned.books[0].key


def test_no_other_model_draws_drafts(story: Path) -> None:
    story.write_text(story.read_text().replace("draft: pocket", "draft: fast"))
    assert "SF202" in {each.code for each in check(story)}


@pytest.fixture
def quick(story: Path) -> Path:
    """The same in one step of a picture without control."""
    text = story.read_text().replace(
        "        control: [{draw: pose, adapter: someone/openpose}]\n", ""
    )
    story.write_text(text)
    return story


def test_a_book_of_drafts_is_there_before_anything_is_learnt(quick: Path) -> None:
    outcome = Project(quick).draft(order=Order(steps=1))
    assert (outcome.made.panels, outcome.made.concepts, outcome.made.fused) == (2, 0, 0)
    assert [path.name for path in outcome.books] == ["tale.html"]


def test_a_real_picture_takes_its_drafts_place(quick: Path) -> None:
    Project(quick).draft(order=Order(steps=1))
    book = quick.parent / "build" / "tale.html"
    before, project = book.read_bytes(), Project(quick)
    (task, _) = project.plan().panels
    with project.store.make("panels", task.key) as out:
        Image.new("RGB", (64, 64), "red").save(out, format="PNG")
    outcome = Project(quick).draft(order=Order(steps=1))
    assert outcome.made.panels == 0
    assert book.read_bytes() != before


def test_drafts_outlive_tidying(quick: Path) -> None:
    project = Project(quick)
    project.draft(order=Order(steps=1))
    keys = [task.key for task in draft_tasks(project.story, 1)]
    gc(project.store)
    assert all(project.store.has("panels", key) for key in keys)


def test_one_panel_is_drafted_without_a_book(quick: Path) -> None:
    outcome = Project(quick).draft(["two"], Order(steps=1))
    assert (outcome.made.panels, outcome.books) == (1, ())


def test_drafts_need_no_other_base(quick: Path) -> None:
    quick.write_text(
        STORY.replace("        control: [{draw: pose, adapter: someone/openpose}]\n", "") % "./gone"
    )
    said = ["render", str(quick), "--draft", "--steps", "1", "--json"]
    result = CliRunner().invoke(app, said)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["made"]["panels"] == 2


def test_who_is_not_there_is_not_drafted(quick: Path) -> None:
    with pytest.raises(StoryForgeError, match="no panel named `three`"):
        Project(quick).draft(["three"])


@pytest.mark.parametrize("option", [["--takes", "2"], ["--jobs", "2"], ["--clip", "x"]])
def test_what_drafts_do_not_obey_is_refused(story: Path, option: list[str]) -> None:
    result = CliRunner().invoke(app, ["render", str(story), "--draft", *option])
    assert result.exit_code == 1
    assert f"drafts do not obey `{option[0]}`" in result.output


def test_pictures_drawn_in_fewer_steps_need_no_drafts_where_so_many_are_asked(quick: Path) -> None:
    project = Project(quick)
    few = Order(steps=1)
    task = project.plan(few).panels[0]
    with project.store.make("panels", task.key) as out:
        Image.new("RGB", (8, 8), "teal").save(out, format="PNG")
    assert task.panel in Project(quick).drawn(few)
    assert task.panel not in Project(quick).drawn()
