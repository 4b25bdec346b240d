"""Weights kept in few bits: small, nearly the same, and all that works on weights works on them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tinybases import JOINT, KINDS, base_of, tiny_pipeline
from torch import Tensor, nn

from benchmarks.bases import LiveTensors
from storyforge.errors import EnvironmentProblem
from storyforge.model import placement
from storyforge.model.attention import AttentionContext, attending, predict
from storyforge.model.base import BaseModel, open_base
from storyforge.model.denoising import denoise, start_latents
from storyforge.model.kept_weights import EIGHT, SIXTEEN, is_kept, keep_model
from storyforge.model.lora import Delta, attached, merged
from storyforge.model.lorafile import loras_merged
from storyforge.model.placement import GIB, Placement, asked_placement, place, placement_for, told
from storyforge.model.tokens import encode
from storyforge.model.weights import unet_in
from storyforge.modelref import DEVICE, EIGHT_BITS

SDXL = 3_470_000_000
LINEAR = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"


def small(kind: str = "sd1", kept: torch.dtype = EIGHT) -> BaseModel:
    """A tiny base in few bits."""
    base = base_of(tiny_pipeline(kind))
    for model in _models(base):
        keep_model(model, kept, torch.float32)
    return base


def rounded(kind: str = "sd1", kept: torch.dtype = EIGHT) -> BaseModel:
    """One in full precision, whose weights are what few bits make of them."""
    base, like = base_of(tiny_pipeline(kind)), small(kind, kept)
    for own, other in zip(_models(base), _models(like), strict=True):
        for name, layer in own.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight.copy_(other.get_submodule(name).weight)
    return base


def _models(base: BaseModel) -> Iterator[nn.Module]:
    yield base.unet
    yield from (each.model for each in base.encoders)


@torch.no_grad()
def drawn(base: BaseModel, seed: int = 1) -> Tensor:
    text = encode(base, ["", "a red fox"], {})
    return denoise(base, AttentionContext(text), start_latents(base, [seed]), steps=2)


def delta(base: BaseModel) -> dict[str, Delta]:
    """A change of one linear, by its name in the family."""
    name = next(each for each in base.linears if each.endswith("attn2.to_k"))
    linear, chance = base.linears[name], torch.Generator().manual_seed(0)
    up, down = (
        torch.randn(shape, generator=chance)
        for shape in ((linear.out_features, 2), (2, linear.in_features))
    )
    return {name: Delta(up, down)}


def test_no_weight_errs_by_more_than_half_a_step_of_its_row() -> None:
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(40, 30)])})
    layer = model["layers"][0]
    with torch.no_grad():
        layer.weight[3] *= 100
        layer.weight[4] = 0
    before = layer.weight.detach().clone()
    keep_model(model, EIGHT, torch.float32)
    half = before.abs().amax(1, keepdim=True) / 127 / 2
    assert ((layer.weight - before).abs() <= half * 1.001).all()


@pytest.mark.parametrize("kept", [EIGHT, SIXTEEN])
@pytest.mark.parametrize("kind", [*KINDS, *JOINT])
def test_what_is_in_blocks_is_kept_in_few_bits_and_the_rest_as_it_was(
    kind: str, kept: torch.dtype
) -> None:
    like, base = base_of(tiny_pipeline(kind)), small(kind, kept)
    for own, other in zip(_models(base), _models(like), strict=True):
        for name, layer in other.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d) and is_kept(own.get_submodule(name)):
                there = own.get_parameter(f"{name}.parametrizations.weight.original0")
                assert there.nbytes == kept.itemsize * layer.weight.numel()
    assert all(is_kept(linear) for linear in base.linears.values())
    ends = ("conv_in", "conv_out", "proj_out", "x_embedder", "final_layer")
    outer = [(n, part) for n, part in base.unet.named_children() if any(end in n for end in ends)]
    layers = [layer for _, part in outer for layer in part.modules()]
    assert len(outer) == 2
    assert not any(map(is_kept, layers))


@pytest.mark.parametrize("kind", ["sd1", "sdxl", *JOINT])
def test_it_draws_nearly_the_same(kind: str) -> None:
    full, eight = base_of(tiny_pipeline(kind)), small(kind)
    lacks = []
    # Weights are random, and of some noise they make much of little.
    for seed in range(7):
        right = drawn(full, seed)
        lacks.append((drawn(eight, seed) - right).std() / right.std())
    assert min(lacks) > 0
    assert torch.stack(lacks).median() < 0.05


def test_it_errs_less_than_fp8_by_diffusers_layerwise_casting() -> None:
    full, eight, cast = drawn(base_of(tiny_pipeline("sd1"))), small(), base_of(tiny_pipeline("sd1"))
    cast.unet.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    errors = [(drawn(base) - full).std() for base in (eight, cast)]
    assert 0 < errors[0] < errors[1] / 2


@pytest.mark.parametrize("kept", [EIGHT, SIXTEEN])
def test_it_draws_what_its_rounded_weights_draw(kept: torch.dtype) -> None:
    torch.testing.assert_close(drawn(small(kept=kept)), drawn(rounded(kept=kept)))


@pytest.mark.parametrize("kind", ["sd1", "sdxl", *JOINT])
def test_in_sixteen_bits_nothing_of_a_file_in_sixteen_bits_is_lost(kind: str) -> None:
    like, base = base_of(tiny_pipeline(kind)), base_of(tiny_pipeline(kind))
    for each in (like, base):
        for model in _models(each):
            model.half().float()
    for model in _models(base):
        keep_model(model, SIXTEEN, torch.float32)
    assert torch.equal(drawn(base), drawn(like))


@pytest.mark.parametrize("kept", [EIGHT, SIXTEEN])
def test_layers_in_few_bits_come_and_go(kept: torch.dtype) -> None:
    base = small(kept=kept)
    place(base, Placement("cpu", torch.float32, offloaded=True, kept=kept))
    torch.testing.assert_close(drawn(base), drawn(small(kept=kept)))


@pytest.mark.parametrize("kept", [EIGHT, SIXTEEN])
def test_gradients_pass(kept: torch.dtype) -> None:
    slopes = []
    for base in (small(kept=kept), rounded(kept=kept)):
        change = delta(base)
        (own,) = change.values()
        own.up.requires_grad_()
        with attached(base, change):
            text = encode(base, ["a red fox"], {})
            with attending(base, AttentionContext(text)):
                said = predict(base, start_latents(base, [1]), torch.tensor(10), text)
        slopes += torch.autograd.grad(said.square().mean(), own.up)
    assert slopes[0].abs().max() > 0
    torch.testing.assert_close(slopes[0], slopes[1])


@pytest.mark.parametrize("kept", [EIGHT, SIXTEEN])
def test_a_fused_model_counts_in_full_though_the_weights_are_rounded(kept: torch.dtype) -> None:
    eight, full = small(kept=kept), rounded(kept=kept)
    with merged(eight, delta(eight)):
        made = drawn(eight)
    with merged(full, delta(full)):
        torch.testing.assert_close(made, drawn(full), rtol=1e-4, atol=1e-4)
    assert not torch.equal(made, drawn(eight))
    torch.testing.assert_close(drawn(eight), drawn(full))


@pytest.mark.parametrize("kept", [EIGHT, SIXTEEN])
@pytest.mark.parametrize("much", [1.0, 1e-4])
def test_a_lora_file_counts_in_full_however_little_it_changes_and_then_not_a_bit(
    tmp_path: Path, much: float, kept: torch.dtype
) -> None:
    base = small(kept=kept)
    layer = base.unet.get_submodule(LINEAR)
    before, own = layer.weight.clone(), next(iter(delta(base).values()))
    names = f"unet.{LINEAR}.lora_B.weight", f"unet.{LINEAR}.lora_A.weight"
    save_file(dict(zip(names, (much * own.up, own.down), strict=True)), tmp_path / "a.safetensors")
    wanted = much * own.up @ own.down
    with loras_merged(base, {tmp_path / "a.safetensors": 1.0}):
        made = layer.weight - before
    half = wanted.abs().amax(1, keepdim=True) / 127 / 2
    # Beside half of a step, what adding to larger weights rounds.
    assert ((made - wanted).abs() <= half * 1.001 + 1e-7).all()
    assert made.abs().max() > 0
    assert torch.equal(layer.weight, before)


def test_two_lora_files_add_up(tmp_path: Path) -> None:
    eight, full = small(), rounded()
    own = next(iter(delta(eight).values()))
    names = f"unet.{LINEAR}.lora_B.weight", f"unet.{LINEAR}.lora_A.weight"
    files = {}
    for number, up in enumerate((own.up, own.up.flip(0))):
        file = tmp_path / f"{number}.safetensors"
        save_file(dict(zip(names, (0.1 * up, own.down), strict=True)), file)
        files[file] = 1.0 + number
    with loras_merged(eight, files), loras_merged(full, files):
        one, other = (each.unet.get_submodule(LINEAR).weight for each in (eight, full))
        torch.testing.assert_close(one, other, rtol=0, atol=float(other.abs().max() / 100))
        assert (other - rounded().unet.get_submodule(LINEAR).weight).abs().max() > 0.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sdxl")
    tiny_pipeline("sdxl").save_pretrained(made)
    return made


@pytest.mark.parametrize(
    ("kept", "dtype", "read"),
    [(EIGHT, torch.bfloat16, torch.bfloat16), (SIXTEEN, torch.float32, SIXTEEN)],
)
def test_a_base_is_opened_in_few_bits_as_it_would_be_made_so_later(
    folder: Path, kept: torch.dtype, dtype: torch.dtype, read: torch.dtype
) -> None:
    base, later = (
        open_base(str(folder), "", dtype=dtype, kept=kept),
        open_base(str(folder), "", dtype=read),
    )
    assert base.dtype == dtype
    held = base.unet.state_dict(), base.text_encoder.state_dict()
    assert all(kept in {weight.dtype for weight in each.values()} for each in held)
    for one, other in zip(_models(base), _models(later), strict=True):
        keep_model(other, kept, dtype)
        assert one.state_dict().keys() == other.state_dict().keys()
        for name, weight in one.state_dict().items():
            assert torch.equal(weight, other.state_dict()[name]), name


class Held(LiveTensors):
    """Counts what takes memory: shapes alone do not."""

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage.device.type != "meta":
            super()._count(storage)


@pytest.mark.parametrize(("kept", "dtype"), [(EIGHT, torch.bfloat16), (EIGHT, torch.float32)])
def test_its_unet_is_never_there_in_the_precision_that_it_is_computed_in(
    folder: Path, kept: torch.dtype, dtype: torch.dtype
) -> None:
    def most(how: torch.dtype | None) -> int:
        """Bytes of tensors, at the most."""
        with Held() as live:
            unet_in(folder / "unet", dtype, kept=how)
        return live.peak

    weights = sum(w.numel() for w in base_of(tiny_pipeline("sdxl")).unet.parameters())
    assert most(kept) < 0.8 * dtype.itemsize * weights
    assert most(None) >= dtype.itemsize * weights


def test_what_is_kept_in_sixteen_bits_is_read_from_the_variant_that_has_no_more(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "base")
    for part in ("unet", "text_encoder", "text_encoder_2"):
        (file,) = (tmp_path / "base" / part).glob("*.safetensors")
        full, half = load_file(file), file.with_name(file.name.replace(".saf", ".fp16.saf"))
        save_file({name: tensor.half() for name, tensor in full.items()}, half, {"format": "pt"})
        file.write_bytes(b"not read")
    base = open_base(str(tmp_path / "base"), "", kept=SIXTEEN)
    alone = open_base(str(folder), "", kept=SIXTEEN)
    for one, other in zip(_models(base), _models(alone), strict=True):
        for name, weight in one.state_dict().items():
            assert torch.equal(weight, other.state_dict()[name]), name


def test_a_weight_of_another_shape_is_told_as_it_is_read(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "base")
    file = tmp_path / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file({name: tensor[:1].clone() for name, tensor in tensors.items()}, file)
    with pytest.raises(EnvironmentProblem, match=r"`\S+` is \(1,.*\) and not \("):
        open_base(str(tmp_path / "base"), "", dtype=torch.bfloat16, kept=EIGHT)


def test_sdxl_in_eight_bits_stays_on_a_gpu_of_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert placement_for(SDXL, "cuda", 8 * GIB).offloaded
    made = placement_for(SDXL, "cuda", 8 * GIB, eight_bits=True)
    assert (made.kept, made.offloaded, made.tiled) == (EIGHT, False, True)
    assert placement_for(SDXL, "cuda", 6 * GIB, eight_bits=True).offloaded


def test_it_is_for_large_bases_and_only_where_it_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEVICE, "cpu")
    monkeypatch.setenv(EIGHT_BITS, "1")
    assert asked_placement(str(folder)).kept is None
    monkeypatch.setattr(placement, "LARGE", 1)
    assert told(asked_placement(str(folder))).endswith("weights in 8 bits")
    assert all(map(is_kept, placement.open_placed(str(folder), "").linears.values()))
    monkeypatch.delenv(EIGHT_BITS)
    assert asked_placement(str(folder)).kept != EIGHT


def test_a_large_base_is_kept_in_sixteen_bits_where_the_processor_computes_in_full_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "half_on", lambda device: None)
    monkeypatch.setenv(DEVICE, "cpu")
    assert asked_placement(str(folder)).kept is None
    monkeypatch.setattr(placement, "LARGE", 1)
    assert told(asked_placement(str(folder))).endswith("weights in 16 bits")
    base = placement.open_placed(str(folder), "")
    assert all(map(is_kept, base.linears.values()))
    assert drawn(base).dtype == base.dtype == torch.float32
    monkeypatch.setattr(placement, "half_on", lambda device: torch.bfloat16)
    assert asked_placement(str(folder)).kept is None
