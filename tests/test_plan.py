"""Plans: keys hang on all that decides about a product, and on nothing else."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from headed import base_folder, shared_concept
from PIL import Image

from storyforge.errors import EnvironmentProblem, StoryError, StoryForgeError
from storyforge.modelref import Defaults, ModelRef
from storyforge.pictures import with_article
from storyforge.plan.plan import Order, Plan, base_of, draw_up
from storyforge.plan.status import chains, missing, shelf_of, status_lines, subject_of
from storyforge.store import Entry, Store
from storyforge.story.prompts import panel_prompt, pose_of, region_prompt, side_of
from storyforge.story.story import Story, read
from storyforge.tasks import Task

BASE = ModelRef("pocket", "hash of the base")

STORY = """
storyforge: 1
title: The Fox and the Lantern
style: soft light
negative: text
characters: {pip: concepts/pip}
objects: {lantern: concepts/lantern}
scenes: {wood: concepts/wood}
pages:
  - text: One night, Pip found a lantern.
    panels:
      - id: found
        scene: wood
        layout: two-side-by-side
        prompt: night, fireflies
        regions:
          left: {concept: pip, prompt: waving}
          right: {concept: lantern, negative: rust}
        alt: A fox and a lantern.
  - text: The end.
    panels:
      - {id: end, prompt: in the snow, regions: {one: {at: whole, concept: pip}}, alt: A fox.}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A story of two panels, with a picture of each of its concepts."""
    for name, kind, noun in [
        ("pip", "character", "fox"),
        ("lantern", "object", "old lantern"),
        ("wood", "scene", "forest"),
    ]:
        concept = tmp_path / "book" / "concepts" / name
        concept.mkdir(parents=True)
        (concept / "concept.yaml").write_text(f"kind: {kind}\nclass: {noun}\n")
        Image.new("RGB", (8, 8), (len(name), 2, 3)).save(concept / "1.png")
        (concept / "1.txt").write_text(f"a {noun}")
    (tmp_path / "book" / "story.yaml").write_text(STORY)
    return tmp_path / "book"


def story_with(folder: Path, old: str = "", new: str = "") -> Story:
    """The story, one piece of its text exchanged."""
    assert old in STORY
    (folder / "story.yaml").write_text(STORY.replace(old, new))
    return read(folder / "story.yaml")


def keys(plan: Plan) -> dict[str, str]:
    return {subject_of(task): task.key for task in plan.tasks()}


def changed(folder: Path, old: str, new: str) -> set[str]:
    """The subjects that get another key when the story's text changes."""
    before = keys(draw_up(story_with(folder), base=BASE))
    after = keys(draw_up(story_with(folder, old, new), base=BASE))
    return {subject for subject in before | after if before.get(subject) != after.get(subject)}


BOOKS = {"book pdf en", "book html en"}
PANELS = {"panel found", "panel end"}


def test_every_task_comes_after_what_it_needs(folder: Path) -> None:
    plan = draw_up(story_with(folder), base=BASE)
    assert [subject_of(task) for task in plan.tasks()] == [
        *("concept pip", "concept lantern", "concept wood", "fused model"),
        *("panel found", "panel end", "book pdf en", "book html en"),
    ]
    assert plan.fuse is not None
    assert dict(plan.fuse.concepts) == {task.concept: task.key for task in plan.train}
    assert {panel.fused for panel in plan.panels} == {plan.fuse.key}
    assert plan.books[0].panels == tuple((panel.panel, panel.key) for panel in plan.panels)


def test_every_key_is_the_hash_of_a_recipe(folder: Path) -> None:
    plan = draw_up(story_with(folder), base=BASE)
    assert plan.fuse is not None
    watched = [key for _, key in plan.fuse.statistics] + [plan.fuse.ordinary]
    made = [task.key for task in plan.tasks()] + watched
    assert set(made) == set(plan.key_inputs)
    assert len(plan.key_inputs) == len(made)


def test_what_a_concept_is_seen_to_do_hangs_on_no_other(folder: Path) -> None:
    before = draw_up(story_with(folder), base=BASE).fuse
    changed = STORY.replace("title:", "fuse: {weights: {pip: 2}, ridges: {kv: 0.1}}\ntitle:")
    (folder / "story.yaml").write_text(changed)
    Image.new("RGB", (8, 8), "blue").save(folder / "concepts" / "pip" / "2.png")
    after = draw_up(read(folder / "story.yaml"), base=BASE).fuse
    assert before is not None
    assert after is not None
    assert before.key != after.key
    assert before.ordinary == after.ordinary
    kept, now = dict(before.statistics), dict(after.statistics)
    assert {name for name in kept if kept[name] != now[name]} == {"pip"}


def test_looking_at_the_subject_is_seen_anew_and_the_ordinary_is_not(folder: Path) -> None:
    before = draw_up(story_with(folder), base=BASE).fuse
    (folder / "story.yaml").write_text(STORY.replace("title:", "fuse: {area: subject}\ntitle:"))
    after = draw_up(read(folder / "story.yaml"), base=BASE).fuse
    assert before is not None
    assert after is not None
    assert before.ordinary == after.ordinary
    kept, now = dict(before.statistics), dict(after.statistics)
    assert all(kept[name] != now[name] for name in kept)


def test_settings_of_fusion_that_are_left_out_are_in_no_key(folder: Path) -> None:
    plan = draw_up(story_with(folder), base=BASE)
    assert plan.fuse is not None
    assert plan.key_inputs[plan.fuse.key]["settings"] == {"solver": "closed-form"}


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("The end.", "And then?", BOOKS),
        ("A fox and a lantern.", "A fox with a lantern.", BOOKS),
        ("The Fox and the Lantern", "The Lantern", BOOKS),
        ("waving", "sitting", BOOKS | {"panel found"}),
        ("negative: rust", "negative: fog", BOOKS | {"panel found"}),
        ("in the snow", "on a beach", BOOKS | {"panel end"}),
        ("id: end", "id: end, take: 1", BOOKS | {"panel end"}),
        ("id: end", "id: end, steps: 3", BOOKS | {"panel end"}),
        ("at: whole", "at: left", BOOKS | {"panel end"}),
        ("style: soft light", "style: ink", BOOKS | PANELS),
        ("title:", "seed: 3\ntitle:", BOOKS | PANELS),
        ("title:", "size: [64, 64]\ntitle:", BOOKS | PANELS),
        ("title:", "fuse: {solver: average}\ntitle:", BOOKS | PANELS | {"fused model"}),
    ],
)
def test_an_edit_makes_stale_what_hangs_on_it(
    folder: Path, old: str, new: str, stale: set[str]
) -> None:
    assert changed(folder, old, new) == stale


SAMPLING = "title:", "sampling: {{{}}}\ntitle:"


@pytest.mark.parametrize(
    "setting",
    [
        *("regions: fused", "regions: exact", "guidance_rescale: 0.5"),
        *("enhancement: true", "isolation: true", "reinitialisation: true"),
    ],
)
def test_how_regions_are_drawn_makes_pictures_stale_and_no_model(
    folder: Path, setting: str
) -> None:
    old, new = SAMPLING
    assert changed(folder, old, new.format(setting)) == BOOKS | PANELS


@pytest.mark.parametrize(
    "setting",
    [
        *("regions: exact-text", "injection: true", "enhancement: false", "isolation: false"),
        *("reinitialisation: false", "region_blend: 1"),
    ],
)
def test_a_default_that_is_written_out_makes_nothing_again(folder: Path, setting: str) -> None:
    old, new = SAMPLING
    assert not changed(folder, old, new.format(setting))


def test_a_plain_panels_key_hangs_on_what_it_always_hung_on(folder: Path) -> None:
    old, new = SAMPLING
    plan = draw_up(story_with(folder, old, new.format("regions: fused")), base=BASE)
    recipe = plan.key_inputs[plan.panels[0].key]
    drawn = {"prompt", "negative", "regions", "size", "steps", "seed", "region_blend"}
    assert recipe.keys() == drawn | {
        *("make", "panel", "base_hash", "fused", "guidance_scale", "scheduler")
    }
    region = recipe["regions"][0]
    assert region.keys() == {
        *("name", "box", "prompt", "negative", "weight", "z", "concept", "mask")
    }


@pytest.mark.parametrize(
    "extra",
    [
        "soft: 0.1",
        "guidance_scale: 3",
        "polygon: [[0, 0], [0.5, 0], [0, 1]]",
    ],
)
def test_what_a_region_says_redraws_its_panel(folder: Path, extra: str) -> None:
    old = "negative: rust"
    assert changed(folder, old, f"{old}, {extra}") == BOOKS | {"panel found"}


def test_refining_and_controlling_redraw_the_panel_by_what_the_files_hold(folder: Path) -> None:
    sketch, old = folder / "sketch.png", "id: end"
    Image.new("RGB", (8, 8), "red").save(sketch)
    refined = f"{old}, refine: {{picture: sketch.png, strength: 0.4}}"
    assert changed(folder, old, refined) == BOOKS | {"panel end"}
    controlled = f"{old}, control: [{{adapter: someone/sketches, picture: sketch.png}}]"
    assert changed(folder, old, controlled) == BOOKS | {"panel end"}
    before = keys(draw_up(story_with(folder, old, controlled), base=BASE))
    Image.new("RGB", (8, 8), "blue").save(sketch)
    after = keys(draw_up(story_with(folder, old, controlled), base=BASE))
    assert before["panel end"] != after["panel end"]


def test_a_control_that_cannot_be_is_refused_where_it_is_written(folder: Path) -> None:
    for control, code in [
        ("{adapter: pocket/nothing, picture: concepts/pip/1.png}", "SF303"),
        ("{adapter: a/b, draw: pose}", "SF326"),
    ]:
        story = story_with(folder, "id: end", f"id: end, control: [{control}]")
        with pytest.raises(StoryError) as caught:
            draw_up(story, base=BASE)
        (found,) = caught.value.diagnostics
        line = story.path.read_text().splitlines()[found.line - 1]
        assert (found.code, "control" in line) == (code, True)


def test_what_is_drawn_from_the_layout_is_part_of_the_recipe(folder: Path) -> None:
    def key(shape: str) -> str:
        regions = f"regions: {{one: {{{shape}, concept: pip}}}}"
        control = f"{regions}, control: [{{adapter: a/b, draw: pose}}]"
        story = story_with(folder, "regions: {one: {at: whole, concept: pip}}", control)
        return keys(draw_up(story, base=BASE))["panel end"]

    shapes = ("at: left, pose: waving", "at: left, pose: running", "at: right, pose: waving")
    shapes += ("at: left, pose: waving, facing: left", "at: left, pose: waving, z: 1")
    assert len({key(shape) for shape in shapes}) == len(shapes)
    assert key(shapes[0]) == key(shapes[0])


def test_only_the_embedded_model_brings_adapters(folder: Path) -> None:
    story = story_with(folder, "id: end", "id: end, control: [{draw: sketch}]")
    with pytest.raises(StoryError) as caught:
        draw_up(story, base=ModelRef("owner/model", "hash"))
    (found,) = caught.value.diagnostics
    assert (found.code, "`owner/model`" in found.message) == ("SF327", True)


def test_training_free_fuses_nothing_and_draws_from_the_concepts(folder: Path) -> None:
    plan = draw_up(story_with(folder, "title:", "compose: training-free\ntitle:"), base=BASE)
    assert plan.fuse is None
    for panel in plan.panels:
        assert panel.fused is None
        assert dict(panel.concepts) == {task.concept: task.key for task in plan.train}
        assert panel.method.isolation


def test_what_is_drawn_from_concepts_asks_for_them(folder: Path, tmp_path: Path) -> None:
    plan = draw_up(story_with(folder, "title:", "compose: training-free\ntitle:"), base=BASE)
    store = Store(tmp_path / "store")
    assert missing(plan, store).train == plan.train
    states = {line.subject: line.state for line in status_lines(plan, store, {})}
    assert set(states.values()) == {"stale"}


def test_another_concept_redraws_what_is_drawn_from_concepts(folder: Path) -> None:
    free = "title:", "compose: training-free\ntitle:"
    before = keys(draw_up(story_with(folder, *free), base=BASE))
    (folder / "concepts" / "pip" / "1.txt").write_text("a small fox")
    after = keys(draw_up(read(folder / "story.yaml"), base=BASE))
    assert {subject for subject in before if before[subject] != after[subject]} == {
        *("concept pip", *BOOKS, *PANELS)
    }


def test_another_picture_teaches_one_concept_again(folder: Path) -> None:
    before = keys(draw_up(story_with(folder), base=BASE))
    Image.new("RGB", (8, 8), "blue").save(folder / "concepts" / "pip" / "2.png")
    after = keys(draw_up(story_with(folder), base=BASE))
    assert before["concept pip"] != after["concept pip"]
    assert before["concept wood"] == after["concept wood"]
    assert before["fused model"] != after["fused model"]


def test_what_is_said_about_a_concept_teaches_nothing(folder: Path) -> None:
    before = keys(draw_up(story_with(folder), base=BASE))
    with (folder / "concepts" / "pip" / "concept.yaml").open("a") as file:
        file.write("author: Ana\ndescription: A small fox.\n")
    after = keys(draw_up(story_with(folder), base=BASE))
    assert {subject for subject in before if before[subject] != after[subject]} == BOOKS


def test_another_name_teaches_nothing(folder: Path) -> None:
    before = draw_up(story_with(folder), base=BASE).train[0]
    text = STORY.replace("pip: concepts/pip", "kip: concepts/pip").replace(
        "concept: pip", "concept: kip"
    )
    (folder / "story.yaml").write_text(text)
    after = draw_up(read(folder / "story.yaml"), base=BASE).train[0]
    assert (before.concept, after.concept) == ("pip", "kip")
    assert before.key == after.key


def test_another_base_makes_everything_again(folder: Path) -> None:
    story = story_with(folder)
    before = keys(draw_up(story, base=BASE))
    after = keys(draw_up(story, base=ModelRef("pocket", "another hash")))
    assert not {key for key in before.values() if key in after.values()}


def test_moving_the_project_makes_nothing_again(folder: Path) -> None:
    before = keys(draw_up(story_with(folder), base=BASE))
    shutil.move(folder, folder.parent / "elsewhere")
    after = keys(draw_up(read(folder.parent / "elsewhere" / "story.yaml"), base=BASE))
    assert before == after


def test_moving_a_panel_keeps_its_picture(folder: Path) -> None:
    before = keys(draw_up(story_with(folder), base=BASE))
    head, first, second = STORY.split("  - text: ")
    (folder / "story.yaml").write_text(f"{head}  - text: {second}  - text: {first}")
    after = keys(draw_up(read(folder / "story.yaml"), base=BASE))
    assert {subject for subject in before if before[subject] != after[subject]} == BOOKS


def test_a_draft_has_its_own_pictures(folder: Path) -> None:
    story = story_with(folder)
    before, after = (
        keys(draw_up(story, base=BASE, order=order)) for order in (Order(), Order(steps=2))
    )
    assert {subject for subject in before if before[subject] != after[subject]} == BOOKS | PANELS


def test_an_order_says_which_books(folder: Path) -> None:
    story = story_with(
        folder, "title: The Fox and the Lantern", "title: {en: The Fox, fr: Le Renard}"
    )
    plan = draw_up(story, base=BASE, order=Order(("html",), "fr"))
    assert [subject_of(book) for book in plan.books] == ["book html fr"]


def test_a_language_that_no_text_has_is_an_error_that_names_those_there_are(folder: Path) -> None:
    story = story_with(
        folder, "title: The Fox and the Lantern", "title: {en: The Fox, fr: Le Renard}"
    )
    with pytest.raises(StoryForgeError, match="no text is in `de`, only in `en`, `fr`"):
        draw_up(story, base=BASE, order=Order(language="de"))


def test_a_concept_in_a_negative_prompt_is_fused(folder: Path) -> None:
    plan = draw_up(story_with(folder, "scene: wood", "negative: <wood>"), base=BASE)
    assert plan.fuse is not None
    assert "wood" in dict(plan.fuse.concepts)


def test_a_concept_that_no_panel_shows_is_not_fused(folder: Path) -> None:
    plan = draw_up(story_with(folder, "scene: wood", ""), base=BASE)
    assert plan.fuse is not None
    assert list(dict(plan.fuse.concepts)) == ["pip", "lantern"]
    assert [task.concept for task in plan.train] == ["pip", "lantern", "wood"]


def test_masks_and_captions_are_no_pictures_of_their_own(folder: Path) -> None:
    Image.new("L", (8, 8)).save(folder / "concepts" / "pip" / "1-mask.png")
    plan = draw_up(story_with(folder), base=BASE)
    assert plan.train[0].images == ("1.png",)


def test_a_shared_concept_is_fused_by_its_content(folder: Path) -> None:
    shared_concept(folder / "owl.safetensors", "one")
    change = ("pip: concepts/pip", "pip: owl.safetensors")
    first = draw_up(story_with(folder, *change), base=BASE)
    shared_concept(folder / "owl.safetensors", "another")
    second = draw_up(story_with(folder, *change), base=BASE)
    assert "pip" not in {task.concept for task in first.train}
    assert first.fuse is not None
    assert second.fuse is not None
    assert first.fuse.key != second.fuse.key


def test_prompts_are_said_in_order(folder: Path) -> None:
    story = story_with(folder)
    (_, found), (_, end) = story.panels()
    assert panel_prompt(story, found) == (
        "a fox on the left and an old lantern on the right, in <wood>, night, fireflies, soft light"
    )
    assert region_prompt(story, found, "left") == (
        "a <pip> waving on the left, in <wood>, night, fireflies, soft light"
    )
    assert panel_prompt(story, end) == "a fox, in the snow, soft light"


def test_a_region_says_who_is_beside_it_where_the_base_or_the_author_wants_it(
    folder: Path,
) -> None:
    alone = "a <pip> waving on the left, in <wood>, night, fireflies, soft light"
    together = {
        "left": "a <pip> waving on the left and an old lantern on the right",
        "right": "a fox waving on the left and a <lantern> on the right",
    }
    company = replace(BASE, defaults=Defaults(company=True))

    def said(base: ModelRef, sampling: str = "") -> dict[str, str]:
        story = story_with(folder, "pages:", f"{sampling}\npages:")
        found = draw_up(story, base=base).panels[0]
        return {region.name: region.prompt for region in found.regions}

    assert said(BASE)["left"] == alone
    assert said(company, "sampling: {company: false}")["left"] == alone
    for prompts in (said(company), said(BASE, "sampling: {company: true}")):
        assert {name: words.split(", in <")[0] for name, words in prompts.items()} == together
        assert prompts["left"].endswith(", in <wood>, night, fireflies, soft light")


def test_who_stands_furthest_left_is_named_first_and_who_is_sought_not_at_all(
    folder: Path,
) -> None:
    regions = """
          last: {at: right, concept: pip}
          first: {at: left, concept: lantern}
          other: {at: middle, prompt: 'a (red, round:1.2) ball, lost long ago'}
          sought: {at: auto, prompt: a moth}"""
    story = story_with(
        folder,
        "\n          left: {concept: pip, prompt: waving}"
        "\n          right: {concept: lantern, negative: rust}",
        regions,
    )
    found = next(story.panels())[1]
    assert region_prompt(story, found, "first", company=True).startswith(
        "a <lantern> on the left and a (red, round:1.2) ball in the middle"
        " and a fox on the right, in"
    )
    assert region_prompt(story, found, "sought", company=True) == region_prompt(
        story, found, "sought"
    )


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("pose: sitting", "a <pip> sitting on the left"),
        ("pose: sitting, prompt: smiling", "a <pip> smiling, sitting on the left"),
        ("pose: waving, prompt: Waving hello", "a <pip> Waving hello on the left"),
        ("prompt: resitting an exam", "a <pip> resitting an exam on the left"),
        ("pose: sitting, prompt: resitting it", "a <pip> resitting it, sitting on the left"),
    ],
)
def test_a_pose_is_said_once(folder: Path, written: str, said: str) -> None:
    story = story_with(folder, "prompt: waving", written)
    found = next(story.panels())[1]
    assert region_prompt(story, found, "left").startswith(f"{said}, in <wood>")


def test_a_pose_is_the_region_s_own_or_in_its_words_or_the_layout_s(folder: Path) -> None:
    (folder / "layouts").mkdir()
    (folder / "layouts" / "two-side-by-side.yaml").write_text(
        "description: mine\nregions:\n  left: {at: left, pose: jumping}\n  right: {at: right}\n"
    )
    for words, pose in [
        ("prompt: calm", "jumping"),
        ("prompt: Waving", "waving"),
        ("prompt: waving, pose: running", "running"),
    ]:
        story = story_with(folder, "prompt: waving", words)
        found = next(story.panels())[1]
        assert pose_of(story, found, "left") == pose
        assert pose_of(story, found, "right") is None


def test_negative_words_are_the_nearest_ones(folder: Path) -> None:
    left, right = draw_up(story_with(folder), base=BASE).panels[0].regions
    assert (left.negative, right.negative) == ("text", "rust")


def test_sides_are_those_of_the_box(folder: Path) -> None:
    story = story_with(folder)
    boxes = story.region_boxes(next(story.panels())[1])
    assert [side_of(box) for box in boxes.values()] == ["on the left", "on the right"]


@pytest.mark.parametrize(
    ("noun", "said"), [("fox", "a fox"), ("owl", "an owl"), ("the moon", "the moon")]
)
def test_a_noun_takes_its_article(noun: str, said: str) -> None:
    assert with_article(noun) == said


def test_a_missing_base_is_named_with_what_may_stand_there(folder: Path) -> None:
    story = story_with(folder, "title:", "base: ../model.safetensors\ntitle:")
    with pytest.raises(EnvironmentProblem, match="no model at") as caught:
        base_of(story)
    assert "hub id" in str(caught.value.hint)


def test_a_base_on_the_hub_stands_for_itself(folder: Path) -> None:
    story = story_with(folder, "title:", "base: owner/name@v1\ntitle:")
    assert base_of(story) == ModelRef("owner/name@v1", "owner/name@v1")


def test_a_base_in_a_folder_is_known_by_its_content(folder: Path) -> None:
    base_folder(folder / "weights")
    story = story_with(folder, "title:", "base: weights\ntitle:")
    first = base_of(story)
    (folder / "weights" / "unet" / "more").write_bytes(b"22")
    assert Path(first.reference).is_absolute()
    assert base_of(story).hash != first.hash


def test_other_habits_leave_a_base_what_it_is(folder: Path) -> None:
    base_folder(folder / "weights")
    story = story_with(folder, "title:", "base: weights\ntitle:")
    first = base_of(story)
    (folder / "weights" / "storyforge.json").write_text('{"train_steps": 7}')
    second = base_of(story)
    assert second.hash == first.hash
    assert (first.defaults, second.defaults) == (Defaults(), Defaults(train_steps=7))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot read"),
        ("[]", "holds no settings"),
        ('{"train_step": 7}', "unknown settings: train_step"),
        ('{"steps": "many"}', "`steps` in .* valid integer"),
        ('{"train_steps": 0}', "`train_steps` in .* greater than 0"),
        ('{"prior_share": 1.5}', "`prior_share` in .* less than or equal to 1"),
        ('{"prior_prompts": []}', "`prior_prompts` in .* at least 1 item"),
        ('{"prior_prompts": [1]}', r"`prior_prompts\.0` in .* valid string"),
    ],
)
def test_habits_that_cannot_be_read_are_named(folder: Path, text: str, said: str) -> None:
    base_folder(folder / "weights")
    (folder / "weights" / "storyforge.json").write_text(text)
    story = story_with(folder, "title:", "base: weights\ntitle:")
    with pytest.raises(EnvironmentProblem, match=said) as caught:
        base_of(story)
    assert str(folder / "weights" / "storyforge.json") in caught.value.message


def test_other_ways_to_learn_teach_everything_again(folder: Path) -> None:
    story = story_with(folder)
    before = keys(draw_up(story, base=BASE))
    after = keys(draw_up(story, base=replace(BASE, defaults=Defaults(train_steps=7))))
    assert not {key for key in before.values() if key in after.values()}


def test_other_ways_to_draw_draw_a_shared_concept_again(folder: Path) -> None:
    for name in ("pip", "lantern", "wood"):
        shared_concept(folder / f"{name}.safetensors", name)
    text = re.sub(r"(\w+): concepts/\1", r"\1: \1.safetensors", STORY)
    (folder / "story.yaml").write_text(text)
    story = read(folder / "story.yaml")
    plain, learning, drawing = (
        draw_up(story, base=replace(BASE, defaults=defaults))
        for defaults in (Defaults(), Defaults(train_steps=7), Defaults(steps=7))
    )
    assert keys(plain) == keys(learning)
    assert plain.fuse is not None
    assert drawing.fuse is not None
    assert plain.fuse.key != drawing.fuse.key
    assert plain.fuse.concepts == drawing.fuse.concepts
    assert not {task.key for task in plain.panels} & {task.key for task in drawing.panels}


def put(store: Store, task: Task) -> None:
    with store.make(shelf_of(task), task.key) as path:
        path.write_bytes(b"made")


def made(plan: Plan, store: Store) -> dict[str, Entry]:
    """Everything made; what the ledger says then."""
    for task in plan.tasks():
        put(store, task)
    return {
        subject_of(task): Entry(task.key, plan.key_inputs[task.key], 2.0) for task in plan.tasks()
    }


def reasons(plan: Plan, store: Store, entries: Mapping[str, Entry]) -> dict[str, str]:
    return {
        line.subject: line.reason
        for line in status_lines(plan, store, entries)
        if line.state == "stale"
    }


def test_nothing_is_wanted_when_everything_is_made(folder: Path, tmp_path: Path) -> None:
    plan, store = draw_up(story_with(folder), base=BASE), Store(tmp_path / "store")
    entries = made(plan, store)
    assert not list(missing(plan, store).tasks())
    assert not reasons(plan, store, entries)


def test_what_nobody_needs_is_not_made_again(folder: Path, tmp_path: Path) -> None:
    plan, store = draw_up(story_with(folder), base=BASE), Store(tmp_path / "store")
    entries = made(plan, store)
    shutil.rmtree(store.root / "concepts")
    assert not list(missing(plan, store).tasks())
    states = {line.subject: line.state for line in status_lines(plan, store, entries)}
    assert states["concept pip"] == "unneeded"


def test_without_a_ledger_everything_is_new(folder: Path, tmp_path: Path) -> None:
    plan, store = draw_up(story_with(folder), base=BASE), Store(tmp_path / "store")
    assert set(reasons(plan, store, {}).values()) == {"new"}


@pytest.mark.parametrize(
    ("old", "new", "subject", "reason"),
    [
        ("night, fireflies", "day", "panel found", "prompt changed"),
        ("concept: pip, prompt: waving", "concept: pip", "panel found", "region `left`: prompt"),
        ("title:", "seed: 3\ntitle:", "panel end", "seed changed"),
        ("title:", "fuse: {solver: average}\ntitle:", "fused model", "settings changed"),
        ("title:", "fuse: {solver: average}\ntitle:", "panel end", "the fused model changed"),
        ("scene: wood", "take: 0", "fused model", "concept `wood` is gone"),
        ("The end.", "And then?", "book pdf en", "words or settings changed"),
        ("in the snow", "on a beach", "book pdf en", "panel `end` changed"),
    ],
)
def test_a_reason_names_the_change(
    folder: Path, tmp_path: Path, old: str, new: str, subject: str, reason: str
) -> None:
    store = Store(tmp_path / "store")
    entries = made(draw_up(story_with(folder), base=BASE), store)
    told = reasons(draw_up(story_with(folder, old, new), base=BASE), store, entries)
    assert reason in told[subject]


def test_a_lost_file_is_a_reason_and_has_a_price(folder: Path, tmp_path: Path) -> None:
    plan, store = draw_up(story_with(folder), base=BASE), Store(tmp_path / "store")
    entries = made(plan, store)
    store.path("panels", plan.panels[0].key).unlink()
    (line,) = [line for line in status_lines(plan, store, entries) if line.state == "stale"]
    assert (line.subject, line.reason) == ("panel found", "its file is missing")
    assert line.cost.seconds == 2.0


def test_tasks_of_one_panel_need_only_what_it_shows(folder: Path, tmp_path: Path) -> None:
    plan, store = draw_up(story_with(folder), base=BASE), Store(tmp_path / "store")
    made(plan, store)
    store.path("panels", plan.panels[0].key).unlink()
    wanted = missing(replace(plan, panels=plan.panels[:1]), store)
    assert [subject_of(task) for task in wanted.tasks()] == ["panel found"]


def test_no_key_depends_on_how_long_something_took(folder: Path, tmp_path: Path) -> None:
    plan, store = draw_up(story_with(folder), base=BASE), Store(tmp_path / "store")
    slow = {name: replace(entry, seconds=1e6) for name, entry in made(plan, store).items()}
    store.ledger("story").write(slow)
    assert keys(draw_up(story_with(folder), base=BASE)) == keys(plan)
    assert all(line.state == "fresh" for line in status_lines(plan, store, slow))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("in the snow", "on a beach", ["prompt changed → panel `end` → 2 books"]),
        ("The end.", "And then?", ["words or settings changed → 2 books"]),
        (
            "fuse: ",
            "fuse: {solver: average}",
            ["settings of the fusion changed → fused model → panels `found`, `end` → 2 books"],
        ),
        (
            "scene: wood",
            "take: 0",
            [
                "concept `wood` is gone → fused model → panels `found`, `end` → 2 books",
            ],
        ),
    ],
)
def test_a_chain_leads_from_the_cause_to_the_books(
    folder: Path, tmp_path: Path, old: str, new: str, told: list[str]
) -> None:
    store = Store(tmp_path / "store")
    entries = made(draw_up(story_with(folder), base=BASE), store)
    old, new = ("title:", f"{new}\ntitle:") if old == "fuse: " else (old, new)
    plan = draw_up(story_with(folder, old, new), base=BASE)
    assert list(chains(status_lines(plan, store, entries))) == told


def test_a_chain_begins_where_a_concept_changed(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    entries = made(draw_up(story_with(folder), base=BASE), store)
    Image.new("RGB", (8, 8), "blue").save(folder / "concepts" / "pip" / "2.png")
    (chain,) = chains(status_lines(draw_up(story_with(folder), base=BASE), store, entries))
    assert chain == (
        "concept `pip`: pictures changed → fused model → panels `found`, `end` → 2 books"
    )


def test_a_first_plan_is_one_chain(folder: Path, tmp_path: Path) -> None:
    plan, store = draw_up(story_with(folder), base=BASE), Store(tmp_path / "store")
    assert chains(status_lines(plan, store, {})) == (
        "everything is new → 3 concepts → fused model → panels `found`, `end` → 2 books",
    )
