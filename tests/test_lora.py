"""Low-rank changes: two ways to apply them, and no trace left."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor

from storyforge.model.attention import AttentionContext, attending, predict
from storyforge.model.base import BaseModel
from storyforge.model.denoising import start_latents
from storyforge.model.lora import Delta, attached, joined, merged
from storyforge.model.tokens import encode

Way = Callable[..., AbstractContextManager[None]]
WAYS = pytest.mark.parametrize("way", [attached, merged])


def answer(base: BaseModel) -> Tensor:
    """What the base makes of a prompt: through the text encoder and the U-Net."""
    text = encode(base, ["a fox in the snow"], {})
    with torch.no_grad(), attending(base, AttentionContext(text)):
        return predict(base, start_latents(base, [1]), torch.tensor(500), text)


def weights(base: BaseModel) -> dict[str, Tensor]:
    return {name: linear.weight.clone() for name, linear in base.linears.items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@WAYS
def test_afterwards_the_weights_are_bit_equal(
    base: BaseModel, deltas: dict[str, Delta], way: Way
) -> None:
    before = weights(base)
    with way(base, deltas):
        pass
    assert equal(before, weights(base))


@WAYS
def test_after_an_exception_the_weights_are_bit_equal(
    base: BaseModel, deltas: dict[str, Delta], way: Way
) -> None:
    before = weights(base)
    with pytest.raises(ZeroDivisionError), way(base, deltas):
        raise ZeroDivisionError
    assert equal(before, weights(base))


@WAYS
def test_afterwards_the_base_answers_as_before(
    base: BaseModel, deltas: dict[str, Delta], way: Way
) -> None:
    before = answer(base)
    with way(base, deltas):
        changed = answer(base)
    assert torch.equal(answer(base), before)
    assert not torch.allclose(changed, before, atol=1e-3)


def test_attached_and_merged_changes_agree(base: BaseModel, deltas: dict[str, Delta]) -> None:
    with attached(base, deltas):
        one = answer(base)
    with merged(base, deltas):
        other = answer(base)
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@WAYS
def test_strength_zero_is_the_base(base: BaseModel, deltas: dict[str, Delta], way: Way) -> None:
    before = answer(base)
    with way(base, deltas, 0.0):
        assert torch.equal(answer(base), before)


def test_strength_multiplies_the_change(base: BaseModel, deltas: dict[str, Delta]) -> None:
    name = base.family.linears[0]
    before = base.linears[name].weight.clone()
    with merged(base, {name: deltas[name]}, 0.5):
        change = base.linears[name].weight - before
    torch.testing.assert_close(change, 0.5 * deltas[name].weight(), rtol=1e-4, atol=1e-6)


def test_attached_inside_merged_adds_up(base: BaseModel, deltas: dict[str, Delta]) -> None:
    with merged(base, deltas, 0.5), attached(base, deltas, 0.5):
        one = answer(base)
    with merged(base, deltas):
        other = answer(base)
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_joined_changes_are_their_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    some = [
        Delta(torch.randn(5, r, generator=generator), torch.randn(r, 7, generator=generator), scale)
        for r, scale in ((1, 2.0), (3, 0.25), (2, -1.0))
    ]
    whole = joined(some)
    assert whole.rank == 6
    torch.testing.assert_close(whole.weight(), sum(d.weight() for d in some))


def test_gradients_reach_both_factors_of_an_attached_change(base: BaseModel) -> None:
    name = next(n for n in base.family.linears if n.startswith("text_encoder."))
    linear = base.linears[name]
    up = torch.ones(linear.out_features, 1, requires_grad=True)
    down = torch.ones(1, linear.in_features, requires_grad=True)
    with attached(base, {name: Delta(up, down)}):
        encode(base, ["a fox"], {}).features.square().sum().backward()
    assert up.grad is not None
    assert down.grad is not None
    assert up.grad.any()
    assert down.grad.any()
