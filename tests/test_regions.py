"""Regions as weights on cells, and the pictures that come of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from storyforge.errors import StoryForgeError
from storyforge.layout import FRAME, Box
from storyforge.model.attention import Reader, RegionText, levels
from storyforge.model.base import BaseModel
from storyforge.model.concept import plain
from storyforge.model.denoising import denoise, start_latents
from storyforge.model.tokens import encode
from storyforge.plan import RegionTask
from storyforge.sample.regions import cell_weights, region_texts

LEFT, RIGHT = Box(x0=0, y0=0, x1=0.5, y1=1), Box(x0=0.5, y0=0, x1=1, y1=1)
WIDE = Box(x0=0.25, y0=0, x1=1, y1=1)


def region(
    box: Box = FRAME, prompt: str = "an owl", *, weight: float = 1.0, z: int = 0
) -> RegionTask:
    return RegionTask("r", box, prompt, "", weight, z, None)


def masked(path: Path, white: np.ndarray, **changes: Box) -> RegionTask:
    Image.fromarray(np.uint8(255) * white.astype(np.uint8)).save(path)
    return replace(region(), mask=path, **changes)


def test_a_box_covers_its_cells_and_no_others() -> None:
    (made,) = cell_weights([region(LEFT, weight=2.0)], 2, 4)
    assert made.reshape(2, 4).tolist() == [[2, 2, 0, 0], [2, 2, 0, 0]]


def test_regions_that_meet_share_no_cell() -> None:
    assert ((cell_weights([region(LEFT), region(RIGHT)], 5, 7) > 0).sum(0) == 1).all()


def test_where_regions_overlap_both_keep_their_weight() -> None:
    made = cell_weights([region(LEFT, weight=1), region(WIDE, weight=3)], 1, 4)
    assert made.tolist() == [[1, 1, 0, 0], [0, 3, 3, 3]]


def test_where_regions_overlap_the_larger_z_wins() -> None:
    front, back = region(LEFT, z=2), region(WIDE, weight=9, z=-1)
    assert cell_weights([back, front], 1, 4).tolist() == [[0, 0, 9, 9], [1, 1, 0, 0]]


def test_a_mask_keeps_what_is_white_in_the_box(tmp_path: Path) -> None:
    white = np.zeros((8, 8), bool)
    white[:4] = True
    (made,) = cell_weights([masked(tmp_path / "m.png", white, box=LEFT)], 4, 4)
    assert made.reshape(4, 4).tolist() == [[1, 1, 0, 0]] * 2 + [[0, 0, 0, 0]] * 2


def test_what_a_mask_leaves_out_is_open_to_the_region_behind(tmp_path: Path) -> None:
    white = np.zeros((8, 8), bool)
    white[:, :4] = True
    front = replace(masked(tmp_path / "m.png", white), z=1)
    made = cell_weights([front, region()], 1, 4)
    assert made.tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]


def test_a_single_white_pixel_still_counts_in_the_coarsest_grid(tmp_path: Path) -> None:
    white = np.zeros((512, 512), bool)
    white[300, 100] = True
    (made,) = cell_weights([masked(tmp_path / "m.png", white)], 2, 2)
    assert made.nonzero().tolist() == [[2]]


def test_a_mask_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_text("no picture")
    with pytest.raises(StoryForgeError, match=r"mask .*m\.png.* of region `r`"):
        cell_weights([replace(region(), mask=tmp_path / "m.png")], 2, 2)


def test_every_box_has_a_cell_at_every_level(base: BaseModel) -> None:
    dice = np.random.default_rng(0)
    side = base.side // base.vae_scale
    for rows, columns in levels(base, side, side):
        for _ in range(50):
            (x0, x1), (y0, y1) = (np.sort(dice.uniform(0, 1, 2)).tolist() for _ in range(2))
            thin = Box(x0=x0, y0=y0, x1=min(x1, x0 + 0.01), y1=min(y1, y0 + 0.01))
            for box in (thin, Box(x0=x0, y0=y0, x1=x1, y1=y1)):
                assert cell_weights([region(box)], rows, columns).sum() >= 1


def test_every_level_of_the_unet_has_its_weights(base: BaseModel) -> None:
    (made,) = region_texts(base, plain(base), [region(LEFT)], (8, 12))
    assert sorted(made.weights) == sorted(r * c for r, c in levels(base, 8, 12))
    assert all(len(weights) == cells for cells, weights in made.weights.items())


def test_a_region_reads_its_negative_prompt_and_its_prompt(base: BaseModel) -> None:
    task = replace(region(prompt="an owl"), negative="a fox")
    (made,) = region_texts(base, plain(base), [task], (8, 8))
    assert torch.equal(made.text, encode(base, ["a fox", "an owl"], {}))


def test_no_regions_are_no_texts(base: BaseModel) -> None:
    assert region_texts(base, plain(base), [], (8, 8)) == []


def drawn(base: BaseModel, *regions: RegionTask, blend: float = 1.0) -> Tensor:
    """Latents of a small picture of a house in the snow, and of what its regions show."""
    side = 2 ** (len(base.unet.config.block_out_channels) - 1)
    pixels = side * base.vae_scale
    texts: list[RegionText] = region_texts(base, plain(base), regions, (side, side))
    reader = Reader(encode(base, ["", "a house in the snow"], {}), texts, blend)
    return denoise(base, reader, start_latents(base, [3], (pixels, pixels)), steps=3)


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_one_region_over_everything_with_the_global_prompt_is_the_plain_model(
    base: BaseModel,
) -> None:
    close(drawn(base, region(prompt="a house in the snow")), drawn(base))


def test_one_region_over_everything_is_the_plain_model_of_its_prompt(base: BaseModel) -> None:
    side = 2 ** (len(base.unet.config.block_out_channels) - 1) * base.vae_scale
    latents = start_latents(base, [3], (side, side))
    owl = denoise(base, Reader(encode(base, ["", "an owl"], {})), latents, steps=3)
    close(drawn(base, region()), owl)
    assert not torch.allclose(owl, drawn(base), atol=1e-2)


def test_the_order_of_regions_does_not_show(base: BaseModel) -> None:
    one, other = region(LEFT, weight=2), region(WIDE, "a fox", weight=3)
    close(drawn(base, one, other), drawn(base, other, one))


def test_regions_without_blend_do_not_show(base: BaseModel) -> None:
    close(drawn(base, region(LEFT), region(RIGHT, "a fox"), blend=0.0), drawn(base))


def test_the_weight_of_a_lone_region_does_not_show(base: BaseModel) -> None:
    close(drawn(base, region(LEFT, weight=0.1)), drawn(base, region(LEFT, weight=10)))


def test_a_region_without_weight_is_none(base: BaseModel) -> None:
    close(drawn(base, region(LEFT, weight=0)), drawn(base))
