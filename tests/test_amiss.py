"""What cells tell, put amiss as a denoiser leaves it: how much of them, and what stays true."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("skia")

from storyforge.model.agreement import agreed
from storyforge.pocket import world
from storyforge.pocket.pretrain.amiss import OFTEN, amid_others, amiss
from storyforge.pocket.pretrain.latents import shown_of


def chance() -> torch.Generator:
    """The same for every test."""
    return torch.Generator().manual_seed(0)


def test_what_is_told_is_amiss_all_over_but_not_where_it_tells_the_place() -> None:
    made = amiss(torch.ones(400, world.MEANINGS, 4, 4), chance())
    told = made.mean((2, 3)) - 1
    kind = told[:, world.PLACE_OF["kind"]].square().mean()
    assert kind > 2 * told[:, world.PLACE_OF["colour"]].square().mean()
    clean = (made[:, world.PLACE_OF["kind"]] == 1).flatten(1).all(1).float().mean().item()
    # Of 400, three standard errors of .025.
    assert abs(clean - (1 - OFTEN)) < 0.08


def test_a_cell_that_tells_of_its_neighbours_subject_still_knows_where_it_is() -> None:
    fox = world.Subject(world.Look("fox", "orange"), 0.4, 0.9, 0.7)
    told = torch.from_numpy(shown_of(world.Picture("snow", "day", "clear", (fox,), 0)).told)[None]
    made, _ = agreed(amid_others(told, chance()), world.SIZE_LAW)
    alike = torch.from_numpy(world.kinds(made.numpy()) == world.kinds(told.numpy()))
    assert 0.8 < alike.float().mean() < 1
    spots = world.SPOT, world.SPOT + 1
    for spot in spots:
        assert torch.allclose(made[:, spot][alike], told[:, spot][alike], atol=1e-2)


def test_what_is_told_keeps_its_shape_and_their_numbers_stay_finite() -> None:
    drawn = np.random.default_rng(0).normal(size=(3, world.MEANINGS, 5, 7))
    made = amiss(torch.from_numpy(drawn).float(), chance())
    assert made.shape == drawn.shape
    assert made.isfinite().all()
