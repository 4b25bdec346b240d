"""The families of Stable Diffusion beside what stock diffusers makes of the same weights.

Every verb that a base must bear is run on each of them; nothing here is true of one family alone.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from tinybases import KINDS, WIDTH, base_of, tiny_pipeline

from storyforge.model.attention import AttentionContext, RegionText, attending, levels, predict
from storyforge.model.base import BaseModel
from storyforge.model.denoising import denoise, start_latents
from storyforge.model.tokens import ConceptTokens, encode, new_tokens

STEPS, SCALE = 4, 5.0
PROMPT = "a red fox in the snow"


@pytest.fixture(scope="module", params=KINDS)
def pipeline(request: pytest.FixtureRequest) -> DiffusionPipeline:
    """One tiny base of each family."""
    pipe = tiny_pipeline(request.param)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    return pipe


@pytest.fixture(scope="module")
def base(pipeline: DiffusionPipeline) -> BaseModel:
    """The same as a base of ours."""
    return base_of(pipeline)


@pytest.fixture(scope="module")
def pip(base: BaseModel) -> ConceptTokens:
    """A concept's words, different in every group."""
    words = new_tokens(base, "pip", "fox", torch.Generator().manual_seed(2)).words
    noise = torch.randn(words.shape, generator=torch.Generator().manual_seed(3))
    return ConceptTokens("pip", words + 0.1 * noise)


@torch.no_grad()
def drawn(base: BaseModel, negative: str = "", size: tuple[int, int] | None = None) -> np.ndarray:
    """(h, w, 3) in [0, 1]."""
    attention = AttentionContext(encode(base, [negative, PROMPT], {}))
    clean = denoise(
        base, attention, start_latents(base, [7], size), steps=STEPS, guidance_scale=SCALE
    )
    picture: np.ndarray = base.decode(clean)[0].permute(1, 2, 0).numpy()
    return picture


def stock(
    pipeline: DiffusionPipeline, base: BaseModel, size: tuple[int, int] | None = None, **more: str
) -> np.ndarray:
    """The same by diffusers' own pipeline."""
    width, height = size or (base.side, base.side)
    made: np.ndarray = pipeline(
        PROMPT,
        latents=start_latents(base, [7], size),
        width=width,
        height=height,
        num_inference_steps=STEPS,
        guidance_scale=SCALE,
        output_type="np",
        **more,
    ).images[0]
    return made


def test_a_plain_prompt_is_the_stock_pipelines_picture(
    pipeline: DiffusionPipeline, base: BaseModel
) -> None:
    theirs = stock(pipeline, base)
    assert theirs.std() > 0.02
    assert np.abs(drawn(base) - theirs).max() < 1 / 255


def test_a_negative_prompt_is_the_stock_pipelines_too(
    pipeline: DiffusionPipeline, base: BaseModel
) -> None:
    theirs = stock(pipeline, base, negative_prompt="an owl")
    assert np.abs(drawn(base, "an owl") - theirs).max() < 1 / 255


def test_a_wide_picture_is_the_stock_pipelines(
    pipeline: DiffusionPipeline, base: BaseModel
) -> None:
    size = (2 * base.side, base.side)
    assert np.abs(drawn(base, size=size) - stock(pipeline, base, size)).max() < 1 / 255


def test_there_is_a_group_for_every_block_that_reads_text(base: BaseModel) -> None:
    blocks = {site.split(".transformer_blocks.")[0] for site in base.family.cross_sites}
    assert base.family.groups == len(blocks) == len(base.family.text_inputs)


def test_sites_of_one_block_read_one_group_and_count_upwards(base: BaseModel) -> None:
    groups = base.family.site_groups
    assert list(groups) == sorted(groups)
    assert sorted(set(groups)) == list(range(base.family.groups))


def test_every_attention_linear_of_the_base_is_named_once(base: BaseModel) -> None:
    sites = len(base.family.cross_sites) + len(base.family.self_sites)
    layers = sum(each.model.config.num_hidden_layers for each in base.encoders)
    assert len(base.linears) == 4 * (sites + layers) == len(set(base.linears.values()))


def test_each_group_reads_its_own_words(base: BaseModel, pip: ConceptTokens) -> None:
    group = base.family.groups // 2
    other = pip.words.clone()
    other[0, group] += 1
    one, two = (
        encode(base, ["a <pip>"], {"pip": ConceptTokens("pip", words)}).features
        for words in (pip.words, other)
    )
    same = [torch.equal(a, b) for a, b in zip(one, two, strict=True)]
    assert same == [k != group for k in range(base.family.groups)]


def test_each_text_encoder_has_its_part_of_a_word(base: BaseModel, pip: ConceptTokens) -> None:
    assert pip.words.shape[-1] == sum(base.widths)
    if len(base.widths) == 1:
        return
    other = pip.words.clone()
    other[..., : base.widths[0]] += 1
    one, two = (
        encode(base, ["a <pip>"], {"pip": ConceptTokens("pip", words)})
        for words in (pip.words, other)
    )
    assert not torch.allclose(one.features[..., :WIDTH], two.features[..., :WIDTH])
    assert torch.equal(one.features[..., WIDTH:], two.features[..., WIDTH:])
    assert torch.equal(one.pooled, two.pooled)


def test_words_of_the_table_given_as_a_concept_read_as_the_words(base: BaseModel) -> None:
    ids = base.tokenizer("red fox", add_special_tokens=False).input_ids
    if len(ids) != 2:
        pytest.skip("the tokenizer has no single token for `red` or for `fox`")
    tables = [each.model.get_input_embeddings().weight.detach() for each in base.encoders]
    words = torch.cat([table[ids] for table in tables], -1)[:, None]
    spelled = encode(base, ["a red fox in the snow"], {})
    for copies in (1, base.family.groups):
        own = {"pip": ConceptTokens("pip", words.expand(-1, copies, -1))}
        named = encode(base, ["a <pip> in the snow"], own)
        torch.testing.assert_close(named.features, spelled.features, rtol=1e-4, atol=1e-5)
        if spelled.pooled is not None:
            torch.testing.assert_close(named.pooled, spelled.pooled, rtol=1e-4, atol=1e-5)


def test_one_region_over_everything_is_the_plain_model(base: BaseModel, pip: ConceptTokens) -> None:
    text = encode(base, ["", "a <pip>"], {"pip": pip})
    side = base.side // base.vae_scale
    region_weights = {
        rows * columns: torch.ones(rows * columns) for rows, columns in levels(base, side, side)
    }
    latents = start_latents(base, [1, 2])
    with torch.no_grad():
        with attending(base, AttentionContext(text)):
            plain = predict(base, latents, torch.tensor(500), text)
        with attending(base, AttentionContext(text, [RegionText(text.features, region_weights)])):
            made = predict(base, latents, torch.tensor(500), text)
    torch.testing.assert_close(made, plain, rtol=1e-4, atol=1e-5)
