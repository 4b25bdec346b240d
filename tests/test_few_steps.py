"""Adapters for few steps: drawn as the stock pipeline draws with them, and named by check."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    LCMScheduler,
    SchedulerMixin,
    TCDScheduler,
)
from headed import base_folder
from safetensors.numpy import save_file
from tinybases import base_of, tiny_pipeline

from storyforge.headers.fewsteps import few_steps_of
from storyforge.model.attention import AttentionContext
from storyforge.model.base import BaseModel
from storyforge.model.denoising import Extras, denoise, start_latents
from storyforge.model.formats import kohya
from storyforge.model.lora import Delta
from storyforge.model.lorafile import loras_merged
from storyforge.model.tokens import encode
from storyforge.story.story import check

SEED, STEPS, PROMPT = 7, 4, "a red fox"
TRAILING = {"timestep_spacing": "trailing"}
STOCK: dict[str, tuple[type[SchedulerMixin], dict[str, object]]] = {
    "lcm": (LCMScheduler, {}),
    "tcd": (TCDScheduler, {}),
    "ddim-trailing": (DDIMScheduler, {"clip_sample": False, **TRAILING}),
    "euler-trailing": (EulerDiscreteScheduler, TRAILING),
}
"""Scheduler -> how its makers' model cards write it with diffusers."""


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def pipeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> object:
    """A tiny base, and another pipeline of the same weights whose adapter PEFT has loaded."""
    pytest.importorskip("peft")
    base, pipe = base_of(tiny_pipeline(request.param)), tiny_pipeline(request.param)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    deltas = {
        linear: Delta(
            0.3 * torch.randn(module.out_features, 2, generator=generator),
            0.3 * torch.randn(2, module.in_features, generator=generator),
        )
        for linear, module in base.linears.items()
        if linear.startswith("unet.")
    }
    path = tmp_path_factory.mktemp("adapter") / "pytorch_lora_weights.safetensors"
    kohya.write_lora(deltas, path, {}, dtype=torch.float32)
    pipe.load_lora_weights(path.parent)
    return base, pipe, path


@torch.no_grad()
def drawn(base: BaseModel, scheduler: str) -> np.ndarray:
    reader = AttentionContext(encode(base, ["", PROMPT], {}))
    noise = start_latents(base, [SEED])
    clean = denoise(
        base,
        reader,
        noise,
        steps=STEPS,
        guidance_scale=1.0,
        scheduler=scheduler,
        extras=Extras(seeds=(SEED,)),
    )
    picture: np.ndarray = base.decode(clean)[0].permute(1, 2, 0).numpy()
    return picture


@pytest.mark.parametrize("name", STOCK)
def test_few_steps_are_the_stock_pipelines(
    pipeline: tuple[BaseModel, DiffusionPipeline, Path], name: str
) -> None:
    base, pipe, path = pipeline
    kind, more = STOCK[name]
    pipe.scheduler = kind.from_config(base.scheduler_config, **more)
    theirs = pipe(
        PROMPT,
        latents=start_latents(base, [SEED]),
        generator=torch.Generator().manual_seed(~SEED % 2**63),
        width=base.side,
        height=base.side,
        num_inference_steps=STEPS,
        guidance_scale=1.0,
        eta=0.3 if name == "tcd" else 0.0,
        output_type="np",
    ).images[0]
    with loras_merged(base, {path: 1.0}):
        ours = drawn(base, name)
    assert np.abs(ours - theirs).max() < 1 / 255
    assert np.abs(drawn(base, name) - theirs).max() > 1 / 255


KNOWN = {
    "lcm-lora-sdv1-5.safetensors": ("LCM", "lcm", (4, 8)),
    "Hyper-SD15-8steps-lora.safetensors": ("Hyper-SD", "ddim-trailing", (8, 8)),
    "Hyper-SDXL-12steps-CFG-lora.safetensors": (
        "Hyper-SD with guidance",
        "ddim-trailing",
        (12, 12),
    ),
    "sdxl_lightning_4step_lora.safetensors": ("SDXL-Lightning", "euler-trailing", (4, 4)),
    "TCD-SDXL-LoRA.safetensors": ("TCD", "tcd", (4, 8)),
    "dmd2_sdxl_4step_lora.safetensors": ("DMD2", "lcm", (4, 4)),
}


@pytest.mark.parametrize("file", KNOWN)
def test_adapters_for_few_steps_are_known_by_their_names(file: str) -> None:
    found = few_steps_of(file)
    assert found is not None
    assert (found.name, found.schedulers[0], found.steps) == KNOWN[file]


@pytest.mark.parametrize("file", ["watercolour-2000steps.safetensors", "welcome.safetensors"])
def test_other_adapters_are_none_of_them(file: str) -> None:
    assert few_steps_of(file) is None


@pytest.mark.parametrize(
    ("said", "warned"),
    [
        ("", True),
        ("scheduler: lcm, steps: 6, guidance_scale: 1", False),
        ("scheduler: lcm, steps: 30, guidance_scale: 1", True),
        ("scheduler: ddim, steps: 6, guidance_scale: 1", True),
        ("scheduler: lcm, steps: 6, guidance_scale: 7.5", True),
    ],
)
def test_check_says_how_they_are_drawn_with(tmp_path: Path, said: str, warned: bool) -> None:
    base_folder(tmp_path / "base")
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {f"{layer}.lora_down.weight": np.zeros((4, 768), np.float32)}
    tensors |= {f"{layer}.lora_up.weight": np.zeros((320, 4), np.float32)}
    save_file(tensors, tmp_path / "lcm-lora.safetensors")
    more = f", {said}" if said else ""
    (tmp_path / "story.yaml").write_text(
        "storyforge: 1\ntitle: A\nbase: base\n"
        f"sampling: {{lora: [{{file: lcm-lora.safetensors}}]{more}}}\n"
        "pages:\n  - panels: [{id: one, decorative: true, prompt: snow}]\n"
    )
    found = [each for each in check(tmp_path / "story.yaml") if each.code == "SF439"]
    assert bool(found) is warned
    assert not found or "write `scheduler: lcm`, `steps: 4 to 8`" in found[0].message
