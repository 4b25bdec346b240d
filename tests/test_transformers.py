"""FLUX.2-klein and Z-Image, tiny and of random weights, beside diffusers' own pipelines.

That every verb works on them is told with the other families, in `test_verbs.py`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLFlux2, DiffusionPipeline
from PIL import Image
from safetensors.torch import save_file
from support import hub_of, panel, random_deltas
from tinybases import JOINT, base_of, tiny_pipeline
from torch import nn

from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.executor import silent
from storyforge.fuse import fusion, statistics
from storyforge.fuse.terms import Terms
from storyforge.headers.autoencoders import VAES, vae_trouble
from storyforge.headers.bases import TRANSFORMERS, look_at_base
from storyforge.model.attention import AttentionContext, RegionText
from storyforge.model.base import BaseModel, open_base
from storyforge.model.concept import Concept
from storyforge.model.denoising import Extras, denoise, start_latents
from storyforge.model.dit.door import apart, together
from storyforge.model.dit.doors import DOORS
from storyforge.model.dit.joint import JointText, masked, shares_mask
from storyforge.model.formats import diffusers_lora
from storyforge.model.hub import wanted_files
from storyforge.model.lora import merged
from storyforge.model.lorafile import loras_merged
from storyforge.model.placement import weights_of
from storyforge.model.tokens import (
    ConceptTokens,
    encode,
    encode_weighted,
    new_tokens,
    token_ids,
)
from storyforge.modelref import (
    USUAL_SIZE,
    BaseParts,
    Defaults,
    base_at,
    defaults_of,
    picture_size,
)
from storyforge.project.api import fuse, train
from storyforge.project.project import Project
from storyforge.sample.sampler import draw_panels
from storyforge.settings import FuseSettings
from storyforge.story.story import check
from storyforge.tasks import Method

STEPS, SCALE = 3, 4.0
PROMPT = "a red fox in the snow"


@pytest.fixture(scope="module", params=JOINT)
def pipeline(request: pytest.FixtureRequest) -> DiffusionPipeline:
    """One tiny transformer of each family."""
    return tiny_pipeline(request.param)


@pytest.fixture(scope="module")
def base(pipeline: DiffusionPipeline) -> BaseModel:
    """The same as a base of ours."""
    return base_of(pipeline)


@torch.no_grad()
def drawn(
    base: BaseModel,
    prompt: str = PROMPT,
    negative: str = "",
    *,
    size: tuple[int, int] | None = None,
    scale: float = SCALE,
    regions: tuple[tuple[str, torch.Tensor], ...] = (),
) -> np.ndarray:
    """(h, w, 3) in [0, 1]; of each region the prompt, and what each cell has of it."""
    noise = start_latents(base, [7], size)
    cells = noise.shape[2] * noise.shape[3]
    texts = [RegionText(encode(base, ["", said], {}).features, {cells: of}) for said, of in regions]
    attention = AttentionContext(encode(base, [negative, prompt], {}), texts)
    clean = denoise(base, attention, noise, steps=STEPS, guidance_scale=scale)
    picture: np.ndarray = base.decode(clean)[0].permute(1, 2, 0).numpy()
    return picture


def stock(
    pipeline: DiffusionPipeline,
    base: BaseModel,
    prompt: str = PROMPT,
    *,
    size: tuple[int, int] | None = None,
    scale: float = SCALE,
    **more: object,
) -> np.ndarray:
    """The same by diffusers' own pipeline; Z-Image's counts guidance from 0, not from 1."""
    width, height = size or (base.side, base.side)
    noise = start_latents(base, [7], size)
    if base.door is not None and base.door.name == "Z-Image":
        more |= {"guidance_scale": scale - 1, "latents": apart(noise)}
    else:
        more |= {"guidance_scale": scale, "latents": noise, "text_encoder_out_layers": (1, 2, 3)}
    made: np.ndarray = pipeline(
        prompt=prompt,
        width=width,
        height=height,
        num_inference_steps=STEPS,
        output_type="np",
        **more,
    ).images[0]
    return made


@pytest.mark.parametrize("scale", [SCALE, 1.0])
def test_a_plain_prompt_is_the_stock_pipelines_picture(
    pipeline: DiffusionPipeline, base: BaseModel, scale: float
) -> None:
    theirs = stock(pipeline, base, scale=scale)
    assert theirs.std() > 0.02
    assert np.abs(drawn(base, scale=scale) - theirs).max() < 1 / 255


def test_a_wide_picture_is_the_stock_pipelines(
    pipeline: DiffusionPipeline, base: BaseModel
) -> None:
    size = (2 * base.side, base.side)
    assert np.abs(drawn(base, size=size) - stock(pipeline, base, size=size)).max() < 1 / 255


def test_a_negative_prompt_counts(base: BaseModel) -> None:
    assert np.abs(drawn(base, negative="an owl") - drawn(base)).max() > 1 / 255


def test_cells_are_put_together_and_apart() -> None:
    latents = torch.randn(2, 3, 4, 6)
    assert together(latents).shape == (2, 12, 2, 3)
    assert torch.equal(apart(together(latents)), latents)


def test_what_is_encoded_comes_back_as_the_autoencoder_makes_it(
    pipeline: DiffusionPipeline, base: BaseModel
) -> None:
    picture = torch.rand(1, 3, base.side, base.side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = pipeline.vae.decode(pipeline.vae.encode(2 * picture - 1).latent_dist.mean).sample
    ours = base.decode(base.encode(picture))
    torch.testing.assert_close(ours, (theirs / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=0)


def everywhere(base: BaseModel) -> torch.Tensor:
    return torch.ones(base.cells**2)


def left(base: BaseModel) -> torch.Tensor:
    half = torch.zeros(base.cells, base.cells)
    half[:, : base.cells // 2] = 1
    return half.flatten()


def test_one_region_over_everything_is_the_plain_picture_of_its_prompt(base: BaseModel) -> None:
    regional = drawn(base, "a house", regions=((PROMPT, everywhere(base)),))
    assert np.array_equal(regional, drawn(base))


@pytest.fixture
def shallow(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> BaseModel:
    """Nothing but its first layer, in which cells read their own texts alone."""
    blocks = "layers" if hasattr(base.unet, "layers") else "transformer_blocks"
    monkeypatch.setitem(base.unet._modules, blocks, getattr(base.unet, blocks)[:1])
    if hasattr(base.unet, "single_transformer_blocks"):
        monkeypatch.setitem(base.unet._modules, "single_transformer_blocks", nn.ModuleList())
    return base


@torch.no_grad()
def said(base: BaseModel, *prompts: str) -> torch.Tensor:
    """(c, cells) the velocity, with the first prompt on the left and the second on the right."""
    here = left(base)
    reading = [encode(base, [prompt], {}).features[0] for prompt in prompts]
    texts = [JointText(reading[0], here), JointText(reading[1], 1 - here)]
    assert base.door is not None
    noise = start_latents(base, [7])
    return base.door.velocity(base.unet, noise, torch.tensor([0.5]), texts)[0].flatten(1)


def test_a_cell_is_told_nothing_by_a_text_that_it_does_not_listen_to(shallow: BaseModel) -> None:
    both, other = said(shallow, PROMPT, "an owl"), said(shallow, PROMPT, "an elk")
    here = left(shallow).bool()
    torch.testing.assert_close(both[:, here], other[:, here])
    assert (both[:, ~here] - other[:, ~here]).abs().mean() > 1e-3


def test_deeper_layers_tell_it_of_the_whole_picture(base: BaseModel) -> None:
    both, other = said(base, PROMPT, "an owl"), said(base, PROMPT, "a blue house")
    assert (both - other)[:, left(base).bool()].abs().mean() > 1e-5


def test_the_layers_are_as_before_when_the_regions_are_gone(base: BaseModel) -> None:
    before = drawn(base)
    drawn(base, regions=((PROMPT, left(base)),))
    assert base.regions == ()
    assert np.array_equal(drawn(base), before)


def test_texts_never_read_each_other_and_cells_read_their_own_in_every_second_layer() -> None:
    share = torch.tensor([1.0, 0.0, 0.25])
    bound, free = shares_mask([(2, share), (1, 1 - share)], 3)
    for mask in (bound, free):
        assert (mask[:2, 2] == -torch.inf).all()
        assert (mask[2, :2] == -torch.inf).all()
        assert (mask[3:6, 3:] == 0).all()
    assert torch.equal(free[3:6, :3], torch.zeros(3, 3))
    torch.testing.assert_close(bound[3:6, :3].exp(), torch.stack([share, share, 1 - share], 1))
    torch.testing.assert_close(bound[:3, 3:6], bound[3:6, :3].T)


def test_a_text_of_half_a_share_is_as_if_half_of_it_were_there() -> None:
    q, k, v = (
        torch.randn(1, 1, 4, 8, generator=torch.Generator().manual_seed(n)) for n in range(3)
    )
    bound, _ = shares_mask([(1, torch.tensor([0.5])), (1, torch.tensor([0.5])), (1, None)], 1)
    made = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bound)
    scores = (q[0, 0, 3] @ k[0, 0].T / 8**0.5).exp() * torch.tensor([0.5, 0.5, 1, 1])
    torch.testing.assert_close(made[0, 0, 3], scores @ v[0, 0] / scores.sum())


@torch.no_grad()
def test_it_does_not_matter_which_region_comes_first(base: BaseModel) -> None:
    here, noise = left(base), start_latents(base, [7])
    prompts = (PROMPT, "an owl")
    long, short = (
        JointText(encode(base, [prompt], {}).features[0], share)
        for prompt, share in zip(prompts, (here, 1 - here), strict=True)
    )
    assert base.door is not None
    made = [
        base.door.velocity(base.unet, noise, torch.tensor([0.5]), texts)
        for texts in ((long, short), (short, long))
    ]
    torch.testing.assert_close(made[0], made[1], atol=1e-5, rtol=1e-4)


def test_layers_of_one_mask_have_it_once() -> None:
    seen = []

    class Layer(nn.Module):
        def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor) -> None:
            """Keep where the mask lies."""
            seen.append(attention_mask.data_ptr())

    layers = [Layer() for _ in range(4)]
    with masked(layers, [torch.zeros(2, 2), torch.ones(2, 2)]):
        for layer in layers:
            layer(hidden_states=torch.zeros(1, 2, 1, dtype=torch.float64))
    assert seen[0] == seen[2] != seen[1] == seen[3]


def test_a_token_that_says_nothing_is_a_token_all_the_same() -> None:
    features = torch.ones(1, 5, 2)
    features[0, 1], features[0, 3:] = 0, 0
    assert JointText(features).length(0) == 3
    assert JointText(features * 0).length(0) == 0


def test_near_the_end_the_noise_that_is_left_is_told_apart() -> None:
    half = base_of(tiny_pipeline("z-image").to(torch.bfloat16))
    told = []
    half.unet.t_embedder.register_forward_pre_hook(lambda module, seen: told.append(seen[0]))
    text = JointText(torch.ones(1, 4, half.unet.config.cap_feat_dim, dtype=torch.bfloat16))
    latents = start_latents(half, [7]).to(torch.bfloat16)
    assert half.door is not None
    with torch.no_grad():
        for noise in (0.9985, 0.9995):
            half.door.velocity(half.unet, latents, torch.tensor([noise]), [text])
    assert torch.cat(told).tolist() == pytest.approx([1.5, 0.5], rel=1e-3)


def test_a_concepts_words_stand_where_they_are_named(base: BaseModel) -> None:
    table = base.text_encoder.get_input_embeddings().weight.detach()
    ids = base.tokenizer(" red fox", add_special_tokens=False).input_ids
    assert len(ids) == 2
    own = {"pip": ConceptTokens("pip", table[ids][:, None])}
    spelled = encode(base, ["a red fox in the snow"], {})
    named = encode(base, ["a <pip> in the snow"], own)
    torch.testing.assert_close(named.features, spelled.features)


def test_words_may_count_more(base: BaseModel) -> None:
    plain = encode(base, ["a red fox in the snow"], {}).features
    assert torch.equal(encode_weighted(base, ["a red fox in the snow"], {}).features, plain)
    weighed = encode_weighted(base, ["a (red:1.5) fox in the snow"], {}).features
    moved = (weighed - plain).abs().sum((0, 1, 3))
    assert weighed.shape == plain.shape
    assert moved.any()


def test_what_words_count_does_not_depend_on_the_prompts_beside_them(base: BaseModel) -> None:
    weighed, longer = "a (red:1.5) fox in the snow", "an owl " * 20
    alone = encode_weighted(base, [weighed], {}).features[0, 0]
    beside = encode_weighted(base, [weighed, longer], {}).features[0, 0]
    torch.testing.assert_close(alone, beside)


def test_a_word_that_counts_nothing_keeps_its_place(base: BaseModel) -> None:
    plain, without = (
        JointText(encode_weighted(base, [prompt], {}).features[0]).length(0)
        for prompt in ("a (red fox:1.2) in the snow", "a (red fox:0) in the snow")
    )
    assert without == plain


def test_a_prompt_longer_than_is_read_is_named_with_both_counts(base: BaseModel) -> None:
    with pytest.raises(StoryForgeError, match=r"a prompt is 60\d tokens long and the model takes"):
        encode(base, ["x" * 600], {})


def test_an_unknown_concept_is_named(base: BaseModel) -> None:
    with pytest.raises(StoryForgeError, match="names `<pup>`"):
        token_ids(base, "a <pup>", ["pip"])


def concept(base: BaseModel, name: str, seed: int) -> Concept:
    """As if it had been learnt."""
    generator = torch.Generator().manual_seed(seed)
    deltas = random_deltas(base, generator, scale=0.5)
    words = new_tokens(base, name, "fox", generator)
    return Concept(name, "object", "fox", words, deltas, base.reference, base.hash)


def test_a_concept_alone_keeps_its_changes_exactly(base: BaseModel) -> None:
    pip = concept(base, "pip", 0)
    seen = statistics.of_concept(base, pip, viewing=statistics.Viewing(steps=1))
    made = fusion.fuse([pip], [seen], None, Terms.of(FuseSettings(), {"pip": "object"}), silent)
    assert set(made.deltas) == set(base.linears)
    for linear, delta in made.deltas.items():
        torch.testing.assert_close(delta.weight(), pip.deltas[linear].weight())


def test_several_are_fused_nearer_to_each_than_their_mean_is(base: BaseModel) -> None:
    cast = [concept(base, name, seed) for seed, name in enumerate(("pip", "lamp", "boat"))]
    viewing = statistics.Viewing(steps=1)
    seen = [statistics.of_concept(base, each, viewing=viewing) for each in cast]
    kinds = {each.name: "object" for each in cast}
    missed = {}
    for solver in ("closed-form", "average"):
        terms = Terms.of(FuseSettings(solver=solver, preservation=0.0), kinds)  # type: ignore[arg-type]
        made = fusion.fuse(cast, seen, None, terms, silent)
        missed[solver] = sum(
            torch.trace(off @ each.gram(source).float() @ off.T).item()
            for each, own in zip(seen, cast, strict=True)
            for source, readers in base.family.inputs.items()
            for off in [made.deltas[n].weight() - own.deltas[n].weight() for n in readers]
        )
    assert missed["closed-form"] < 0.95 * missed["average"]


def test_a_lora_does_here_what_it_does_in_stock_diffusers(base: BaseModel, tmp_path: Path) -> None:
    pip, path = concept(base, "pip", 0), tmp_path / "pytorch_lora_weights.safetensors"
    diffusers_lora.write_lora(pip.deltas, path, {}, dtype=torch.float32)
    pipe = tiny_pipeline("z-image" if base.door and base.door.name == "Z-Image" else "flux2")
    pipe.load_lora_weights(tmp_path)
    theirs = stock(pipe, base)
    with loras_merged(base, {path: 1.0}):
        ours = drawn(base)
    assert np.abs(theirs - drawn(base)).max() > 1e-3
    assert np.abs(ours - theirs).max() < 1e-5
    with merged(base, pip.deltas):
        assert np.abs(drawn(base) - theirs).max() < 1e-5


FLUX_LAYERS = {
    # FLUX.2's own names -> diffusers'; queries, keys and values in one stand for three
    "double_blocks.0.img_attn.qkv": "transformer_blocks.0.attn.to_q",
    "double_blocks.0.txt_attn.qkv": "transformer_blocks.0.attn.add_q_proj",
    "double_blocks.0.img_attn.proj": "transformer_blocks.0.attn.to_out.0",
    "double_blocks.0.txt_attn.proj": "transformer_blocks.0.attn.to_add_out",
    "double_blocks.0.img_mlp.0": "transformer_blocks.0.ff.linear_in",
    "double_blocks.0.img_mlp.2": "transformer_blocks.0.ff.linear_out",
    "double_blocks.0.txt_mlp.0": "transformer_blocks.0.ff_context.linear_in",
    "double_blocks.0.txt_mlp.2": "transformer_blocks.0.ff_context.linear_out",
    "single_blocks.0.linear1": "single_transformer_blocks.0.attn.to_qkv_mlp_proj",
    "single_blocks.0.linear2": "single_transformer_blocks.0.attn.to_out",
}
Z_LAYERS = {
    "layers.0.attention.to_q": "layers.0.attention.to_q",
    "layers.0.attention.to_out.0": "layers.0.attention.to_out.0",
    "layers.0.feed_forward.w1": "layers.0.feed_forward.w1",
    "context_refiner.0.attention.to_k": "context_refiner.0.attention.to_k",
}
Z_FUSED = {
    "layers.0.attention.qkv": "layers.0.attention.to_q",
    "layers.0.attention.out": "layers.0.attention.to_out.0",
}


@pytest.mark.parametrize("form", ["dotted", "kohya"])
def test_a_lora_under_the_makers_names_does_what_it_does_in_stock_diffusers(
    base: BaseModel, tmp_path: Path, form: str
) -> None:
    flux = base.door is not None and base.door.name != "Z-Image"
    named = FLUX_LAYERS if flux else Z_LAYERS if form == "dotted" else Z_FUSED
    generator, tensors, dotted = torch.Generator().manual_seed(3), {}, {}
    for theirs, ours in named.items():
        layer = base.unet.get_submodule(ours)
        assert isinstance(layer, torch.nn.Linear)
        rows = layer.out_features * (3 if theirs.endswith("qkv") else 1)
        down = torch.randn(2, layer.in_features, generator=generator)
        up = torch.randn(rows, 2, generator=generator)
        key = "lora_unet_" + theirs.replace(".", "_")
        tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
        dotted |= {f"diffusion_model.{theirs}.lora_A.weight": down}
        dotted |= {f"diffusion_model.{theirs}.lora_B.weight": up}
    path, stocks = tmp_path / "ours.safetensors", tmp_path / "pytorch_lora_weights.safetensors"
    save_file(tensors if form == "kohya" else dotted, path)
    # Of FLUX.2's LoRAs diffusers itself reads dotted names alone.
    save_file(dotted if flux or form == "dotted" else tensors, stocks)
    pipe = tiny_pipeline("flux2" if flux else "z-image")
    pipe.load_lora_weights(tmp_path, weight_name=stocks.name)
    theirs_drawn = stock(pipe, base)
    with loras_merged(base, {path: 1.0}):
        ours_drawn = drawn(base)
    assert np.abs(theirs_drawn - drawn(base)).max() > 1e-3
    assert np.abs(ours_drawn - theirs_drawn).max() < 1e-5


def test_a_picture_is_drawn_over_from_its_own_noise(base: BaseModel) -> None:
    noise = start_latents(base, [7])
    attention = AttentionContext(encode(base, ["", PROMPT], {}))
    over = torch.zeros_like(noise)
    whole = denoise(base, attention, noise, steps=4, extras=Extras(over=over, strength=1.0))
    torch.testing.assert_close(whole, denoise(base, attention, noise, steps=4))
    part = denoise(base, attention, noise, steps=4, extras=Extras(over=over, strength=0.25))
    assert part.abs().mean() < whole.abs().mean()


def test_another_scheduler_is_refused(base: BaseModel) -> None:
    attention = AttentionContext(encode(base, ["", PROMPT], {}))
    with pytest.raises(StoryForgeError, match="its way from noise to a picture is a straight one"):
        denoise(base, attention, start_latents(base, [7]), scheduler="euler")


@pytest.fixture(scope="module")
def folder(pipeline: DiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A story of one concept and one panel, and the base in a folder beside it."""
    made = tmp_path_factory.mktemp("story")
    pipeline.save_pretrained(made / "base")
    (made / "pip").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(made / "pip" / "01.png")
    (made / "pip" / "concept.yaml").write_text(
        "kind: character\nclass: fox\ntrain: {steps: 1, batch_size: 1, prior_share: 0, rank: 1}\n"
    )
    (made / "story.yaml").write_text(STORY)
    return made


STORY = """\
storyforge: 1
title: A
base: base
characters: {pip: pip}
sampling: {steps: 1}
book: {formats: [png]}
pages:
  - panels: [{id: one, decorative: true, prompt: snow, regions: {a: {at: left, concept: pip}}}]
"""


def test_a_folder_opens_as_the_pipeline_that_it_was_saved_from(
    pipeline: DiffusionPipeline, base: BaseModel, folder: Path
) -> None:
    there = open_base(str(folder / "base"), "a" * 64)
    assert there.door is base.door
    assert np.array_equal(drawn(there), drawn(base))
    parts = (pipeline.transformer, pipeline.vae, pipeline.text_encoder)
    tied = pipeline.text_encoder.get_output_embeddings()
    count = sum(weight.numel() for part in parts for weight in part.state_dict().values())
    assert weights_of(str(folder / "base")) in {count, count - (tied.weight.numel() if tied else 0)}


def test_what_is_known_of_a_folder_without_opening_it(base: BaseModel, folder: Path) -> None:
    found, size = base_at("base", folder), picture_size(str(folder / "base"))
    assert (size.side, size.scale, size.cells) == (base.side, base.vae_scale, base.cells)
    assert found.defaults.scheduler == "flow"
    header = look_at_base(folder / "base")
    assert header.trouble is None
    assert base.door is not None
    assert header.family == base.door.name
    assert any(layer.startswith("transformer ") for layer in header.layers)


def test_a_hub_id_is_known_by_what_the_cache_has_of_it(
    base: BaseModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub_of(folder / "base", tmp_path)
    there = open_base("owner/tiny", "hash")
    assert there.defaults == defaults_of(folder / "base") != Defaults()
    assert picture_size("owner/tiny") == picture_size(str(folder / "base"))
    path = folder / "of-the-hub.yaml"
    path.write_text(STORY.replace("base: base", "base: owner/tiny") + "compose: training-free\n")
    (found,) = check(path)
    assert (found.code, base.door and base.door.name in found.message) == ("SF333", True)


def test_a_hub_ids_products_have_the_same_keys_whatever_of_it_is_here(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    path = folder / "sized.yaml"
    path.write_text(STORY.replace("base: base", "base: owner/tiny") + "size: [44, 38]\n")
    before = [task.key for task in Project(path).plan().tasks()]
    hub_of(folder / "base", tmp_path)
    assert picture_size("owner/tiny") != USUAL_SIZE
    assert [task.key for task in Project(path).plan().tasks()] == before


def test_a_size_that_the_plan_could_not_cut_is_cut_to_whole_cells(
    base: BaseModel, tmp_path: Path
) -> None:
    asked = {"size": (43, 38), "regions": (), "steps": 1, "scheduler": None}
    task = replace(panel(base, Method()), **asked)
    draw_panels(base, [task], None, lambda _: nullcontext(tmp_path / "one.png"), silent)
    with Image.open(tmp_path / "one.png") as made:
        assert made.size == (40, 36)


def test_a_vae_may_come_from_elsewhere_and_must_be_of_its_kind(
    base: BaseModel, folder: Path, tmp_path: Path
) -> None:
    own = str(folder / "base")
    there = open_base(BaseParts(own, vae=own).reference, "hash")
    assert np.array_equal(drawn(there), drawn(base))
    weights = folder / "base" / "vae" / "diffusion_pytorch_model.safetensors"
    there = open_base(BaseParts(own, vae=str(weights)).reference, "hash")
    assert np.array_equal(drawn(there), drawn(base))
    kinds = ("AutoencoderKLFlux2", "AutoencoderKL")
    foreign = tiny_pipeline("sd1" if isinstance(base.vae, AutoencoderKLFlux2) else "flux2").vae
    foreign.save_pretrained(tmp_path)
    with pytest.raises(EnvironmentProblem, match=f"is a {type(foreign).__name__}") as caught:
        open_base(BaseParts(own, vae=str(tmp_path)).reference, "hash")
    assert set(kinds) == {type(foreign).__name__, str(caught.value.hint).split()[-1]}
    path = folder / "vae.yaml"
    path.write_text(STORY.replace("base: base", f"base: {{model: base, vae: {tmp_path}}}"))
    (found,) = check(path)
    assert (found.code, found.line) == ("SF330", 3)
    assert "and this base takes a" in found.message


def test_a_vae_of_other_latents_is_found_before_it_is_opened(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "base" / "vae" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"latent_channels": 5}))
    trouble = vae_trouble(tmp_path, look_at_base(folder / "base"))
    assert trouble is not None
    assert trouble.what == "makes latents of 5 channels, and this base draws in 4"


def test_what_check_knows_of_transformers_is_what_they_are_drawn_with() -> None:
    assert {door.name: (door.autoencoder.__name__,) for door in DOORS.values()} == VAES
    assert {name: door.name for name, door in DOORS.items()} == TRANSFORMERS


def test_its_vae_is_not_rounded_with_the_rest(base: BaseModel, folder: Path) -> None:
    half = open_base(str(folder / "base"), "hash", dtype=torch.bfloat16)
    assert half.dtype == half.text_encoder.dtype == torch.bfloat16
    pairs = zip(half.vae.state_dict().values(), base.vae.state_dict().values(), strict=True)
    assert all(torch.equal(made, wanted) for made, wanted in pairs)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_a_pickle_in_it_is_refused_by_name_and_never_opened(
    folder: Path, tmp_path: Path, part: str
) -> None:
    shutil.copytree(folder / "base", tmp_path / "base")
    for weights in (tmp_path / "base" / part).glob("*.safetensors"):
        weights.unlink()
        (tmp_path / "base" / part / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(EnvironmentProblem, match="only a pickle in"):
        open_base(str(tmp_path / "base"), "hash")


def test_a_book_is_made_with_it(folder: Path) -> None:
    assert not list(check(folder / "story.yaml"))
    done = subprocess.run(
        [sys.executable, "-m", "storyforge", "render", str(folder / "story.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (picture,) = (folder / ".storyforge" / "panels").glob("*.png")
    assert np.asarray(Image.open(picture).convert("L")).std() > 1


def test_of_a_repository_one_variant_of_every_part_is_fetched() -> None:
    parts = ("transformer", "text_encoder", "vae")
    weights = [f"{part}/diffusion_pytorch_model.safetensors" for part in parts]
    own = [
        "model_index.json",
        "tokenizer/tokenizer.json",
        "tokenizer/chat_template.jinja",
        *weights,
    ]
    others = ["flux-2-klein.safetensors", "transformer/diffusion_pytorch_model.fp16.safetensors"]
    assert wanted_files([*own, *others]) == sorted(own)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("compose: training-free", "compose: training-free"),
        ("sampling: {steps: 1, enhancement: true}", "enhancement"),
        ("sampling: {steps: 1, isolation: yes}", "isolation"),
        ("sampling: {steps: 1, reinitialisation: On}", "reinitialisation"),
        ("sampling: {steps: 1, regions: exact}", "regions: exact"),
        ("sampling: {steps: 1, scheduler: ddim}", "scheduler"),
        ("fuse: {area: subject}", "area: subject"),
    ],
)
def test_what_it_does_not_do_is_found_by_check(folder: Path, line: str, said: str) -> None:
    lines = [each for each in STORY.splitlines() if not line.startswith(each.split(":")[0])]
    path = folder / "asks.yaml"
    path.write_text("\n".join([*lines, line]) + "\n")
    found = [finding for finding in check(path) if finding.code == "SF333"]
    assert len(found) == 1
    assert found[0].message.startswith(f"`{said}` is not there for ")
    assert found[0].line == len(lines) + 1


@pytest.mark.parametrize("line", ["enhancement: no", "isolation: False", "regions: exact-text"])
def test_what_is_not_wanted_is_not_refused(folder: Path, line: str) -> None:
    path = folder / "asks.yaml"
    path.write_text(STORY.replace("{steps: 1}", f"{{steps: 1, {line}}}"))
    assert not check(path)


LEARNT = {
    "attention_reg: 0.0025": "attention_reg",
    "layers: [kv]": "layers",
    "min_snr_gamma: 5": "min_snr_gamma",
    "method: custom-diffusion": "method: custom-diffusion",
    "method: p-plus": "method: p-plus",
}


@pytest.fixture
def learnt(folder: Path, tmp_path: Path) -> Path:
    """A concept.yaml of a story on the transformer; its last line is still to be written."""
    (tmp_path / "base").symlink_to(folder / "base")
    shutil.copytree(folder / "pip", tmp_path / "pip")
    (tmp_path / "story.yaml").write_text(STORY)
    path = tmp_path / "pip" / "concept.yaml"
    path.write_text("kind: character\nclass: fox\ntrain:\n  steps: 1\n")
    return path


@pytest.mark.parametrize("line", LEARNT)
def test_what_it_does_not_learn_by_is_found_in_the_concepts_file(learnt: Path, line: str) -> None:
    learnt.write_text(learnt.read_text() + f"  {line}\n")
    (found,) = check(learnt.parents[1] / "story.yaml")
    assert (Path(found.file).name, found.line, found.code) == ("concept.yaml", 5, "SF333")
    assert found.message.startswith(f"`{LEARNT[line]}` is not there for ")


@pytest.mark.parametrize("line", LEARNT)
def test_what_it_does_not_learn_by_is_refused_by_whoever_opens_it(
    base: BaseModel, learnt: Path, line: str
) -> None:
    learnt.write_text(learnt.read_text() + f"  {line}\n")
    with pytest.raises(StoryForgeError, match=f"`{LEARNT[line]}` is not there for "):
        train(base, learnt.parent)


def test_holding_nothing_to_the_masks_is_no_wish(learnt: Path) -> None:
    learnt.write_text(learnt.read_text() + "  attention_reg: 0\n")
    assert not check(learnt.parents[1] / "story.yaml")


@pytest.mark.parametrize("asked", [{"area": "subject"}, {"solver": "custom-diffusion"}])
def test_a_way_to_fuse_that_it_does_not_have_is_refused_before_anything_is_watched(
    base: BaseModel, asked: dict[str, str]
) -> None:
    cast = [concept(base, name, seed) for seed, name in enumerate(("pip", "lamp"))]
    heard: list[str] = []
    with pytest.raises(StoryForgeError, match="is not there for"):
        fuse(
            base,
            cast,
            FuseSettings.model_validate(asked),
            on_progress=lambda what, done, total: heard.append(what),
        )
    assert not heard


def test_what_was_watched_before_is_not_fused_as_custom_diffusion_either(base: BaseModel) -> None:
    cast = [concept(base, name, seed) for seed, name in enumerate(("pip", "lamp"))]
    terms = Terms.of(FuseSettings(solver="custom-diffusion"), {"pip": "object", "lamp": "object"})
    with pytest.raises(StoryForgeError, match="no keys and values of the text alone"):
        fusion.fuse(cast, [], None, terms, silent)
