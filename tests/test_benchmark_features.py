"""The benchmark of features looks for what a concept has, where somebody is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks import cast, features, judge
from concepts import draw
from storyforge.pocket import world
from storyforge.pocket.world.looks import Look


def seen(pictures: list[world.Picture]) -> judge.Answers:
    """Answers of a judge that is always right."""
    return judge.truth(pictures)


def scene(*subjects: world.Subject, sky: str = "plain") -> world.Picture:
    return world.Picture("forest", "night", "clear", subjects, 1, sky=sky)


def pip(x: float) -> world.Subject:
    return world.Subject(draw.PIP, x, 0.9, 0.6)


def test_every_feature_of_every_character_is_asked_for() -> None:
    for name, look in features.CHARACTERS.items():
        assert set(features.wanted(name).values()) == {feature for feature, _ in look.extras}


def test_every_answer_that_is_wanted_can_be_given() -> None:
    for name in (*features.CHARACTERS, *features.ELSE):
        for question, right in features.wanted(name).items():
            assert right in {**judge.WHOLE, **judge.EACH}[question]


def test_a_concept_without_features_is_not_asked_for_any() -> None:
    assert features.wanted("candy") == {}


def test_a_feature_is_found_on_whatever_side_it_is() -> None:
    answers = seen([scene(pip(0.2)), scene(pip(0.8)), scene()])
    assert features.found(answers, "pattern", "stripes").tolist() == [True, True, False]


def test_a_feature_of_nobody_is_not_found() -> None:
    answers = {name: np.zeros(1, np.int64) for name in judge.questions()}
    answers["left.crown"][:] = judge.EACH["crown"].index("horn")
    assert not features.found(answers, "crown", "horn").any()
    answers["left.kind"][:] = 1
    assert features.found(answers, "crown", "horn").all()


def test_a_scene_is_asked_of_the_whole_picture() -> None:
    answers = seen([scene(sky="big moon"), scene()])
    assert features.found(answers, "sky", "big moon").tolist() == [True, False]


def test_a_share_counts_every_concept_the_same() -> None:
    found = features.summed({"pip": {"horn": 1.0, "stripes": 0.0}, "rusk": {"moon": 1.0}})
    assert found["share"] == 0.75
    assert found["features"] == {"horn": 1.0, "moon": 1.0, "stripes": 0.0}


def test_the_cast_is_judged_by_names_that_it_has() -> None:
    assert {name for name in features.ELSE if name != "lantern"} <= set(cast.ORDER)


def test_the_judge_begins_with_who_it_is_and_none_of_its_features() -> None:
    seen = world.Subject(Look("mouse", "brown", pose="waving"), 0.2, 0.9, 0.6)
    guess = world.Picture("snow", "night", "clear", (seen,), 0)
    (subject,) = features.begun("pip", guess).subjects
    assert isinstance(subject.what, Look)
    assert (subject.what.species, subject.what.garment, subject.what.pose) == (
        *("fox", "shirt", "waving"),
    )
    assert subject.what.extras == ()
    assert subject.x == seen.x
    (found,) = features.begun("pip", replace(guess, subjects=())).subjects
    assert found.x == 0.5
    assert features.begun("moonwood", guess) is guess
    person = replace(guess, subjects=(replace(seen, what=Look("girl", "tan")),))
    assert world.draw(features.begun("pip", person))[0].any(), "nobody's skin is a fur"
