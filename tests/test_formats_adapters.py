"""Adapters of other tools: every layer changes as stock diffusers and PEFT change it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from tiny import save_base
from torch import Tensor, nn

from storyforge.errors import EnvironmentProblem
from storyforge.headers.names import part_of
from storyforge.model.base import BaseModel, open_base
from storyforge.model.family import text_core
from storyforge.model.formats.tensors import raw_tensors
from storyforge.model.lorafile import changes_of, loras_merged

peft = pytest.importorskip("peft")

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
EVERYWHERE = [*ATTENTION, "proj_in", "ff.net.0.proj", "conv1", "time_emb_proj"]
TEXT = ["q_proj", "out_proj", "fc1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="module")
def tiny(folder: Path) -> BaseModel:
    return open_base(str(folder), "7e57" * 16)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def stock(folder: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)


def roused(model: nn.Module, seed: int = 1) -> nn.Module:
    """Adapters begin at zero, and would prove nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(mark in name for mark in ("lora_", "hada_", "lokr_", "ia3_")):
                noise = torch.randn(parameter.shape, generator=generator)
                whole = "magnitude" in name or "ia3" in name
                parameter.copy_(parameter + 0.1 * noise if whole else 0.2 * noise)
    return model


def weights(unet: nn.Module, text_encoder: nn.Module) -> dict[str, Tensor]:
    """Every weight and bias by its path in a plain model."""
    found = {}
    for part, model in (("unet", unet), ("text", text_core(text_encoder))):
        for name, value in model.state_dict().items():
            if ".lora_" not in name:
                found[f"{part} {name.replace('.base_layer.', '.')}"] = value.clone()
    return found


def fused(folder: Path, file: Path) -> dict[str, Tensor]:
    """What stock diffusers makes of the weights."""
    pipe = stock(folder)
    pipe.load_lora_weights(file.parent, weight_name=file.name)
    pipe.fuse_lora()
    return weights(pipe.unet, pipe.text_encoder)


def assert_same(base: BaseModel, file: Path, wanted: dict[str, Tensor], least: int) -> None:
    """Equal on every layer, and at least so many layers changed."""
    before = weights(base.unet, base.text_encoder)
    with loras_merged(base, {file: 1.0}):
        made = weights(base.unet, base.text_encoder)
    assert made.keys() == wanted.keys()
    for name, value in made.items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-5, atol=1e-6, msg=name)
    assert sum(not torch.equal(made[name], before[name]) for name in made) >= least
    after = weights(base.unet, base.text_encoder)
    assert all(torch.equal(after[name], before[name]) for name in before)


def saved(folder: Path, out: Path, text: bool = True, told: bool = True, **config: object) -> Path:
    """A LoRA as diffusers saves it."""
    from diffusers.training_utils import _collate_lora_metadata

    pipe = stock(folder)
    targets = config.pop("target_modules", ATTENTION)
    pipe.unet.add_adapter(peft.LoraConfig(target_modules=targets, **config))
    roused(pipe.unet)
    parts = {"unet_lora_layers": peft.get_peft_model_state_dict(pipe.unet)}
    told_of = {"unet": pipe.unet}
    if text:
        pipe.text_encoder.add_adapter(peft.LoraConfig(target_modules=TEXT, **config))
        roused(pipe.text_encoder)
        state = peft.get_peft_model_state_dict(pipe.text_encoder)
        parts["text_encoder_lora_layers"] = state
        told_of["text_encoder"] = pipe.text_encoder
    more = _collate_lora_metadata(told_of) if told else {}
    StableDiffusionPipeline.save_lora_weights(out, **parts, **more)
    return out / "pytorch_lora_weights.safetensors"


@pytest.mark.parametrize(
    "config",
    [
        {"r": 4, "lora_alpha": 4},
        {"r": 4, "lora_alpha": 16},
        {"r": 4, "lora_alpha": 16, "use_rslora": True},
        {"r": 4, "lora_alpha": 2, "rank_pattern": {"to_k": 2}, "alpha_pattern": {"to_v": 7}},
        {"r": 2, "lora_alpha": 3, "target_modules": EVERYWHERE},
    ],
    ids=["plain", "alpha", "rslora", "patterns", "convolutions"],
)
def test_what_diffusers_saved_has_the_strength_that_its_metadata_says(
    tiny: BaseModel, folder: Path, tmp_path: Path, config: dict[str, object]
) -> None:
    file = saved(folder, tmp_path, **config)
    assert_same(tiny, file, fused(folder, file), least=32 + 6)


def test_a_file_without_any_alpha_counts_in_full(
    tiny: BaseModel, folder: Path, tmp_path: Path
) -> None:
    file = saved(folder, tmp_path, told=False, r=4, lora_alpha=4)
    assert_same(tiny, file, fused(folder, file), least=38)


def kohya(file: Path, out: Path, alpha: Callable[[int], float]) -> Path:
    """The same file under kohya's names, each layer with an alpha of its own."""
    made: dict[str, Tensor] = {}
    for number, (key, value) in enumerate(sorted(load_file(file).items())):
        layer, _, rest = key.partition(".lora")
        layer = layer.replace("text_encoder.", "lora_te_text_model_").replace("unet.", "lora_unet_")
        layer = layer.replace(".", "_")
        made[f"{layer}.lora_{'down' if 'down' in rest or '_A' in rest else 'up'}.weight"] = value
        made.setdefault(f"{layer}.alpha", torch.tensor(alpha(number)))
    save_file(made, out)
    return out


def test_kohyas_names_with_one_alpha_are_what_diffusers_reads(
    tiny: BaseModel, folder: Path, tmp_path: Path
) -> None:
    config = {"r": 4, "lora_alpha": 4, "target_modules": [*ATTENTION, "conv1", "proj_in"]}
    file = kohya(saved(folder, tmp_path, **config), tmp_path / "k.safetensors", lambda _: 2.0)
    assert_same(tiny, file, fused(folder, file), least=38)


def test_kohyas_layers_keep_an_alpha_each(tiny: BaseModel, folder: Path, tmp_path: Path) -> None:
    plain = saved(folder, tmp_path, r=4, lora_alpha=4)
    file = kohya(plain, tmp_path / "k.safetensors", lambda n: 1.0 + n % 5)
    said, own = load_file(file), changes_of(tiny, file)
    usual = changes_of(tiny, plain)
    names = {module: name for name, module in tiny.unet.named_modules()}
    scales = set()
    for layer, change in own.items():
        if layer in names:
            scale = said[f"lora_unet_{names[layer].replace('.', '_')}.alpha"].item() / 4
            torch.testing.assert_close(change, scale * usual[layer])
            scales.add(scale)
    assert len(scales) > 2


def folder_of_peft(folder: Path, out: Path, config: object) -> dict[str, Tensor]:
    """Save a U-Net's adapter as PEFT does, and return the weights that PEFT merges."""
    pipe = stock(folder)
    model = peft.get_peft_model(pipe.unet, config)
    roused(model)
    model.save_pretrained(out)
    return weights(model.merge_and_unload(), pipe.text_encoder)


PEFT_KINDS = {
    "LoRA": lambda: peft.LoraConfig(r=4, lora_alpha=16, target_modules=ATTENTION),
    "rslora": lambda: peft.LoraConfig(
        r=4, lora_alpha=8, use_rslora=True, target_modules=ATTENTION, alpha_pattern={"to_q": 3}
    ),
    "DoRA": lambda: peft.LoraConfig(
        r=4, lora_alpha=8, use_dora=True, target_modules=[*ATTENTION, "conv1"]
    ),
    "LoHa": lambda: peft.LoHaConfig(r=4, alpha=6, target_modules=[*ATTENTION, "conv1"]),
    "LoHa Tucker": lambda: peft.LoHaConfig(
        r=4, alpha=6, target_modules=["conv1"], use_effective_conv2d=True
    ),
    "LoKr": lambda: peft.LoKrConfig(r=2, alpha=6, target_modules=[*ATTENTION, "conv1"]),
    "LoKr both": lambda: peft.LoKrConfig(
        r=2, alpha=3, target_modules=ATTENTION, decompose_both=True
    ),
    "LoKr Tucker": lambda: peft.LoKrConfig(
        r=2, alpha=6, target_modules=["conv1"], use_effective_conv2d=True
    ),
    "IA3": lambda: peft.IA3Config(
        target_modules=["to_k", "to_v", "ff.net.2"], feedforward_modules=["ff.net.2"]
    ),
}


@pytest.mark.parametrize("kind", list(PEFT_KINDS))
def test_a_folder_of_peft_is_what_peft_merges(
    tiny: BaseModel, folder: Path, tmp_path: Path, kind: str
) -> None:
    wanted = folder_of_peft(folder, tmp_path, PEFT_KINDS[kind]())
    assert_same(tiny, tmp_path, wanted, least=3)
    assert_same(tiny, tmp_path / "adapter_model.safetensors", wanted, least=3)


def test_a_folder_that_peft_pickled_is_read_without_running_it(
    tiny: BaseModel, folder: Path, tmp_path: Path
) -> None:
    wanted = folder_of_peft(folder, tmp_path, PEFT_KINDS["LoKr Tucker"]())
    whole = tmp_path / "adapter_model.safetensors"
    torch.save(load_file(whole), tmp_path / "adapter_model.bin")
    whole.unlink()
    assert_same(tiny, tmp_path, wanted, least=3)


@pytest.mark.parametrize("kind", ["LoHa", "LoHa Tucker", "LoKr both", "LoKr Tucker"])
def test_lycoris_names_mean_the_same(
    tiny: BaseModel, folder: Path, tmp_path: Path, kind: str
) -> None:
    config = PEFT_KINDS[kind]()
    wanted = folder_of_peft(folder, tmp_path, config)
    made: dict[str, Tensor] = {}
    for key, value in load_file(tmp_path / "adapter_model.safetensors").items():
        layer, role = key.removeprefix("base_model.model.").rsplit(".", 1)
        layer = f"lora_unet_{layer.replace('.', '_')}"
        made[f"{layer}.{role}"] = value
        made[f"{layer}.alpha"] = torch.tensor(float(config.alpha))
    save_file(made, tmp_path / "lycoris.safetensors")
    assert_same(tiny, tmp_path / "lycoris.safetensors", wanted, least=3)


LINEAR = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
CONV = "down_blocks.0.resnets.0.conv1"


def noise(*shape: int) -> Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def change_by(base: BaseModel, path: Path, layer: str, **parts: Tensor) -> Tensor:
    """What a file of one layer under LyCORIS' names does to it."""
    name = f"lora_unet_{layer.replace('.', '_')}"
    save_file({f"{name}.{k.replace('__', '.')}": v for k, v in parts.items()}, path)
    (change,) = changes_of(base, path).values()
    return change


def test_a_tucker_locon_is_three_convolutions_in_a_row(tiny: BaseModel, tmp_path: Path) -> None:
    down, mid, up = noise(3, 32, 1, 1), noise(3, 3, 3, 3), noise(32, 3, 1, 1)
    parts = {"lora_down__weight": down, "lora_mid__weight": mid, "lora_up__weight": up}
    made = change_by(tiny, tmp_path / "a.safetensors", CONV, **parts, alpha=torch.tensor(3.0))
    x = torch.randn(1, 32, 7, 7, generator=torch.Generator().manual_seed(0))
    chain = F.conv2d(F.conv2d(F.conv2d(x, down), mid, padding=1), up)
    torch.testing.assert_close(F.conv2d(x, made, padding=1), chain, rtol=1e-4, atol=1e-6)


def test_a_dora_of_lycoris_gives_every_input_its_length(tiny: BaseModel, tmp_path: Path) -> None:
    weight = tiny.unet.get_submodule(LINEAR).weight
    length = 1 + noise(1, weight.shape[1]).abs()
    made = change_by(
        tiny,
        tmp_path / "a.safetensors",
        LINEAR,
        lora_down__weight=noise(4, weight.shape[1]),
        lora_up__weight=noise(weight.shape[0], 4),
        dora_scale=length,
    )
    torch.testing.assert_close((weight + made).norm(dim=0), length[0])


def test_ia3_of_lycoris_multiplies_inputs(tiny: BaseModel, tmp_path: Path) -> None:
    layer = tiny.unet.get_submodule(LINEAR)
    more = noise(1, layer.in_features)
    parts = {"weight": more, "on_input": torch.tensor(True)}
    made = change_by(tiny, tmp_path / "a.safetensors", LINEAR, **parts)
    x = noise(5, layer.in_features)
    torch.testing.assert_close(F.linear(x, layer.weight + made), layer(x * (1 + more)))


def test_whole_differences_reach_weights_biases_and_norms(tiny: BaseModel, tmp_path: Path) -> None:
    conv, norm = tiny.unet.get_submodule(CONV), tiny.unet.conv_norm_out
    parts = {f"lora_unet_{CONV.replace('.', '_')}.diff": noise(*conv.weight.shape)}
    parts[f"lora_unet_{CONV.replace('.', '_')}.diff_b"] = noise(*conv.bias.shape)
    parts["lora_unet_conv_norm_out.w_norm"] = noise(*norm.weight.shape)
    save_file(parts, tmp_path / "a.safetensors")
    before = [conv.weight.clone(), conv.bias.clone(), norm.weight.clone()]
    with loras_merged(tiny, {tmp_path / "a.safetensors": 0.5}):
        now = (conv.weight, conv.bias, norm.weight)
        for value, was, more in zip(now, before, parts.values(), strict=True):
            torch.testing.assert_close(value, was + 0.5 * more)
    assert torch.equal(conv.weight, before[0])
    assert torch.equal(conv.bias, before[1])


@pytest.mark.parametrize("prefix", ["unet.", ""])
def test_names_of_2023_are_those_of_today(tiny: BaseModel, tmp_path: Path, prefix: str) -> None:
    a, b = noise(4, 32), noise(32, 4)
    attn = LINEAR.removesuffix(".to_k")
    made = {}
    for old in ("to_k", "to_out"):
        made[f"{prefix}{attn}.processor.{old}_lora.down.weight"] = a.clone()
        made[f"{prefix}{attn}.processor.{old}_lora.up.weight"] = b.clone()
    save_file(made, tmp_path / "a.safetensors")
    found = changes_of(tiny, tmp_path / "a.safetensors")
    block = tiny.unet.get_submodule(attn)
    assert set(found) == {block.to_k, block.to_out[0]}
    torch.testing.assert_close(found[block.to_k], b @ a)


def test_text_names_of_2023_are_those_of_today(tiny: BaseModel, tmp_path: Path) -> None:
    a, b = noise(4, 32), noise(32, 4)
    old = "text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora"
    save_file({f"{old}.down.weight": a, f"{old}.up.weight": b}, tmp_path / "a.safetensors")
    found = changes_of(tiny, tmp_path / "a.safetensors")
    own = text_core(tiny.text_encoder).get_submodule("encoder.layers.0.self_attn.q_proj")
    torch.testing.assert_close(found[own], b @ a)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_none_is_refused_with_its_layer(
    tiny: BaseModel, tmp_path: Path, bad: float
) -> None:
    b = noise(32, 4)
    b[3, 1] = bad
    with pytest.raises(EnvironmentProblem, match=r"a\.safetensors` is broken.*attn2_to_k\.lora_up"):
        change_by(
            tiny,
            tmp_path / "a.safetensors",
            LINEAR,
            lora_down__weight=noise(4, 32),
            lora_up__weight=b,
        )


def test_a_layer_of_as_many_numbers_in_another_shape_is_refused_by_name(
    tiny: BaseModel, tmp_path: Path
) -> None:
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2"
    out, width = tiny.unet.get_submodule(layer).weight.shape
    assert out != width
    parts = {"lora_down__weight": noise(4, out), "lora_up__weight": noise(width, 4)}
    with pytest.raises(EnvironmentProblem, match=rf"ff_net_2` is {out}×{width} .* {width}×{out}"):
        change_by(tiny, tmp_path / "a.safetensors", layer, **parts)


def test_a_kind_without_a_formula_is_refused_by_its_kind(tiny: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="is an OFT, which is not read"):
        change_by(tiny, tmp_path / "a.safetensors", LINEAR, oft_blocks=noise(4, 8, 8))


def test_an_adapter_that_began_by_changing_the_base_is_refused(
    tiny: BaseModel, folder: Path, tmp_path: Path
) -> None:
    folder_of_peft(folder, tmp_path, PEFT_KINDS["LoRA"]())
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"init_lora_weights": "pissa"}))
    with pytest.raises(EnvironmentProblem, match="began as pissa"):
        changes_of(tiny, tmp_path)


def test_two_files_change_what_was_there_before_both(tiny: BaseModel, tmp_path: Path) -> None:
    """Else the second of two DoRAs would lengthen what the first has changed."""
    layer = tiny.unet.get_submodule(LINEAR)
    before = layer.weight.detach().clone()
    parts = {"lora_down__weight": noise(4, 32), "lora_up__weight": noise(32, 4)}
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    each = [
        change_by(tiny, path, LINEAR, **parts, dora_scale=torch.full((1, 32), 1.0 + n))
        for n, path in enumerate(paths)
    ]
    with loras_merged(tiny, dict.fromkeys(paths, 1.0)):
        torch.testing.assert_close(layer.weight, before + each[0] + each[1])


def test_what_is_not_read_is_never_dropped(tiny: BaseModel, tmp_path: Path) -> None:
    parts = {"lora_down__weight": noise(4, 32), "lora_up__weight": noise(32, 4)}
    change_by(tiny, tmp_path / "a.safetensors", LINEAR, **parts)
    tensors = load_file(tmp_path / "a.safetensors")
    save_file({**tensors, "something.else": noise(3)}, tmp_path / "b.safetensors")
    with pytest.raises(EnvironmentProblem, match=r"something\.else"):
        changes_of(tiny, tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("key", "layer"),
    [
        (
            "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.lora_A.weight",
            "unet down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
        ),
        (
            "base_model.model.transformer_blocks.0.attn.to_q.lora_A.weight",
            "transformer transformer_blocks_0_attn_to_q",
        ),
        (
            "base_model.model.layers.3.attention.to_k.lora_B.weight",
            "transformer layers_3_attention_to_k",
        ),
        (
            "transformer.single_transformer_blocks.1.attn.to_out.lora_B.weight",
            "transformer single_transformer_blocks_1_attn_to_out",
        ),
    ],
)
def test_layers_have_one_name_whoever_wrote_them(key: str, layer: str) -> None:
    part = part_of(key)
    assert part is not None
    assert part.name == layer


@pytest.mark.parametrize("up", [torch.zeros(10, 2), torch.zeros(1, 2), torch.tensor(0.0)])
def test_a_fused_layer_that_does_not_fall_into_three_is_refused_like_others(
    tiny: BaseModel, tmp_path: Path, up: Tensor
) -> None:
    layer = "diffusion_model.layers.0.attention.qkv"
    parts = {f"{layer}.lora_A.weight": torch.zeros(2, 8), f"{layer}.lora_B.weight": up}
    save_file(parts, tmp_path / "a.safetensors")
    header, tensors = raw_tensors(tmp_path / "a.safetensors")
    assert header.shapes == {name: tuple(made.shape) for name, made in tensors.items()}
    with pytest.raises(EnvironmentProblem):
        changes_of(tiny, tmp_path / "a.safetensors")


def test_fused_layers_of_a_pickle_are_cut_too(tmp_path: Path) -> None:
    layer, up = "diffusion_model.layers.0.attention.qkv", torch.randn(6, 2)
    parts = {f"{layer}.lora_A.weight": torch.zeros(2, 8), f"{layer}.lora_B.weight": up}
    torch.save(parts, tmp_path / "a.pt")
    header, tensors = raw_tensors(tmp_path / "a.pt")
    assert header.shapes == {name: tuple(made.shape) for name, made in tensors.items()}
    names = [f"diffusion_model.layers.0.attention.to_{each}.lora_B.weight" for each in "qkv"]
    assert torch.equal(torch.cat([tensors[name] for name in names]), up)
