"""Concepts out of other tools' files, and back: words and changes as their own readers see them."""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tiny import save_base, sixteen
from tinybases import WIDTH
from torch import Tensor

from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.headers.header import read_header
from storyforge.headers.kinds import XTI_SITES, describe, trigger_of
from storyforge.model.base import BaseModel, open_base
from storyforge.model.concept import Concept
from storyforge.model.family import text_core
from storyforge.model.formats import diffusers_lora, kohya, mix_of_show, textual_inversion, xti
from storyforge.model.formats.export import Target, export_concept
from storyforge.model.formats.foreign import EXACT, Imported, Wanted, import_concept
from storyforge.model.lora import Delta
from storyforge.model.lorafile import changes_of
from storyforge.model.tokens import encode

GROUPS = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("tiny") / "base", unet=sixteen())


@pytest.fixture(scope="module")
def tiny(folder: Path) -> BaseModel:
    return open_base(str(folder), "7e57" * 16)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def noise(*shape: int) -> Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def taken(base: BaseModel, path: Path, trigger: str | None = None) -> Imported:
    return import_concept(base, path, Wanted("pip", "character", "fox", trigger))


def lora(base: BaseModel, path: Path, metadata: dict[str, str] | None = None) -> Path:
    """A LoRA of kohya's that changes every attention layer, with mixed alphas."""
    tensors = {}
    for number, (name, linear) in enumerate(base.linears.items()):
        key = kohya.key_of(name)
        tensors[f"{key}.lora_down.weight"] = noise(3, linear.in_features) + 0.01 * number
        tensors[f"{key}.lora_up.weight"] = noise(linear.out_features, 3)
        tensors[f"{key}.alpha"] = torch.tensor(1.0 + number % 3)
    save_file(tensors, path, metadata or {})
    return path


TI_FILES = {
    "a1111.safetensors": lambda words: {"emb_params": words},
    "diffusers.safetensors": lambda words: {"<pip>": words},
    "a1111.pt": lambda words: {"string_to_token": {"*": 265}, "string_to_param": {"*": words}},
    "learned_embeds.bin": lambda words: {"<pip>": words[0]},
}


@pytest.mark.parametrize("name", list(TI_FILES))
def test_a_textual_inversion_reads_as_stock_diffusers_reads_it(
    tiny: BaseModel, folder: Path, tmp_path: Path, name: str
) -> None:
    words = noise(1 if name.endswith(".bin") else 3, WIDTH)
    content, path = TI_FILES[name](words), tmp_path / name
    (save_file if path.suffix == ".safetensors" else torch.save)(content, path)
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.load_textual_inversion(path if path.suffix != ".pt" else {"<pip>": words}, token="<pip>")
    prompt = "a picture of <pip> on a beach"
    wanted, _ = pipe.encode_prompt(prompt, "cpu", 1, do_classifier_free_guidance=False)
    tokens = taken(tiny, path).concept.tokens
    assert tokens.words.shape == (len(words), 1, WIDTH)
    made = encode(tiny, [prompt], {"pip": tokens}).features
    torch.testing.assert_close(made, wanted[None].expand_as(made), rtol=1e-5, atol=1e-5)


def test_the_sixteen_keys_of_xti_are_the_layers_in_the_order_of_the_data() -> None:
    from storyforge.model.family import _ordered_attention

    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
    own = [name for name, _ in _ordered_attention(unet) if name.endswith("attn2")]
    wanted = []
    for site in XTI_SITES:
        number = int(site[-2:]) if site != "MID" else 0
        if site.startswith("IN"):
            place = f"down_blocks.{(number - 1) // 3}.attentions.{(number - 1) % 3}"
        else:
            place = f"up_blocks.{number // 3}.attentions.{number % 3}"
        wanted.append("mid_block.attentions.0" if site == "MID" else place)
    assert [name.split(".transformer")[0] for name in own] == wanted


@pytest.mark.parametrize("count", [1, 3])
def test_xti_keeps_every_layers_own_vectors(tiny: BaseModel, tmp_path: Path, count: int) -> None:
    tensors = {site: noise(count, WIDTH) + n for n, site in enumerate(XTI_SITES)}
    save_file(tensors, tmp_path / "a.safetensors")
    words = taken(tiny, tmp_path / "a.safetensors").concept.tokens.words
    for layer, site in enumerate(XTI_SITES):
        assert torch.equal(words[:, layer], tensors[site])
    xti.write_words(words, tmp_path / "b.safetensors", {})
    again = load_file(tmp_path / "b.safetensors")
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[site], tensors[site]) for site in XTI_SITES)


def test_a_pickle_of_p_plus_has_a_token_for_each_layer(tiny: BaseModel, tmp_path: Path) -> None:
    torch.save({f"<pip>-{n}": noise(WIDTH) + n for n in range(GROUPS)}, tmp_path / "a.bin")
    words = taken(tiny, tmp_path / "a.bin").concept.tokens.words
    assert torch.equal(words, torch.stack([noise(WIDTH) + n for n in range(GROUPS)])[None])


def edlora(base: BaseModel, path: Path) -> dict[str, dict[str, Tensor]]:
    """A concept as Mix-of-Show saves it: two words of sixteen rows, all attention layers."""
    text, unet = {}, {}
    for name, linear in base.linears.items():
        part, layer = name.split(".", 1)
        own = text if part == "text_encoder" else unet
        layer = f"text_model.{layer}" if part == "text_encoder" else layer
        own[f"{layer}.lora_down.weight"] = noise(4, linear.in_features)
        own[f"{layer}.lora_up.weight"] = noise(linear.out_features, 4)
    words = {f"<pip{n}>": noise(GROUPS, WIDTH) + n for n in (1, 2)}
    content = {"new_concept_embedding": words, "text_encoder": text, "unet": unet}
    torch.save({"params": content}, path)
    return content


def test_a_file_of_mix_of_show_is_merged_by_its_own_rule(
    tiny: BaseModel, folder: Path, tmp_path: Path
) -> None:
    """`W + up @ down`, walked as its own converter does: every pair lands, none is dropped."""
    content = edlora(tiny, tmp_path / "edlora_model-latest.pth")
    concept = taken(tiny, tmp_path / "edlora_model-latest.pth").concept
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    core = text_core(pipe.text_encoder)
    pairs = 0
    for part, root in (("text_encoder", core), ("unet", pipe.unet)):
        for name in root.state_dict():
            key = name.replace("to_out.0.weight", "to_out.0.lora_down.weight")
            key = key.replace(".weight", ".lora_down.weight") if "lora" not in key else key
            key = f"text_model.{key}" if part == "text_encoder" else key
            if key in content[part]:
                up, down = content[part][key.replace("lora_down", "lora_up")], content[part][key]
                delta = concept.deltas[f"{part}.{name.removesuffix('.weight')}"]
                torch.testing.assert_close(delta.weight(), up @ down)
                pairs += 1
    assert pairs == len(tiny.linears) == len(concept.deltas)
    assert torch.equal(
        concept.tokens.words, torch.stack([*content["new_concept_embedding"].values()])
    )


def test_a_concept_goes_to_mix_of_show_and_comes_back_bit_for_bit(
    tiny: BaseModel, tmp_path: Path
) -> None:
    edlora(tiny, tmp_path / "a.pth")
    before = taken(tiny, tmp_path / "a.pth").concept
    pairs = {name: (d.scale * d.up, d.down) for name, d in before.deltas.items()}
    mix_of_show.write("pip", before.tokens.words, pairs, tmp_path / "b.pth")
    after = taken(tiny, tmp_path / "b.pth").concept
    assert torch.equal(after.tokens.words, before.tokens.words)
    assert after.deltas.keys() == before.deltas.keys()
    for name, delta in after.deltas.items():
        assert torch.equal(delta.up, before.deltas[name].up)
        assert torch.equal(delta.down, before.deltas[name].down)


def test_a_lora_becomes_a_concept_with_the_same_changes(tiny: BaseModel, tmp_path: Path) -> None:
    path = lora(tiny, tmp_path / "a.safetensors")
    made = taken(tiny, path, "sks fox")
    merged = changes_of(tiny, path)
    assert made.left == ()
    assert len(made.concept.deltas) == len(merged) == len(tiny.linears)
    for name, delta in made.concept.deltas.items():
        torch.testing.assert_close(delta.weight(), merged[tiny.linears[name]])


def test_a_lora_is_called_up_by_its_own_words_as_if_they_were_written(
    tiny: BaseModel, tmp_path: Path
) -> None:
    path = lora(tiny, tmp_path / "a.safetensors", {"modelspec.trigger_phrase": "small red fox"})
    concept = taken(tiny, path).concept
    made = encode(tiny, ["<pip> on a beach"], {"pip": concept.tokens})
    said = encode(tiny, ["small red fox on a beach"], {})
    torch.testing.assert_close(made.features, said.features)


def test_the_words_in_a_lora_are_the_concepts(tiny: BaseModel, tmp_path: Path) -> None:
    path, words = lora(tiny, tmp_path / "a.safetensors"), noise(2, WIDTH)
    bundled = {**load_file(path), "bundle_emb.pip.string_to_param.*": words}
    save_file(bundled, tmp_path / "b.safetensors")
    made = taken(tiny, tmp_path / "b.safetensors").concept
    assert torch.equal(made.tokens.words[:, 0], words)
    assert len(made.deltas) == len(tiny.linears)


@pytest.mark.parametrize("kind", ["LoHa", "LoKr", "DoRA", "diff"])
def test_changes_of_other_kinds_lose_no_more_than_half_precision(
    tiny: BaseModel, tmp_path: Path, kind: str
) -> None:
    name, linear = next((n, m) for n, m in tiny.linears.items() if n.endswith("attn2.to_k"))
    out, width, key = linear.out_features, linear.in_features, kohya.key_of(name)
    parts = {
        "LoHa": {
            "hada_w1_a": noise(out, 2),
            "hada_w1_b": noise(2, width),
            "hada_w2_a": noise(out, 2),
            "hada_w2_b": noise(2, width),
        },
        "LoKr": {"lokr_w1": noise(4, 4), "lokr_w2": noise(out // 4, width // 4)},
        "DoRA": {
            "lora_down.weight": noise(2, width),
            "lora_up.weight": noise(out, 2),
            "dora_scale": 1 + noise(1, width),
        },
        "diff": {"diff": noise(out, width)},
    }[kind]
    save_file({f"{key}.{k}": v for k, v in parts.items()}, tmp_path / "a.safetensors")
    (wanted,) = changes_of(tiny, tmp_path / "a.safetensors").values()
    delta = taken(tiny, tmp_path / "a.safetensors").concept.deltas[name]
    assert (delta.weight() - wanted).norm() <= 1.01 * EXACT * wanted.norm()
    assert delta.rank == 4 or kind != "LoHa"


def test_what_is_not_attention_is_left_and_told(tiny: BaseModel, tmp_path: Path) -> None:
    path = lora(tiny, tmp_path / "a.safetensors")
    tensors, conv = load_file(path), tiny.unet.conv_out.weight
    whole = sum(float(change.square().sum()) for change in changes_of(tiny, path).values())
    more = noise(*conv.shape)
    tensors["lora_unet_conv_out.diff"] = more
    save_file(tensors, path)
    made = taken(tiny, path)
    assert made.left == ("unet conv_out",)
    energy = float(more.square().sum())
    assert made.share == pytest.approx(energy / (whole + energy))
    assert made.concept.recipe["left_out"] == pytest.approx(made.share, abs=1e-4)


def test_a_licence_that_a_file_states_goes_with_the_concept(
    tiny: BaseModel, tmp_path: Path
) -> None:
    path = lora(tiny, tmp_path / "a.safetensors", {"modelspec.license": "CC-BY-NC-4.0"})
    assert taken(tiny, path, "fox").concept.licence == "CC-BY-NC-4.0"


def test_words_for_sixteen_layers_are_refused_by_a_base_with_four(
    base: BaseModel, tmp_path: Path
) -> None:
    width = base.text_encoder.config.hidden_size
    wrong = len(XTI_SITES) != base.family.groups
    save_file({site: noise(1, width) for site in XTI_SITES}, tmp_path / "a.safetensors")
    if wrong:
        with pytest.raises(EnvironmentProblem, match="words for the 16 layers of SD 1.x"):
            taken(base, tmp_path / "a.safetensors")


def test_words_of_another_width_are_refused(tiny: BaseModel, tmp_path: Path) -> None:
    save_file({"emb_params": noise(2, 768)}, tmp_path / "a.safetensors")
    with pytest.raises(EnvironmentProblem, match="768 numbers in it, and 32 in the base"):
        taken(tiny, tmp_path / "a.safetensors")


def test_words_for_two_text_encoders_are_refused_as_sdxls(tiny: BaseModel, tmp_path: Path) -> None:
    save_file({"clip_l": noise(2, WIDTH), "clip_g": noise(2, WIDTH)}, tmp_path / "a.safetensors")
    with pytest.raises(EnvironmentProblem, match="for two text encoders, and the base has one"):
        taken(tiny, tmp_path / "a.safetensors")


class Code:
    """Would make a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.bin"])
def test_code_in_a_pickle_is_never_run(tiny: BaseModel, tmp_path: Path, name: str) -> None:
    content = {"string_to_param": {"*": noise(1, WIDTH)}, "more": Code(tmp_path / "made")}
    torch.save(content, tmp_path / name)
    with pytest.raises(EnvironmentProblem, match=r"holds more than tensors \(`\w+.mkdir`\)"):
        taken(tiny, tmp_path / name)
    (tmp_path / name).write_bytes(pickle.dumps(Code(tmp_path / "made")))
    with pytest.raises(EnvironmentProblem):
        read_header(tmp_path / name)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("old", [False, True])
def test_a_header_of_a_pickle_says_what_torch_would_load(tmp_path: Path, old: bool) -> None:
    content = {"string_to_param": {"*": noise(3, 8)}, "name": "pip", "step": 5}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=not old)
    header = read_header(tmp_path / "a.pt")
    assert header.shapes == {"string_to_param/*": (3, 8)}
    assert header.metadata == {"name": "pip", "step": "5"}
    assert describe(header).kind == "textual inversion"


@pytest.fixture(scope="module")
def learnt(tiny: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Concept:
    """A concept of everything, in half precision as it is kept."""
    path = tmp_path_factory.mktemp("learnt") / "pip.safetensors"
    edlora(tiny, path.with_suffix(".pth"))
    concept = taken(tiny, path.with_suffix(".pth")).concept
    replace(concept, licence="CC-BY-4.0").save(path)
    return Concept.load(path)


@pytest.mark.parametrize("tool", ["kohya", "diffusers"])
def test_an_exported_lora_does_in_stock_diffusers_what_it_does_here(
    tiny: BaseModel, folder: Path, learnt: Concept, tmp_path: Path, tool: str
) -> None:
    pytest.importorskip("peft")
    write = kohya.write_lora if tool == "kohya" else diffusers_lora.write_lora
    write(learnt.deltas, tmp_path / "pip.safetensors", {})
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.load_lora_weights(tmp_path, weight_name="pip.safetensors")
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    roots = {"unet": pipe.unet, "text_encoder": text_core(pipe.text_encoder)}
    for name, linear in tiny.linears.items():
        part, layer = name.split(".", 1)
        made = roots[part].get_submodule(layer).weight - linear.weight
        torch.testing.assert_close(made, learnt.deltas[name].weight(), rtol=1e-5, atol=1e-6)


def test_what_is_exported_comes_back_bit_for_bit(
    tiny: BaseModel, learnt: Concept, tmp_path: Path
) -> None:
    for write in (kohya.write_lora, diffusers_lora.write_lora):
        write(learnt.deltas, tmp_path / "pip.safetensors", {})
        again = taken(tiny, tmp_path / "pip.safetensors", "fox").concept
        assert again.deltas.keys() == learnt.deltas.keys()
        for name, delta in again.deltas.items():
            assert torch.equal(delta.up * delta.scale, learnt.deltas[name].up)
            assert torch.equal(delta.down, learnt.deltas[name].down)


@pytest.mark.parametrize(
    ("to", "lora_file", "called"),
    [
        ("kohya", "pip.safetensors", "pip_emb"),
        ("diffusers", "pytorch_lora_weights.safetensors", "<pip>"),
        ("comfyui", "loras/pip.safetensors", "embedding:pip"),
        ("webui", "Lora/pip.safetensors", "pip"),
    ],
)
def test_an_exported_lora_brings_every_layers_words_back(
    tiny: BaseModel, learnt: Concept, tmp_path: Path, to: Target, lora_file: str, called: str
) -> None:
    export_concept(learnt, to, tmp_path)
    assert trigger_of(read_header(tmp_path / lora_file)) == called
    made = taken(tiny, tmp_path / lora_file)
    assert torch.equal(made.concept.tokens.words, learnt.tokens.words.half().float())
    assert made.said == "2 vectors of its own"
    own = "2 vectors of its own" if to == "webui" else "fox"
    assert taken(tiny, tmp_path / lora_file, "fox").said == own


@pytest.mark.parametrize(
    "broken", ["", "{}", '{"shape": [2, 1, 3], "float16": "AAAA"}', '{"shape": 1, "float16": ""}']
)
def test_words_that_are_broken_on_the_way_are_an_error(
    tiny: BaseModel, tmp_path: Path, broken: str
) -> None:
    path = lora(tiny, tmp_path / "a.safetensors", {"storyforge.words": broken})
    with pytest.raises(EnvironmentProblem, match="brings words along that cannot be read"):
        taken(tiny, path)


def webui_layer(key: str) -> str:
    """AUTOMATIC1111's rule: a module's path in the network, `_` for dots, behind its prefix."""
    match = re.fullmatch(r"(lora_unet|lora_te)_(.+)\.(lora_up|lora_down)\.weight", key)
    match = match or re.fullmatch(r"(lora_unet|lora_te)_(.+)\.(alpha)", key)
    assert match is not None, key
    return f"{match[1]}_{match[2]}"


def test_keys_are_those_of_comfyui_and_the_web_ui(learnt: Concept, tmp_path: Path) -> None:
    """ComfyUI maps `lora_unet_{diffusers path}` and, for CLIP-L, `lora_te_text_model_encoder_…`."""
    kohya.write_lora(learnt.deltas, tmp_path / "pip.safetensors", {})
    known = set()
    text = ("self_attn_k_proj", "self_attn_q_proj", "self_attn_v_proj", "self_attn_out_proj")
    for layer in range(32):
        known |= {f"lora_te_text_model_encoder_layers_{layer}_{name}" for name in text}
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
    for name in unet.state_dict():
        if name.endswith(".weight"):
            known.add("lora_unet_" + name.removesuffix(".weight").replace(".", "_"))
    layers = {webui_layer(key) for key in load_file(tmp_path / "pip.safetensors")}
    assert len(layers) == len(learnt.deltas)
    assert layers <= known


def test_alpha_is_the_rank_so_that_every_reader_takes_the_scale_for_one(
    learnt: Concept, tmp_path: Path
) -> None:
    kohya.write_lora(learnt.deltas, tmp_path / "pip.safetensors", {"ss_output_name": "pip"})
    tensors = load_file(tmp_path / "pip.safetensors")
    alphas = {key: float(value) for key, value in tensors.items() if key.endswith(".alpha")}
    assert len(alphas) == len(learnt.deltas)
    assert set(alphas.values()) == {4.0}
    told = read_header(tmp_path / "pip.safetensors").metadata
    assert told["ss_network_dim"] == told["ss_network_alpha"] == "4"


def test_changes_of_many_ranks_are_written_with_one_and_mean_the_same(
    tiny: BaseModel, folder: Path, tmp_path: Path
) -> None:
    """diffusers gives every layer the alpha that most have, and does not say so."""
    pytest.importorskip("peft")
    deltas = {}
    for number, (name, linear) in enumerate(tiny.linears.items()):
        rank = 1 + number % 3
        deltas[name] = Delta(noise(linear.out_features, rank), noise(rank, linear.in_features))
    kohya.write_lora(deltas, tmp_path / "a.safetensors", {}, dtype=torch.float32)
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.load_lora_weights(tmp_path, weight_name="a.safetensors")
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    roots = {"unet": pipe.unet, "text_encoder": text_core(pipe.text_encoder)}
    for name, linear in tiny.linears.items():
        part, layer = name.split(".", 1)
        made = roots[part].get_submodule(layer).weight - linear.weight
        torch.testing.assert_close(made, deltas[name].weight(), rtol=1e-5, atol=1e-6)


def test_words_of_a_textual_inversion_are_the_mean_over_layers(
    learnt: Concept, tmp_path: Path
) -> None:
    textual_inversion.write_words(learnt.tokens.words, tmp_path / "a.safetensors", {})
    (words,) = textual_inversion.read_words(load_file(tmp_path / "a.safetensors")).values()
    torch.testing.assert_close(words, learnt.tokens.words.mean(1))


def test_xti_is_not_written_for_another_number_of_layers(tmp_path: Path) -> None:
    with pytest.raises(StoryForgeError, match="16 layers, and the concept for 4"):
        xti.write_words(noise(2, 4, WIDTH), tmp_path / "a.safetensors", {})
