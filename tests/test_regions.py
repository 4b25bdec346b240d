"""Regions as weights on cells, and the pictures that come of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from storyforge.errors import StoryForgeError
from storyforge.geometry.box import FRAME, Box
from storyforge.model.attention import AttentionContext, RegionText, levels
from storyforge.model.base import BaseModel
from storyforge.model.denoising import denoise, start_latents
from storyforge.model.tokens import encode
from storyforge.sample.regions import guidance_map, region_weights, region_weights_of
from storyforge.tasks import RegionTask

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
    (made,) = region_weights([region(LEFT, weight=2.0)], (2, 4))
    assert made.reshape(2, 4).tolist() == [[1, 1, 0, 0], [1, 1, 0, 0]]


def test_regions_that_meet_share_no_cell() -> None:
    assert ((region_weights([region(LEFT), region(RIGHT)], (5, 7)) > 0).sum(0) == 1).all()


def test_where_regions_overlap_they_share_by_weight() -> None:
    made = region_weights([region(LEFT, weight=1), region(WIDE, weight=3)], (1, 4))
    assert made.tolist() == [[1, 0.25, 0, 0], [0, 0.75, 1, 1]]


def test_where_regions_overlap_the_larger_z_wins() -> None:
    front, back = region(LEFT, z=2), region(WIDE, weight=9, z=-1)
    assert region_weights([back, front], (1, 4)).tolist() == [[0, 0, 1, 1], [1, 1, 0, 0]]


def test_a_mask_keeps_what_is_white_in_the_box(tmp_path: Path) -> None:
    white = np.zeros((8, 8), bool)
    white[:4] = True
    (made,) = region_weights([masked(tmp_path / "m.png", white, box=LEFT)], (4, 4))
    assert made.reshape(4, 4).tolist() == [[1, 1, 0, 0]] * 2 + [[0, 0, 0, 0]] * 2


def test_what_a_mask_leaves_out_is_open_to_the_region_behind(tmp_path: Path) -> None:
    white = np.zeros((8, 8), bool)
    white[:, :4] = True
    front = replace(masked(tmp_path / "m.png", white), z=1)
    made = region_weights([front, region()], (1, 4))
    assert made.tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]


def test_a_single_white_pixel_still_counts_in_the_coarsest_grid(tmp_path: Path) -> None:
    white = np.zeros((512, 512), bool)
    white[300, 100] = True
    (made,) = region_weights([masked(tmp_path / "m.png", white)], (2, 2))
    assert made.tolist() == [0, 0, 1, 0]


def test_a_mask_covers_a_cell_by_the_exact_part_of_its_area(tmp_path: Path) -> None:
    white = np.zeros((10, 30), bool)
    white[:, :11] = True
    (made,) = region_weights([masked(tmp_path / "m.png", white)], (2, 4))
    np.testing.assert_allclose(made.reshape(2, 4), [[1, 11 / 7.5 - 1, 0, 0]] * 2, atol=1e-6)


def test_a_cell_that_a_mask_in_front_covers_a_little_stays_with_the_region_behind(
    tmp_path: Path,
) -> None:
    white = np.zeros((10, 10), bool)
    white[:, :6] = True
    front = replace(masked(tmp_path / "m.png", white), z=1)
    made = region_weights([front, region()], (1, 2))
    np.testing.assert_allclose(made, [[1, 0.2], [0, 0.8]], atol=1e-6)


def test_a_mask_of_another_shape_lies_on_the_same_part_of_the_picture(tmp_path: Path) -> None:
    left = [np.zeros((7, 23), bool), np.zeros((64, 46), bool)]
    for white in left:
        white[:, : white.shape[1] // 2] = True
    left[0] = np.repeat(left[0], 2, axis=1)
    left[0][:, 22] = True
    made = [region_weights([masked(tmp_path / "m.png", white)], (4, 6)) for white in left]
    np.testing.assert_allclose(made[0], made[1], atol=1e-6)


def test_a_mask_that_is_black_in_its_box_is_refused_by_the_regions_name(tmp_path: Path) -> None:
    white = np.zeros((8, 8), bool)
    white[:, 6:] = True
    with pytest.raises(StoryForgeError, match="nothing is left of region `r`"):
        region_weights([masked(tmp_path / "m.png", white, box=LEFT)], (4, 4))


def test_a_polygon_covers_what_lies_inside() -> None:
    triangle = replace(region(), polygon=((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)))
    made = region_weights([triangle], (4, 4)).reshape(4, 4)
    wanted = torch.tensor([[1, 1, 1, 0.5], [1, 1, 0.5, 0], [1, 0.5, 0, 0], [0.5, 0, 0, 0]])
    torch.testing.assert_close(made, wanted, atol=0.01, rtol=0)


def test_a_rectangle_of_corners_is_the_box() -> None:
    corners = ((0.5, 0.25), (1.0, 0.25), (1.0, 1.0), (0.5, 1.0))
    box = Box(x0=0.5, y0=0.25, x1=1, y1=1)
    made = region_weights([replace(region(), polygon=corners)], (4, 8))
    torch.testing.assert_close(made, region_weights([region(box)], (4, 8)))


def test_a_soft_edge_fades_across_the_edge_and_not_at_the_frame() -> None:
    made = region_weights([replace(region(LEFT), soft=0.5)], (16, 16)).reshape(16, 16)
    assert (made == made[0]).all()
    assert made[0, 0] == 1
    assert made[0, -1] == 0
    assert made[0].diff().max() <= 0
    torch.testing.assert_close(made[0, 7] + made[0, 8], torch.tensor(1.0), atol=0.02, rtol=0)
    assert 0.4 < made[0, 8] < 0.5


def test_soft_regions_that_meet_leave_nothing_between_them() -> None:
    pair = [replace(region(box), soft=0.25) for box in (LEFT, RIGHT)]
    made = region_weights(pair, (4, 12))
    torch.testing.assert_close(made.sum(0), torch.ones(48), atol=1e-5, rtol=0)


def test_shares_of_a_cell_are_never_more_than_one(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    crowd = []
    for index in range(12):
        (x0, x1), (y0, y1) = (np.sort(generator.uniform(0, 1, 2)).tolist() for _ in range(2))
        box = Box(x0=x0, y0=y0, x1=x1, y1=y1)
        soft, weight = 0.2 * (index % 3), float(generator.uniform(0.1, 10))
        crowd.append(replace(region(box, weight=weight, z=index % 2), soft=soft))
    made = region_weights(crowd, (9, 7))
    assert made.min() >= 0
    assert made.sum(0).max() <= 1 + 1e-5


def test_an_odd_grid_has_its_regions_where_the_picture_has_them(base: BaseModel) -> None:
    made = region_weights_of(base, [region(Box(x0=0, y0=0, x1=1, y1=6 / 9))], (9, 9))
    assert made[81].reshape(9, 9)[:, 0].tolist() == [1] * 6 + [0] * 3
    assert made[25].reshape(5, 5)[:, 0].tolist() == [1] * 3 + [0] * 2


def test_boxes_have_the_cells_that_the_layout_names() -> None:
    generator = np.random.default_rng(2)
    for _ in range(50):
        (x0, x1), (y0, y1) = (np.sort(generator.uniform(0, 1, 2)).tolist() for _ in range(2))
        box = Box(x0=x0, y0=y0, x1=x1, y1=y1)
        wanted = torch.zeros(6, 10)
        top, bottom, left, right = box.cells(6, 10)
        wanted[top:bottom, left:right] = 1
        assert torch.equal(region_weights([region(box)], (6, 10)).reshape(6, 10), wanted)


def test_a_mask_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_text("no picture")
    with pytest.raises(StoryForgeError, match=r"mask .*m\.png.* of region `r`"):
        region_weights([replace(region(), mask=tmp_path / "m.png")], (2, 2))


def test_every_box_has_a_cell_at_every_level(base: BaseModel) -> None:
    generator = np.random.default_rng(0)
    side = base.side // base.vae_scale
    for rows, columns in levels(base, side, side):
        for _ in range(50):
            (x0, x1), (y0, y1) = (np.sort(generator.uniform(0, 1, 2)).tolist() for _ in range(2))
            thin = Box(x0=x0, y0=y0, x1=min(x1, x0 + 0.01), y1=min(y1, y0 + 0.01))
            for box in (thin, Box(x0=x0, y0=y0, x1=x1, y1=y1)):
                assert region_weights([region(box)], (rows, columns)).sum() >= 1


def test_every_level_of_the_unet_has_its_shares(base: BaseModel) -> None:
    made = region_weights_of(base, [region(LEFT)], (8, 12))
    assert sorted(made) == sorted(r * c for r, c in levels(base, 8, 12))
    assert all(region_weights.shape == (1, cells) for cells, region_weights in made.items())


def test_a_region_reads_its_negative_prompt_and_its_prompt(base: BaseModel) -> None:
    task = replace(region(prompt="an owl"), negative="a fox")
    (made,) = read(base, [task], 1.0).regions
    assert torch.equal(made.text, encode(base, ["a fox", "an owl"], {}).features)


def test_where_no_region_has_a_guidance_scale_there_is_one_for_all() -> None:
    pair = [region(LEFT), region(RIGHT)]
    assert guidance_map(3.0, pair, region_weights(pair, (2, 4)), (2, 4)) == 3.0


def test_a_guidance_scale_of_a_region_is_that_of_its_cells() -> None:
    pair = [replace(region(LEFT), guidance_scale=7.0), region(RIGHT)]
    made = guidance_map(3.0, pair, region_weights(pair, (1, 4)), (1, 4))
    assert isinstance(made, Tensor)
    assert made.flatten().tolist() == [7, 7, 3, 3]


def read(base: BaseModel, regions: Sequence[RegionTask], blend: float) -> AttentionContext:
    """What is read on the smallest latent grid."""
    side = 2 ** (len(base.unet.config.block_out_channels) - 1)
    region_weights = region_weights_of(base, regions, (side, side))
    texts = [
        RegionText(
            encode(base, [each.negative, each.prompt], {}).features,
            {cells: grid[index] for cells, grid in region_weights.items()},
        )
        for index, each in enumerate(regions)
    ]
    return AttentionContext(encode(base, ["", "a house in the snow"], {}), texts, blend)


def drawn(base: BaseModel, *regions: RegionTask, blend: float = 1.0) -> Tensor:
    """Latents of a small picture of a house in the snow, and of what its regions show."""
    side = 2 ** (len(base.unet.config.block_out_channels) - 1)
    pixels = side * base.vae_scale
    attention = read(base, regions, blend)
    return denoise(base, attention, start_latents(base, [3], (pixels, pixels)), steps=3)


def assert_alike(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_one_region_over_everything_with_the_global_prompt_is_the_plain_model(
    base: BaseModel,
) -> None:
    assert_alike(drawn(base, region(prompt="a house in the snow")), drawn(base))


def test_one_region_over_everything_is_the_plain_model_of_its_prompt(base: BaseModel) -> None:
    side = 2 ** (len(base.unet.config.block_out_channels) - 1) * base.vae_scale
    latents = start_latents(base, [3], (side, side))
    owl = denoise(base, AttentionContext(encode(base, ["", "an owl"], {})), latents, steps=3)
    assert_alike(drawn(base, region()), owl)
    assert not torch.allclose(owl, drawn(base), atol=1e-2)


def test_the_order_of_regions_does_not_show(base: BaseModel) -> None:
    one, other = region(LEFT, weight=2), region(WIDE, "a fox", weight=3)
    assert_alike(drawn(base, one, other), drawn(base, other, one))


def test_regions_without_blend_do_not_show(base: BaseModel) -> None:
    assert_alike(drawn(base, region(LEFT), region(RIGHT, "a fox"), blend=0.0), drawn(base))


def test_the_weight_of_a_lone_region_does_not_show(base: BaseModel) -> None:
    assert_alike(drawn(base, region(LEFT, weight=0.1)), drawn(base, region(LEFT, weight=10)))


def test_a_region_without_weight_is_none(base: BaseModel) -> None:
    assert_alike(drawn(base, region(LEFT, weight=0)), drawn(base))
