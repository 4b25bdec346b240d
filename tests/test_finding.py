"""Who stands where, found while a picture begins: outlines, shares, a story that asks for it."""

from __future__ import annotations

import json
import weakref
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tinymodel import open_tiny

from storyforge.book.binding import places
from storyforge.errors import StoryForgeError
from storyforge.geometry.box import FRAME, Box
from storyforge.geometry.outline import box_round, largest_part, outline
from storyforge.model.attention import attending, predict
from storyforge.model.attention_maps import by_heads, hearing
from storyforge.model.base import BaseModel
from storyforge.model.concept import plain
from storyforge.model.denoising import start_latents
from storyforge.plan.keys import drawn_from
from storyforge.project.project import Project
from storyforge.provenance.found import found_boxes
from storyforge.sample.control import Rack
from storyforge.sample.finding import Lookout, parted, placed, settled, words_in
from storyforge.sample.injection import reading_of
from storyforge.sample.regions import region_weights
from storyforge.sample.sampler import picture
from storyforge.sample.watching import watch_of
from storyforge.story.keeping import with_found
from storyforge.story.story import check, read
from storyforge.tasks import PanelTask, RegionTask


def sought(name: str, words: str) -> RegionTask:
    return RegionTask(name, FRAME, words, "", 1.0, 0, None, found=words)


@given(arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_an_outline_holds_its_cells_and_the_holes_in_them(cells: np.ndarray) -> None:
    part = largest_part(cells)
    if not part.any():
        with pytest.raises(ValueError, match="no cell"):
            outline(part)
        return
    region = replace(sought("r", "x"), polygon=outline(part))
    inside = region_weights([region], part.shape).reshape(part.shape).numpy() > 0.5
    holes = inside & ~part
    assert (inside | ~part).all()
    edge = np.ones_like(holes)
    edge[1:-1, 1:-1] = False
    assert not (holes & edge).any()


def test_what_hangs_together_by_a_corner_is_two_parts() -> None:
    cells = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]], bool)
    assert largest_part(cells).tolist() == [[True, True, False], [False] * 3, [False] * 3]


def test_a_box_is_as_tight_as_the_cells() -> None:
    cells = np.zeros((4, 8), bool)
    cells[1:3, 2:5] = True
    assert box_round(cells) == (0.25, 0.25, 0.625, 0.75)


def test_a_cell_is_whose_words_it_reads_most() -> None:
    maps = torch.tensor([[[1.0, 0.6, 0.1]], [[0.2, 0.7, 1.0]]])
    assert parted(maps).tolist() == [[[1, 0, 0]], [[0, 1, 1]]]


def test_cells_that_nobody_cares_for_are_nobodys() -> None:
    assert parted(torch.tensor([[[1.0, 0.3]]])).tolist() == [[[1, 0]]]


def test_nobody_goes_without_a_place() -> None:
    maps = torch.tensor([[[1.0, 1.0, 0.9]], [[0.3, 0.4, 0.8]]])
    assert parted(maps)[1].tolist() == [[0, 0, 1]]


def test_whoever_is_sought_by_the_same_words_has_a_place() -> None:
    same = torch.tensor([[[0.2, 1.0], [0.6, 0.1]]]).repeat(3, 1, 1)
    made = parted(same)
    assert (made.sum((1, 2)) >= 1).all()
    assert made.sum(0).max() == 1


def panel(base: BaseModel, *regions: RegionTask, prompt: str = "a fox and an owl") -> PanelTask:
    usual = ("", "one", 1, base.reference, base.hash, None, prompt, "")
    side = 8 * base.vae_scale
    return PanelTask(*usual, regions, (side, side), 4, None, None, 1.0, 5, None)


@pytest.fixture(scope="module")
def tiny() -> BaseModel:
    return open_tiny()


def planted(tiny: BaseModel, left: torch.Tensor, right: torch.Tensor) -> Lookout:
    """What is seen when the left half of the picture reads one word, and the right half another."""
    asked = reading_of(tiny, plain(tiny), {}, panel(tiny), (8, 8)).attention
    lookout = Lookout(tiny, asked, [left, right], (8, 8))
    cells = torch.arange(64) % 8 < 4
    for index, site in enumerate(tiny.family.cross_sites):
        attn = tiny.unet.get_submodule(site)
        keys = torch.zeros(2, 77, attn.inner_dim)
        keys[1, left, 0], keys[1, right, 0] = 9.0, -9.0
        queries = torch.zeros(2, 64, attn.inner_dim)
        queries[1, :, 0] = torch.where(cells, 9.0, -9.0)
        # K alone, made beforehand as a concept's are: no layer is asked for it.
        heads = by_heads(tiny, site, keys)
        asked.kept[index, -1] = (heads, heads)
        lookout.cross(site, queries)
    return lookout


def test_planted_attention_is_found_where_it_was_planted(tiny: BaseModel) -> None:
    lookout = planted(tiny, torch.tensor([2]), torch.tensor([5]))
    found = placed([sought("fox", "a fox"), sought("owl", "an owl")], lookout.maps())
    assert [each.box for each in found] == [
        Box(x0=0, y0=0, x1=0.5, y1=1),
        Box(x0=0.5, y0=0, x1=1, y1=1),
    ]
    assert all(len(each.polygon) == 4 for each in found)


def asked_at_once(base: BaseModel, looking: AbstractContextManager[None]) -> int:
    """How many layers' queries are there together during one call of the model."""
    made: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []

    def count(site: str, queries: torch.Tensor) -> None:
        """Those of before that are still there, and these."""
        made.append(weakref.ref(queries))
        alive.append(sum(each() is not None for each in made))

    every = [name.removesuffix(".processor") for name in base.unet.attn_processors]
    attention = reading_of(base, plain(base), {}, panel(base), (8, 8)).attention
    noise = start_latents(base, [1], (8 * base.vae_scale,) * 2)
    with torch.no_grad(), attending(base, attention), looking, hearing(base, every, to_q=count):
        predict(base, torch.cat([noise] * 2), torch.tensor(10), attention.text)
    return max(alive)


def test_nothing_that_layers_ask_is_kept_while_somebody_looks_on(tiny: BaseModel) -> None:
    asked = reading_of(tiny, plain(tiny), {}, panel(tiny), (8, 8)).attention
    region = replace(sought("fox", "a fox"), found=None)
    regional = reading_of(tiny, plain(tiny), {}, panel(tiny, region), (8, 8)).attention
    watch = watch_of(tiny, plain(tiny), [panel(tiny, region)], (8, 8))
    lookout = Lookout(tiny, asked, [torch.tensor([2])], (8, 8))
    assert watch is not None
    alone = asked_at_once(tiny, nullcontext())
    assert asked_at_once(tiny, lookout.watching()) == alone
    assert asked_at_once(tiny, watch(1.0, regional)) == alone
    assert watch.sums
    assert lookout.seen.any()


def test_regions_with_a_place_keep_it(tiny: BaseModel) -> None:
    lookout = planted(tiny, torch.tensor([2]), torch.tensor([5]))
    own = RegionTask("tree", Box(x0=0.1, y0=0, x1=0.2, y1=1), "a tree", "", 1.0, 0, None)
    asked = [sought("fox", "a fox"), own, sought("owl", "an owl")]
    assert placed(asked, lookout.maps())[1] == own


def test_words_are_found_in_a_prompt_wherever_they_stand(tiny: BaseModel) -> None:
    prompt = "a fox, and an owl by a fox"
    assert words_in(tiny, plain(tiny), prompt, "an owl").tolist() == [5, 6]
    assert words_in(tiny, plain(tiny), prompt, "fox").tolist() == [2, 9]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a fox, and an (old:1.3) owl", "an old owl"),
        ("a fox, and an old owl", "an (old:1.3) owl"),
        ("a fox, and an (old:1.3) owl", "an (old:1.3) owl"),
        ("a fox, and an old owl++", "an [old] owl"),
    ],
)
def test_words_are_found_whatever_they_count(tiny: BaseModel, prompt: str, words: str) -> None:
    plainly = words_in(tiny, plain(tiny), "a fox, and an old owl", "an old owl")
    assert words_in(tiny, plain(tiny), prompt, words).tolist() == plainly.tolist()


def test_nobody_is_looked_for_in_the_end_of_another_word(tiny: BaseModel) -> None:
    cut = tiny.tokenizer.tokenize("a snowman")
    assert cut[-2:] == tiny.tokenizer.tokenize("man")
    with pytest.raises(StoryForgeError, match="is not in the prompt"):
        words_in(tiny, plain(tiny), "a snowman", "man")


def test_of_words_that_stand_there_twice_one_may_be_meant(tiny: BaseModel) -> None:
    prompt = "a fox, and an owl by a fox"
    assert words_in(tiny, plain(tiny), prompt, "fox", (1,)).tolist() == [9]


def test_who_is_not_in_the_prompt_is_told(tiny: BaseModel) -> None:
    with pytest.raises(StoryForgeError, match="is not in the prompt"):
        words_in(tiny, plain(tiny), "a meadow", "an owl")


def test_a_panel_is_drawn_as_if_what_was_found_were_written(tiny: BaseModel) -> None:
    task = panel(tiny, sought("fox", "a fox"), sought("owl", "an owl"))
    model = plain(tiny)
    known = settled(tiny, model, {}, Rack(tiny), task, lambda *_: None)
    written = replace(known, regions=tuple(replace(r, found=None) for r in known.regions))
    assert (picture(tiny, model, task) == picture(tiny, model, written)).all()
    assert (picture(tiny, model, task) != picture(tiny, model, replace(task, regions=()))).any()


def test_finding_leaves_the_model_as_it_was(tiny: BaseModel) -> None:
    before = {name: value.clone() for name, value in tiny.unet.state_dict().items()}
    hooks = sum(len(module._forward_hooks) for module in tiny.unet.modules())
    task = panel(tiny, sought("fox", "a fox"))
    settled(tiny, plain(tiny), {}, Rack(tiny), task, lambda *_: None)
    assert all((before[name] == value).all() for name, value in tiny.unet.state_dict().items())
    assert sum(len(module._forward_hooks) for module in tiny.unet.modules()) == hooks


STORY = """\
storyforge: 1
title: Auto
characters: {pip: pip, juna: juna}
pages:
  - panels:
      - id: hug
        prompt: <pip> hugs a <juna> in the snow
        regions: auto   # wherever
        alt: They hug.
"""


@pytest.fixture
def story(tmp_path: Path) -> Path:
    for name, word in (("pip", "fox"), ("juna", "owl")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "concept.yaml").write_text(f"kind: character\nclass: {word}\n")
        Image.new("RGB", (64, 64), "teal").save(tmp_path / name / "1.png")
    path = tmp_path / "story.yaml"
    path.write_text(STORY)
    return path


def test_auto_is_a_region_for_everybody_who_is_named(story: Path) -> None:
    (task,) = Project(story).plan().panels
    assert task.prompt == "<pip> hugs a <juna> in the snow"
    assert [(r.name, r.found, r.prompt) for r in task.regions] == [
        ("pip", "<pip>", "<pip> hugs an owl in the snow"),
        ("juna", "<juna>", "a fox hugs a <juna> in the snow"),
    ]


def test_who_is_in_the_prompt_whatever_counts_is_not_named_again(story: Path) -> None:
    regions = "{man: {prompt: an (old:1.2) man, at: auto}}"
    named = "Once an Old (man:1.3) met <pip>"
    text = STORY.replace("<pip> hugs a <juna> in the snow", named)
    story.write_text(text.replace("regions: auto", f"regions: {regions}"))
    assert Project(story).plan().panels[0].prompt == named


def test_words_within_anothers_words_mean_the_other(story: Path) -> None:
    text = STORY.replace("<pip> hugs a <juna> in the snow", "a fox in a hat sees a fox")
    regions = "{a: {prompt: a fox, at: auto}, b: {prompt: a fox in a hat, at: auto}}"
    story.write_text(text.replace("regions: auto", f"regions: {regions}"))
    (task,) = Project(story).plan().panels
    assert [each.standing for each in task.regions] == [(1,), ()]


def test_a_woman_is_no_man(story: Path) -> None:
    text = STORY.replace("<pip> hugs a <juna> in the snow", "a woman and <pip>")
    story.write_text(text.replace("regions: auto", "regions: {he: {prompt: man, at: auto}}"))
    assert Project(story).plan().panels[0].prompt == "man, a woman and <pip>"


def test_auto_is_in_the_key_and_only_where_it_is_asked(story: Path) -> None:
    (task,) = Project(story).plan().panels
    told = json.dumps(drawn_from(task), default=str)
    assert "<juna>" in told
    plain_regions = tuple(replace(r, found=None) for r in task.regions)
    assert "found" not in json.dumps(drawn_from(replace(task, regions=plain_regions)), default=str)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("<pip> hugs a <juna> in", "two friends hug in", "SF338"),
        ("regions: auto", "regions: autos", "SF202"),
        ("hugs a <juna>", "hugs a <nobody>", "SF311"),
        ("regions: auto", "regions: {a: &who {at: auto, concept: pip}, b: *who}", "SF338"),
        (
            "regions: auto",
            "regions: {a: {at: auto, prompt: Pip}, b: {at: auto, prompt: pip++}}",
            "SF338",
        ),
        (
            "<pip> hugs a <juna> in the snow\n        regions: auto",
            "a fox\n        regions: {a: {at: auto, prompt: fox}, b: {at: auto, prompt: a fox}}",
            "SF338",
        ),
        ("regions: auto", "regions: auto\n        refine: {picture: pip/1.png}", "SF338"),
        ("regions: auto", "control: [{draw: pose}]\n        regions: auto", "SF326"),
    ],
)
def test_what_cannot_be_found_is_told(story: Path, old: str, new: str, code: str) -> None:
    story.write_text(STORY.replace(old, new))
    found = Project(story).check()
    assert code in {each.code for each in found}
    assert {each.line for each in found if each.code == code} <= {7, 8}


def test_auto_is_no_place_in_a_layout(story: Path) -> None:
    (story.parent / "layouts").mkdir()
    layout = "description: x\nregions: {one: {at: auto}}\n"
    (story.parent / "layouts" / "mine.yaml").write_text(layout)
    text = STORY.replace("regions: auto", "layout: mine\n        regions: {one: {concept: pip}}")
    story.write_text(text)
    assert "SF302" in {each.code for each in check(story)}


BOXES = {"pip": Box(x0=0, y0=0.25, x1=0.5, y1=1), "juna": Box(x0=0.5, y0=0.125, x1=1, y1=1)}


def test_what_was_found_is_written_at_its_place(story: Path) -> None:
    panel_ = read(story).pages[0].panels[0]
    text = with_found(STORY, panel_, BOXES)
    pip, juna = "box: [0, 0.25, 0.5, 1]", "box: [0.5, 0.125, 1, 1]"
    kept = f"{{pip: {{concept: pip, {pip}}}, juna: {{concept: juna, {juna}}}}}"
    assert text == STORY.replace("auto   #", f"{kept}   #")
    story.write_text(text)
    assert read(story).region_boxes(read(story).pages[0].panels[0]) == BOXES


def test_what_was_found_stands_in_the_place_of_auto(story: Path) -> None:
    text = STORY.replace(
        "regions: auto", "regions: {one: {concept: pip, at: auto}, two: {at: left, prompt: x}}"
    )
    story.write_text(text)
    made = with_found(text, read(story).pages[0].panels[0], {"one": BOXES["pip"]})
    assert "{one: {concept: pip, box: [0, 0.25, 0.5, 1]}, two: {at: left, prompt: x}}" in made


def test_nothing_is_kept_of_what_was_not_found(story: Path) -> None:
    with pytest.raises(StoryForgeError, match="nobody knows where `juna` is"):
        with_found(STORY, read(story).pages[0].panels[0], {"pip": BOXES["pip"]})


def drawn(path: Path, regions: object) -> Path:
    notes = PngInfo()
    notes.add_itxt("storyforge", json.dumps({"schema_version": 1, "regions": regions}))
    Image.new("RGB", (8, 8)).save(path, format="PNG", pnginfo=notes)
    return path


def test_a_picture_tells_whom_it_was_found_of(story: Path, tmp_path: Path) -> None:
    told = [
        {"name": "pip", "box": [0, 0, 0.5, 1], "found": "<pip>"},
        {"name": "tree", "box": [0.5, 0, 1, 1]},
        {"name": "bad", "box": [0.5, 0, 7, 1], "found": "x"},
        3,
    ]
    path = drawn(tmp_path / "p.png", told)
    assert found_boxes(path) == {"pip": Box(x0=0, y0=0, x1=0.5, y1=1)}
    assert found_boxes(drawn(tmp_path / "q.png", "all")) == {}
    assert found_boxes(story) == found_boxes(tmp_path / "none.png") == {}


def test_pages_have_them_side_by_side_until_a_picture_says_more(story: Path) -> None:
    told = read(story)
    panel_ = told.pages[0].panels[0]
    assert [box.x0 for box in places(told, panel_, story).values()] == [0, 0.5]
    found = [{"name": "pip", "box": [0.25, 0, 0.5, 1], "found": "<pip>"}]
    path = drawn(story.parent / "p.png", found)
    assert places(told, panel_, path)["pip"].x0 == 0.25


def test_a_story_keeps_what_was_found(story: Path) -> None:
    project = Project(story)
    (task,) = project.plan().panels
    regions = [
        {"name": n, "box": list(b.model_dump().values()), "found": f"<{n}>"}
        for n, b in BOXES.items()
    ]
    with project.store.make("panels", task.key) as out:
        drawn(out, regions)
    assert Project(story).keep_found() == ("hug",)
    assert "box: [0.5, 0.125, 1, 1]" in story.read_text()
    with pytest.raises(StoryForgeError, match="no panel has regions that are found"):
        Project(story).keep_found()


@pytest.fixture
def half_drawn(story: Path) -> Project:
    """Two panels with regions to be found, of which one is drawn."""
    more = "      - {id: later, prompt: <pip> alone, regions: auto, alt: Pip.}\n"
    story.write_text(STORY + more)
    project = Project(story)
    task = next(each for each in project.plan().panels if each.panel == "hug")
    told = [{"name": n, "box": [*b.model_dump().values()], "found": n} for n, b in BOXES.items()]
    with project.store.make("panels", task.key) as out:
        drawn(out, told)
    return Project(story)


def test_what_is_drawn_is_told_of_and_the_rest_waits(half_drawn: Project) -> None:
    assert half_drawn.found() == {"hug": BOXES}
    with pytest.raises(StoryForgeError, match="later"):
        half_drawn.found(["later"])


def test_what_is_drawn_is_kept_and_the_rest_stays_to_be_found(half_drawn: Project) -> None:
    assert half_drawn.keep_found() == ("hug",)
    first, later = (panel for _, panel in Project(half_drawn.path).story.panels())
    assert not any(region.auto for region in first.regions.values())
    assert all(region.auto for region in later.regions.values())


def test_a_panel_without_such_regions_is_not_another(half_drawn: Project) -> None:
    half_drawn.keep_found()
    before = half_drawn.path.read_bytes()
    with pytest.raises(StoryForgeError, match="no panel that is drawn"):
        half_drawn.keep_found(["hug"])
    assert half_drawn.path.read_bytes() == before
