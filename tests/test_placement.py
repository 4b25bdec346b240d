"""Where a base lies, and that half precision and parts change nothing but rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tinybases import base_of, tiny_pipeline

from storyforge.errors import StoryForgeError
from storyforge.model import placement
from storyforge.model.attention import AttentionContext
from storyforge.model.base import BaseModel, open_base
from storyforge.model.denoising import denoise, start_latents
from storyforge.model.lora import Delta, merged
from storyforge.model.placement import (
    GIB,
    Placement,
    asked_placement,
    open_placed,
    place,
    placement_for,
    weights_of,
)
from storyforge.model.tokens import encode
from storyforge.modelref import DEVICE, VRAM
from storyforge.project import survey
from storyforge.project.project import Project

SD1, SDXL = 1_066_000_000, 3_470_000_000
"""Weights of the real ones."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sdxl")
    tiny_pipeline("sdxl").save_pretrained(made)
    return made


@torch.no_grad()
def drawn(base: BaseModel) -> torch.Tensor:
    text = encode(base, ["", "a red fox"], {})
    return denoise(base, AttentionContext(text), start_latents(base, [1]), steps=2).cpu()


def test_a_small_base_is_in_full_precision_everywhere() -> None:
    assert placement_for(12_000_000, "cpu").dtype == torch.float32
    assert placement_for(12_000_000, "cuda").dtype == torch.float32


def test_a_large_base_is_in_half_where_the_processor_computes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert placement_for(SD1, "cpu").dtype == torch.bfloat16
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    assert placement_for(SD1, "cpu").dtype == torch.float32


@pytest.mark.parametrize(
    ("weights", "room", "offloaded", "tiled"),
    [
        (SD1, 24, False, False),
        (SD1, 6, False, True),
        (SD1, 4, True, True),
        (SDXL, 24, False, False),
        (SDXL, 10, False, True),
        (SDXL, 8, True, True),
    ],
)
def test_what_does_not_fit_on_the_accelerator_comes_and_goes(
    monkeypatch: pytest.MonkeyPatch, weights: int, room: float, offloaded: bool, tiled: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    made = placement_for(weights, "cuda", room * GIB)
    assert (made.dtype, made.offloaded, made.tiled) == (torch.bfloat16, offloaded, tiled)


def test_the_weights_of_a_folder_are_counted_from_its_headers(folder: Path) -> None:
    base = open_base(str(folder), "hash")
    parts = (base.unet, base.vae, *(each.model for each in base.encoders))
    assert weights_of(str(folder)) == sum(w.numel() for part in parts for w in part.parameters())


def test_what_is_asked_for_is_obeyed_and_nonsense_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEVICE, "cpu")
    assert asked_placement(str(folder)).device == "cpu"
    assert open_placed(str(folder), "hash").device == torch.device("cpu")
    monkeypatch.setenv(VRAM, "much")
    with pytest.raises(StoryForgeError, match="cannot be had"):
        asked_placement(str(folder))


@pytest.mark.parametrize("device", ["cuda:7", "mps", "toaster"])
def test_a_device_that_is_not_here_is_named_before_anything_is_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device.startswith("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 7)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setenv(DEVICE, device)
    with pytest.raises(StoryForgeError, match=f"`--device {device}`.* cannot be had"):
        asked_placement(str(folder))


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_half_precision_draws_nearly_the_same(kind: str) -> None:
    full = drawn(base_of(tiny_pipeline(kind)))
    half = drawn(base_of(tiny_pipeline(kind).to(torch.bfloat16)))
    assert half.dtype == torch.float32
    assert (half - full).std() / full.std() < 0.05


def test_a_small_change_is_not_lost_in_weights_of_half_precision() -> None:
    base = base_of(tiny_pipeline("sd1").to(torch.bfloat16))
    name = next(name for name in base.linears if name.endswith("attn2.to_k"))
    linear = base.linears[name]
    before = linear.weight.clone()
    small = Delta(torch.full((linear.out_features, 1), 1e-4), torch.ones(1, linear.in_features))
    x = torch.ones(1, linear.in_features, dtype=torch.bfloat16)
    with torch.no_grad():
        linear.weight.zero_()
        with merged(base, {name: small}):
            made = linear(x)
        linear.weight.copy_(before)
    torch.testing.assert_close(
        made.float(), torch.full_like(made, 0.0032).float(), rtol=0.02, atol=0
    )
    assert torch.equal(linear.weight, before)


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_layers_that_come_and_go_draw_the_same(kind: str) -> None:
    wanted = drawn(base_of(tiny_pipeline(kind)))
    base = base_of(tiny_pipeline(kind))
    place(base, Placement("cpu", torch.float32, offloaded=True, tiled=True))
    torch.testing.assert_close(drawn(base), wanted)


def test_plan_says_where_a_large_base_would_lie_and_why(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "story.yaml").write_text(
        f"storyforge: 1\ntitle: A\nbase: {folder}\n"
        "pages:\n  - panels: [{id: one, decorative: true, prompt: snow}]\n"
    )
    assert Project(tmp_path / "story.yaml").status().placed is None
    monkeypatch.setattr(survey, "LARGE", 1)
    monkeypatch.setattr(placement, "LARGE", 1)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setenv(DEVICE, "cpu")
    said = Project(tmp_path / "story.yaml").status().placed
    assert said == "cpu (large: in bfloat16)"
