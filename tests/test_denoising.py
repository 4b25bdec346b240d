"""The loop from noise to latents."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from storyforge.errors import StoryForgeError
from storyforge.model import denoising
from storyforge.model.attention import AttentionContext, predict
from storyforge.model.base import BaseModel
from storyforge.model.denoising import (
    SCHEDULERS,
    Extras,
    denoise,
    make_scheduler,
    rescaled,
    start_latents,
)
from storyforge.model.tokens import encode
from storyforge.settings import Scheduler

PROMPT, NEGATIVE = "a red fox in the snow", "a house"


def small(base: BaseModel, *seeds: int) -> Tensor:
    """Start latents of the smallest picture that the U-Net takes."""
    side = base.vae_scale * 2 ** (len(base.unet.config.block_out_channels) - 1)
    return start_latents(base, list(seeds), (side, side))


def sampled(base: BaseModel, latents: Tensor, **settings: object) -> Tensor:
    n = len(latents)
    text = encode(base, [NEGATIVE] * n + [PROMPT] * n, {})
    return denoise(base, AttentionContext(text), latents, **{"steps": 3, **settings})


def stock(base: BaseModel) -> StableDiffusionPipeline:
    pipe = StableDiffusionPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=base.unet,
        scheduler=make_scheduler(base, "ddim"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("guidance_scale", [4.0, 1.5])
def test_the_plain_loop_is_the_stock_pipeline(base: BaseModel, guidance_scale: float) -> None:
    latents = small(base, 7)
    height, width = (base.vae_scale * cells for cells in latents.shape[2:])
    wanted = stock(base)(
        PROMPT,
        negative_prompt=NEGATIVE,
        height=height,
        width=width,
        latents=latents.clone(),
        num_inference_steps=3,
        guidance_scale=guidance_scale,
        guidance_rescale=base.defaults.guidance_rescale,
        output_type="latent",
    ).images
    made = sampled(base, latents, guidance_scale=guidance_scale, scheduler="ddim")
    torch.testing.assert_close(made, wanted, rtol=1e-4, atol=1e-5)


def test_guidance_scale_one_does_not_hear_the_negative_prompt(base: BaseModel) -> None:
    latents = small(base, 7)
    one, other = (
        denoise(
            base,
            AttentionContext(encode(base, [n, PROMPT], {})),
            latents,
            steps=2,
            guidance_scale=1.0,
        )
        for n in ("", "a house by night")
    )
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


# diffusers' own arrays and numpy 2 do not quite agree.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_there_is_guidance_in_its_part_of_the_steps_alone(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(*said: object) -> Tensor:
        made = predict(*said)
        asked.append(len(made))
        return made

    monkeypatch.setattr(denoising, "predict", counted)
    sampled(base, small(base, 7), steps=4, guidance_interval=(0.25, 0.75))
    assert asked == [1, 2, 2, 1]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_ends_with_numbers_and_repeats_itself(base: BaseModel, name: str) -> None:
    extras = Extras(seeds=(7,))
    one, other = (sampled(base, small(base, 7), scheduler=name, extras=extras) for _ in range(2))
    assert one.isfinite().all()
    assert torch.equal(one, other)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_keeps_the_noise_schedule_of_the_base(base: BaseModel, name: str) -> None:
    config = make_scheduler(base, name).config
    for key in ("prediction_type", "beta_schedule", "beta_start", "beta_end", "timestep_spacing"):
        assert config[key] == base.scheduler_config[key]


def test_an_unknown_scheduler_is_refused_with_those_that_there_are(base: BaseModel) -> None:
    with pytest.raises(StoryForgeError, match="`plms`") as caught:
        make_scheduler(base, "plms")
    assert caught.value.hint is not None
    assert "ddim" in caught.value.hint


def test_the_habit_stands_in_for_what_is_not_said(base: BaseModel) -> None:
    latents = small(base, 7)
    one = sampled(base, latents, steps=2)
    other = sampled(
        base,
        latents,
        steps=2,
        guidance_scale=base.defaults.guidance_scale,
        scheduler=base.defaults.scheduler,
    )
    assert torch.equal(one, other)


def test_a_batch_is_its_pictures_one_by_one(base: BaseModel) -> None:
    together = sampled(base, small(base, 1, 2))
    alone = torch.cat([sampled(base, small(base, seed)) for seed in (1, 2)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_drawing_over_a_picture_changes_more_of_it_with_more_strength(
    base: BaseModel, name: str
) -> None:
    over = sampled(base, small(base, 1))
    changes = []
    for strength in (0.25, 1.0):
        extras = Extras(seeds=(7,), over=over, strength=strength)
        made = sampled(base, small(base, 7), steps=4, scheduler=name, extras=extras)
        changes.append((made - over).std())
    assert changes[0] < changes[1]


def test_a_guidance_scale_may_differ_from_cell_to_cell(base: BaseModel) -> None:
    latents = small(base, 7)
    even = torch.full((1, 1, *latents.shape[2:]), 4.0)
    wanted = sampled(base, latents, steps=1, guidance_scale=4.0)
    torch.testing.assert_close(sampled(base, latents, steps=1, guidance_scale=even), wanted)


def test_every_step_is_told_with_its_latents(base: BaseModel) -> None:
    heard: list[tuple[int, int]] = []
    last: list[Tensor] = []

    def hear(done: int, total: int, latents: Tensor) -> None:
        heard.append((done, total))
        last[:] = [latents]

    made = sampled(base, small(base, 7), on_step=hear)
    assert heard == [(1, 3), (2, 3), (3, 3)]
    assert torch.equal(last[0], made)


def test_start_latents_depend_on_their_own_seed_alone(base: BaseModel) -> None:
    some = start_latents(base, [1, 2, 1])
    assert torch.equal(some[0], some[2])
    assert not torch.equal(some[0], some[1])
    assert torch.equal(some[1:2], start_latents(base, [2]))


def test_start_latents_are_rows_by_columns(base: BaseModel) -> None:
    made = start_latents(base, [1], (base.side, 2 * base.side))
    side = base.side // base.vae_scale
    assert made.shape == (1, base.unet.config.in_channels, 2 * side, side)


def test_rescaling_by_nothing_changes_nothing() -> None:
    guided, positive = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert rescaled(guided, positive, 0.0) is guided


def test_rescaling_in_full_gives_every_picture_the_spread_of_its_positive() -> None:
    generator = torch.Generator().manual_seed(0)
    guided = 5 * torch.randn(2, 3, 4, 4, generator=generator)
    positive = torch.randn(2, 3, 4, 4, generator=generator)
    made = rescaled(guided, positive, 1.0)
    torch.testing.assert_close(made.std((1, 2, 3)), positive.std((1, 2, 3)))


def test_a_story_can_name_every_scheduler_there_is() -> None:
    assert set(get_args(Scheduler)) == set(SCHEDULERS)
