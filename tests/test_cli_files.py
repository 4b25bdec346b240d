"""`concept import`, `concept export` and `doctor`, and files of other tools in a story's cast."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import save_base
from tinybases import WIDTH
from typer.testing import CliRunner, Result

from storyforge.cli.program import app
from storyforge.model.concept import Concept
from storyforge.plan.plan import base_of, draw_up
from storyforge.plan.status import missing
from storyforge.project.project import Project
from storyforge.store import Store
from storyforge.story.story import read

TO_K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
STORY = """\
storyforge: 1
title: A
base: ../base
sampling: {steps: 1}
characters: {pip: pip.safetensors}
book: {formats: [png]}
pages:
  - text: Once.
    panels: [{id: one, decorative: true, regions: {a: {at: left, concept: pip}}}]
"""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def noise(*shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("tiny") / "base")


def bundle(path: Path) -> Path:
    """A LoRA of one layer that brings two vectors along."""
    tensors = {
        f"{TO_K}.lora_down.weight": noise(4, WIDTH),
        f"{TO_K}.lora_up.weight": 60 * noise(32, 4),
        f"{TO_K}.alpha": torch.tensor(2.0),
        "bundle_emb.pip.string_to_param.*": noise(2, WIDTH),
    }
    save_file(tensors, path, {"modelspec.license": "CC-BY-4.0"})
    return path


@pytest.fixture(scope="module")
def pip(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, imported."""
    folder = tmp_path_factory.mktemp("imported")
    out, told = folder / "pip.safetensors", ("--class", "fox", "--base", base)
    made = invoke("concept", "import", bundle(folder / "a.safetensors"), *told, "--out", out)
    assert made.exit_code == 0, made.output
    return out


def test_an_imported_file_is_a_concept_of_its_own(pip: Path) -> None:
    concept = Concept.load(pip)
    assert (concept.name, concept.kind, concept.class_phrase) == ("a", "character", "fox")
    assert concept.licence == "CC-BY-4.0"
    assert torch.equal(concept.tokens.words[:, 0], noise(2, WIDTH).half().float())
    assert len(concept.deltas) == 1


def test_nothing_is_overwritten_by_an_import(base: Path, pip: Path) -> None:
    again = invoke("concept", "import", pip.parent / "a.safetensors", "--out", pip)
    assert again.exit_code == 1
    assert "is there already" in again.output


TARGETS = ("kohya", "diffusers", "comfyui", "webui", "ti", "mix-of-show")


@pytest.mark.parametrize("to", TARGETS)
def test_what_is_exported_is_drawn_by_stock_diffusers_as_it_is_here(
    base: Path, pip: Path, tmp_path: Path, to: str
) -> None:
    pytest.importorskip("peft")
    told = ("--to", to, "--out", tmp_path, "--base", base, "--verify", "--json")
    made = invoke("concept", "export", pip, *told)
    assert made.exit_code == 0, made.output
    content = json.loads(made.stdout)
    assert content["difference"] <= 1.0
    assert all(Path(path).is_file() for path in content["files"])
    assert content["use"]


@pytest.mark.parametrize(
    ("to", "said", "how"),
    [
        ("mix-of-show", "read back, its words and changes are the same", "read back"),
        ("ti", "stock diffusers draws the same to 0.", "drawn by stock diffusers"),
    ],
)
def test_a_verified_export_says_what_was_compared(
    base: Path, pip: Path, tmp_path: Path, to: str, said: str, how: str
) -> None:
    told = ("--to", to, "--out", tmp_path, "--base", base, "--verify")
    made = invoke("concept", "export", pip, *told)
    assert said in made.output
    assert ("draws the same" in made.output) == (to == "ti")
    content = json.loads(invoke("concept", "export", pip, *told, "--json").stdout)
    assert content["verified"] == how


def test_a_verified_export_tells_another_concept_apart(base: Path, pip: Path) -> None:
    """Else a comparison of pictures would prove nothing."""
    from dataclasses import replace

    from storyforge.model.base import open_base
    from storyforge.sample.verify import difference, drawn_here

    opened, concept = open_base(str(base), "5" * 64), Concept.load(pip)
    whole = drawn_here(opened, concept)
    assert difference(whole, drawn_here(opened, replace(concept, deltas={}))) > 1.0


def test_an_unknown_target_is_told_with_what_was_meant(pip: Path) -> None:
    made = invoke("concept", "export", pip, "--to", "comfy")
    assert made.exit_code == 1
    assert "did you mean `comfyui`?" in made.output


def test_the_licence_goes_along(pip: Path, tmp_path: Path) -> None:
    from storyforge.headers.header import read_header

    invoke("concept", "export", pip, "--to", "webui", "--out", tmp_path)
    told = read_header(tmp_path / "Lora" / "a.safetensors").metadata
    assert told["modelspec.license"] == "CC-BY-4.0"
    assert told["ss_network_module"] == "networks.lora"
    bundled = load_file(tmp_path / "Lora" / "a.safetensors")["bundle_emb.a.string_to_param.*"]
    torch.testing.assert_close(
        bundled, load_file(tmp_path / "embeddings" / "a.safetensors")["emb_params"]
    )


def test_the_doctor_says_what_a_file_is(base: Path, tmp_path: Path) -> None:
    found = invoke("doctor", bundle(tmp_path / "a.safetensors"), "--base", base, "--json")
    told = json.loads(found.stdout)
    assert found.exit_code == 0, found.output
    assert told["kind"] == "LoRA"
    assert told["written by"] == "kohya"
    assert told["alpha / rank"] == "0.5 (1)"
    assert told["words"] == "`pip` (2)"


def test_the_doctor_finds_what_is_broken_and_saves_the_rest(tmp_path: Path) -> None:
    tensors = load_file(bundle(tmp_path / "a.safetensors"))
    other = TO_K.replace("to_k", "to_v")
    tensors |= {key.replace(TO_K, other): value.clone() for key, value in tensors.items()}
    tensors[f"{other}.lora_up.weight"][0, 0] = torch.nan
    save_file(tensors, tmp_path / "b.safetensors")
    found = invoke("doctor", tmp_path / "b.safetensors")
    assert found.exit_code == 1
    assert f"`{other}.lora_up.weight` holds numbers that are not finite" in found.output
    mended = invoke("doctor", tmp_path / "b.safetensors", "--repair", tmp_path / "c.safetensors")
    assert mended.exit_code == 0, mended.output
    assert "left out" in mended.output
    kept = load_file(tmp_path / "c.safetensors")
    assert {key.split(".")[0] for key in kept} == {TO_K, "bundle_emb"}
    assert invoke("doctor", tmp_path / "c.safetensors").exit_code == 0


def test_a_repaired_copy_has_the_same_strength_for_every_reader(base: Path, tmp_path: Path) -> None:
    from storyforge.model.base import open_base
    from storyforge.model.lorafile import changes_of

    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    tensors = {
        f"unet.{layer}.lora.down.weight": noise(4, WIDTH),
        f"unet.{layer}.lora.up.weight": noise(32, 4),
    }
    told = json.dumps({"unet.r": 4, "unet.lora_alpha": 16})
    save_file(tensors, tmp_path / "a.safetensors", {"lora_adapter_metadata": told})
    invoke("doctor", tmp_path / "a.safetensors", "--repair", tmp_path / "b.safetensors")
    assert load_file(tmp_path / "b.safetensors")[f"{TO_K}.alpha"] == 16
    opened = open_base(str(base), "5" * 64)
    (before,) = changes_of(opened, tmp_path / "a.safetensors").values()
    (after,) = changes_of(opened, tmp_path / "b.safetensors").values()
    torch.testing.assert_close(after, before)


TO_V = TO_K.replace("to_k", "to_v")


def two_layers(path: Path, **instead: torch.Tensor | None) -> Path:
    """A LoRA of two layers; `down`, `up` and `alpha` are instead of the second one's."""
    whole = {"down": noise(4, WIDTH), "up": noise(32, 4), "alpha": torch.tensor(2.0)}
    names = {"down": "lora_down.weight", "up": "lora_up.weight", "alpha": "alpha"}
    tensors = {f"{TO_K}.{names[role]}": tensor for role, tensor in whole.items()}
    for role, tensor in {**whole, **instead}.items():
        if tensor is not None:
            tensors[f"{TO_V}.{names[role]}"] = tensor.clone()
    save_file(tensors, path)
    return path


def layers_in(path: Path) -> set[str]:
    return {key.split(".")[0] for key in load_file(path)}


@pytest.mark.parametrize(
    ("instead", "why"),
    [
        ({"up": None}, "no `up`"),
        ({"down": None}, "no `down`"),
        ({"down": None, "up": None}, "has `alpha` and nothing that it belongs to"),
        ({"up": noise(32, 7)}, "has `up` of rank 7 and `down` of rank 4"),
        ({"down": torch.tensor(1.0)}, "has `up` and `down`, and one is no matrix"),
    ],
)
def test_a_layer_that_is_not_whole_is_named_and_left_out(
    tmp_path: Path, instead: dict[str, torch.Tensor | None], why: str
) -> None:
    path = two_layers(tmp_path / "a.safetensors", **instead)
    found = invoke("doctor", path)
    assert found.exit_code == 1
    assert why in found.output
    mended = invoke("doctor", path, "--repair", tmp_path / "b.safetensors")
    assert mended.exit_code == 0, mended.output
    assert "left out `unet down_blocks_0" in mended.output
    assert layers_in(tmp_path / "b.safetensors") == {TO_K}
    assert invoke("doctor", tmp_path / "b.safetensors").exit_code == 0


def test_a_missing_alpha_is_named_and_written_down(tmp_path: Path) -> None:
    path = two_layers(tmp_path / "a.safetensors", alpha=None)
    found = invoke("doctor", path)
    assert found.exit_code == 1
    assert "without an alpha, and others have one" in found.output
    mended = invoke("doctor", path, "--repair", tmp_path / "b.safetensors")
    assert "a strength of 1 is written down as alpha in 1 layer\n" in mended.output
    assert load_file(tmp_path / "b.safetensors")[f"{TO_V}.alpha"] == 4
    bare = {k: v for k, v in load_file(path).items() if not k.endswith("alpha")}
    save_file(bare, tmp_path / "c.safetensors")
    found = invoke("doctor", tmp_path / "c.safetensors")
    assert found.exit_code == 0, found.output
    assert "in 2 layers; each is taken as its rank" in found.output


def test_what_is_of_no_known_model_is_not_mended(tmp_path: Path) -> None:
    tensors = load_file(two_layers(tmp_path / "a.safetensors"))
    mine = {key.replace("lora_unet", "my_unet"): value.clone() for key, value in tensors.items()}
    save_file(mine, tmp_path / "b.safetensors")
    mended = invoke("doctor", tmp_path / "b.safetensors", "--repair", tmp_path / "c.safetensors")
    assert mended.exit_code == 1
    assert "cannot be mended: `my_unet_down" in mended.output.replace("\n", " ")
    assert not (tmp_path / "c.safetensors").exists()
    save_file(mine | tensors, tmp_path / "d.safetensors")
    found = invoke("doctor", tmp_path / "d.safetensors")
    assert found.exit_code == 1
    assert "and 1 more layer are of no model that is known" in found.output
    mended = invoke("doctor", tmp_path / "d.safetensors", "--repair", tmp_path / "e.safetensors")
    assert "of no model that is known, and stay so" in mended.output
    assert load_file(tmp_path / "e.safetensors").keys() == (mine | tensors).keys()


def test_a_repaired_copy_of_sdxl_keeps_the_names_of_both_text_encoders(tmp_path: Path) -> None:
    pair = {"down": noise(4, WIDTH), "up": noise(32, 4)}
    layer = "encoder.layers.0.self_attn.q_proj"
    kohya = {
        f"lora_te{n}_text_model_{layer.replace('.', '_')}.lora_{role}.weight": tensor.clone()
        for n in (1, 2)
        for role, tensor in pair.items()
    }
    theirs = {
        f"text_encoder{n}.text_model.{layer}.lora_linear_layer.{role}.weight": tensor.clone()
        for n in ("", "_2")
        for role, tensor in pair.items()
    }
    for name, tensors in {"kohya": kohya, "diffusers": theirs}.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        out = tmp_path / f"{name}-mended.safetensors"
        invoke("doctor", tmp_path / f"{name}.safetensors", "--repair", out)
        assert layers_in(out) == {key.split(".")[0] for key in kohya}


def test_numbers_that_are_none_are_found_in_a_pickle(tmp_path: Path) -> None:
    words = {"string_to_param": {"*": torch.full((2, WIDTH), torch.nan)}, "name": "pip"}
    torch.save(words, tmp_path / "a.pt")
    found = invoke("doctor", tmp_path / "a.pt")
    assert found.exit_code == 1
    assert "`string_to_param/*` holds numbers that are not finite" in found.output
    mended = invoke("doctor", tmp_path / "a.pt", "--repair", tmp_path / "b.safetensors")
    assert mended.exit_code == 1
    assert "can be saved" in mended.output


def test_the_doctor_says_when_there_is_no_base_to_fit(tmp_path: Path) -> None:
    found = invoke("doctor", bundle(tmp_path / "a.safetensors"), "--base", "nobody/nothing")
    assert found.exit_code == 1
    assert "no base `nobody/nothing` on this machine" in found.output
    (tmp_path / "base").mkdir()
    found = invoke("doctor", tmp_path / "a.safetensors", "--base", tmp_path / "base")
    assert found.exit_code == 1
    assert "whether it fits cannot be told" in found.output


def test_a_file_of_an_unknown_kind_is_no_sound_one(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "a.safetensors")
    found = invoke("doctor", tmp_path / "a.safetensors")
    assert found.exit_code == 1
    assert "`a` belongs to nothing that is known" in found.output
    mended = invoke("doctor", tmp_path / "a.safetensors", "--repair", tmp_path / "b.safetensors")
    assert mended.exit_code == 1
    assert "unknown kind" in mended.output


@pytest.fixture
def story(base: Path, tmp_path: Path) -> Path:
    (tmp_path / "base").symlink_to(base)
    folder = tmp_path / "story"
    folder.mkdir()
    bundle(folder / "pip.safetensors")
    (folder / "story.yaml").write_text(STORY)
    return folder / "story.yaml"


def test_a_file_of_another_tool_in_the_cast_is_planned_to_be_imported(
    story: Path, tmp_path: Path
) -> None:
    read_story = read(story)
    plan = draw_up(read_story, base=base_of(read_story))
    (task,) = plan.imports
    assert (task.concept, task.kind) == ("pip", "character")
    assert plan.fuse is not None
    assert dict(plan.fuse.concepts) == {"pip": task.key}
    assert missing(plan, Store(tmp_path / "store")).imports == plan.imports


def test_a_book_is_made_with_a_character_of_another_tool(story: Path) -> None:
    made = invoke("render", story, "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["made"] == {"concepts": 1, "fused": 1, "panels": 1, "books": 1}
    (card,) = Project(story).learnt()
    assert card.recipe["imported"] == "LoRA"
    again = json.loads(invoke("render", story, "--json").stdout)
    assert set(again["made"].values()) == {0}
