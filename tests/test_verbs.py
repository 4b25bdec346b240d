"""Every verb on every family of bases: learn, watch, fuse, draw by each way, control, merge, LoRA.

What each verb does is told by its own tests; here, that no family is left out of any of them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, DiffusionPipeline, T2IAdapter
from PIL import Image
from support import random_deltas
from tinybases import JOINT, KINDS, base_of, tiny_pipeline
from tinybases import unet as tiny_unet

from storyforge.errors import StoryForgeError
from storyforge.executor import silent
from storyforge.fuse import fusion, statistics
from storyforge.fuse.checkpoint import write_checkpoint
from storyforge.fuse.terms import Terms
from storyforge.geometry.box import Box
from storyforge.headers.names import part_of
from storyforge.model.base import BaseModel, open_base
from storyforge.model.concept import Concept, FusedModel
from storyforge.model.formats import diffusers_lora, kohya
from storyforge.model.formats.adapter import change_of, layers_of, read_adapter
from storyforge.model.formats.export import Target, export_concept, halved
from storyforge.model.lora import merged
from storyforge.model.tokens import ConceptTokens, encode, new_tokens
from storyforge.project.project import Project
from storyforge.sample.sampler import SamplingContext, pictures
from storyforge.sample.verify import difference, drawn_by_stock, drawn_here
from storyforge.settings import FuseSettings, TrainSettings
from storyforge.story.story import check
from storyforge.tasks import (
    BookTask,
    ControlTask,
    FuseTask,
    Method,
    PanelTask,
    RefineTask,
    RegionTask,
    TrainTask,
)
from storyforge.train import edlora

SHORT = statistics.Viewing(steps=1)

LEFT, RIGHT = Box(x0=0, y0=0, x1=0.5, y1=1), Box(x0=0.5, y0=0, x1=1, y1=1)


@pytest.fixture(scope="module", params=KINDS | JOINT)
def pipeline(request: pytest.FixtureRequest) -> DiffusionPipeline:
    """One tiny base of each family."""
    return tiny_pipeline(request.param)


@pytest.fixture(scope="module")
def base(pipeline: DiffusionPipeline) -> BaseModel:
    """The same as a base of ours, which draws its own pictures in one step."""
    made = base_of(pipeline)
    made.defaults = replace(made.defaults, steps=1)
    return made


def concept(base: BaseModel, name: str, seed: int) -> Concept:
    """As if it had been learnt."""
    generator = torch.Generator().manual_seed(seed)
    deltas = random_deltas(base, generator, scale=0.5)
    words = new_tokens(base, name, "fox", generator).words
    words += 0.01 * torch.randn(words.shape, generator=generator)
    return Concept(
        name, "object", "fox", ConceptTokens(name, words), deltas, base.reference, base.hash
    )


@pytest.fixture(scope="module")
def cast(base: BaseModel) -> dict[str, Concept]:
    return {name: concept(base, name, seed) for seed, name in enumerate(("pip", "lamp"))}


@pytest.fixture(scope="module")
def seen(base: BaseModel, cast: dict[str, Concept]) -> list[statistics.Statistics]:
    return [statistics.of_concept(base, each, viewing=SHORT) for each in cast.values()]


@pytest.fixture(scope="module")
def fused(
    base: BaseModel, cast: dict[str, Concept], seen: list[statistics.Statistics]
) -> FusedModel:
    terms = Terms.of(
        FuseSettings(preservation=0.0), {each.name: each.kind for each in cast.values()}
    )
    return fusion.fuse(list(cast.values()), seen, None, terms, silent, base)


def panel(base: BaseModel, **changes: object) -> PanelTask:
    regions = (
        RegionTask("left", LEFT, "a <pip>", "", 1.0, 0, "pip"),
        RegionTask("right", RIGHT, "a <lamp>", "", 1.0, 0, "lamp"),
    )
    usual: dict[str, object] = {
        "key": "",
        "panel": "one",
        "page": 1,
        "base": base.reference,
        "base_hash": base.hash,
        "fused": None,
        "prompt": "a meadow",
        "negative": "",
        "regions": regions,
        "size": None,
        "steps": 2,
        "guidance_scale": None,
        "scheduler": None,
        "region_blend": 1.0,
        "seed": 5,
        "alt": None,
    }
    return PanelTask(**usual | changes)  # type: ignore[arg-type]


def drawn(
    base: BaseModel, fused: FusedModel, cast: dict[str, Concept], **changes: object
) -> np.ndarray:
    """(h, w, 3) uint8."""
    with merged(base, fused.deltas):
        made = pictures(SamplingContext(base, fused, cast), [panel(base, **changes)])[0].pixels
    assert made.std() > 1
    return made


def test_a_concept_is_learnt_with_all_of_its_linears(base: BaseModel, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    asked = TrainSettings(rank=1, batch_size=2, prior_share=0.5, steps=2, norm_guard=1.5)
    task = TrainTask(
        "key", "pip", "object", "fox", tmp_path, ("a.png",), base.reference, base.hash, asked
    )
    out = tmp_path / "pip.safetensors"
    edlora.train_concept(base, task, out, tmp_path / "scratch", silent)
    made = Concept.load(out)
    made.fits(base)
    assert set(made.deltas) == set(base.linears)
    assert made.tokens.words.shape == (2, base.family.groups, sum(base.widths))
    moved = {linear for linear, delta in made.deltas.items() if delta.up.abs().sum() > 0}
    last = len(base.encoders) == 2 and base.text_encoder.config.num_hidden_layers - 1
    # Of the first of two text encoders nobody reads the last layer.
    assert moved == {
        linear
        for linear in base.linears
        if last is False or not linear.startswith(f"text_encoder.encoder.layers.{last}.")
    }


def test_what_is_watched_is_every_input_of_the_family(
    base: BaseModel, seen: list[statistics.Statistics]
) -> None:
    assert set(seen[0].packed) == set(base.family.inputs)
    assert set(seen[0].words) == set(base.family.text_inputs)
    for name in base.family.text_inputs:
        assert seen[0].words[name].shape == (2, sum(base.widths))


def test_fusion_solves_every_linear(base: BaseModel, fused: FusedModel) -> None:
    assert set(fused.deltas) == set(base.linears)
    assert all(delta.weight().isfinite().all() for delta in fused.deltas.values())


def test_a_fused_model_comes_back_from_its_file(fused: FusedModel, tmp_path: Path) -> None:
    fused.save(tmp_path)
    back = FusedModel.load(tmp_path)
    assert set(back.deltas) == set(fused.deltas)
    assert {n: t.words.shape for n, t in back.tokens.items()} == {
        n: t.words.shape for n, t in fused.tokens.items()
    }


METHODS = {
    "fused": Method(),
    "exact-text": Method(regions="exact-text"),
    "exact": Method(regions="exact"),
    "training-free": Method(compose="training-free"),
    "guided": Method(enhancement=True, isolation=True, reinitialisation=True),
}


@pytest.mark.parametrize("name", METHODS)
def test_regions_are_drawn_by_every_method(
    base: BaseModel, fused: FusedModel, cast: dict[str, Concept], name: str
) -> None:
    if base.door is not None and name in {"exact", "training-free", "guided"}:
        with pytest.raises(StoryForgeError, match=f"is not there for {base.door.name}"):
            drawn(base, fused, cast, method=METHODS[name])
        return
    regional = drawn(base, fused, cast, method=METHODS[name])
    plain = drawn(base, fused, cast, regions=())
    assert (regional != plain).any()


def test_a_picture_is_refined(base: BaseModel, fused: FusedModel, cast: dict[str, Concept]) -> None:
    made = drawn(base, fused, cast, refine=RefineTask(None, 1.5, 0.5))
    assert made.shape[:2] == (base.side * 3 // 2, base.side * 3 // 2)


@pytest.fixture(scope="module")
def adapters(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T2I-Adapter and a ControlNet of the family, and a picture for them."""
    made = tmp_path_factory.mktemp("control")
    if base.door is not None:
        return made
    widths, large = list(base.unet.config.block_out_channels), len(base.encoders) == 2
    torch.manual_seed(0)
    T2IAdapter(
        in_channels=1,
        # Those of SDXL have one level more, and begin where the U-Net has gone down once.
        channels=[*widths, widths[-1]] if large else widths,
        num_res_blocks=1,
        downscale_factor=base.vae_scale * (2 if large else 1),
        adapter_type="full_adapter_xl" if large else "full_adapter",
    ).save_pretrained(made / "sketch")
    net = ControlNetModel.from_unet(
        base.unet,
        conditioning_embedding_out_channels=(8,) * len(base.vae.config.block_out_channels),
    )
    for name, weight in net.named_parameters():
        if "controlnet" in name:
            torch.nn.init.normal_(weight, std=0.05)
    net.save_pretrained(made / "edges")
    noise = np.random.default_rng(0).integers(0, 256, (base.side, base.side), dtype=np.uint8)
    Image.fromarray(noise).save(made / "picture.png")
    return made


@pytest.mark.parametrize("name", ["sketch", "edges"])
def test_adapters_of_the_family_speak(
    base: BaseModel, fused: FusedModel, cast: dict[str, Concept], adapters: Path, name: str
) -> None:
    control = ControlTask(adapters / name, adapters / "picture.png")
    if base.door is not None:
        with pytest.raises(StoryForgeError, match="`control` is not there"):
            drawn(base, fused, cast, controls=(control,))
        return
    with_it = drawn(base, fused, cast, controls=(control,))
    assert (with_it != drawn(base, fused, cast)).any()


def test_a_merged_folder_is_read_by_stock_diffusers_as_here(
    base: BaseModel, fused: FusedModel, tmp_path: Path
) -> None:
    write_checkpoint(base, fused, tmp_path / "merged", half=False)
    pipe = DiffusionPipeline.from_pretrained(tmp_path / "merged")
    if base.door is not None:
        _check_joint(base, fused, pipe)
        return
    flat = {
        name: ConceptTokens(name, each.words.mean(1, keepdim=True))
        for name, each in fused.tokens.items()
    }
    with torch.no_grad(), merged(base, fused.deltas):
        ours = encode(base, ["a <pip> and a <lamp>"], flat)
        weight = base.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.weight
        there = pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.weight
        torch.testing.assert_close(there, weight)
        prompt = "a <pip> and a <lamp>"
        said = pipe.encode_prompt(
            prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
        )
    torch.testing.assert_close(said[0], ours.features[0], rtol=1e-3, atol=1e-4)
    if ours.pooled is not None:
        torch.testing.assert_close(said[2], ours.pooled, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def _check_joint(base: BaseModel, fused: FusedModel, pipe: DiffusionPipeline) -> None:
    """The same of a transformer, whose stock pipelines want words written out."""
    linear = next(iter(fused.deltas))
    there = pipe.transformer.get_submodule(linear.removeprefix("transformer.")).weight
    with merged(base, fused.deltas):
        torch.testing.assert_close(there, base.linears[linear].weight)
    ours = encode(base, ["a <pip> and a <lamp>"], fused.tokens).features[0, 0]
    more = {"text_encoder_out_layers": (1, 2, 3)} if base.door and base.door.filled else {}
    prompt = "a <pip> <pip>_1 and a <lamp> <lamp>_1"
    said = pipe.encode_prompt(prompt, device="cpu", **more)[0][0]
    torch.testing.assert_close(said, ours[: len(said)], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("writer", [kohya, diffusers_lora])
def test_a_lora_that_is_written_is_read_back_on_every_layer(
    base: BaseModel, cast: dict[str, Concept], tmp_path: Path, writer: object
) -> None:
    path = tmp_path / "pip.safetensors"
    if base.door is not None and writer is kohya:
        with pytest.raises(StoryForgeError, match="`kohya` has no place for `pip`"):
            export_concept(cast["pip"], "kohya", tmp_path)
        return
    writer.write_lora(cast["pip"].deltas, path, {}, dtype=torch.float32)  # type: ignore[attr-defined]
    adapter, layers = read_adapter(path), layers_of(base)
    found = {id(layers[name]): name for name in adapter.layers}
    assert len(found) == len(base.linears)
    for linear, module in base.linears.items():
        change = change_of(base, adapter, found[id(module)], module).weight
        torch.testing.assert_close(
            change, cast["pip"].deltas[linear].weight(), atol=1e-6, rtol=1e-4
        )


@pytest.mark.parametrize("to", ["kohya", "diffusers", "ti"])
def test_an_export_draws_in_stock_diffusers_what_it_draws_here(
    base: BaseModel, cast: dict[str, Concept], tmp_path: Path, to: Target
) -> None:
    if base.door is not None:
        _check_export_of_joint(base, cast["pip"], tmp_path, to)
        return
    made = export_concept(cast["pip"], to, tmp_path)
    lean = halved(cast["pip"])
    lean = replace(lean, deltas={}) if to == "ti" else lean
    here = drawn_here(base, lean, steps=2)
    assert difference(here, drawn_by_stock(base, "pip", made.files, steps=2)) <= 1
    assert difference(here, drawn_here(base, plain_words(lean), steps=2)) > 1


def _check_export_of_joint(base: BaseModel, pip: Concept, folder: Path, to: Target) -> None:
    """The same of a transformer, whose pipelines have no place for words: the LoRA alone."""
    if to != "diffusers":
        with pytest.raises(StoryForgeError, match=f"`{to}` has no place for `pip`"):
            export_concept(pip, to, folder)
        return
    made = export_concept(pip, to, folder)
    assert "no place for" in made.use
    adapter, layers = read_adapter(made.files[0]), layers_of(base)
    wanted = {id(base.linears[name]): delta for name, delta in halved(pip).deltas.items()}
    assert len(adapter.layers) == len(wanted)
    for name in adapter.layers:
        change = change_of(base, adapter, name, layers[name]).weight
        torch.testing.assert_close(change, wanted[id(layers[name])].weight())


def plain_words(concept: Concept) -> Concept:
    """The same of other words and without changes: else a comparison would prove nothing."""
    words = ConceptTokens(concept.name, -concept.tokens.words)
    return replace(concept, deltas={}, tokens=words)


ORIGINAL = {
    "input_blocks_0_0": "conv_in",
    "input_blocks_4_1_transformer_blocks_0_attn1_to_q": (
        "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    ),
    "input_blocks_8_1_proj_in": "down_blocks_2_attentions_1_proj_in",
    "input_blocks_5_0_in_layers_2": "down_blocks_1_resnets_1_conv1",
    "input_blocks_3_0_op": "down_blocks_0_downsamplers_0_conv",
    "middle_block_1_proj_out": "mid_block_attentions_0_proj_out",
    "middle_block_2_out_layers_3": "mid_block_resnets_1_conv2",
    "output_blocks_0_1_proj_in": "up_blocks_0_attentions_0_proj_in",
    "output_blocks_2_2_conv": "up_blocks_0_upsamplers_0_conv",
    "output_blocks_5_1_transformer_blocks_1_ff_net_2": (
        "up_blocks_1_attentions_2_transformer_blocks_1_ff_net_2"
    ),
    "output_blocks_7_0_skip_connection": "up_blocks_2_resnets_1_conv_shortcut",
}


@pytest.mark.parametrize("name", ORIGINAL)
def test_loras_of_sdxl_may_call_layers_as_its_makers_do(name: str) -> None:
    part = part_of(f"lora_unet_{name}.lora_down.weight")
    assert part is not None
    assert (part.model, part.layer) == ("unet", ORIGINAL[name])


STORY = """\
storyforge: 1
title: A
base: base
characters: {pip: pip}
sampling: {steps: 1}
fuse: {steps: 1}
pages:
  - panels: [{id: one, decorative: true, prompt: snow, regions: {a: {at: left, concept: pip}}}]
"""


def written(folder: Path, base: str) -> Path:
    """A story of one concept and one panel, to be drawn with a base in the same folder."""
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    (folder / "pip").mkdir()
    for name in "abcd":
        Image.fromarray(noise).save(folder / "pip" / f"{name}.png")
    (folder / "pip" / "concept.yaml").write_text(
        "kind: character\nclass: fox\ntrain: {steps: 1, batch_size: 1, prior_share: 0, rank: 1}\n"
    )
    (folder / "story.yaml").write_text(STORY.replace("base: base", f"base: {base}"))
    return folder / "story.yaml"


@pytest.mark.parametrize("kind", ["pocket", *KINDS, *JOINT])
def test_check_passes_and_plan_tells_what_is_to_be_made(kind: str, tmp_path: Path) -> None:
    if kind != "pocket":
        tiny_pipeline(kind).save_pretrained(tmp_path / "base")
    story = written(tmp_path, kind if kind == "pocket" else "base")
    assert [each for each in check(story) if each.severity == "error"] == []
    made = [type(task) for task in Project(story).plan().tasks()]
    assert made == [TrainTask, FuseTask, PanelTask, BookTask, BookTask]


@pytest.mark.parametrize("kind", KINDS)
def test_a_book_is_made_with_it(kind: str, tmp_path: Path) -> None:
    tiny_pipeline(kind).save_pretrained(tmp_path / "base", variant="fp16")
    made = Project(written(tmp_path, "base")).render(formats=("png",))
    assert not made.troubles
    assert made.books
    (picture,) = (tmp_path / ".storyforge" / "panels").glob("*.png")
    assert np.asarray(Image.open(picture).convert("L")).std() > 1


def test_an_inpainting_base_is_refused_by_every_verb_with_its_place(tmp_path: Path) -> None:
    pipe = tiny_pipeline("sd1")
    pipe.register_modules(unet=tiny_unet(in_channels=9))
    pipe.save_pretrained(tmp_path / "base")
    story = written(tmp_path, "base")
    assert [(each.code, each.line, each.column) for each in check(story)] == [("SF330", 3, 7)]
    project = Project(story)
    for verb in (project.train, project.fuse, project.render):
        with pytest.raises(StoryForgeError, match="inpainting|mistake"):
            verb()
    with pytest.raises(StoryForgeError, match="an inpainting model"):
        open_base(str(tmp_path / "base"), "hash")


def test_what_is_exported_of_the_embedded_model_changes_every_layer_alike(tmp_path: Path) -> None:
    base = open_base("pocket", "hash")
    pip = concept(base, "pip", 0)
    adapter, layers = read_adapter(export_concept(pip, "kohya", tmp_path).files[0]), layers_of(base)
    wanted = {id(base.linears[name]): delta for name, delta in halved(pip).deltas.items()}
    assert len(adapter.layers) == len(wanted)
    for name in adapter.layers:
        change = change_of(base, adapter, name, layers[name]).weight
        torch.testing.assert_close(change, wanted[id(layers[name])].weight())
