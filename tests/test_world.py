"""The illustrator: what it draws is what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from storyforge.model.base import BaseModel
from storyforge.pocket import world
from storyforge.pocket.looks import ACCESSORIES, PEOPLE, SPECIES, Look
from storyforge.pocket.things import THINGS
from storyforge.pocket.world import LABELS, Picture, Subject, Thing, describe, draw, imagine, labels

SIZE = 64
FOX = Look("fox", "orange", "coat", "red", accessory="crown", pose="waving")


def dice(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def pictures(count: int) -> list[Picture]:
    return [imagine(dice(seed)) for seed in range(count)]


def scene(*subjects: Subject) -> Picture:
    return Picture("forest", "night", "clear", subjects, 1)


def fox(x: float = 0.5) -> Subject:
    return Subject(FOX, x, 0.9, 0.6)


def test_a_seed_imagines_draws_and_says_the_same_every_time() -> None:
    for seed in range(5):
        (one, pixels, words), (other, same, again) = (
            (p := imagine(d := dice(seed)), draw(p, SIZE), describe(p, d)) for _ in range(2)
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
            assert len(rows) > 10
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
        words = describe(scene(fox(0.2)), dice(seed)).replace(",", " ").split()
        assert "fox" in words
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
        "fur0": "orange",
        "pose0": "waving",
        "accessory0": "crown",
        "kind1": "house",
        "side1": "right",
        "colour1": "blue",
        "kind2": "none",
        "kind3": "none",
    }


def test_every_label_is_a_class_of_its_head_and_its_subject_is_named() -> None:
    for seed, picture in enumerate(pictures(200)):
        found, words = labels(picture), describe(picture, dice(seed))
        assert list(found) == list(LABELS)
        assert all(-1 <= value < len(LABELS[head]) for head, value in found.items())
        for slot in range(len(picture.subjects)):
            assert LABELS[f"kind{slot}"][found[f"kind{slot}"]] in words


def test_a_thousand_pictures_show_everything_there_is() -> None:
    subjects = [s.what for p in pictures(1000) for s in p.subjects]
    looks = [what for what in subjects if isinstance(what, Look)]
    assert {look.species for look in looks} == set(SPECIES)
    assert {look.accessory for look in looks} == {None, *ACCESSORIES}
    assert {what.name for what in subjects if isinstance(what, Thing)} == set(THINGS)
    assert not any(look.extras for look in looks)


def test_people_have_skins_and_animals_have_furs() -> None:
    for picture in pictures(200):
        for subject in picture.subjects:
            if isinstance(subject.what, Look):
                people = subject.what.species in PEOPLE
                assert subject.what.fur in (world.SKINS if people else world.FURS)


def test_every_caption_fits_the_encoder(base: BaseModel) -> None:
    captions = [describe(imagine(d), d) for d in map(dice, range(500))]
    assert max(len(ids) for ids in base.tokenizer(captions).input_ids) <= 77


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
