"""Guidance and isolation by region."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from storyforge.geometry.box import Box
from storyforge.model.base import BaseModel
from storyforge.model.concept import FusedModel, plain
from storyforge.model.denoising import start_latents
from storyforge.model.tokens import ConceptTokens
from storyforge.sample import guidance
from storyforge.sample.guidance import (
    Guide,
    SeenAttention,
    attention_loss,
    guide_of,
    guided_subject,
    isolated,
    isolation_loss,
    reinitialised,
    word_positions,
)
from storyforge.sample.injection import reading_of
from storyforge.sample.sampler import picture
from storyforge.tasks import Method, PanelTask, RegionTask

LEFT = Box(x0=0, y0=0, x1=0.5, y1=1)
RIGHT = Box(x0=0.5, y0=0, x1=1, y1=1)


def region(box: Box = LEFT, prompt: str = "an owl", concept: str | None = None) -> RegionTask:
    return RegionTask("r", box, prompt, "", 1.0, 0, concept)


def panel(base: BaseModel, *regions: RegionTask, method: Method) -> PanelTask:
    side = base.vae_scale * 2 ** (len(base.unet.config.block_out_channels) - 1)
    return PanelTask(
        key="",
        panel="one",
        page=1,
        base=base.reference,
        base_hash=base.hash,
        fused=None,
        prompt="a meadow",
        negative="",
        regions=regions,
        size=(side, side),
        steps=2,
        guidance_scale=None,
        scheduler=None,
        region_blend=1.0,
        seed=5,
        alt=None,
        method=method,
    )


def seen_by(region_weights: list[list[float]]) -> list[set[int]]:
    """Of each cell, which cells it reads."""
    grid = torch.tensor(region_weights)
    (groups,) = isolated({grid.shape[1]: grid}).values()
    told = {int(q): set(group.keys.tolist()) for group in groups for q in group.queries}
    assert sum(len(group.queries) for group in groups) == grid.shape[1]
    return [told[cell] for cell in range(grid.shape[1])]


def test_regions_read_themselves_and_the_background() -> None:
    assert seen_by([[1, 0, 0], [0, 1, 0]]) == [{0, 2}, {1, 2}, {0, 1, 2}]


def test_where_regions_overlap_both_are_read() -> None:
    assert seen_by([[1, 0.5, 0], [0, 0.5, 1]]) == [{0, 1}, {0, 1, 2}, {1, 2}]


def test_a_cell_that_a_region_hardly_touches_is_not_its_own() -> None:
    assert seen_by([[1, 0.1], [0, 0]]) == [{0, 1}, {0, 1}]


def test_words_are_found_wherever_they_stand(base: BaseModel, pip: ConceptTokens) -> None:
    model = FusedModel("pocket", base.hash, {"pip": pip}, {})
    early = word_positions(base, model, region(prompt="<pip>, waving", concept="pip"))
    late = word_positions(base, model, region(prompt="an owl,and a<pip>by <pip>", concept="pip"))
    assert early.tolist() == [1, 2]
    assert len(late) == 4
    assert late[0] > 2


def test_a_region_without_a_concept_is_found_by_all_its_words(base: BaseModel) -> None:
    one, other = (
        word_positions(base, plain(base), region(prompt=prompt)) for prompt in ("fox", "a red fox")
    )
    assert one[0] == other[0] == 1
    assert len(other) > len(one)


def test_a_prompt_that_says_nothing_has_no_words(base: BaseModel) -> None:
    assert word_positions(base, plain(base), region(prompt="")).shape == (0,)


def test_a_region_that_says_nothing_pulls_at_nothing(base: BaseModel) -> None:
    asked = panel(base, region(prompt=""), method=Method(enhancement=True))
    silent = replace(asked, size=(base.side, base.side))
    free = replace(silent, method=Method())
    drawn = [picture(base, plain(base), task) for task in (silent, free)]
    assert (drawn[0] == drawn[1]).all()


def seen_as(cross: Tensor, own: Tensor | None = None) -> SeenAttention:
    """What was seen at one site: (rows, columns) of one word, and (cells, cells)."""
    return SeenAttention([[cross.reshape(1, -1, 1)]], [] if own is None else [own[None]])


def test_attention_inside_its_region_is_better_than_outside() -> None:
    subject = guided_subject(torch.tensor([[1.0, 1, 0, 0]] * 4).flatten(), (4, 4))
    inside = torch.tensor([[0.9, 0.9, 0, 0]] * 4)
    losses = [attention_loss(seen_as(m), [subject], (4, 4)) for m in (inside, inside.flip(1))]
    assert losses[0] < losses[1]


def test_attention_that_fills_its_region_is_better_than_a_spot_in_it() -> None:
    subject = guided_subject(torch.ones(64), (8, 8))
    spot = torch.zeros(8, 8)
    spot[2:6, 2:6] = 0.9
    losses = [
        attention_loss(seen_as(m), [subject], (8, 8)) for m in (torch.full((8, 8), 0.9), spot)
    ]
    assert losses[0] < losses[1]


def test_self_attention_that_stays_at_home_costs_nothing() -> None:
    subject = guided_subject(torch.tensor([1.0, 1, 0, 0]), (1, 4))
    home, away = torch.eye(4), torch.eye(4).flip(0)
    assert isolation_loss(seen_as(torch.ones(1, 4), home), [subject]) == 0
    assert isolation_loss(seen_as(torch.ones(1, 4), away), [subject]) > 0


def test_a_region_over_everything_has_nothing_to_leave_for() -> None:
    subject = guided_subject(torch.ones(4), (1, 4))
    assert isolation_loss(seen_as(torch.ones(1, 4), torch.eye(4)), [subject]) == 0


@pytest.fixture
def guide(base: BaseModel) -> Guide:
    method = Method(enhancement=True, isolation=True, reinitialisation=True)
    task = panel(base, region(LEFT), region(RIGHT, "a house"), method=method)
    with torch.no_grad():
        made = reading_of(base, plain(base), {}, task, (8, 8))
    return guide_of(base, plain(base), task, made.attention, made.region_weights, (8, 8))


def latents_of(base: BaseModel) -> Tensor:
    return start_latents(base, [5], (8 * base.vae_scale, 8 * base.vae_scale))


def test_a_step_of_guidance_makes_the_loss_smaller(base: BaseModel, guide: Guide) -> None:
    latents = latents_of(base)
    losses = torch.zeros(2)
    # A step may go too far at one time; as a rule it does not.
    for t in torch.tensor([999, 900, 800, 700, 500]):
        change = guide(0, 10, t, latents)
        assert change is not None
        assert change.std() <= 0.1001 * latents.std()
        for index, z in enumerate((latents, latents + change)):
            with torch.no_grad(), guide.seen(z, t) as seen:
                losses[index] += guide.loss(seen)
    assert losses[1] < losses[0]


def test_saving_memory_changes_no_gradient(base: BaseModel, guide: Guide) -> None:
    latents, t = latents_of(base), torch.tensor(900)
    saving = guide(0, 10, t, latents)
    assert not base.unet.is_gradient_checkpointing
    guide.checkpointing = False
    torch.testing.assert_close(guide(0, 10, t, latents), saving, rtol=1e-3, atol=1e-6)


def test_guidance_ends_when_the_loss_rises_and_at_half_the_steps(
    base: BaseModel, guide: Guide
) -> None:
    latents, t = latents_of(base), torch.tensor(900)
    assert guide(5, 10, t, latents) is None
    guide.last = 0.0
    assert guide(2, 10, t, latents) is None
    assert guide.done


def test_noise_is_moved_and_keeps_its_mean_and_deviation(base: BaseModel, guide: Guide) -> None:
    method = Method(reinitialisation=True)
    task = panel(base, region(LEFT), region(RIGHT, "a house"), method=method)
    noise = latents_of(base)
    made = reinitialised(guide, noise, task)
    assert made.shape == noise.shape
    torch.testing.assert_close(made.mean(), noise.mean(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(made.std(), noise.std(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("part", ["enhancement", "isolation", "reinitialisation"])
def test_every_part_shows_on_its_own(base: BaseModel, part: str) -> None:
    boxes = (region(Box(x0=0, y0=0, x1=0.5, y1=0.5)), region(RIGHT, "a house"))
    task = panel(base, *boxes, method=Method(**{part: True}))
    quiet = replace(task, method=Method())
    made = picture(base, plain(base), task)
    assert made.std() > 0
    assert (made != picture(base, plain(base), quiet)).any()


def test_regions_that_cover_and_overlap_everything_draw_numbers(base: BaseModel) -> None:
    method = Method(enhancement=True, isolation=True, reinitialisation=True)
    whole = region(Box(x0=0, y0=0, x1=1, y1=1))
    task = panel(base, whole, region(LEFT, "a fox"), region(RIGHT, "a house"), method=method)
    assert picture(base, plain(base), task).std() > 0


def test_the_watched_level_is_the_second_coarsest(base: BaseModel) -> None:
    depth = len(base.unet.config.block_out_channels)
    side = 2 ** (depth - 1)
    assert guidance.watched_level(base, (side, side)) == ((2, 2) if depth > 1 else (1, 1))
