"""`check` looks into bases and files of others: what is wrong is said at its place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from headed import base_folder, shared_concept
from safetensors.numpy import save_file

from storyforge.headers.bases import look_at_base
from storyforge.headers.finite import broken_tensor
from storyforge.headers.header import read_header
from storyforge.headers.kinds import FileKind, describe
from storyforge.modelref import base_at
from storyforge.story.story import check

TO_K = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
STORY = """\
title: A
base: BASE
characters:
  pip: PIP
sampling: {lora: [{file: LORA}]}
pages:
  - panels: [{id: one, decorative: true, regions: {a: {at: left, concept: pip}}}]
storyforge: 1
"""
FIRST, SECOND, THIRD = "story.yaml:2:7", "story.yaml:4:8", "story.yaml:5:26"


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def lora(path: Path, width: int = 768, **more: np.ndarray) -> Path:
    """A LoRA of one layer under kohya's names."""
    tensors = {"lora_down.weight": zeros(4, width), "lora_up.weight": zeros(320, 4), **more}
    save_file({f"lora_unet_{TO_K}.{k}": v for k, v in tensors.items()}, path)
    return path


def findings(folder: Path, base: str = "base", pip: str = "pip.safetensors", own: str = "") -> str:
    """What is found, one a line as `file:line:col CODE message`."""
    text = STORY.replace("BASE", base).replace("PIP", pip)
    text = text.replace("LORA", own) if own else text.replace("sampling", "#")
    (folder / "story.yaml").write_text(text)
    return "\n".join(
        f"{Path(f.file).name}:{f.line}:{f.column} {f.code} {f.message}"
        for f in check(folder / "story.yaml")
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base_folder(tmp_path / "base")
    shared_concept(tmp_path / "pip.safetensors", "pip")
    return tmp_path


def test_a_story_of_sound_files_has_no_findings(folder: Path) -> None:
    lora(folder / "lora.safetensors")
    assert findings(folder) == ""


@pytest.mark.parametrize(
    ("pipeline", "unet", "said"),
    [
        ("StableDiffusion3Pipeline", {}, "is Stable Diffusion 3"),
        ("FluxPipeline", {}, "is FLUX"),
        ("StableDiffusionInpaintPipeline", {"in_channels": 9}, "is an inpainting model"),
        ("StableDiffusionPipeline", {"in_channels": 8}, "is a model that edits pictures"),
    ],
)
def test_a_base_of_another_kind_is_named(
    folder: Path, pipeline: str, unet: dict[str, int], said: str
) -> None:
    base_folder(folder / "other", pipeline, **unet)
    assert findings(folder, "other").startswith(f"{FIRST} SF330 `other` {said}")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_part_that_is_missing_is_named(folder: Path, part: str) -> None:
    for file in (folder / "base" / part).iterdir():
        file.unlink()
    (folder / "base" / part).rmdir()
    found = findings(folder)
    assert found.startswith(f"{FIRST} SF330 `base` ")
    assert f"`{part}/`" in found or part == "unet"


def test_weights_that_are_missing_are_named(folder: Path) -> None:
    (folder / "base" / "vae" / "model.safetensors").unlink()
    assert "has no weights in `vae/`" in findings(folder)


@pytest.mark.parametrize("lacking", ["tokenizer.json", "vocab.json", "merges.txt"])
def test_a_tokenizer_without_its_vocabulary_is_no_tokenizer(folder: Path, lacking: str) -> None:
    own = folder / "base" / "tokenizer"
    if lacking != "tokenizer.json":
        for name in ("vocab.json", "merges.txt"):
            (own / name).write_text("{}")
        (own / "tokenizer.json").unlink()
        assert findings(folder) == ""
    (own / lacking).unlink()
    said = f"{FIRST} SF330 `base` has no vocabulary in `tokenizer/`; get its tokenizer.json, or"
    assert findings(folder).startswith(said)


@pytest.mark.parametrize(
    ("pipeline", "article"),
    [("LatentConsistencyModel", "a"), ("Kolors", "a"), ("AltDiffusion", "an")],
)
def test_a_pipeline_that_is_none_of_stable_diffusion_is_named(
    folder: Path, pipeline: str, article: str
) -> None:
    base_folder(folder / "base", f"{pipeline}Pipeline")
    said = f"{FIRST} SF330 `base` is {article} {pipeline}Pipeline, which is not read; "
    assert findings(folder).startswith(said)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_cut_are_named(folder: Path, part: str) -> None:
    file = folder / "base" / part / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    said = f"{FIRST} SF330 `base` has a broken `{part}/model.safetensors`: it is cut; get that file"
    assert findings(folder).startswith(said)


def test_a_part_of_weights_that_is_missing_is_named(folder: Path) -> None:
    whole = folder / "base" / "unet" / "model.safetensors"
    parts = [whole.with_name(f"model-0000{n}-of-00002.safetensors") for n in (1, 2)]
    for part in parts:
        part.write_bytes(whole.read_bytes())
    whole.unlink()
    assert findings(folder) == ""
    parts[0].unlink()
    said = f"{FIRST} SF330 `base` lacks `unet/{parts[0].name}`; get that file as well"
    assert findings(folder) == said


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
@pytest.mark.parametrize("name", ["model_index.json", "unet/config.json"])
def test_a_configuration_that_cannot_be_read_is_named(folder: Path, name: str, text: str) -> None:
    (folder / "base" / name).write_text(text)
    said = f"{FIRST} SF330 `base` has a `{name}` that cannot be read; get that file again"
    assert findings(folder) == said


@pytest.mark.parametrize("text", [None, "{}"])
def test_a_folder_that_does_not_say_what_it_is_is_named(folder: Path, text: str | None) -> None:
    index = folder / "base" / "model_index.json"
    index.unlink()
    if text is not None:
        index.write_text(text)
    said = f"{FIRST} SF330 `base` has no model_index.json that names a pipeline; "
    assert findings(folder).startswith(said)


def test_weights_of_a_variant_only_are_weights(folder: Path) -> None:
    file = folder / "base" / "vae" / "model.safetensors"
    file.rename(file.with_name("model.fp16.safetensors"))
    assert findings(folder) == ""


@pytest.mark.parametrize(
    ("file", "channels", "said"),
    [
        ("model.bin", 4, "has only a pickle (`model.bin`), which may run code when it is opened"),
        ("model.safetensors", 16, "makes latents of 16 channels, and this base draws in 4"),
    ],
)
def test_a_vae_that_would_not_be_opened_is_named_where_it_stands(
    folder: Path, file: str, channels: int, said: str
) -> None:
    (folder / "vae").mkdir()
    (folder / "vae" / "config.json").write_text(json.dumps({"latent_channels": channels}))
    (folder / "vae" / file).write_bytes(b"")
    found = findings(folder, "{model: base, vae: vae}")
    assert found.startswith(f"story.yaml:2:26 SF330 `vae` {said}; ")


def test_a_vae_that_is_a_pickle_is_named_where_it_stands(folder: Path) -> None:
    (folder / "old.pt").write_bytes(b"\x80\x02")
    found = findings(folder, "{model: base, vae: old.pt}")
    assert found.startswith("story.yaml:2:26 SF330 `old.pt` is a pickle (`.pt`)")


def test_a_vae_beside_what_is_pickled_is_sound(folder: Path) -> None:
    (folder / "vae").mkdir()
    (folder / "vae" / "config.json").write_text(json.dumps({"latent_channels": 4}))
    (folder / "vae" / "model.bin").write_bytes(b"")
    file = folder / "vae" / "model.safetensors"
    save_file({"one": zeros(1)}, file)
    assert findings(folder, "{model: base, vae: vae}") == ""
    file.write_bytes(file.read_bytes()[:-1])
    said = "story.yaml:2:26 SF330 `vae` has a broken `model.safetensors`: it is cut; "
    assert findings(folder, "{model: base, vae: vae}").startswith(said)


@pytest.mark.parametrize(
    ("part", "code", "said"),
    [
        ("vae: nothere", "SF330", "no vae at `nothere` on this machine; `vae` is a folder, a"),
        ("vae: ./nothere", "SF421", "no vae at `./nothere` on this machine; nothing can be drawn"),
        ("scheduler: a/b", "SF330", "no scheduler at `a/b` on this machine; `scheduler` is a sch"),
        ("scheduler: ../no", "SF421", "no scheduler at `../no` on this machine; nothing can be"),
        (
            "scheduler: pip.safetensors",
            "SF330",
            "`pip.safetensors` is no scheduler_config",
        ),
        ("scheduler: base/vae", "SF330", "`base/vae` has no scheduler_config.json; get that file"),
        ("scheduler: base/vae/config.json", "SF330", "`base/vae/config.json` is a schedule of no"),
    ],
)
@pytest.mark.parametrize("model", ["base", "pocket"])
def test_a_part_from_elsewhere_that_is_not_there_or_none_is_named(
    folder: Path, model: str, part: str, code: str, said: str
) -> None:
    found = findings(folder, f"{{model: {model}, {part}}}", pip="pictures")
    column = len(f"base: {{model: {model}, {part.partition(' ')[0]} ") + 1
    assert f"story.yaml:2:{column} {code} {said}" in found


@pytest.mark.parametrize("part", ["vae: a/b", "scheduler: base", "scheduler: base/scheduler"])
def test_a_part_that_is_elsewhere_or_sound_is_not_named(folder: Path, part: str) -> None:
    assert findings(folder, f"{{model: base, {part}}}") == ""


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (None, "has no scheduler_config.json in `scheduler/`; get that file as well"),
        ("{", "has a `scheduler/scheduler_config.json` that cannot be read; get that file again"),
        (
            '{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}',
            "has a FlowMatchEulerDiscreteScheduler in `scheduler/`, and this base takes one with "
            "`beta_start`; get the model with its own",
        ),
        (
            '{"_class_name": "EDMDPMSolverMultistepScheduler", "sigma_min": 0.002}',
            "has an EDMDPMSolverMultistepScheduler in `scheduler/`, and this base takes one with "
            "`beta_start`; get the model with its own",
        ),
        ('{"_class_name": "DDIMScheduler", "trained_betas": [0.1]}', ""),
    ],
)
def test_a_noise_schedule_of_another_kind_is_named(
    folder: Path, schedule: str | None, said: str
) -> None:
    file = folder / "base" / "scheduler" / "scheduler_config.json"
    file.unlink()
    if schedule is not None:
        file.write_text(schedule)
    assert findings(folder) == (said and f"{FIRST} SF330 `base` {said}")


def test_a_pickled_base_is_named_though_it_is_there(folder: Path) -> None:
    (folder / "old.ckpt").write_bytes(b"\x80\x02")
    assert findings(folder, "old.ckpt").startswith(f"{FIRST} SF330 `old.ckpt` is a pickle")


def test_a_lora_as_a_base_is_sent_to_its_place(folder: Path) -> None:
    lora(folder / "lora.safetensors")
    assert "is a LoRA and no base; it belongs under" in findings(folder, "lora.safetensors")


def test_a_folder_of_anything_else_is_no_base(folder: Path) -> None:
    (folder / "photos").mkdir()
    assert "is no diffusers folder" in findings(folder, "photos")


def test_a_lora_of_another_family_is_named_with_both(folder: Path) -> None:
    lora(folder / "lora.safetensors", width=2048)
    found = findings(folder, own="lora.safetensors")
    assert found.startswith(f"{THIRD} SF331 the LoRA `lora.safetensors` does not fit the base: ")
    assert "it is for SDXL, and the base is Stable Diffusion 1.x" in found


def test_a_layer_of_another_shape_is_named(folder: Path) -> None:
    weight = {"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": zeros(64, 768)}
    save_file(weight, folder / "base" / "unet" / "model.safetensors")
    lora(folder / "lora.safetensors")
    found = findings(folder, own="lora.safetensors")
    assert f"`unet {TO_K}` is 64×768 in the base, and 320×768 in the file" in found


def test_a_layer_that_the_base_does_not_have_is_named(folder: Path) -> None:
    save_file({"conv_in.weight": zeros(3)}, folder / "base" / "unet" / "model.safetensors")
    lora(folder / "lora.safetensors")
    assert "the base has no such layer" in findings(folder, own="lora.safetensors")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_numbers_that_are_none_are_found(folder: Path, bad: float, kind: type) -> None:
    up = np.zeros((320, 4), kind)
    lora(folder / "lora.safetensors", **{"lora_up.weight": up})
    assert broken_tensor(folder / "lora.safetensors") is None
    up[7, 2] = bad
    lora(folder / "lora.safetensors", **{"lora_up.weight": up})
    found = findings(folder, own="lora.safetensors")
    assert found.startswith(
        f"{THIRD} SF332 `lora.safetensors` is broken: `lora_unet_{TO_K}.lora_up"
    )


def test_a_lora_and_a_concept_that_are_cut_are_broken(folder: Path) -> None:
    file = lora(folder / "lora.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    said = f"{THIRD} SF332 `lora.safetensors` is broken: it is cut; get the file again"
    assert findings(folder, own="lora.safetensors") == said
    file = folder / "pip.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    said = f"{SECOND} SF332 `pip.safetensors` is broken: it is cut; get the file again"
    assert findings(folder) == said


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"lora_up": (320, 4)}, f"`unet {TO_K}` has `up` and no `down`"),
        ({"lora_down": (4, 768)}, f"`unet {TO_K}` has `down` and no `up`"),
        (
            {"lora_down": (4, 768), "lora_up": (320, 7)},
            f"`unet {TO_K}` has `up` of rank 7 and `down` of rank 4",
        ),
        (
            {"lora_down": (4, 768), "lora_up": (320, 4), "lora_mid": (4, 5, 1, 1)},
            f"`unet {TO_K}` has `mid` for ranks 4 and 5 between 4 and 4",
        ),
        ({"lora_down": (4, 768), "lora_up": (320, 6), "lora_mid": (6, 4, 1, 1)}, ""),
    ],
)
def test_a_layer_that_cannot_be_put_together_is_broken(
    folder: Path, shapes: dict[str, tuple[int, ...]], said: str
) -> None:
    parts = {f"lora_unet_{TO_K}.{name}.weight": zeros(*s) for name, s in shapes.items()}
    whole = {"lora_down": (4, 768), "lora_up": (320, 4)}
    other = TO_K.replace("to_k", "to_v")
    parts |= {f"lora_unet_{other}.{name}.weight": zeros(*s) for name, s in whole.items()}
    save_file(parts, folder / "lora.safetensors")
    wanted = f"{THIRD} SF332 `lora.safetensors` is broken: {said}; get the file again"
    assert findings(folder, own="lora.safetensors") == (said and wanted)


def test_a_lora_of_a_transformer_is_called_by_its_family(folder: Path) -> None:
    key = "transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj"
    parts = {f"{key}.lora_A.weight": zeros(2, 8), f"{key}.lora_B.weight": zeros(8, 2)}
    save_file(parts, folder / "lora.safetensors")
    assert "it is for FLUX.2-klein, and the base is" in findings(folder, own="lora.safetensors")


def test_brain_floats_are_looked_at_too(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save

    save({"a": torch.full((3,), 3e38, dtype=torch.bfloat16)}, tmp_path / "a.safetensors")
    assert broken_tensor(tmp_path / "a.safetensors") is None
    save({"a": torch.full((3,), torch.nan, dtype=torch.bfloat16)}, tmp_path / "a.safetensors")
    assert broken_tensor(tmp_path / "a.safetensors") == "a"


def test_a_kind_that_is_not_read_is_refused_by_its_kind(folder: Path) -> None:
    save_file({f"lora_unet_{TO_K}.oft_blocks": zeros(4, 8, 8)}, folder / "lora.safetensors")
    assert "SF331 `lora.safetensors` is an OFT, which is not read" in findings(
        folder, own="lora.safetensors"
    )


def test_words_are_no_lora_and_are_sent_to_the_cast(folder: Path) -> None:
    save_file({"emb_params": zeros(2, 768)}, folder / "words.safetensors")
    found = findings(folder, own="words.safetensors")
    assert "is a textual inversion and no LoRA; list it under `characters:`" in found


def test_words_for_two_text_encoders_are_for_sdxl(folder: Path) -> None:
    both = {"clip_l": zeros(2, 768), "clip_g": zeros(2, 1280)}
    save_file(both, folder / "words.safetensors")
    found = findings(folder, pip="words.safetensors")
    assert found.startswith(f"{SECOND} SF331 the textual inversion `words.safetensors`")
    assert "it is for SDXL" in found


def test_a_whole_checkpoint_is_no_concept(folder: Path) -> None:
    save_file({"model.diffusion_model.x": zeros(1)}, folder / "whole.safetensors")
    assert "is a checkpoint, and no concept can be made of it" in findings(
        folder, pip="whole.safetensors"
    )


def test_a_lora_in_the_cast_that_does_not_say_its_words_warns(folder: Path) -> None:
    lora(folder / "lora.safetensors")
    assert findings(folder, pip="lora.safetensors").startswith(f"{SECOND} SF432 ")


def test_words_in_a_lora_for_the_whole_picture_warn(folder: Path) -> None:
    words = {"bundle_emb.pip.string_to_param.*": zeros(2, 768)}
    parts = {"lora_down.weight": zeros(4, 768), "lora_up.weight": zeros(320, 4)}
    own = {f"lora_unet_{TO_K}.{k}": v for k, v in parts.items()}
    save_file({**own, **words}, folder / "lora.safetensors")
    assert findings(folder, own="lora.safetensors").startswith(f"{THIRD} SF431 ")
    assert findings(folder, pip="lora.safetensors") == ""


def test_layers_that_have_no_place_in_a_concept_are_counted(folder: Path) -> None:
    parts = {
        f"lora_unet_{TO_K}.lora_down.weight": zeros(4, 768),
        f"lora_unet_{TO_K}.lora_up.weight": zeros(320, 4),
        "lora_unet_conv_in.lora_down.weight": zeros(4, 4, 3, 3),
        "lora_unet_conv_in.lora_up.weight": zeros(320, 4, 1, 1),
    }
    told = {"modelspec.trigger_phrase": "sks"}
    save_file(parts, folder / "lora.safetensors", told)
    found = findings(folder, pip="lora.safetensors")
    assert found.startswith(f"{SECOND} SF433 1 of the 2 layers")


@pytest.mark.parametrize("licence", ["CC-BY-NC-4.0", "creativeml non-commercial", "CC-BY-SA-4.0"])
def test_a_licence_that_binds_the_book_warns(folder: Path, licence: str) -> None:
    lora(folder / "lora.safetensors")
    (folder / "base" / "README.md").write_text(f"---\nlicense: {licence}\n---\n# A model\n")
    found = findings(folder)
    assert found.startswith(f"{FIRST} SF430 `base` is under `{licence}`")
    (folder / "base" / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert findings(folder) == ""


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        (
            "license: other\nlicense_name: flux-1-dev-non-commercial-license",
            "flux-1-dev-non-commercial-license",
        ),
        (
            "license: other\nlicense_name: fair-ai-public-license-1.0-sd",
            "fair-ai-public-license-1.0-sd",
        ),
        ("license:\n- mit\n- cc-by-nc-4.0", "mit, cc-by-nc-4.0"),
        ('license: "cc-by-nc-sa-4.0"\ntags: [a---b]', "cc-by-nc-sa-4.0"),
        ("tags: [a]\nlicense: cc-by-nc-4.0 # for now", "cc-by-nc-4.0"),
    ],
)
def test_a_cards_licence_is_read_as_yaml_has_it(folder: Path, card: str, licence: str) -> None:
    lora(folder / "lora.safetensors")
    (folder / "base" / "README.md").write_text(f"---\n{card}\n---\n# A model\n")
    assert findings(folder).startswith(f"{FIRST} SF430 `base` is under `{licence}`, which")


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("license: other", "Some Licence 1.0"),
        ("license: [", "Some Licence 1.0"),
        ("- license", "Some Licence 1.0"),
        ("license: {a: b}", "Some Licence 1.0"),
        ("license: no", "no"),
    ],
)
def test_where_a_card_names_no_licence_its_file_is_read(
    folder: Path, card: str, licence: str
) -> None:
    (folder / "base" / "README.md").write_text(f"---\n{card}\n---\n")
    (folder / "base" / "LICENSE").write_text("\n# Some Licence 1.0\nAll of it.\n")
    assert look_at_base(folder / "base").licence == licence


def test_looking_needs_no_torch() -> None:
    code = (
        "import sys, storyforge.headers.bases, storyforge.headers.fit, storyforge.headers.finite;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


SINGLE = {
    "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
    "first_stage_model.encoder.conv_in.weight": (1,),
    "cond_stage_model.transformer.text_model.x": (1,),
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"first_stage_model.encoder.conv_in.weight": None}, "holds no VAE"),
        ({"cond_stage_model.transformer.text_model.x": None}, "holds no text encoder"),
        ({"model.diffusion_model.input_blocks.0.0.weight": (320, 9, 3, 3)}, "inpainting"),
    ],
)
def test_a_single_file_is_looked_into(
    tmp_path: Path, change: dict[str, tuple[int, ...] | None], said: str | None
) -> None:
    shapes = {name: shape for name, shape in {**SINGLE, **change}.items() if shape}
    save_file({name: zeros(*shape) for name, shape in shapes.items()}, tmp_path / "a.safetensors")
    base = look_at_base(tmp_path / "a.safetensors")
    if said is None:
        assert (base.family, base.width, base.trouble) == ("Stable Diffusion 1.x", 768, None)
    else:
        assert base.trouble is not None
        assert said in base.trouble.what


def test_a_single_file_of_sdxl_is_looked_into(tmp_path: Path) -> None:
    shapes = {name: shape for name, shape in SINGLE.items() if not name.startswith("cond_")}
    shapes["conditioner.embedders.1.model.x"] = (1,)
    save_file({name: zeros(*shape) for name, shape in shapes.items()}, tmp_path / "a.safetensors")
    base = look_at_base(tmp_path / "a.safetensors")
    assert (base.family, base.trouble) == ("SDXL", None)


KINDS: dict[FileKind, dict[str, tuple[int, ...]]] = {
    "LoRA": {
        f"lora_unet_{TO_K}.lora_down.weight": (4, 8),
        f"lora_unet_{TO_K}.lora_up.weight": (8,),
    },
    "LoCon": {
        "lora_unet_conv_in.lora_down.weight": (4, 8, 3, 3),
        "lora_unet_conv_in.lora_up.weight": (8, 4, 1, 1),
    },
    "Tucker LoCon": {"lora_unet_conv_in.lora_mid.weight": (4, 4, 3, 3)},
    "DoRA": {f"lora_unet_{TO_K}.dora_scale": (1, 8), f"lora_unet_{TO_K}.lora_up.weight": (8, 4)},
    "LoHa": {f"lora_unet_{TO_K}.hada_w1_a": (8, 4)},
    "LoKr": {f"lora_unet_{TO_K}.lokr_w1": (4, 4)},
    "IA3": {f"lora_unet_{TO_K}.weight": (1, 8), f"lora_unet_{TO_K}.on_input": (1,)},
    "weight difference": {f"lora_unet_{TO_K}.diff": (8, 8)},
    "GLoRA": {f"lora_unet_{TO_K}.a1.weight": (8, 8)},
    "VAE": {"encoder.conv_in.weight": (8, 3, 3, 3)},
    "unknown": {"something": (1,)},
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_kind_is_told_from_the_names(tmp_path: Path, kind: FileKind) -> None:
    tensors = {name: zeros(*shape) for name, shape in KINDS[kind].items()}
    save_file(tensors, tmp_path / "a.safetensors")
    assert describe(read_header(tmp_path / "a.safetensors")).kind == kind


def test_a_concept_that_was_learnt_on_another_base_is_found(folder: Path) -> None:
    told = {"base": "dreamshaper", "base_hash": "0" * 64}
    shared_concept(folder / "pip.safetensors", "pip", **told)
    (found,) = findings(folder).splitlines()
    assert found.startswith(f"{SECOND} SF331 the concept `pip.safetensors` was learnt on another")
    assert "(`dreamshaper`)" in found
    own = base_at("base", folder).hash
    shared_concept(folder / "pip.safetensors", "pip", base="base", base_hash=own)
    assert findings(folder) == ""


def test_a_base_in_parts_is_looked_into_as_well(folder: Path) -> None:
    (folder / "old.ckpt").write_bytes(b"\x80\x02")
    found = findings(folder, "{model: old.ckpt, prediction: v}")
    assert found.startswith("story.yaml:2:15 SF330 `old.ckpt` is a pickle")
