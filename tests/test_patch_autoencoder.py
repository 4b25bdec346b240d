"""The autoencoder of the embedded model: what cells say, and what stock pipelines make of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import (
    DDIMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from storyforge.model.agreement import agreed
from storyforge.model.patch_autoencoder import DRAWN, PATCH, PIXELS, WAVES, PatchAutoencoder
from storyforge.modelref import POCKET

CHANNELS, TOLD = 12, 6
SIZES = (1.5, 1.3)


def coded(pixels_per_cell: int = DRAWN) -> tuple[PatchAutoencoder, dict[str, torch.Tensor]]:
    """A small autoencoder with an orthonormal code of random directions."""
    torch.manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(3 * PATCH**2, CHANNELS - TOLD))
    code = {"mean": 0.1 * torch.randn(3 * PATCH**2), "basis": basis, "scale": torch.tensor(2.0)}
    model = PatchAutoencoder(
        latent_channels=CHANNELS,
        pixels_per_cell=pixels_per_cell,
        told=TOLD,
        sizes=SIZES,
        reading=(8, 8),
        widths=(16, 8, 8, 8, 8),
        depths=(1, 1, 1),
        sample_size=4 * pixels_per_cell,
    )
    model.set_code(**code)
    return model.eval(), code


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


def test_waves_run_on_within_a_cell_as_from_cell_to_cell() -> None:
    _, spots = agreed(figure((8, 8), 0.5)[None], SIZES)
    turned = spots.waves(4, (0.01,))[0, 1] / (0.01 * torch.pi)
    steps = turned[:, 0].diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps), atol=1e-3, rtol=1e-2)


@torch.no_grad()
def test_latents_are_the_patches_by_the_basis() -> None:
    model, code = coded(pixels_per_cell=PATCH)
    seen = pictures(4 * PATCH)
    rows = seen.permute(0, 2, 3, 1).reshape(2, 4, PATCH, 4, PATCH, 3).permute(0, 1, 3, 2, 4, 5)
    wanted = (rows.reshape(2, 4, 4, -1) - code["mean"]) @ code["basis"] / code["scale"]
    made = model.encode(seen).latent_dist.mean
    plain = made[:, : CHANNELS - TOLD]
    torch.testing.assert_close(plain, wanted.permute(0, 3, 1, 2), atol=1e-5, rtol=1e-4)
    assert made.shape[1] == CHANNELS


@torch.no_grad()
def test_an_untrained_decoder_gives_back_what_lies_in_the_code() -> None:
    model, code = coded(pixels_per_cell=PATCH)
    latents = torch.randn(2, CHANNELS, 4, 4)
    latents[:, -TOLD:] = 0
    again = model.encode(model.decode(latents).sample).latent_dist.mode()
    torch.testing.assert_close(again, latents, atol=1e-4, rtol=1e-4)


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
    model, _ = coded()
    torch.nn.init.normal_(model.decoder.out.weight, std=0.03)
    latents, small = torch.randn(1, CHANNELS, 4, 4), []
    for pixels in PIXELS:
        model.write(pixels)
        small.append(F.adaptive_avg_pool2d(model.decode(latents).sample, 4 * PATCH))
    torch.testing.assert_close(small[0], small[1], atol=1e-5, rtol=1e-4)
    # What is doubled was smoothed between pixels, so that only larger spots are the same.
    spots = [F.avg_pool2d(made, 4) for made in small]
    torch.testing.assert_close(spots[1], spots[2], atol=0.1, rtol=0.2)


@torch.no_grad()
def test_a_crop_far_from_its_border_is_decoded_as_in_the_whole() -> None:
    model, _ = coded()
    for module in model.decoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, std=0.05)
    latents = torch.randn(1, CHANNELS, 16, 16)
    latents[:, -TOLD:] = figure((8, 9), 0.8)
    middle, shifted = (slice(at * DRAWN, (at + 2) * DRAWN) for at in (7, 6))
    whole = model.decode(latents).sample[..., middle, middle]
    part = model.decode(latents[..., 1:15, 1:15]).sample[..., shifted, shifted]
    torch.testing.assert_close(part, whole, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_what_is_saved_decodes_to_the_same_bytes(tmp_path: Path) -> None:
    model, _ = coded()
    torch.nn.init.normal_(model.decoder.out.weight, std=0.1)
    model.write(PIXELS[-1])
    model.save_pretrained(tmp_path)
    again = PatchAutoencoder.from_pretrained(tmp_path)
    latents = torch.randn(1, CHANNELS, 4, 4)
    assert torch.equal(again.decode(latents).sample, model.decode(latents).sample)
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
    torch.manual_seed(0)
    model = PatchAutoencoder(
        latent_channels=CHANNELS, told=TOLD, mirror=5, reading=(8, 8), widths=(16, 8, 8, 8, 8)
    )
    _, spots = agreed(figure((8, 8), 0.9)[None], SIZES)
    turned = spots.mirrored(torch.tensor(-0.1).expand(1, 1, 16, 16))
    for times in (1, 4):
        there, back = spots.waves(times, WAVES), turned.waves(times, WAVES)
        torch.testing.assert_close(back, there.flip(-1), atol=1e-4, rtol=1e-3)
    latents = torch.randn(1, CHANNELS, 4, 4)
    latents[:, -1] = 1
    other = latents.clone()
    other[:, -1] = -1
    for layer in (model.decoder.eighths.out, model.decoder.landmarks_in_cells):
        torch.nn.init.normal_(layer.weight, std=0.05)
    assert not torch.allclose(model.decode(latents).sample, model.decode(other).sample)


@torch.no_grad()
def test_a_landmark_is_near_where_what_counts_for_it_is_told() -> None:
    model, _ = coded()
    point, minding = torch.zeros(1, TOLD), torch.zeros(1, TOLD)
    point[0, 4], minding[0, 4] = 1.0, 2.0
    model.set_landmarks(point, minding)
    told = torch.randn(1, TOLD, 1, 3)
    told[0, 4, 0] = torch.tensor([1.0, 0.0, -1.0])
    wanted = torch.tensor([1.0, np.exp(-2.0), np.exp(-8.0)], dtype=torch.float32)
    torch.testing.assert_close(model.decoder.nearness(told)[0, 0, 0], wanted)
