"""What is seen of a picture that is not done yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from support import hub_of
from tinybases import base_of, tiny_pipeline

from storyforge.model.base import BaseModel
from storyforge.model.denoising import start_latents
from storyforge.pictures import open_picture
from storyforge.sample import glance
from storyforge.sample.glance import Glance, colours_of, tiny_decoder

PIP = Path(__file__).parents[1] / "concepts" / "pip" / "01.png"


@pytest.fixture(scope="module")
def sdxl() -> BaseModel:
    return base_of(tiny_pipeline("sdxl"))


def test_a_small_base_shows_what_it_decodes(base: BaseModel) -> None:
    latents = start_latents(base, [1])
    assert torch.equal(Glance(base).pictures(latents), base.decode(latents))


def test_cells_have_nearly_the_colours_of_the_picture(base: BaseModel) -> None:
    side = base.sides[0]
    drawn = np.asarray(open_picture(PIP).convert("RGB").resize((side, side)), np.float32) / 255
    wanted = torch.from_numpy(drawn).movedim(-1, 0)[None]
    with base.sized(side):
        made = colours_of(base)(base.encode(wanted))
    assert made.shape == wanted.shape
    cells, right = (F.avg_pool2d(each, base.scales[0]) for each in (made, wanted))
    plain = right.mean((2, 3), keepdim=True)
    assert (cells - right).square().mean() < 0.1 * (plain - right).square().mean()


@pytest.mark.parametrize("kind", ["sd1", "sdxl", "flux2", "z-image"])
def test_a_large_base_shows_pictures_of_their_size_without_decoding(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "LARGE", 1)
    made = base_of(tiny_pipeline(kind))
    latents = start_latents(made, [1, 2])
    size = made.decode(latents).shape
    monkeypatch.setattr(made.vae, "decode", None)
    shown = Glance(made).pictures(latents)
    assert shown.shape == size
    assert shown.std() > 0


def test_a_tiny_autoencoder_that_is_here_is_asked(
    sdxl: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "LARGE", 1)
    monkeypatch.setattr(glance, "_TINY", {2: "owner/tiny"})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert tiny_decoder(sdxl) is None
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).eval()
    tiny.save_pretrained(tmp_path / "tiny")
    hub_of(tmp_path / "tiny", tmp_path)
    latents = start_latents(sdxl, [1])
    with torch.no_grad():
        wanted = (tiny.decode(latents).sample / 2 + 0.5).clamp(0, 1)
    assert torch.equal(Glance(sdxl).pictures(latents), wanted)
