"""Ordinary LoRA files of other tools: their names, their scales, and no trace afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from storyforge.errors import EnvironmentProblem
from storyforge.model.base import BaseModel
from storyforge.model.lorafile import changes_of, loras_merged
from storyforge.sample.sampler import draw_panels
from storyforge.tasks import PanelTask

LINEAR = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
CONV = "down_blocks.0.resnets.0.conv1"
TEXT = "encoder.layers.0.self_attn.q_proj"


def noise(*shape: int) -> Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def pair(base: BaseModel, rank: int = 3) -> tuple[Tensor, Tensor]:
    """Down and up of the linear layer."""
    weight = base.unet.get_submodule(LINEAR).weight
    return noise(rank, weight.shape[1]), noise(weight.shape[0], rank)


def only(found: dict[torch.nn.Module, Tensor]) -> Tensor:
    (change,) = found.values()
    return change


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("lora_unet_{}.lora_down.weight", "lora_unet_{}.lora_up.weight"),
        ("unet.{}.lora_A.weight", "unet.{}.lora_B.weight"),
        ("unet.{}.lora.down.weight", "unet.{}.lora.up.weight"),
    ],
)
def test_every_tools_names_lead_to_the_same_layer(
    base: BaseModel, tmp_path: Path, down: str, up: str
) -> None:
    name = LINEAR.replace(".", "_") if "lora_unet" in down else LINEAR
    a, b = pair(base)
    save_file({down.format(name): a, up.format(name): b}, tmp_path / "a.safetensors")
    found = changes_of(base, tmp_path / "a.safetensors")
    assert list(found) == [base.unet.get_submodule(LINEAR)]
    torch.testing.assert_close(only(found), b @ a)


def test_alpha_over_rank_is_each_layers_own(base: BaseModel, tmp_path: Path) -> None:
    a, b = pair(base, rank=4)
    name = f"lora_unet_{LINEAR.replace('.', '_')}"
    tensors = {
        f"{name}.lora_down.weight": a,
        f"{name}.lora_up.weight": b,
        f"{name}.alpha": torch.tensor(1.0),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    torch.testing.assert_close(only(changes_of(base, tmp_path / "a.safetensors")), b @ a / 4)


def test_a_convolution_is_changed_as_two_in_a_row_would(base: BaseModel, tmp_path: Path) -> None:
    conv = base.unet.get_submodule(CONV)
    a, b = noise(2, *conv.weight.shape[1:]), noise(conv.weight.shape[0], 2, 1, 1)
    path = tmp_path / "a.safetensors"
    save_file({f"unet.{CONV}.lora_A.weight": a, f"unet.{CONV}.lora_B.weight": b}, path)
    x = noise(1, conv.weight.shape[1], 6, 6)
    usual = conv(x)
    more = torch.conv2d(torch.conv2d(x, a, padding=conv.padding), b)
    with loras_merged(base, {path: 0.5}):
        torch.testing.assert_close(conv(x), usual + 0.5 * more, rtol=1e-4, atol=1e-5)
    assert torch.equal(conv(x), usual)


def test_several_files_add_up_and_leave_no_trace(base: BaseModel, tmp_path: Path) -> None:
    q = base.text_encoder.get_submodule(f"text_model.{TEXT}" if _nested(base) else TEXT)
    before = q.weight.detach().clone()
    a, b = noise(2, q.in_features), noise(q.out_features, 2)
    files = {}
    for number, strength in enumerate((1.0, -0.5)):
        path = tmp_path / f"{number}.safetensors"
        name = f"lora_te_text_model_{TEXT.replace('.', '_')}"
        save_file({f"{name}.lora_down.weight": a, f"{name}.lora_up.weight": b}, path)
        files[path] = strength
    with loras_merged(base, files):
        torch.testing.assert_close(q.weight, before + 0.5 * (b @ a))
    assert torch.equal(q.weight, before)


def _nested(base: BaseModel) -> bool:
    return hasattr(base.text_encoder, "text_model")


def test_a_file_of_another_kind_of_model_is_refused_and_changes_nothing(
    base: BaseModel, tmp_path: Path
) -> None:
    a, b = pair(base)
    wide = {f"unet.{LINEAR}.lora_A.weight": noise(3, 7), f"unet.{LINEAR}.lora_B.weight": b}
    strange = {"lora_unet_nowhere.lora_down.weight": a, "lora_unet_nowhere.lora_up.weight": b}
    layer = base.unet.get_submodule(LINEAR)
    before = layer.weight.detach().clone()
    for tensors, said in ((wide, "does not fit"), (strange, "nowhere"), ({}, "no LoRA")):
        save_file(tensors, tmp_path / "a.safetensors")
        with (
            pytest.raises(EnvironmentProblem, match=said),
            loras_merged(base, {tmp_path / "a.safetensors": 1.0}),
        ):
            pass
        assert torch.equal(layer.weight, before)


def test_a_panel_is_drawn_with_its_own_loras_and_says_so(base: BaseModel, tmp_path: Path) -> None:
    a, b = pair(base)
    path = tmp_path / "few-steps.safetensors"
    save_file({f"unet.{LINEAR}.lora_A.weight": 9 * a, f"unet.{LINEAR}.lora_B.weight": 9 * b}, path)
    usual = PanelTask(
        key="",
        panel="usual",
        page=1,
        base=base.reference,
        base_hash=base.hash,
        fused=None,
        prompt="a fox",
        negative="",
        regions=(),
        size=(64, 64),
        steps=2,
        guidance_scale=2.0,
        scheduler="lcm",
        region_blend=1.0,
        seed=1,
        alt=None,
    )
    changed = replace(usual, panel="changed", loras=((path, 1.0),))
    again = replace(usual, panel="again")

    @contextmanager
    def keep(task: PanelTask) -> Iterator[Path]:
        yield tmp_path / f"{task.panel}.png"

    draw_panels(base, [usual, changed, again], None, keep, lambda *_: None)
    drawn, told = {}, {}
    for name in ("usual", "changed", "again"):
        with Image.open(tmp_path / f"{name}.png") as file:
            drawn[name], told[name] = file.convert("RGB").tobytes(), str(file.info["storyforge"])
    assert drawn["usual"] == drawn["again"] != drawn["changed"]
    assert '"file": "few-steps.safetensors"' in told["changed"]
