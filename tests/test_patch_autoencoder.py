"""The autoencoder of the embedded model: what cells say, and what stock pipelines make of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cellwise import by_cells
from diffusers import (
    DDIMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from storyforge.model.agreement import Spots, agreed, together
from storyforge.model.canonical import (
    Atlas,
    Frames,
    LandmarkGroup,
    Landmarks,
    Named,
    amid,
    decided,
    placed,
    settled,
    snapped,
)
from storyforge.model.cell_decoder import DRAWN, PATCH
from storyforge.model.ink import Grid, Inking, Raster, alone, in_rows, inked
from storyforge.model.patch_autoencoder import PIXELS, PatchAutoencoder
from storyforge.model.second_look import _solved
from storyforge.modelref import POCKET

CHANNELS, TOLD, FIRST = 12, 6, 2
SIZES = (1.5, 1.3)
ATLASES = tuple({"side": 5, "width": 4, "groups": [[first, 1]]} for first in range(2))
"""Subjects are 1 in the last number but one, and places −1."""


def coded(pixels_per_cell: int = DRAWN) -> tuple[PatchAutoencoder, dict[str, torch.Tensor]]:
    """A small autoencoder with an orthonormal code of random directions."""
    torch.manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(3 * PATCH**2, CHANNELS - TOLD))
    code = {"mean": 0.1 * torch.randn(3 * PATCH**2), "basis": basis, "scale": torch.tensor(2.0)}
    model = PatchAutoencoder(
        latent_channels=CHANNELS,
        pixels_per_cell=pixels_per_cell,
        told=TOLD,
        first=FIRST,
        sizes=SIZES,
        mirror=5,
        landmarks=2,
        places=(1, 1),
        alone=2,
        atlases=ATLASES,
        colours=(3,),
        reading=(8, 8, 8, 8, 8),
        widths=(16, 8, 8),
        depths=(1, 1, 1),
        patch_layers=(8, 1),
        sample_size=4 * pixels_per_cell,
    )
    model.set_code(**code)
    points, minding = torch.zeros(2, TOLD), torch.zeros(2, TOLD)
    points[:, 4], minding[:, 4] = torch.tensor([1.0, -1.0]), 1.0
    model.set_landmarks(points, minding)
    return model.eval(), code


def speaking() -> PatchAutoencoder:
    """One of which all layers have something to say."""
    model, _ = coded()
    for module in (*model.decoder.modules(), *model.patches.modules()):
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.1)
    return model


def told_latents(*told: torch.Tensor) -> torch.Tensor:
    """(n, c, 16, 16) latents of what is told (t, 16, 16), without components."""
    return F.pad(torch.stack(told), (0, 0, 0, 0, FIRST, CHANNELS - TOLD - FIRST))


def pictures(side: int, seed: int = 1) -> torch.Tensor:
    """Two pictures in [−1, 1]."""
    return 2 * torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed)) - 1


def figure(middle: tuple[float, float], size: float, look: float = 1.0) -> torch.Tensor:
    """(t, 16, 16) what is told where one figure is all there is; `middle` in cells."""
    y, x = torch.meshgrid(torch.arange(16) + 0.5, torch.arange(16) + 0.5, indexing="ij")
    told = torch.full((TOLD, 16, 16), look)
    told[1] = (x - middle[0]) / (8 * size)
    told[2] = (y - middle[1]) / (8 * size)
    told[3] = SIZES[0] * np.log(size) + SIZES[1]
    return told


def two_figures() -> torch.Tensor:
    """Of one look, left and right."""
    left, right = figure((4, 9), 0.6), figure((12, 9), 0.6)
    return torch.cat([left[..., :8], right[..., 8:]], -1)


def test_cells_that_tell_the_truth_tell_the_same_when_they_agree() -> None:
    told = torch.stack([figure((5.5, 11), 1.3), two_figures()])
    made, spots = agreed(told, SIZES)
    torch.testing.assert_close(made, told, atol=1e-2, rtol=1e-2)
    assert spots.slope[0].mean().item() == pytest.approx(1 / (8 * 1.3), rel=1e-3)


def test_a_ramp_that_is_told_flat_and_rough_is_the_figures_own_again() -> None:
    told, generator = figure((8, 8), 0.9), torch.Generator().manual_seed(3)
    amiss = told + 0.15 * torch.randn(told.shape, generator=generator)
    amiss[1:3] = 0.4 * told[1:3] + 0.15 * torch.randn((2, 16, 16), generator=generator)
    made, _ = agreed(amiss[None], SIZES)
    before, after = ((each - told).abs()[1:3].mean().item() for each in (amiss, made[0]))
    assert after < before / 4
    assert (made[0, 3:] - told[3:]).abs().max() < 0.06


def test_points_run_on_within_a_cell_as_from_cell_to_cell() -> None:
    _, spots = agreed(figure((8, 8), 0.5)[None], SIZES)
    points = spots.points(Raster(4, 1).at)[0].reshape(16, 16, 4, 4, 2)
    down, across = points[:, 3, :, 1, 1].flatten(), points[3, :, 1, :, 0].flatten()
    for steps in (down.diff(), across.diff()):
        torch.testing.assert_close(steps, steps.mean().expand_as(steps), atol=1e-3, rtol=1e-2)


@torch.no_grad()
def test_latents_are_the_patches_by_the_basis() -> None:
    model, code = coded(pixels_per_cell=PATCH)
    seen = pictures(4 * PATCH)
    rows = seen.permute(0, 2, 3, 1).reshape(2, 4, PATCH, 4, PATCH, 3).permute(0, 1, 3, 2, 4, 5)
    wanted = (rows.reshape(2, 4, 4, -1) - code["mean"]) @ code["basis"] / code["scale"]
    made = model.encode(seen).latent_dist.mean
    torch.testing.assert_close(
        model.components(made), wanted.permute(0, 3, 1, 2), atol=1e-5, rtol=1e-4
    )
    assert made.shape[1] == CHANNELS


@torch.no_grad()
def test_an_untrained_decoder_gives_back_what_lies_in_the_code() -> None:
    model, code = coded(pixels_per_cell=PATCH)
    latents = torch.randn(2, CHANNELS, 4, 4)
    again = model.encode(model.decode(latents).sample).latent_dist.mode()
    wanted = model.components(latents)
    torch.testing.assert_close(model.components(again), wanted, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_trained_encoder_says_more_of_a_cell_than_its_patch() -> None:
    model, _ = coded(pixels_per_cell=PATCH)
    for parameter in model.code.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    seen = pictures(8 * PATCH)
    other = seen.clone()
    other[..., -PATCH:, -PATCH:] = 0
    one, two = (model.encode(each).latent_dist.mean for each in (seen, other))
    assert not torch.allclose(one[..., 0, 0], two[..., 0, 0], atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize(("high", "wide"), [(1, 1), (3, 5), (6, 7)])
def test_pictures_of_odd_sides_are_read_as_well(high: int, wide: int) -> None:
    model, _ = coded(pixels_per_cell=PATCH)
    found = model.encode(torch.zeros(1, 3, high * PATCH, wide * PATCH)).latent_dist.mean
    assert found.shape == (1, CHANNELS, high, wide)


@torch.no_grad()
@pytest.mark.parametrize("pixels", PIXELS)
def test_a_picture_of_any_cell_size_has_the_same_latents(pixels: int) -> None:
    small = pictures(4 * PATCH)
    wanted = coded(pixels_per_cell=PATCH)[0].encode(small).latent_dist.sample()
    model, _ = coded(pixels_per_cell=pixels)
    large = F.interpolate(small, scale_factor=pixels / PATCH)
    torch.testing.assert_close(model.encode(large).latent_dist.sample(), wanted)


@torch.no_grad()
@pytest.mark.parametrize("pixels", PIXELS)
def test_cells_are_written_in_the_pixels_asked_for(pixels: int) -> None:
    model, _ = coded()
    model.write(pixels)
    assert model.decode(torch.zeros(1, CHANNELS, 3, 5)).sample.shape == (
        1,
        3,
        3 * pixels,
        5 * pixels,
    )
    assert model.config.sample_size == 4 * pixels


def test_other_sizes_are_refused() -> None:
    model, _ = coded()
    with pytest.raises(ValueError, match="12"):
        model.write(12)


@torch.no_grad()
def test_all_sizes_show_the_same_picture() -> None:
    model, small = speaking(), []
    latents = torch.randn(1, CHANNELS, 4, 4)
    for pixels in PIXELS:
        model.write(pixels)
        small.append(F.adaptive_avg_pool2d(model.decode(latents).sample, 4 * PATCH))
    torch.testing.assert_close(small[0], small[1], atol=1e-5, rtol=1e-4)
    # What is doubled was smoothed between pixels, so that only larger spots are the same.
    spots = [F.avg_pool2d(made, 4) for made in small]
    torch.testing.assert_close(spots[1], spots[2], atol=0.1, rtol=0.2)


@torch.no_grad()
def test_a_crop_far_from_its_border_is_decoded_as_in_the_whole() -> None:
    model = speaking()
    latents = told_latents(figure((8, 9), 0.8))
    latents[:, :FIRST] = torch.randn(1, FIRST, 16, 16)
    middle, shifted = (slice(at * DRAWN, (at + 2) * DRAWN) for at in (7, 6))
    whole = model.decode(latents).sample[..., middle, middle]
    part = model.decode(latents[..., 1:15, 1:15]).sample[..., shifted, shifted]
    torch.testing.assert_close(part, whole, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_what_is_saved_decodes_to_the_same_picture(tmp_path: Path) -> None:
    model = speaking()
    model.write(PIXELS[-1])
    model.save_pretrained(tmp_path)
    again = PatchAutoencoder.from_pretrained(tmp_path)
    latents = torch.randn(1, CHANNELS, 4, 4)
    # Where weights lie in memory, their sums may end in another last bit.
    torch.testing.assert_close(again.decode(latents).sample, model.decode(latents).sample)
    assert again.config.block_out_channels == model.config.block_out_channels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of random weights around the autoencoder, as stock diffusers saves it."""
    tokenizer = CLIPTokenizer.from_pretrained(POCKET / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=4,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=(16,),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        attention_head_dim=2,
        cross_attention_dim=16,
        norm_num_groups=4,
    )
    place = tmp_path_factory.mktemp("pipeline")
    StableDiffusionPipeline(
        vae=coded()[0],
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(prediction_type="sample", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(place)
    return place


def test_the_stock_pipeline_opens_it_and_draws_in_its_size(folder: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    assert isinstance(pipe.vae, PatchAutoencoder)
    made = pipe("a fox", num_inference_steps=2, output_type="np").images
    assert made.shape == (1, 4 * DRAWN, 4 * DRAWN, 3)


def test_the_stock_pipeline_draws_over_a_picture(folder: Path) -> None:
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    made = pipe(
        "a fox", image=pictures(4 * DRAWN)[:1] / 2 + 0.5, num_inference_steps=4, output_type="np"
    )
    assert made.images.shape == (1, 4 * DRAWN, 4 * DRAWN, 3)


@torch.no_grad()
def test_who_looks_the_other_way_is_drawn_mirrored() -> None:
    model = speaking()
    there = figure((8, 8), 0.9)
    back = there.clone()
    back[5] = -1
    spots = [model.decoder.known(told[None]).spots.at for told in (there, back)]
    torch.testing.assert_close(spots[1], spots[0].flip(-1), atol=1e-4, rtol=1e-3)
    made = [model.decode(told_latents(told)).sample for told in (there, back)]
    assert not torch.allclose(made[0], made[1], atol=0.05)


def landmark(*told: float) -> tuple[Landmarks, torch.Tensor]:
    """One at 1 in the fifth number, and cells that tell so much there."""
    marks = Landmarks(1, TOLD)
    marks.points[0, 4], marks.minding[0, 4] = 1.0, 2.0
    cells = torch.randn(1, TOLD, 1, len(told))
    cells[0, 4, 0] = torch.tensor(told)
    return marks, cells


def test_a_landmark_is_near_where_what_counts_for_it_is_told() -> None:
    marks, told = landmark(1.0, 0.0, -1.0)
    wanted = torch.tensor([1.0, np.exp(-2.0), np.exp(-8.0)], dtype=torch.float32)
    torch.testing.assert_close(marks(told)[0, 0, 0], wanted)


def test_noise_does_not_change_what_is_near_or_far() -> None:
    near = torch.tensor([0.01, 0.1, 0.0, 0.4, 0.5, 0.7, 1.0])
    found = decided(near.reshape(1, -1, 1, 1), kinds=2).flatten()
    wanted = torch.tensor([1 / 101, 100 / 101, 0.0, 0.0, 0.5, 1.0, 1.0])
    torch.testing.assert_close(found, wanted)


def test_what_has_a_name_is_told_exactly_and_nothing_else_changes() -> None:
    marks, told = landmark(0.8, 0.1)
    found = snapped(told, torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2), marks)
    assert found[0, 4, 0].tolist() == pytest.approx([1.0, 0.1])
    other = [at for at in range(TOLD) if at != 4]
    assert torch.equal(found[:, other], told[:, other])


def test_what_has_a_name_is_settled_and_what_is_free_stays() -> None:
    told = torch.tensor([[0.4, 0.3], [-0.2, 0.9], [0.1, 0.7]]).reshape(1, 3, 1, 2)
    names = [Named(0, [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], 9.0), Named(2, [[0.0]], 0.5)]
    found = settled(told, names)
    assert found.reshape(3, 2).T.tolist() == [[0.0, 0.0, 0.0], [0.0, 1.0, pytest.approx(0.7)]]
    assert torch.equal(settled(found, names), found)


def test_what_has_a_loud_colour_is_there_whatever_it_is_called() -> None:
    told = torch.tensor([[0.1, -0.2, 1.0, 0.9, -1.0], [0.1, -0.2, 0.1, 0.2, 0.0]])[:, :, None, None]
    garments = [[0.0, 0.0], [1.0, 1.0], [-1.0, -1.0]]
    plain, coloured = Named(0, garments, 9.0), Named(0, garments, 9.0, 2)
    assert settled(told, [plain])[:, :2].abs().sum() == 0
    assert settled(told, [coloured])[:, :2, 0, 0].tolist() == [[-1.0, -1.0], [0.0, 0.0]]


def test_planes_are_read_between_their_nodes_by_how_near_their_landmark_is() -> None:
    atlas = Atlas([LandmarkGroup(0, 2), LandmarkGroup(2, 1)], 3, 1)
    y, x = torch.meshgrid(torch.arange(3.0), torch.arange(3.0), indexing="ij")
    planes = torch.stack([x, y, 10 + 0 * x])
    with torch.no_grad():
        atlas.table.copy_(planes.reshape(-1, 1))
    # The second of the first two is nearer, and there is a quarter of the third.
    near = torch.tensor([[0.2, 1.0, 0.25], [1.0, 0.0, 0.0]])
    at = torch.tensor([[[-1.0, -1.0], [0.5, -0.5]], [[0.5, -0.5], [7.0, 0.0]]])
    wanted = torch.tensor([[0 + 2.5, 0.5 + 2.5], [1.5, 2.0]])
    torch.testing.assert_close(atlas(near, at)[..., 0], wanted)


def test_frames_follow_what_is_told() -> None:
    frames = Frames(2, TOLD, 1)
    frames.known.points[:, 4] = torch.tensor([1.0, -1.0])
    frames.known.minding[:, 4] = 1.0
    frames.maps[1, 0] = torch.tensor([[0.0, 2.0, 1.0], [1.0, 0.0, 0.0]])
    told = torch.randn(1, TOLD, 1, 2)
    told[0, 4, 0] = torch.tensor([0.8, -0.3])
    maps = frames(told)[0, 0, :, 0]
    points = torch.tensor([[[0.5, -0.5]], [[0.5, -0.5]]])
    wanted = torch.tensor([[[0.5, -0.5]], [[0.0, 0.5]]])
    torch.testing.assert_close(placed(maps, points), wanted)


def test_what_is_told_of_the_place_is_known_behind_figures_as_well() -> None:
    told = figure((8, 8), 1.0, look=-1.0)
    here = torch.ones(1, 16, 16, dtype=torch.bool)
    here[:, 4:, 5:9] = False
    hidden = torch.where(here, told[None], 7.0)
    _, whole = agreed(told[None], SIZES)
    spots = Spots(*(torch.where(here, each, 3.0) for each in whole))
    found, place = amid(hidden, spots, here)
    torch.testing.assert_close(found[0, 3:, 0, 0], told[3:, 0, 0], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(place.at, whole.at, atol=2e-3, rtol=1e-3)
    assert not amid(hidden, spots, torch.zeros_like(here))[0].any()


def test_inks_are_mixed_by_their_shares() -> None:
    inks = torch.tensor([[[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]]])
    shares = torch.tensor([[0.0, 0.0], [20.0, -20.0]]).reshape(1, 1, 2, 2)
    wanted = torch.tensor([[0.5, 0.5, -0.5], [1.0, 0.0, -1.0]])
    torch.testing.assert_close(inked(shares, inks)[0, 0], wanted)


@torch.no_grad()
def test_pixels_of_points_lie_in_their_cell_row_by_row() -> None:
    numbers = torch.arange(16.0).reshape(1, 4, 4, 1)
    parts = numbers.reshape(1, 2, 2, 2, 2, 1).transpose(2, 3).reshape(1, 4, 4)
    assert torch.equal(in_rows(parts, Grid(2, 2), 1), numbers)
    inking = Inking((3, 2), 8, 1, 5, Grid(2, 4))
    seen, known = torch.randn(1, 4, 3), torch.randn(1, 2)
    own, half = Raster(2, 4), Raster(2, 2)
    features = inking.features(seen, alone(known), own)
    large, small = (inking.shares(features, raster)[0] for raster in (own, half))
    mean = F.avg_pool2d(large.permute(2, 0, 1), 2).permute(1, 2, 0)
    torch.testing.assert_close(small, mean, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_middle_of_what_a_point_writes_is_that_of_all_it_writes() -> None:
    inking = Inking((3, 2), 8, 1, 5, Grid(2, 4))
    features = torch.randn(1, 4, 8)
    whole = inking.shares(features, Raster(2, 4)).reshape(2, 4, 2, 4, 5)
    two = inking.shares(features, Raster(2, 2, middle=True)).reshape(2, 2, 2, 2, 5)
    torch.testing.assert_close(two, whole[:, 1:3, :, 1:3])
    one = inking.shares(features, Raster(2, 1, middle=True)).reshape(2, 2, 5)
    torch.testing.assert_close(one, two.mean((1, 3)))


@torch.no_grad()
def test_what_a_point_writes_does_not_hang_on_which_others_are_looked_at() -> None:
    model = speaking()
    told = figure((8, 9), 0.8)[None]
    fine = by_cells(model.decoder, told).unfold(2, 2, 2).unfold(3, 2, 2)
    raster = Raster(4, 2, middle=True, shift=(1 / 32, -1 / 32))
    some = by_cells(model.decoder, told, raster).unfold(2, 2, 2).unfold(3, 2, 2)
    torch.testing.assert_close(some, fine[:, :, 1::4, 2::4], atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_a_subject_hides_the_place_and_the_place_does_not_change_behind_it() -> None:
    model = speaking()
    place, both = figure((8, 8), 1.0, look=-1.0), figure((8, 8), 1.0, look=-1.0)
    both[:, 4:12, 4:12] = figure((8, 10), 0.5)[:, 4:12, 4:12]
    empty, full = (by_cells(model.decoder, told[None]) for told in (place, both))
    changed = (empty - full).abs().amax(1)[0]
    inside = slice(4 * DRAWN, 12 * DRAWN)
    seen = changed[inside, inside].mean().item()
    changed[inside, inside] = 0
    assert changed.mean().item() < seen / 4


def test_cells_hear_from_those_of_their_subject_that_see_it_best() -> None:
    told, sure = two_figures()[None].clone(), torch.zeros(1, TOLD - 3, 16, 16)
    left = torch.zeros(16, 16, dtype=torch.bool)
    left[:, :8] = True
    wanted = torch.where(left, 0.7, -0.4)
    told[:, 5] = 9.0
    seen = torch.zeros(16, 16, dtype=torch.bool)
    seen[9, 3:5] = seen[9, 11:13] = True
    told[0, 5][seen], sure[0, 2] = wanted[seen], torch.where(seen, 6.0, -6.0)
    found = together(told, sure, SIZES, kinds=1)
    torch.testing.assert_close(found[0, 5], wanted, atol=0.1, rtol=0.1)
    torch.testing.assert_close(found[0, 3:5], told[0, 3:5], atol=1e-3, rtol=1e-3)
    assert torch.equal(found[:, :3], told[:, :3])


def test_the_colour_of_each_subject_is_solved_though_some_pixels_lie_amiss() -> None:
    chance = torch.Generator().manual_seed(0)
    here = torch.ones(1, 2, 3, dtype=torch.bool)
    subject = torch.tensor([0, 0, 0, 1, 1, 1])
    alike = (subject[:, None] == subject).float()[None]
    parts = torch.rand(6, 4000, 1, generator=chance)
    right = torch.randn(2, 3, generator=chance)[subject]
    lack = parts * right[:, None]
    torch.testing.assert_close(_solved(parts, lack, alike, here), right, atol=0.1, rtol=0)
    lack[:, ::4] += 2.0
    torch.testing.assert_close(_solved(parts, lack, alike, here), right, atol=0.3, rtol=0)


def test_pixels_in_the_colour_beneath_do_not_count() -> None:
    here, one = torch.ones(1, 1, 1, dtype=torch.bool), torch.ones(1, 1, 1)
    parts, beneath = torch.ones(1, 9000, 1), torch.tensor([[0.6, -0.2, 0.1]])
    right = torch.tensor([[-0.5, 0.4, 0.8]])
    lack = right[:, None].repeat(1, 9000, 1)
    lack[:, :5000] = beneath
    both = _solved(parts, lack, one, here)
    assert (both - beneath).norm() < (both - right).norm()
    torch.testing.assert_close(_solved(parts, lack, one, here, beneath), right, atol=0.1, rtol=0)


def test_what_is_not_seen_stays_as_it_was_read() -> None:
    one, here = torch.ones(1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool)
    lack = torch.randn(1, 50, 3, generator=torch.Generator().manual_seed(0))
    assert _solved(torch.zeros(1, 50, 1), lack, one, here).eq(0).all()
    assert _solved(torch.full((1, 50, 1), 1e-3), lack, one, here).abs().max() < 0.01
