"""Pictures decoded strip by strip: the same as at once."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL
from tinybases import base_of, tiny_pipeline

from storyforge.model import strips
from storyforge.model.base import BaseModel
from storyforge.model.strips import decoded, in_strips


def autoencoder(norm: float = 1.0, **more: object) -> AutoencoderKL:
    """Three levels, of which one has a shortcut and one has none."""
    torch.manual_seed(0)
    made = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 16),
        norm_num_groups=4,
        **more,
    ).eval()
    for name, weight in made.named_parameters():
        if "norm" in name:
            weight.data += 0.3 * torch.randn(weight.shape)
    return made


@pytest.mark.parametrize("side", [(24, 9), (8, 8), (3, 5)])
@torch.no_grad()
def test_what_is_decoded_in_strips_is_what_is_decoded_at_once(side: tuple[int, int]) -> None:
    vae = autoencoder()
    latents = torch.randn(2, 4, *side)
    at_once = vae.decode(latents, return_dict=False)[0]
    assert at_once.std() > 0.1
    torch.testing.assert_close(decoded(vae, latents), at_once, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_a_picture_of_an_odd_number_of_rows_has_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    vae, latents = autoencoder(use_post_quant_conv=False), torch.randn(1, 4, 9, 4)
    at_once = vae.decode(latents, return_dict=False)[0]
    for rows in (1, 5, 7, 35):
        monkeypatch.setattr(strips, "_ROWS", rows)
        torch.testing.assert_close(decoded(vae, latents), at_once, atol=2e-5, rtol=1e-4)


def test_only_what_is_large_is_decoded_in_strips() -> None:
    vae = autoencoder()
    # 16 channels of 4 bytes, in 16 cells for each of the latents'.
    assert not in_strips(vae, torch.empty(1, 4, 64, 64, device="meta"))
    assert in_strips(vae, torch.empty(1, 4, 512, 512, device="meta"))


@pytest.mark.parametrize("act_fn", ["gelu", "mish", "relu"])
def test_an_autoencoder_of_another_activation_is_left_to_diffusers(act_fn: str) -> None:
    large = torch.empty(1, 4, 512, 512, device="meta")
    assert not in_strips(autoencoder(act_fn=act_fn), large)


@pytest.mark.parametrize("kind", ["sd1", "flux2", "z-image"])
def test_a_base_decodes_a_large_picture_as_a_small_one(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = base_of(tiny_pipeline(kind))
    latents = torch.randn(1, base.channels, base.cells, base.cells)
    small = base.decode(latents)
    monkeypatch.setattr(strips, "LARGE", 0)
    assert in_strips(base.vae, latents)
    torch.testing.assert_close(base.decode(latents), small, atol=1e-5, rtol=1e-4)


def test_the_embedded_models_own_picture_is_none_of_the_large(base: BaseModel) -> None:
    latents = torch.empty(1, base.channels, base.cells, base.cells, device="meta")
    assert not in_strips(base.vae, latents)
