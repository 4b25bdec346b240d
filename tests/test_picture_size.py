"""Sizes are asked of the model: by the sampler, by adapters, by the linter and before training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel, T2IAdapter
from support import panel
from tinymodel import CELLS, open_tiny

from storyforge.errors import StoryForgeError
from storyforge.model.base import BaseModel
from storyforge.model.cell_decoder import DRAWN, PATCH
from storyforge.model.concept import plain
from storyforge.model.tokens import PromptEmbeds
from storyforge.modelref import PATCH_SCALES, USUAL_SIZE, picture_size
from storyforge.sample.control import Rack
from storyforge.sample.sampler import picture
from storyforge.tasks import ControlTask, Method


@pytest.fixture(scope="module")
def tiny() -> BaseModel:
    """A base of random weights, whose decoder writes three sizes."""
    return open_tiny()


def saved(base: BaseModel, folder: Path) -> Path:
    base.unet.save_config(folder / "unet")
    base.vae.save_config(folder / "vae")
    return folder


@pytest.mark.parametrize("scale", PATCH_SCALES)
def test_a_panel_is_as_large_as_decode_says(tiny: BaseModel, scale: int) -> None:
    task = replace(panel(tiny, Method()), decode=scale * CELLS)
    assert picture(tiny, plain(tiny), task).shape == (scale * CELLS, scale * CELLS, 3)
    assert tiny.side == DRAWN * CELLS


def test_a_size_in_pixels_is_a_size_in_pixels_whatever_decode_says(tiny: BaseModel) -> None:
    task = replace(panel(tiny, Method()), decode=PATCH * CELLS, size=(112, 80))
    assert picture(tiny, plain(tiny), task).shape == (80, 112, 3)


def test_a_size_that_is_not_written_is_refused_with_those_that_are(tiny: BaseModel) -> None:
    with pytest.raises(StoryForgeError, match="300") as caught:
        picture(tiny, plain(tiny), replace(panel(tiny, Method()), decode=300))
    assert caught.value.hint == "write `decode: 128 or 256 or 512`, or leave it out"


def test_pictures_of_every_size_have_latents_of_one_size(tiny: BaseModel) -> None:
    shapes = set()
    for side in tiny.sides:
        with tiny.sized(side):
            shapes.add(tuple(tiny.encode(torch.rand(1, 3, side, side)).shape))
    assert shapes == {(1, 8, CELLS, CELLS)}


def test_the_configuration_tells_the_sizes_of_the_opened_model(
    tiny: BaseModel, tmp_path: Path
) -> None:
    size = picture_size(str(saved(tiny, tmp_path)))
    assert (size.side, size.sides) == (tiny.side, tiny.sides)
    assert size.coarsest == CELLS // 2


def test_the_embedded_model_tells_its_sizes(base: BaseModel) -> None:
    size = picture_size(base.reference)
    assert (size.side, size.sides, size.scale) == (base.side, base.sides, base.vae_scale)


def test_a_base_that_is_elsewhere_has_the_usual_size(tmp_path: Path) -> None:
    assert picture_size("owner/name") == USUAL_SIZE
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"sample_size": "large"}))
    assert picture_size(str(tmp_path)) == USUAL_SIZE


def test_an_adapter_reads_a_picture_of_its_own_pixels_a_cell(
    tiny: BaseModel, tmp_path: Path
) -> None:
    adapter = T2IAdapter(in_channels=3, channels=(16, 16), num_res_blocks=1, downscale_factor=PATCH)
    net = ControlNetModel(
        in_channels=8,
        block_out_channels=(16, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=16,
        norm_num_groups=4,
        conditioning_embedding_out_channels=(4, 4, 4, 4),
    )
    tasks = []
    for name, each in (("adapter", adapter), ("net", net)):
        each.save_pretrained(tmp_path / name)
        tasks.append(ControlTask(tmp_path / name, None, draw="pose"))
    text = PromptEmbeds(torch.zeros(1, 2, 77, 16))
    controls = Rack(tiny).controls(tasks, (tiny.side, tiny.side), text, {})
    assert controls is not None
    assert [each.picture.shape[-1] for each in controls.controls] == [PATCH * CELLS, 8 * CELLS]
    latents = torch.zeros(2, 8, CELLS, CELLS)
    said = controls(0.0, latents, torch.tensor(10))
    assert said is not None
    assert said.adapter is not None
    assert said.adapter[0].shape[-1] == CELLS
