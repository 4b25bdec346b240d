"""Whose weights a region is drawn with: the fused model's, or its concept's own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import random_deltas
from torch import Tensor

from storyforge.geometry.box import FRAME, Box
from storyforge.model.attention import AttentionContext, attending, predict
from storyforge.model.base import BaseModel
from storyforge.model.concept import Concept, FusedModel
from storyforge.model.denoising import start_latents
from storyforge.model.lora import Delta, attached_locally, merged
from storyforge.model.tokens import ConceptTokens, encode
from storyforge.sample.injection import SCENE, reading_of
from storyforge.settings import RegionModel
from storyforge.tasks import Method, PanelTask, RegionTask

LEFT = Box(x0=0, y0=0, x1=0.5, y1=1)
FREE = Method(compose="training-free")
PROMPTS = ["a house", "a <pip> in the snow"]


@pytest.fixture(scope="module")
def concept(base: BaseModel, deltas: dict[str, Delta], pip: ConceptTokens) -> Concept:
    return Concept("pip", "character", "fox", pip, deltas, base.reference, base.hash)


@pytest.fixture(scope="module")
def fused(base: BaseModel, pip: ConceptTokens) -> FusedModel:
    """A model with changes of its own, which are not those of the concept."""
    made = random_deltas(base, torch.Generator().manual_seed(9), 3)
    return FusedModel(base.reference, base.hash, {"pip": pip}, made)


def unfused(base: BaseModel, pip: ConceptTokens) -> FusedModel:
    return FusedModel(base.reference, base.hash, {"pip": pip}, {})


def panel(method: Method, box: Box = FRAME, prompt: str = "a house") -> PanelTask:
    region = RegionTask("r", box, PROMPTS[1], PROMPTS[0], 1.0, 0, "pip")
    return PanelTask(
        key="",
        panel="one",
        page=1,
        base="pocket",
        base_hash="",
        fused=None,
        prompt=prompt,
        negative="",
        regions=(region,),
        size=None,
        steps=1,
        guidance_scale=None,
        scheduler=None,
        region_blend=1.0,
        seed=1,
        alt=None,
        method=method,
    )


def whole(method: Method) -> PanelTask:
    """A panel whose own prompt names the concept, and that has no regions."""
    return replace(panel(method), prompt=PROMPTS[1], negative=PROMPTS[0], regions=())


def noise(base: BaseModel) -> Tensor:
    side = base.vae_scale * 2 ** (len(base.unet.config.block_out_channels) - 1)
    return start_latents(base, [4, 4], (side, side))


def drawn(base: BaseModel, model: FusedModel, concept: Concept, task: PanelTask) -> Tensor:
    """One prediction of a panel, with `model` merged as the sampler has it."""
    latents = noise(base)
    with torch.no_grad(), merged(base, model.deltas):
        made = reading_of(base, model, {"pip": concept}, task, latents.shape[2:])
        with attached_locally(base, made.local), attending(base, made.attention):
            return predict(base, latents, torch.tensor(500), made.attention.text)


def alone(base: BaseModel, concept: Concept, names: set[str]) -> Tensor:
    """One prediction of the region's prompts by the base with some of the concept's changes."""
    chosen = {name: delta for name, delta in concept.deltas.items() if name in names}
    with torch.no_grad(), merged(base, chosen):
        text = encode(base, PROMPTS, {"pip": concept.tokens})
        with attending(base, AttentionContext(text)):
            return predict(base, noise(base), torch.tensor(500), text)


def cross_attention(base: BaseModel) -> set[str]:
    """What injection takes of a concept: its text, keys, values and output."""
    outputs = {name for name in base.linears if name.endswith("attn2.to_out.0")}
    return outputs | {name for name in base.linears if base.family.stage(name) != "spatial"}


def assert_alike(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-4)


def test_an_exact_region_over_everything_is_the_concepts_own_model(
    base: BaseModel, fused: FusedModel, concept: Concept
) -> None:
    made = drawn(base, fused, concept, panel(Method(regions="exact")))
    assert_alike(made, alone(base, concept, set(base.linears)))
    assert not torch.allclose(made, drawn(base, fused, concept, panel(Method())), atol=1e-2)


def test_exact_text_over_everything_has_the_concepts_text_and_the_models_spatial_layers(
    base: BaseModel, fused: FusedModel, concept: Concept
) -> None:
    made = drawn(base, fused, concept, panel(Method(regions="exact-text")))
    mixed = {
        name: fused.deltas[name] if base.family.stage(name) == "spatial" else delta
        for name, delta in concept.deltas.items()
    }
    assert_alike(made, alone(base, replace(concept, deltas=mixed), set(base.linears)))


@pytest.mark.parametrize("regions", ["exact-text", "exact"])
def test_a_concept_that_is_the_model_is_drawn_as_the_model_draws_it(
    base: BaseModel, fused: FusedModel, concept: Concept, regions: str
) -> None:
    same = replace(concept, deltas=fused.deltas)
    made = drawn(base, fused, same, panel(Method(regions=regions), LEFT))
    assert_alike(made, drawn(base, fused, same, panel(Method(), LEFT)))


def test_injection_over_everything_is_the_base_with_the_concepts_cross_attention(
    base: BaseModel, pip: ConceptTokens, concept: Concept
) -> None:
    made = drawn(base, unfused(base, pip), concept, panel(FREE))
    assert_alike(made, alone(base, concept, cross_attention(base)))


def test_without_injection_a_region_has_the_words_of_its_concept_and_no_weights(
    base: BaseModel, pip: ConceptTokens, concept: Concept
) -> None:
    task = panel(replace(FREE, injection=False))
    assert_alike(drawn(base, unfused(base, pip), concept, task), alone(base, concept, set()))


def test_a_scene_in_the_global_prompt_is_drawn_with_its_own_weights(
    base: BaseModel, pip: ConceptTokens, concept: Concept
) -> None:
    scene = replace(concept, kind="scene")
    made = drawn(base, unfused(base, pip), scene, whole(FREE))
    assert_alike(made, alone(base, scene, cross_attention(base)))


@pytest.mark.parametrize("regions", ["exact-text", "exact"])
def test_a_prompt_of_one_concept_is_read_as_a_region_is(
    base: BaseModel, fused: FusedModel, concept: Concept, regions: RegionModel
) -> None:
    method = Method(regions=regions)
    made = drawn(base, fused, concept, whole(method))
    assert_alike(made, drawn(base, fused, concept, panel(method)))
    assert not torch.allclose(made, drawn(base, fused, concept, whole(Method())), atol=1e-2)


def test_who_stands_in_a_scene_is_read_with_some_of_the_scenes_weights(
    base: BaseModel, fused: FusedModel, concept: Concept
) -> None:
    wood = replace(concept, name="wood", kind="scene", tokens=replace(concept.tokens, name="wood"))
    both = replace(fused, tokens={**fused.tokens, "wood": wood.tokens})
    task = panel(Method(regions="exact-text"), prompt="in <wood>")
    prompt = "a <pip> in <wood>"
    there = replace(task, regions=(replace(task.regions[0], prompt=prompt),))
    with torch.no_grad(), merged(base, both.deltas):
        made = reading_of(base, both, {"pip": concept, "wood": wood}, there, (4, 4)).attention
    # The scene's deltas are the concept's own here: some more of the same.
    with torch.no_grad(), merged(base, concept.deltas, 1 + SCENE):
        expected = encode(base, [PROMPTS[0], prompt], both.tokens).features
    assert_alike(made.regions[0].text, expected)


@pytest.mark.parametrize("prompt", ["a <pip> and a <lamp>", "a <tree>"])
def test_a_prompt_of_several_or_of_unknown_concepts_is_the_fused_models(
    base: BaseModel, fused: FusedModel, concept: Concept, prompt: str
) -> None:
    tokens = dict.fromkeys(("pip", "lamp", "tree"), concept.tokens)
    model, own = replace(fused, tokens=tokens), {"pip": concept, "lamp": concept}
    task = replace(whole(Method(regions="exact-text")), prompt=prompt)
    with torch.no_grad():
        made = reading_of(base, model, own, task, (4, 4)).attention
        expected = reading_of(base, model, {}, replace(task, method=Method()), (4, 4)).attention
    assert torch.equal(made.text.features, expected.text.features)
    assert not made.heads


def test_outside_of_a_region_nothing_of_its_concept_is_added(
    base: BaseModel, fused: FusedModel, concept: Concept
) -> None:
    made = reading_of(base, fused, {"pip": concept}, panel(Method(regions="exact"), LEFT), (4, 4))
    assert made.local
    for part in made.local:
        for cells in (16, 4):
            side = int(cells**0.5)
            assert (part.region_weights[cells].reshape(side, side)[:, side // 2 :] == 0).all()


def test_the_weights_are_bit_equal_afterwards(
    base: BaseModel, fused: FusedModel, concept: Concept
) -> None:
    before = {name: linear.weight.clone() for name, linear in base.linears.items()}
    drawn(base, fused, concept, panel(Method(regions="exact")))
    assert all(torch.equal(base.linears[name].weight, kept) for name, kept in before.items())
    assert not any(linear._forward_hooks for linear in base.linears.values())
