"""Spatial control, with adapters of random weights and true shapes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, T2IAdapter
from PIL import Image
from torch import Tensor

from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.model.attention import AttentionContext
from storyforge.model.base import BaseModel
from storyforge.model.denoising import Extras, denoise, start_latents
from storyforge.model.tokens import encode
from storyforge.modelref import POCKET
from storyforge.sample.control import Rack, read_condition
from storyforge.tasks import ControlTask


def side(base: BaseModel) -> int:
    return base.vae_scale * 2 ** (len(base.unet.config.block_out_channels) - 1)


@pytest.fixture(scope="module")
def folder(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sketch adapter, a ControlNet and a picture for them."""
    made = tmp_path_factory.mktemp("control")
    torch.manual_seed(0)
    T2IAdapter(
        in_channels=1,
        channels=list(base.unet.config.block_out_channels),
        num_res_blocks=1,
        downscale_factor=base.vae_scale,
    ).save_pretrained(made / "sketch")
    net = ControlNetModel.from_unet(
        base.unet,
        conditioning_embedding_out_channels=(8,) * len(base.vae.config.block_out_channels),
    )
    for name, weight in net.named_parameters():
        if "controlnet" in name:
            torch.nn.init.normal_(weight, std=0.05)
    net.save_pretrained(made / "edges")
    pixels = np.random.default_rng(0).integers(0, 256, (side(base), side(base)), dtype=np.uint8)
    Image.fromarray(pixels).save(made / "picture.png")
    return made


def drawn(base: BaseModel, controls: Sequence[ControlTask], steps: int = 2) -> Tensor:
    attention = AttentionContext(encode(base, ["", "a fox"], {}))
    left = torch.zeros(side(base) // base.vae_scale, side(base) // base.vae_scale)
    left[:, : left.shape[1] // 2] = 1
    size = (side(base), side(base))
    made = Rack(base).controls(controls, size, attention.text, {"left": left})
    return denoise(
        base, attention, start_latents(base, [3], size), steps=steps, extras=Extras(conditions=made)
    )


def task(folder: Path, name: str, **changes: float | str) -> ControlTask:
    return ControlTask(folder / name, folder / "picture.png", **changes)


def assert_alike(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["sketch", "edges"])
def test_an_adapter_shows_and_without_weight_does_not(
    base: BaseModel, folder: Path, name: str
) -> None:
    plain = drawn(base, [])
    assert not torch.allclose(drawn(base, [task(folder, name)]), plain, atol=1e-3)
    assert_alike(drawn(base, [task(folder, name, weight=0.0)]), plain)


@pytest.mark.parametrize("name", ["sketch", "edges"])
def test_several_adapters_add_up(base: BaseModel, folder: Path, name: str) -> None:
    half = task(folder, name, weight=0.5)
    assert_alike(drawn(base, [half, half], 1), drawn(base, [task(folder, name)], 1))


def test_both_kinds_speak_at_once(base: BaseModel, folder: Path) -> None:
    both = drawn(base, [task(folder, "sketch"), task(folder, "edges")], 1)
    for name in ("sketch", "edges"):
        assert not torch.allclose(both, drawn(base, [task(folder, name)], 1), atol=1e-3)


@pytest.mark.parametrize("name", ["sketch", "edges"])
def test_an_adapter_speaks_in_its_steps_only(base: BaseModel, folder: Path, name: str) -> None:
    assert_alike(drawn(base, [task(folder, name, start=0.9)], 2), drawn(base, []))
    early, late = (drawn(base, [task(folder, name, **s)]) for s in ({"end": 0.5}, {"start": 0.5}))
    assert not torch.allclose(early, late, atol=1e-3)


def test_an_adapter_of_a_region_is_silent_elsewhere(base: BaseModel, folder: Path) -> None:
    left = torch.zeros(4, 4)
    left[:, :2] = 1
    rack, text = Rack(base), torch.zeros(2, 1, 1)
    size = (4 * base.vae_scale, 4 * base.vae_scale)
    made = rack.controls([task(folder, "sketch", region="left")], size, text, {"left": left})
    assert made is not None
    residuals = made(0.0, torch.zeros(2, 1, 4, 4), torch.tensor(0))
    assert residuals is not None
    assert residuals.adapter is not None
    finest = residuals.adapter[0]
    assert (finest[..., 2:] == 0).all()
    assert (finest[..., :2] != 0).any()


def test_an_adapter_is_opened_once_for_all_panels(base: BaseModel, folder: Path) -> None:
    rack = Rack(base)
    size = (side(base), side(base))
    first = rack.controls([task(folder, "sketch")], size, torch.zeros(2, 1, 1), {})
    again = rack.controls([task(folder, "sketch")], size, torch.zeros(2, 1, 1), {})
    assert first is not None
    assert again is not None
    assert first.controls[0].adapter is again.controls[0].adapter


def test_a_folder_that_holds_something_else_is_refused(base: BaseModel, folder: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="cannot open the adapter"):
        drawn(base, [ControlTask(folder, folder / "picture.png")])
    with pytest.raises(EnvironmentProblem, match="is a UNet2DConditionModel"):
        drawn(base, [ControlTask(POCKET / "unet", folder / "picture.png")])


def test_a_control_picture_that_cannot_be_read_is_one_clear_error(folder: Path) -> None:
    with pytest.raises(StoryForgeError, match="cannot read the control picture"):
        read_condition(folder / "edges" / "config.json", (8, 8), 3)
