"""Subjects beside each other: the panels that are drawn up, the ways to draw them, the verb."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from storyforge.cli.program import app
from storyforge.engine.stages import Clock
from storyforge.errors import StoryForgeError
from storyforge.evaluate.compositions import caption, composed
from storyforge.evaluate.methods import METHODS, Models, methods_named, task_of
from storyforge.metrics.alignment import RegionScore, apartness
from storyforge.modelref import ModelRef
from storyforge.story.concept import ConceptSpec
from storyforge.story.story import Panel, Story
from storyforge.tasks import Method, PanelTask

CLASSES = {
    "ember": "fox",
    "sorrel": "fox",
    "rusk": "bear",
    "kip": "elephant",
    "otto": "dog",
}


def spec(name: str, kind: str, said: str) -> ConceptSpec:
    content = {"kind": kind, "class": said, "name": name, "folder": Path("/cast") / name}
    return ConceptSpec.model_validate(content)


CAST = [
    *(spec(name, "character", said) for name, said in CLASSES.items()),
    spec("glimmer", "object", "lantern"),
    spec("stripy", "object", "red ball"),
    spec("reef", "scene", "beach"),
]


@pytest.fixture(scope="module")
def story() -> Story:
    return composed(CAST, 40, 20)


def cast_of(panel: Panel) -> list[str]:
    return [str(region.concept) for region in panel.regions.values()]


def test_half_of_the_panels_show_two_subjects_and_the_others_three_and_four(story: Story) -> None:
    counts = [len(panel.regions) for _, panel in story.panels()]
    assert [counts.count(number) for number in (2, 3, 4)] == [20, 12, 8]


def test_one_panel_in_four_shows_two_of_a_class(story: Story) -> None:
    foxes = [{"ember", "sorrel"} <= set(cast_of(panel)) for _, panel in story.panels()]
    assert all(foxes[::4])


def test_everybody_meets_everybody_but_objects(story: Story) -> None:
    met = {
        frozenset(pair) for _, panel in story.panels() for pair in combinations(cast_of(panel), 2)
    }
    names = [each.name for each in CAST if each.kind != "scene"]
    wanted = {frozenset(pair) for pair in combinations(names, 2)}
    assert met == wanted - {frozenset({"glimmer", "stripy"})}


def test_regions_of_a_panel_do_not_overlap(story: Story) -> None:
    for _, panel in story.panels():
        for a, b in combinations(story.region_boxes(panel).values(), 2):
            assert a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0, panel.id


def test_the_same_cast_gives_the_same_panels(story: Story) -> None:
    assert composed(CAST, 40, 20) == story


def test_two_of_one_kind_are_enough_and_one_is_not() -> None:
    pairs = composed(CAST[:2], 4, None)
    assert {len(panel.regions) for _, panel in pairs.panels()} == {2}
    with pytest.raises(StoryForgeError, match="nobody can stand beside another"):
        composed([CAST[0], CAST[-1]], 4, None)


def test_a_caption_names_everyone_with_a_side_and_a_pose(story: Story) -> None:
    panel = next(panel for _, panel in story.panels() if panel.scene and len(panel.regions) == 2)
    (left, one), (right, other) = panel.regions.items()
    named, said = (caption(story, panel, named=named) for named in (True, False))
    assert named == (
        f"a <{one.concept}> {one.pose} on the left and a <{other.concept}> {other.pose} on the "
        "right, in <reef>"
    ).replace(" None", "")
    assert "<" not in said
    assert said.endswith("on the right, in a beach")
    assert (left, right) == tuple(story.region_boxes(panel))


MODELS = Models(
    ModelRef("pocket", "0" * 64),
    {each.name: f"file of {each.name}" for each in CAST},
    {"closed-form": "solved", "average": "averaged"},
)


def tasks(story: Story) -> dict[str, PanelTask]:
    place = next((page, panel) for page, panel in story.panels() if panel.scene)
    return {
        name: task_of(name, method, story, place, MODELS)
        for name, method in METHODS.items()
        if not method.posed
    }


def test_every_way_has_its_own_pictures_from_the_same_seed(story: Story) -> None:
    made = tasks(story)
    assert len({task.key for task in made.values()}) == len(made)
    assert len({task.seed for task in made.values()}) == 1


def test_every_way_is_drawn_with_the_weights_that_it_is_named_for(story: Story) -> None:
    made = tasks(story)
    unfused = {name for name, task in made.items() if task.fused is None}
    assert unfused == {name for name in made if name.startswith(("training-free", "strangers"))}
    assert made["averaging-fused+regions"].fused == "averaged"
    own = {name for name, task in made.items() if task.concepts}
    assert own == {name for name in made if name.startswith(("training-free", "exact", "region-"))}
    shown = set(dict(made["region-exact"].concepts))
    assert shown == {"reef", *(r.concept for r in made["regions"].regions)}


def test_training_free_without_a_part_lacks_that_part_alone(story: Story) -> None:
    made, whole = tasks(story), Method("training-free", "fused", True, True, True, True)
    assert made["training-free"].method == whole
    for part in ("injection", "enhancement", "isolation", "reinitialisation"):
        method = made[f"training-free-{part}"].method
        off = {
            name: getattr(method, name)
            for name in ("injection", "enhancement", "isolation", "reinitialisation")
        }
        assert off == {name: name != part for name in off}


def test_strangers_are_asked_for_by_their_class_and_plain_pictures_in_one_prompt(
    story: Story,
) -> None:
    made = tasks(story)
    said = made["strangers"]
    assert "<" not in said.prompt + "".join(region.prompt for region in said.regions)
    assert "in a beach" in said.prompt
    assert made["plain"].regions == ()
    for region in made["regions"].regions:
        assert f"<{region.concept}>" in made["plain"].prompt


def test_strangers_and_plain_regions_are_always_compared() -> None:
    assert list(methods_named(["plain"])) == ["strangers", "plain", "regions"]
    assert list(methods_named([])) == list(METHODS)


def seen(panel: str, concept: str, **image_alignment: float) -> RegionScore:
    return RegionScore(panel, concept, concept, image_alignment)


def test_subjects_are_told_apart_from_those_of_their_own_panel_alone() -> None:
    told = apartness(
        [
            seen("a", "pip", pip=0.7, juna=0.4, otto=0.9),
            seen("a", "juna", pip=0.3, juna=0.5, otto=0.9),
            seen("b", "pip", pip=0.2, juna=0.6, otto=0.1),
            seen("b", "juna", pip=0.1, juna=0.6, otto=0.1),
            seen("alone", "otto", pip=0.9, juna=0.6, otto=0.1),
        ]
    )
    assert told.apart == pytest.approx(3 / 4)
    assert told.complete == pytest.approx(1 / 2)
    assert told.margins == pytest.approx({"a": (0.3 + 0.2) / 2, "b": (-0.4 + 0.5) / 2})
    assert told.margin == pytest.approx((0.3 + 0.2 - 0.4 + 0.5) / 4)
    assert math.isnan(apartness([seen("alone", "pip", pip=1.0)]).margin)


def test_pictures_drawn_together_share_their_time() -> None:
    times = iter([10.0, 14.0, 14.0, 20.0, 21.0])
    clock = Clock(lambda: next(times))
    clock.begin()
    clock.begin()
    assert (clock.end(), clock.end()) == (2.0, 2.0)
    clock.begin()
    assert clock.end() == 1.0


def opened(path: Path) -> Image.Image:
    with Image.open(path) as file:
        return file.convert("RGB")


def asked(folder: Path, clip: Path, *more: str) -> list[str]:
    words = ["evaluate", "regions", "--concepts", str(folder), "--methods", "plain,region-exact"]
    return [*words, "--panels", "2", "--steps", "1", "--clip", str(clip), *more]


def test_the_verb_compares_keeps_its_pictures_and_goes_on(learnt_pair: Path, clip: Path) -> None:
    first = CliRunner().invoke(app, asked(learnt_pair, clip, "--json"))
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout)
    assert list(told["methods"]) == ["strangers", "plain", "regions", "region-exact"]
    for figures in told["methods"].values():
        assert figures["regions"] == len(figures["sightings"]) == 4
        assert figures["seconds"] > 0
        assert set(figures["leakage"]) == {"juna", "pip"}
    assert told["methods"]["regions"]["seconds_ratio"] == 1
    assert told["methods"]["regions"]["margin_over_regions"]["mean"] == 0
    assert {"clip", "command", "date", "panels", "steps", "thresholds", "versions"} <= set(told)
    assert "drew 8 pictures" in first.stderr
    out = learnt_pair / "regions"
    pictures = sorted((out / "pictures").glob("*.png"))
    page = (out / "index.html").read_text()
    assert all(f"pictures/{picture.name}" in page for picture in pictures)
    assert opened(out / "sheet.png").height > 5 * 160
    assert json.loads((out / "evaluation.json").read_text())["methods"] == told["methods"]

    (learnt_pair / ".storyforge" / "panels" / pictures[0].name).unlink()
    again = CliRunner().invoke(app, asked(learnt_pair, clip))
    assert again.exit_code == 0, again.output
    assert "drew 1 pictures" in again.stderr
    assert "region-exact" in again.stdout


def test_an_unknown_way_gets_a_guess(learnt_pair: Path) -> None:
    words = ["evaluate", "regions", "--concepts", str(learnt_pair), "--methods", "exact-texts"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "did you mean `exact-text`" in done.stderr
