"""The embedded model's own CLIP, as it is shipped: a stock CLIP that knows its world."""

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

pytest.importorskip("skia")

from storyforge.metrics.clip import open_clip
from storyforge.modelref import POCKET_CLIP
from storyforge.pocket import world
from storyforge.pocket.pretrain import clip as views

HELD_OUT = 1 << 44
"""Training draws with seeds that are tuples; no number is one of them."""


def test_stock_transformers_open_the_folder() -> None:
    model = CLIPModel.from_pretrained(POCKET_CLIP)
    tokenizer = CLIPTokenizer.from_pretrained(POCKET_CLIP)
    ids = tokenizer(["a fox in a red coat"], return_tensors="pt").input_ids
    assert ids.max() < model.config.text_config.vocab_size


def test_the_folder_is_small_enough_to_come_with_the_package() -> None:
    assert sum(file.stat().st_size for file in POCKET_CLIP.iterdir()) <= 8e6


def test_what_is_shipped_names_no_folder_of_the_machine_that_trained_it() -> None:
    files = sorted(POCKET_CLIP.parent.rglob("*config.json"))
    assert len(files) > 5
    assert not [file for file in files if '": "/' in file.read_text(encoding="utf-8")]


def test_two_pictures_of_a_character_are_nearer_than_those_of_two() -> None:
    clip, generator = open_clip("pocket"), np.random.default_rng(HELD_OUT)
    looks = [views.random_character(generator) for _ in range(40)]
    one, two = (
        clip.pictures([Image.fromarray(views.view(look, generator).picture) for look in looks])
        for _ in range(2)
    )
    alike = one @ two.T
    assert (np.diag(alike) > np.median(alike, 1)).mean() >= 0.9


def test_a_caption_finds_its_picture_among_others() -> None:
    clip, generator = open_clip("pocket"), np.random.default_rng(HELD_OUT + 1)
    shown = [views.scenery(generator) for _ in range(40)]
    seen = clip.pictures([Image.fromarray(view.picture) for view in shown])
    found = (clip.words([view.caption for view in shown]) @ seen.T).argmax(1)
    assert (found == np.arange(40)).mean() >= 0.5


def _plainly(picture: world.Picture, place: str) -> bool:
    """Whether it is that place, of the usual colours, with nobody in front of it."""
    usual = (picture.tint, picture.sky, picture.weather) == (None, "plain", "clear")
    return picture.place == place and usual and all(s.size < 0.65 for s in picture.subjects)


def test_the_place_of_a_drawing_is_told_by_words_alone() -> None:
    clip = open_clip("pocket")
    places = [name for name in world.SAID["place"] if name not in ("grove", "seabed")]
    said = clip.words([f"a picture {world.SAID['place'][place][0]}" for place in places])
    right = 0
    for index, place in enumerate(places):
        generator = np.random.default_rng(HELD_OUT + 2 + index)
        picture = next(p for _ in range(9999) if _plainly(p := world.imagine(generator), place))
        drawn = Image.fromarray(world.draw(picture, 192)[0])
        right += places[int((said @ clip.pictures([drawn])[0]).argmax())] == place
    assert right >= len(places) - 2
