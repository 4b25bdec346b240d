"""A concept cut out of its pictures and pasted beside others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from support import CONFIG, train_task

from storyforge.errors import StoryForgeError
from storyforge.executor import silent
from storyforge.model.base import BaseModel
from storyforge.settings import TrainSettings
from storyforge.train import edlora
from storyforge.train.composing import Backdrop, backdrops, pasted, with_composed
from storyforge.train.dataset import Example
from storyforge.train.report import refusals
from storyforge.train.training_set import TrainingSet, draw_batches

RED = torch.tensor([1.0, 0.0, 0.0])[:, None, None]


def subject(top: int = 8, left: int = 12) -> Example:
    """A red square of 8 pixels on green, with its mask."""
    pixels, mask = torch.zeros(3, 32, 32), torch.zeros(32, 32)
    pixels[1] = 1
    pixels[:, top : top + 8, left : left + 8] = RED
    mask[top : top + 8, left : left + 8] = 1
    return Example("a.png", pixels, mask, ("a <pip>",))


def paste(middle: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    blue = torch.zeros(3, 64, 64)
    blue[2] = 1
    return pasted(subject(), blue, middle, torch.Generator().manual_seed(seed))


def test_only_the_subject_is_pasted_and_the_mask_says_where() -> None:
    picture, mask = paste(0.25)
    assert (picture[0] - mask).abs().max() < 1e-5, "red is where the mask is"
    assert (picture[2] - (1 - mask)).abs().max() < 1e-5, "the backdrop is elsewhere"
    assert picture[1].max() < 1e-5, "what was around the subject is nowhere"
    rows = mask.any(1).nonzero().flatten()
    assert 0.45 * 64 - 1 <= len(rows) <= 0.7 * 64 + 1


def test_the_subject_stands_on_its_side() -> None:
    for seed in range(5):
        left, right = paste(0.25, seed)[1], paste(0.75, seed)[1]
        assert left[:, 34:].max() == 0
        assert right[:, :30].max() == 0
        assert left.sum() > 0


def test_the_caption_says_who_stands_on_which_side() -> None:
    beside = Backdrop("in the snow", "a dog", "right")
    assert beside.prompt == "a dog on the right, in the snow"
    assert beside.caption("pip") == "a <pip> on the left and a dog on the right, in the snow"
    alone = Backdrop("on a beach", None, "right")
    assert alone.prompt == "on a beach"
    assert alone.caption("pip") == "a <pip> on the right, on a beach"


def test_neighbours_stand_on_both_sides_and_some_places_are_empty() -> None:
    every = backdrops()
    assert len({each.prompt for each in every}) == len(every)
    assert {each.side for each in every if each.neighbour} == {"left", "right"}
    assert any(each.neighbour is None for each in every)


SCENES = (
    Backdrop("in the snow", "a fox", "left"),
    Backdrop("in the snow", "a dog", "left"),
    Backdrop("in a town", None, "left"),
)


@pytest.fixture
def quick(base: BaseModel) -> BaseModel:
    """A base that draws in one step."""
    return replace(base, defaults=replace(base.defaults, steps=1))


def material_of(base: BaseModel) -> TrainingSet:
    side = base.side // base.vae_scale
    latents = torch.full((base.unet.config.in_channels, side, side), 7.0)
    return TrainingSet([subject()], [latents], [torch.ones(1, side, side)], None)


def composed(base: BaseModel, folder: Path, seed: int = 3) -> TrainingSet:
    return with_composed(
        base,
        material_of(base),
        ("pip", "fox"),
        folder,
        silent,
        seed=seed,
        count=4,
        scenes=SCENES,
    )


def test_composed_pictures_come_after_the_others_and_by_the_seed_alone(
    quick: BaseModel, tmp_path: Path
) -> None:
    one, same, other = (composed(quick, tmp_path, seed) for seed in (3, 3, 4))
    assert (len(one.examples), one.composed) == (5, 4)
    assert torch.equal(one.latents[0], material_of(quick).latents[0])
    pairs = list(zip(one.latents[1:], same.latents[1:], other.latents[1:], strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)
    captions = {caption for example in one.examples[1:] for caption in example.captions}
    assert captions <= {
        "a <pip> on the right and a dog on the left, in the snow",
        "a <pip> on the left, in a town",
    }, "no second one of its class stands beside it"
    assert all(mask.min() == 1 for mask in one.masks[1:]), "the neighbour counts as well"


def test_composed_pictures_are_shown_in_the_share_asked_for(
    quick: BaseModel, tmp_path: Path
) -> None:
    seen = composed(quick, tmp_path)

    def shown(share: float | None) -> float:
        config = replace(CONFIG, batch_size=200, composed=share)
        (batch,) = draw_batches(seen, config, torch.Generator().manual_seed(0))
        own = (batch.clean == 7).all(dim=(1, 2, 3))
        return 1 - own.float().mean().item()

    assert shown(None) == 0
    assert shown(0.3) == pytest.approx(0.3, abs=0.1)
    assert shown(1.0) == 1


def test_nothing_can_be_cut_out_without_a_mask(base: BaseModel, tmp_path: Path) -> None:
    task = train_task(base, tmp_path, steps=1, composed=0.5)
    with pytest.raises(StoryForgeError, match="`composed` cuts `pip` out") as caught:
        edlora.train_concept(base, task, tmp_path / "pip.safetensors", tmp_path, silent)
    assert "-mask.png" in str(caught.value.hint)


def test_nothing_outside_a_mask_is_held_without_one(base: BaseModel, tmp_path: Path) -> None:
    task = train_task(base, tmp_path, steps=1, masked_prior=0.5)
    with pytest.raises(StoryForgeError, match="`masked_prior` holds what is outside `pip`"):
        edlora.train_concept(base, task, tmp_path / "pip.safetensors", tmp_path, silent)
    for settings in ({"masked_prior": 0.5}, {"composed": 0.5}):
        (found,) = refusals(tmp_path, TrainSettings.model_validate(settings))
        assert found.code == "SF607"
        assert found.message.startswith(f"`{next(iter(settings))}` ")
    assert refusals(tmp_path, TrainSettings(masked_prior=0)) == ()


def test_a_concept_is_learnt_from_composed_pictures(quick: BaseModel, tmp_path: Path) -> None:
    task = train_task(quick, tmp_path, steps=1, composed=1.0)
    mask = Image.new("L", (40, 40))
    mask.paste(255, (10, 10, 30, 30))
    mask.save(tmp_path / "a-mask.png")
    (scratch := tmp_path / "store" / "key").mkdir(parents=True)
    edlora.train_concept(quick, task, tmp_path / "pip.safetensors", scratch, silent)
    assert (tmp_path / "pip.safetensors").is_file()
