"""The benchmark of the embedded model asks for what it then looks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks import control as controls
from benchmarks import judge as judges
from benchmarks import pocket
from storyforge.model.base import BaseModel
from storyforge.pictures import with_articles
from storyforge.pocket import world
from storyforge.pocket.pretrain.fidelity import Through

ASKED = pocket.subjects_of(1, 3, 5) + pocket.subjects_of(2, 2, 9)


def test_a_prompt_says_everything_that_the_judge_is_asked() -> None:
    for picture in ASKED:
        words = world.tell(picture)
        assert picture.tint in words if picture.tint else world.SAID["place"][picture.place][0]
        for subject in picture.subjects:
            assert world.SAID["side"][subject.side][0] in words
            what = subject.what
            parts = (
                [what.name, what.colour]
                if isinstance(what, world.Thing)
                else [what.species, subject.pose, what.accessory]
            )
            assert all(part in words for part in parts if part), words


def test_articles_follow_their_nouns() -> None:
    assert with_articles("a owl and a red apple") == "an owl and a red apple"


def test_a_judge_that_is_right_finds_all_that_was_asked() -> None:
    right = judges.truth(ASKED)
    scores = pocket.shares(right, ASKED)
    assert scores["species"] == scores["scene"] == scores["place"] == 1.0
    wrong = {name: np.where(v > 0, v - 1, v + 1) for name, v in right.items()}
    assert pocket.shares(wrong, ASKED)["scene"] == 0.0


def test_the_judge_answers_every_question_for_every_picture() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        judge = judges.Judge().eval()
    seen = judges.pixels([world.draw(picture)[0] for picture in ASKED])
    made = judges.answers(judge, seen)
    assert set(made) == set(judges.questions()) == set(judges.truth(ASKED))
    assert all(len(values) == len(ASKED) for values in made.values())


def test_the_judge_learns_from_more_weather_than_there_is_and_from_none_indoors() -> None:
    generator = np.random.default_rng(0)
    shown = [
        (old, judges.wetter(old, generator))
        for old in (world.imagine(generator) for _ in range(300))
    ]
    assert all(replace(new, weather=old.weather) == old for old, new in shown)
    inside = [name for name, (_, outdoors) in world.PLACES.items() if not outdoors]
    assert {new.weather for _, new in shown if new.place in inside} == {"clear"}
    outside = [new.weather for _, new in shown if new.place not in inside]
    assert set(outside) == set(world.LABELS["weather"])
    assert outside.count("clear") / len(outside) == pytest.approx(0.34, abs=0.08)


def test_drawings_through_a_vae_that_loses_nothing_are_judged_as_drawings() -> None:
    seen: list[NDArray[np.uint8]] = []

    def judge(
        pictures: Sequence[NDArray[np.uint8]], asked: Sequence[world.Picture]
    ) -> judges.Answers:
        assert asked == ASKED
        seen.extend(pictures)
        return judges.truth(ASKED)

    assert set(pocket.through(lambda pictures: pictures, judge, ASKED).values()) == {1.0}
    assert np.array_equal(seen, [world.draw(picture)[0] for picture in ASKED])


def test_one_model_picture_is_drawn_for_each_prompt(base: BaseModel) -> None:
    quick = replace(base, defaults=replace(base.defaults, steps=2))
    made = pocket.drawn(quick, ["a fox", "an owl"], 0)
    assert [picture.shape for picture in made] == [(base.side, base.side, 3)] * 2
    assert not np.array_equal(made[0], made[1])


def test_the_edges_of_a_drawing_lie_on_its_own_and_not_on_those_of_another() -> None:
    one, other = controls.asked_for(2, 5)
    (drawing, masks), (strange, _) = world.draw(one), world.draw(other)
    assert controls.edge_overlap(drawing, drawing, masks[0]) == 1.0
    assert controls.edge_overlap(strange, drawing, masks[0]) < 0.5
    assert controls.edge_overlap(np.full_like(drawing, 200), drawing, masks[0]) < 0.5


def test_a_prompt_for_control_says_everything_but_the_pose() -> None:
    for picture in controls.asked_for(8, 5):
        words = controls.unposed(picture)
        assert picture.subjects[0].what.species in words
        assert picture.subjects[0].what.pose not in words
        assert world.SAID["side"][picture.subjects[0].side][0] in words


def test_the_judge_sees_the_same_at_any_size_of_picture() -> None:
    small, large = (
        judges.pixels([world.draw(picture, size)[0] for picture in ASKED]) for size in (256, 512)
    )
    assert float((small - large).abs().mean()) < 0.01


def test_what_the_code_loses_is_measured_in_the_size_that_the_encoder_sees(base: BaseModel) -> None:
    seen: list[int] = []

    def sized(code: Through, seeds: list[int]) -> tuple[float, float]:
        seen.append(code(ASKED[0], torch.zeros(1, 3, base.sides[0], base.sides[0])).shape[-1])
        return 28.0, 24.0

    found = pocket.code_figures(base, lambda *_: judges.truth(ASKED), ASKED, sized)
    assert seen == [base.sides[0]]
    assert (found["vae_psnr"], found["vae_psnr_heads"]) == (28.0, 24.0)


def test_what_is_said_of_the_mirrored_picture_is_said_of_the_other_side() -> None:
    subject = ASKED[0].subjects[0]
    left, right = (
        judges.truth([replace(ASKED[0], subjects=(replace(subject, x=x),))]) for x in (0.2, 0.8)
    )
    turned = judges.mirrored(left)
    assert set(turned) == set(right)
    assert all(np.array_equal(turned[name], right[name]) for name in right)
