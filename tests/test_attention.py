"""The attention core: who reads which text, and the rule of regions."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from storyforge.errors import EnvironmentProblem
from storyforge.model.attention import (
    AttentionContext,
    Group,
    Kernel,
    RegionText,
    attending,
    levels,
    predict,
    text_heads,
)
from storyforge.model.base import BaseModel
from storyforge.model.denoising import denoise, start_latents
from storyforge.model.family import Family
from storyforge.model.tokens import PromptEmbeds, encode

CELLS = 6


def assert_alike(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def text(base: BaseModel) -> PromptEmbeds:
    return encode(base, ["", "a fox in the snow"], {})


@pytest.fixture(scope="module")
def latents(base: BaseModel) -> Tensor:
    return start_latents(base, [1, 2])


def whole(base: BaseModel, text: PromptEmbeds, share: float = 1.0) -> RegionText:
    """A region over everything, at every level of the base's own size."""
    side = base.side // base.vae_scale
    sizes = [rows * columns for rows, columns in levels(base, side, side)]
    return RegionText(text.features, {cells: torch.full((cells,), share) for cells in sizes})


def test_one_text_for_all_sites_is_the_stock_unet(
    base: BaseModel, text: PromptEmbeds, latents: Tensor
) -> None:
    stock = base.unet(latents, 500, text.features[0]).sample
    with attending(base, AttentionContext(text)):
        assert_alike(predict(base, latents, torch.tensor(500), text), stock)


def test_each_site_reads_the_group_of_its_place_in_forward_order(
    base: BaseModel, text: PromptEmbeds, latents: Tensor
) -> None:
    def outputs(words: PromptEmbeds) -> list[Tensor]:
        seen: list[Tensor] = []
        handles = [
            base.unet.get_submodule(site).register_forward_hook(lambda *call: seen.append(call[2]))
            for site in base.family.cross_sites
        ]
        with attending(base, AttentionContext(words)):
            predict(base, latents, torch.tensor(500), words)
        for handle in handles:
            handle.remove()
        return seen

    group = base.family.groups // 2
    other = PromptEmbeds(text.features.clone())
    other.features[group] += 1
    before, after = outputs(text), outputs(other)
    same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert same[: group + 1] == [True] * group + [False]


def test_levels_are_the_grids_that_the_unet_really_has(base: BaseModel, text: PromptEmbeds) -> None:
    seen: set[int] = set()
    handles = [
        base.unet.get_submodule(site).register_forward_hook(
            lambda *call: seen.add(call[2].shape[1])
        )
        for site in base.family.cross_sites
    ]
    factor = 2 ** (len(base.unet.config.block_out_channels) - 1)
    rows, columns = factor, 3 * factor
    with attending(base, AttentionContext(text)):
        noise = torch.zeros(2, base.unet.config.in_channels, rows, columns)
        predict(base, noise, torch.tensor(500), text)
    for handle in handles:
        handle.remove()
    assert seen <= {r * c for r, c in levels(base, rows, columns)}


def test_one_region_over_everything_with_the_global_text_is_the_plain_model(
    base: BaseModel, text: PromptEmbeds, latents: Tensor
) -> None:
    with attending(base, AttentionContext(text)):
        plain = predict(base, latents, torch.tensor(500), text)
    with attending(base, AttentionContext(text, [whole(base, text)])):
        assert_alike(predict(base, latents, torch.tensor(500), text), plain)


def naive(base: BaseModel, attention: AttentionContext, site: str, hidden: Tensor) -> Tensor:
    """Region rule of Mix-of-Show §3.4, cell by cell in float64."""
    attn = base.unet.get_submodule(site)
    group = base.family.cross_sites.index(site)
    out = torch.zeros(hidden.shape, dtype=torch.float64)

    def attend(query: Tensor, words: Tensor) -> Tensor:
        keys, values = attn.to_k(words).double(), attn.to_v(words).double()
        width = keys.shape[-1] // attn.heads
        heads = []
        for h in range(attn.heads):
            part = slice(h * width, (h + 1) * width)
            scores = torch.softmax(keys[:, part] @ query[part] / width**0.5, 0)
            heads.append(scores @ values[:, part])
        return torch.cat(heads)

    for b in range(hidden.shape[0]):
        for cell in range(hidden.shape[1]):
            query = attn.to_q(hidden[b, cell]).double()
            plain = attend(query, attention.text.features[group, b])
            region_weights = [
                float(r.region_weights[hidden.shape[1]][cell]) for r in attention.regions
            ]
            own = [attend(query, r.text[group, b]) for r in attention.regions]
            regions = sum(s * o for s, o in zip(region_weights, own, strict=True))
            plain = (1 - attention.blend * sum(region_weights)) * plain + attention.blend * regions
            out[b, cell] = plain
    return attn.to_out[0](out.float())


@pytest.fixture
def regional(base: BaseModel) -> AttentionContext:
    """Two overlapping regions on a grid of `CELLS` cells, the last cell in none."""
    texts = encode(base, ["", "a fox", "in the snow", "an owl", "a house", "by night"], {})
    region_weights = [
        torch.tensor([1.0, 1, 0.25, 0, 0.1, 0]),
        torch.tensor([0.0, 0, 0.75, 1, 0.6, 0]),
    ]
    regions = [
        RegionText(texts.features[:, 2 * i + 2 : 2 * i + 4], {CELLS: s})
        for i, s in enumerate(region_weights)
    ]
    return AttentionContext(texts.rows(slice(2)), regions, blend=0.7)


def run_site(base: BaseModel, attention: AttentionContext, site: str) -> tuple[Tensor, Tensor]:
    """What goes into a cross-attention site, and what comes out of it."""
    attn = base.unet.get_submodule(site)
    hidden = torch.randn(
        2, CELLS, attn.to_q.in_features, generator=torch.Generator().manual_seed(4)
    )
    with attending(base, attention):
        return hidden, attn(hidden)


@pytest.mark.parametrize("kernel", ["loop", "batched"])
@pytest.mark.parametrize("index", [0, -1])
def test_the_region_rule_is_the_papers_cell_by_cell(
    base: BaseModel, regional: AttentionContext, index: int, kernel: Kernel
) -> None:
    site = base.family.cross_sites[index]
    regional.kernel = kernel
    hidden, made = run_site(base, regional, site)
    assert_alike(made, naive(base, regional, site, hidden))


@pytest.mark.parametrize("kernel", ["loop", "batched"])
def test_a_region_of_some_rows_leaves_the_others_alone(
    base: BaseModel, regional: AttentionContext, kernel: Kernel
) -> None:
    site = base.family.cross_sites[0]
    for row, region in enumerate(regional.regions):
        region.rows, region.text = (row,), region.text[:, [row]]
    regional.kernel = kernel
    hidden, made = run_site(base, regional, site)
    for row, region in enumerate(regional.regions):
        own = RegionText(region.text, region.region_weights)
        alone = AttentionContext(regional.text.rows([row]), [own], 0.7)
        with attending(base, alone):
            assert_alike(made[[row]], base.unet.get_submodule(site)(hidden[[row]]))


def test_the_positive_half_is_drawn_as_in_the_whole(
    base: BaseModel, regional: AttentionContext
) -> None:
    site = base.family.cross_sites[0]
    hidden, made = run_site(base, regional, site)
    with attending(base, regional.positive()):
        assert_alike(base.unet.get_submodule(site)(hidden[1:]), made[1:])


def test_keys_and_values_made_elsewhere_are_those_that_are_read(
    base: BaseModel, text: PromptEmbeds, latents: Tensor
) -> None:
    elsewhere = text_heads(base, encode(base, ["", "an owl by night"], {}).features)
    with attending(base, AttentionContext(encode(base, ["", "an owl by night"], {}))):
        wanted = predict(base, latents, torch.tensor(500), text)
    with attending(base, AttentionContext(text, heads=elsewhere)):
        assert_alike(predict(base, latents, torch.tensor(500), text), wanted)


def self_attention(base: BaseModel, attention: AttentionContext) -> tuple[Tensor, Tensor]:
    attn = base.unet.get_submodule(base.family.self_sites[0])
    hidden = torch.randn(
        1, CELLS, attn.to_q.in_features, generator=torch.Generator().manual_seed(5)
    )
    with attending(base, attention):
        return hidden, attn(hidden)


def test_groups_that_see_everything_are_plain_self_attention(
    base: BaseModel, text: PromptEmbeds
) -> None:
    every = torch.arange(CELLS)
    groups = [Group(every[:2], every), Group(every[2:], every)]
    apart = self_attention(base, AttentionContext(text, isolation={CELLS: groups}))[1]
    assert_alike(apart, self_attention(base, AttentionContext(text))[1])


def test_a_group_does_not_see_what_it_may_not_read(base: BaseModel, text: PromptEmbeds) -> None:
    every = torch.arange(CELLS)
    groups = [Group(every[:2], every[:2]), Group(every[2:], every)]
    hidden, made = self_attention(base, AttentionContext(text, isolation={CELLS: groups}))
    with attending(base, AttentionContext(text)):
        alone = base.unet.get_submodule(base.family.self_sites[0])(hidden[:, :2])
    assert_alike(made[:, :2], alone)


def test_the_order_of_regions_is_irrelevant(base: BaseModel, regional: AttentionContext) -> None:
    site = base.family.cross_sites[0]
    turned = AttentionContext(regional.text, regional.regions[::-1], regional.blend)
    assert_alike(run_site(base, turned, site)[1], run_site(base, regional, site)[1])


def test_blend_zero_is_the_plain_model(base: BaseModel, regional: AttentionContext) -> None:
    site = base.family.cross_sites[0]
    quiet = AttentionContext(regional.text, regional.regions, 0.0)
    assert_alike(
        run_site(base, quiet, site)[1], run_site(base, AttentionContext(regional.text), site)[1]
    )


def test_cells_outside_every_region_are_those_of_the_plain_model(
    base: BaseModel, regional: AttentionContext
) -> None:
    site = base.family.cross_sites[0]
    made, plain = (
        run_site(base, attention, site)[1]
        for attention in (regional, AttentionContext(regional.text))
    )
    assert_alike(made[:, -1], plain[:, -1])
    assert not torch.allclose(made[:, 0], plain[:, 0], atol=1e-4)


def keys_computed(base: BaseModel, attention: AttentionContext, latents: Tensor) -> list[str]:
    """The sites at which keys are computed during two steps, each as often as they are."""
    calls: list[str] = []
    handles = [
        base.linears[f"unet.{site}.to_k"].register_forward_hook(
            lambda *_, site=site: calls.append(site)
        )
        for site in base.family.cross_sites
    ]
    denoise(base, attention, latents[:1], steps=2)
    for handle in handles:
        handle.remove()
    return sorted(calls)


def test_keys_and_values_are_computed_once_per_panel(
    base: BaseModel, text: PromptEmbeds, latents: Tensor
) -> None:
    attention = AttentionContext(text, [whole(base, text, 0.4), whole(base, text, 0.4)])
    assert keys_computed(base, attention, latents) == sorted(3 * base.family.cross_sites)


def test_no_keys_are_computed_of_a_text_that_no_cell_reads(
    base: BaseModel, text: PromptEmbeds, latents: Tensor
) -> None:
    attention = AttentionContext(text, [whole(base, text)], kernel="loop")
    assert keys_computed(base, attention, latents) == sorted(base.family.cross_sites)


def test_keys_and_values_are_computed_anew_outside_sampling(
    base: BaseModel, text: PromptEmbeds, latents: Tensor
) -> None:
    attention = AttentionContext(text)
    with attending(base, attention):
        predict(base, latents, torch.tensor(500), text)
    assert not attention.kept


def test_sampling_that_breaks_off_leaves_no_keys_behind(
    base: BaseModel, text: PromptEmbeds, latents: Tensor
) -> None:
    def stop(done: int, total: int, _: Tensor) -> None:
        raise KeyboardInterrupt

    attention = AttentionContext(text)
    with pytest.raises(KeyboardInterrupt):
        denoise(base, attention, latents[:1], steps=2, on_step=stop)
    assert not attention.kept
    assert not attention.keep


def test_the_stock_processors_are_back_after_the_block(base: BaseModel, text: PromptEmbeds) -> None:
    before = base.unet.attn_processors
    with attending(base, AttentionContext(text)):
        assert all(base.unet.attn_processors[name] is not before[name] for name in before)
    after = base.unet.attn_processors
    assert all(after[name] is before[name] for name in before)


def test_the_stock_processors_are_back_after_an_exception(
    base: BaseModel, text: PromptEmbeds
) -> None:
    before = base.unet.attn_processors
    with pytest.raises(ZeroDivisionError), attending(base, AttentionContext(text)):
        raise ZeroDivisionError
    after = base.unet.attn_processors
    assert all(after[name] is before[name] for name in before)


def test_a_group_is_a_cross_attention_site(base: BaseModel) -> None:
    assert base.family.groups == len(base.family.cross_sites) == len(base.family.self_sites)


def test_every_attention_linear_is_found_once(base: BaseModel) -> None:
    blocks, depth = len(base.family.self_sites), base.text_encoder.config.num_hidden_layers
    assert len(base.family.linears) == len(set(base.family.linears)) == 8 * blocks + 4 * depth
    assert set(base.linears) == set(base.family.linears)


def test_every_linear_belongs_to_one_input(base: BaseModel) -> None:
    readers = [linear for some in base.family.inputs.values() for linear in some]
    assert sorted(readers) == sorted(base.family.linears)
    for some in base.family.inputs.values():
        assert len({base.linears[linear].in_features for linear in some}) == 1


def test_a_wrong_number_of_linears_is_an_environment_problem(base: BaseModel) -> None:
    deeper = copy.copy(base.text_encoder)
    deeper.config = copy.deepcopy(deeper.config)
    deeper.config.num_hidden_layers += 1
    with pytest.raises(EnvironmentProblem, match="attention layers"):
        Family.of(base.unet, deeper)
