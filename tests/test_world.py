"""The illustrator: what it draws is what it says."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import cast
from concepts import draw as concepts
from storyforge.model.base import BaseModel
from storyforge.pocket import world
from storyforge.pocket.world import (
    EACH,
    LABELS,
    Picture,
    Subject,
    Thing,
    describe,
    draw,
    imagine,
    labels,
)
from storyforge.pocket.world.instances import fur_name
from storyforge.pocket.world.looks import BUILDS, PEOPLE, SPECIES, Look
from storyforge.pocket.world.things import THINGS

SIZE = 64
FOX = Look("fox", "orange", "coat", "red", accessory="crown", pose="waving")


def seeded(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@functools.cache
def pictures(count: int) -> tuple[Picture, ...]:
    return tuple(imagine(seeded(seed)) for seed in range(count))


def scene(*subjects: Subject) -> Picture:
    return Picture("forest", "night", "clear", subjects, 1)


def fox(x: float = 0.5) -> Subject:
    return Subject(FOX, x, 0.9, 0.6)


def test_a_seed_imagines_draws_and_says_the_same_every_time() -> None:
    for seed in range(5):
        (one, pixels, words), (other, same, again) = (
            (p := imagine(d := seeded(seed)), draw(p, SIZE), describe(p, d)) for _ in range(2)
        )
        assert one == other
        assert words == again
        assert np.array_equal(pixels[0], same[0])
        assert np.array_equal(pixels[1], same[1])


def test_other_seeds_draw_other_pictures() -> None:
    drawn = {draw(picture, SIZE)[0].tobytes() for picture in pictures(20)}
    assert len(drawn) == 20


def test_a_picture_comes_with_a_mask_for_each_subject() -> None:
    for picture in pictures(30):
        pixels, masks = draw(picture, SIZE)
        assert pixels.shape == (SIZE, SIZE, 3)
        assert masks.shape == (len(picture.subjects), SIZE, SIZE)
        assert pixels.dtype == masks.dtype == np.uint8


def test_a_mask_lies_where_its_subject_stands() -> None:
    for picture in pictures(60):
        _, masks = draw(picture, SIZE)
        for subject, mask in zip(picture.subjects, masks, strict=True):
            rows, columns = np.nonzero(mask > 127)
            if subject.view != "whole" or len(rows) < 30:
                continue
            assert abs(np.average(columns) / SIZE - subject.x) < 0.2
            assert rows.max() / SIZE < subject.ground + 0.1
            assert rows.min() / SIZE > subject.ground - 1.4 * subject.size - 0.1


def test_masks_share_no_more_than_a_whole_pixel() -> None:
    for picture in pictures(30):
        masks = draw(picture, SIZE)[1]
        assert masks.astype(int).sum(0).max() <= 255 + len(masks)


def test_who_stands_in_front_hides_who_stands_behind() -> None:
    alone = draw(scene(fox()), SIZE)[1][0]
    behind, front = draw(scene(fox(), fox(0.55)), SIZE)[1]
    assert (behind > 127).sum() < (alone > 127).sum()
    assert (front > 127).sum() > (behind > 127).sum()


def test_a_subject_changes_the_picture_at_its_mask_and_shadow_alone() -> None:
    empty, there = draw(scene(), SIZE)[0], draw(scene(fox()), SIZE)
    mask = there[1][0] > 0
    changed = (empty != there[0]).any(-1)
    shadow = np.zeros_like(mask)
    shadow[int(0.85 * SIZE) :] = True
    assert not (changed & ~mask & ~shadow).any()
    assert changed[mask].mean() > 0.9


def test_a_mirrored_look_is_the_mirrored_mask() -> None:
    one, other = (
        draw(scene(replace(fox(), what=replace(FOX, mirror=m))), SIZE)[1][0].astype(int)
        for m in (False, True)
    )
    assert np.abs(one[:, ::-1] - other).mean() < 2
    assert np.abs(one - other).mean() > 2


@pytest.mark.parametrize(("x", "side"), [(0.2, "left"), (0.5, "middle"), (0.8, "right")])
def test_the_side_said_is_the_side_drawn(x: float, side: str) -> None:
    subject = fox(x)
    mask = draw(scene(subject), SIZE)[1][0] > 127
    third = int(3 * np.average(np.nonzero(mask)[1]) / SIZE)
    assert subject.side == world.SIDES[third] == side


def test_captions_of_a_fixed_picture_say_what_is_there_and_nothing_else() -> None:
    others = [name for name in (*SPECIES, *THINGS) if name not in ("fox", "book")]
    said: set[str] = set()
    for seed in range(200):
        words = describe(scene(fox(0.2)), seeded(seed)).replace(",", " ").split()
        assert "fox" in words or " ".join(words) in world.SAID["place"]["forest"]
        assert not set(words) & set(others)
        assert not set(words) & {"right", "middle", "sunset", "day", "blue", "green"}
        for garment in ("coat", "jacket"):
            if garment in words:
                assert words[words.index(garment) - 1] == "red"
        said |= set(words)
    assert {"left", "forest", "night", "red", "coat", "jacket", "crown", "waving"} <= said


def test_labels_of_a_fixed_picture_are_its_parts() -> None:
    picture = scene(fox(0.2), Subject(Thing("house", "blue"), 0.8, 0.9, 0.5))
    found = {k: LABELS[k][v] for k, v in labels(picture).items() if v >= 0}
    assert found == {
        "place": "forest",
        "time": "night",
        "weather": "clear",
        "kind0": "fox",
        "side0": "left",
        "colour0": "red",
        "sky": "plain",
        "tint": "none",
        "fur0": "orange",
        "pose0": "waving",
        "accessory0": "crown",
        "garment0": "coat",
        "pattern0": "none",
        "marks0": "none",
        "crown0": "none",
        "wings0": "none",
        "glow0": "none",
        "glow1": "none",
        "pattern1": "none",
        "build0": "usual",
        "view0": "whole",
        "kind1": "house",
        "side1": "right",
        "colour1": "blue",
        "kind2": "none",
        "kind3": "none",
    }


def test_every_label_is_a_class_of_its_head_and_its_subject_is_named() -> None:
    for picture in pictures(200):
        found = labels(picture)
        assert list(found) == list(LABELS)
        assert all(-1 <= value < len(LABELS[head]) for head, value in found.items())
        words = world.tell(picture)
        for slot in range(len(picture.subjects)):
            assert LABELS[f"kind{slot}"][found[f"kind{slot}"]] in words


def subjects_of(count: int) -> list[Look | Thing]:
    return [subject.what for picture in pictures(count) for subject in picture.subjects]


def test_two_thousand_pictures_show_everything_there_is() -> None:
    seen: dict[str, set[int]] = {}
    for picture in pictures(2000):
        for head, value in labels(picture).items():
            seen.setdefault(head.rstrip("0123"), set()).add(value)
    for head in (*EACH, "place", "weather", "sky", "tint"):
        values = LABELS.get(head) or EACH[head]
        assert seen[head] - {-1} == {values.index(value) for value in values}, head


CONCEPTS = [concepts.PIP, concepts.JUNA, concepts.MO, *cast.CHARACTERS.values()]


@pytest.mark.parametrize("look", CONCEPTS)
def test_a_concept_is_held_out_and_all_that_it_has_is_in_the_world(look: Look) -> None:
    assert world.look_held_out(look)
    assert world.is_held_out(scene(Subject(look, 0.5, 0.9, 0.6)))
    others = [what for what in subjects_of(3000) if isinstance(what, Look)]
    kin = [other for other in others if other.species == look.species]
    assert fur_name(look) in {other.fur for other in kin}
    for name, _ in look.extras:
        assert any(other.extra(name) for other in kin), name
    names = {name for name, _ in look.extras}
    assert not [
        other
        for other in kin
        if other.fur == fur_name(look) and names & {name for name, _ in other.extras}
    ]


def test_nothing_that_is_imagined_is_held_out() -> None:
    assert not any(world.is_held_out(picture) for picture in pictures(3000))


def test_the_lantern_and_the_moonwood_are_held_out_and_their_parts_are_not() -> None:
    lantern = Thing("lantern", "blue", "star", "orange", glow=True)
    assert world.is_held_out(scene(Subject(lantern, 0.5, 0.9, 0.4)))
    assert not world.is_held_out(scene(Subject(replace(lantern, colour="red"), 0.5, 0.9, 0.4)))
    moonwood = Picture("grove", "night", "clear", (), 1, "big moon", "violet")
    assert world.is_held_out(moonwood)
    things = [what for what in subjects_of(3000) if isinstance(what, Thing)]
    lanterns = [thing for thing in things if thing.name == "lantern"]
    assert any(thing.colour == "blue" and thing.glow for thing in lanterns)
    assert any(thing.pattern == "star" and thing.glow for thing in lanterns)
    places = {(picture.place, picture.tint, picture.sky) for picture in pictures(3000)}
    assert {("grove", "violet", "plain"), ("grove", "pink", "big moon")} <= places


@pytest.mark.parametrize("feature", world.FEATURES)
def test_every_feature_is_drawn(feature: str) -> None:
    plain = replace(FOX, accessory=None)
    marked = replace(plain, extras=((feature, "navy"),))
    one, other = (draw(scene(Subject(x, 0.5, 0.9, 0.6)), 128)[0] for x in (plain, marked))
    assert (one != other).any(-1).sum() > 40


def alone(count: int) -> list[Picture]:
    return [
        p for p in pictures(count) if len(p.subjects) == 1 and isinstance(p.subjects[0].what, Look)
    ]


def test_nothing_of_who_is_seen_whole_is_cut_off_at_the_top() -> None:
    for picture in alone(200):
        (subject,) = picture.subjects
        glows = isinstance(subject.what, Look) and subject.what.extra("glow")
        if subject.view == "whole" and not glows:
            assert not draw(picture, SIZE)[1][0][0].any()


def test_the_eyes_are_in_the_head_and_the_head_is_in_the_mask() -> None:
    for picture in alone(200):
        (face,), mask = world.faces(picture), draw(picture, 128)[1][0]
        assert face is not None
        assert face.head[0] <= face.eyes[0] < face.eyes[2] <= face.head[2]
        assert face.head[1] <= face.eyes[1] < face.eyes[3] <= face.head[3]
        left, top, right, bottom = (round(128 * edge) for edge in face.eyes)
        assert (mask[top:bottom, left:right] > 127).mean() > 0.85


def test_the_eyes_are_where_it_is_as_dark_as_ink() -> None:
    for build in BUILDS:
        look = Look("cat", "white", build=build, pose="running")
        picture = scene(Subject(look, 0.5, 0.9, 0.6))
        (face,), drawing = world.faces(picture), draw(picture, 256)[0]
        assert face is not None
        left, top, right, bottom = (round(256 * edge) for edge in face.eyes)
        assert (drawing[top:bottom, left:right].max(-1) < 90).mean() > 0.08


def test_things_have_no_face() -> None:
    assert world.faces(scene(Subject(Thing("star", "red"), 0.5, 0.9, 0.4))) == (None,)


def test_a_picture_is_the_same_at_any_size() -> None:
    for picture in pictures(20):
        small, large = draw(picture, 128)[0], draw(picture, 512)[0]
        shrunk = large.reshape(128, 4, 128, 4, 3).mean((1, 3))
        assert np.abs(shrunk - small).mean() < 3


def test_three_in_ten_pictures_are_closer_and_seven_in_ten_characters_have_something_on() -> None:
    shown = pictures(2000)
    close = [any(s.view != "whole" for s in p.subjects) for p in shown]
    assert np.mean(close) == pytest.approx(0.3, abs=0.04)
    looks = [s.what for p in shown for s in p.subjects if isinstance(s.what, Look)]
    assert np.mean([look.accessory is not None for look in looks]) == pytest.approx(0.7, abs=0.04)


def test_what_is_said_is_what_is_seen() -> None:
    hidden = Subject(replace(FOX, pose="standing"), 0.5, 1.8, 1.7)
    assert hidden.view == "face"
    words = world.tell(scene(hidden))
    assert "face" in words
    assert "coat" not in words
    assert "standing" not in words


def test_seven_in_ten_captions_of_one_character_say_everything() -> None:
    look = replace(FOX, fur="mint", build="round", extras=(("stripes", "gold"), ("wings", "navy")))
    picture = scene(Subject(look, 0.5, 0.9, 0.6))
    parts = ("mint", "fox", "gold stripes", "navy wings", "crown", "waving")
    said = [describe(picture, seeded(seed)) for seed in range(400)]
    whole = np.mean([all(part in words for part in parts) for words in said])
    assert whole == pytest.approx(0.7, abs=0.07)
    assert all(part in world.tell(picture) for part in parts)


def test_people_have_skins_and_animals_have_furs() -> None:
    for picture in pictures(200):
        for subject in picture.subjects:
            if isinstance(subject.what, Look):
                people = subject.what.species in PEOPLE
                assert subject.what.fur in (world.SKINS if people else world.FURS)


def test_every_caption_fits_the_encoder_that_knows_its_words() -> None:
    for seed in range(500):
        caption = describe(imagine(generator := seeded(seed)), generator)
        assert len(caption.replace(",", " ,").replace("-", " - ").split()) + 2 <= 77


TEXTS = (
    "A Quizzical zygote's 3rd hypothesis: yes/no?",
    "größer, élan, smørrebrød, naïve",
    "赤い狐 и медведь",
    "🦊🌲 “curly” — dash…",
)


@pytest.mark.parametrize("text", TEXTS)
def test_the_tokenizer_reads_any_text_without_loss(base: BaseModel, text: str) -> None:
    ids = base.tokenizer(text, add_special_tokens=False).input_ids
    assert base.tokenizer.unk_token_id not in ids
    assert base.tokenizer.decode(ids).replace(" ", "") == text.lower().replace(" ", "")


def test_the_tokenizer_knows_how_much_the_encoder_reads(base: BaseModel) -> None:
    positions = base.text_encoder.config.max_position_embeddings
    assert base.tokenizer.model_max_length == positions == 77
    assert len(base.tokenizer) == base.text_encoder.config.vocab_size


def test_a_sheet_lays_pictures_row_by_row() -> None:
    tiles = [np.full((2, 3, 3), value, np.uint8) for value in (1, 2, 3)]
    made = world.sheet(tiles, 2)
    assert made.shape == (4, 6, 3)
    assert made[::2, ::3, 0].tolist() == [[1, 2], [3, 255]]


def test_trees_stand_where_they_do_at_every_hour_in_every_weather_sky_and_tint() -> None:
    """Edges below the sky are at the same places: what is drawn is told by one arrangement."""
    scene = world.Picture("grove", "day", "clear", (), 3)

    def edges(picture: world.Picture) -> np.ndarray:
        """How much each pixel below the sky differs from the one beside it, in any colour."""
        pixels = world.draw(picture, 128)[0][56:].astype(np.float32)
        return np.minimum(np.abs(np.diff(pixels, axis=1)).max(2), 8).ravel()

    def alike(other: world.Picture) -> float:
        return float(np.corrcoef(edges(scene), edges(other))[0, 1])

    others = [
        replace(scene, time="night"),
        replace(scene, time="sunset"),
        replace(scene, weather="fog"),
        replace(scene, sky="rainbow"),
        replace(scene, tint="violet"),
        replace(scene, time="night", sky="big moon", tint="violet"),
    ]
    found = [alike(other) for other in others]
    assert min(found) > 0.7, found
    assert min(alike(replace(scene, seed=n)) for n in range(3)) < 0.4
