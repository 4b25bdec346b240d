"""Other ways to make one model of many LoRAs, held to what their papers say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import fusionways, rivals, sweeps
from benchmarks.fusionways import Bench
from benchmarks.rivals import WAYS
from storyforge.fuse import solve
from storyforge.model.family import Family
from storyforge.model.lora import Delta, joined

ROWS, WIDTH, RANK = 12, 10, 2

Case = tuple[list[Tensor], list[Tensor], list[Tensor]]


def concepts(count: int, seed: int = 0) -> Case:
    """B, A and G of some concepts."""
    chance = torch.Generator().manual_seed(seed)
    ups = [torch.randn(ROWS, RANK, generator=chance) for _ in range(count)]
    downs = [torch.randn(RANK, WIDTH, generator=chance) for _ in range(count)]
    seen = [torch.randn(WIDTH, 4, generator=chance) for _ in range(count)]
    return ups, downs, [x @ x.T for x in seen]


def lost(change: Tensor, case: Case) -> float:
    """Σᵢ ‖(D − ΔWᵢ)Xᵢ‖²."""
    total = 0.0
    for up, down, gram in zip(*case, strict=True):
        apart = change.double() - (up @ down).double()
        total += ((apart @ gram.double()) * apart).sum().item()
    return total


@pytest.mark.parametrize("name", ["ssr-merge", "zip"])
def test_what_is_fitted_leaves_a_single_concept_as_it_was(name: str) -> None:
    case = concepts(1)
    # A ridge of a thousandth holds the weights back by about as much.
    assert lost(WAYS[name](*case).weight(), case) < 1e-3 * lost(torch.zeros(ROWS, WIDTH), case)


def test_no_other_route_through_the_ranks_is_better_than_ssr_merge() -> None:
    case = concepts(3)
    found = WAYS["ssr-merge"](*case)
    best, chance = lost(found.weight(), case), torch.Generator().manual_seed(1)
    every = torch.cat(case[1])
    for _ in range(20):
        other = found.down + 1e-2 * torch.randn(6, 6, generator=chance) @ every
        assert lost(found.up @ other, case) > best


def test_least_squares_over_all_directions_loses_no_more_than_over_the_ranks() -> None:
    case = concepts(3)
    ours = solve.closed_form(case[1], case[2], torch.zeros(WIDTH, WIDTH, dtype=torch.float64))
    fused = sum((up @ down for up, down in zip(case[0], ours, strict=True)), torch.zeros(1))
    assert lost(fused, case) < 0.9 * lost(WAYS["ssr-merge"](*case).weight(), case)


def test_weights_of_columns_lose_less_than_the_plain_sum() -> None:
    case = concepts(2)
    summed = sum((up @ down for up, down in zip(*case[:2], strict=True)), torch.zeros(1))
    assert lost(WAYS["zip"](*case).weight(), case) < 0.9 * lost(summed, case)


def test_ties_keeps_the_largest_and_the_mean_of_those_that_agree() -> None:
    ups = [torch.eye(2), torch.eye(2)]
    downs = [torch.tensor([[4.0, 1.0], [-3.0, 0.5]]), torch.tensor([[2.0, -6.0], [0.1, 0.2]])]
    # 1, .5, .1 and .2 are trimmed; 4 and 2 agree, and nobody else says anything of the others.
    found = rivals.ties(ups, downs, [], kept=0.5)
    assert found.weight().tolist() == [[3.0, -6.0], [-3.0, 0.0]]


def test_where_signs_differ_ties_takes_the_heavier_side_alone() -> None:
    ups, downs = [torch.eye(1)] * 3, [torch.tensor([[x]]) for x in (5.0, -2.0, -1.0)]
    assert rivals.ties(ups, downs, [], kept=1.0).weight().item() == 5.0


def test_what_dare_drops_it_makes_up_for() -> None:
    ups, downs = [torch.ones(200, 1)], [torch.ones(1, 200)]
    found = WAYS["dare"](ups, downs, []).weight()
    assert {*found.flatten().tolist()} == {0.0, 2.0}
    # A mean of 40,000 coins, five standard errors of .005.
    assert abs(found.mean().item() - 1) < 0.025


def test_in_a_common_basis_a_single_concept_is_trimmed_and_nothing_else() -> None:
    case = concepts(1)
    found = rivals.knots(*case, kept=1.0)
    assert found.rank == RANK
    torch.testing.assert_close(found.weight(), case[0][0] @ case[1][0])


def test_common_directions_meet_in_the_basis_of_knots() -> None:
    ups, downs, _ = concepts(1)
    found = rivals.knots([ups[0], ups[0]], [downs[0], downs[0]], [], kept=1.0)
    torch.testing.assert_close(found.weight(), ups[0] @ downs[0])


@pytest.fixture(scope="module")
def bench(learnt_pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    out = tmp_path_factory.mktemp("rivals")
    words = ["--concepts", str(learnt_pair), "--out", str(out), "--n", "2"]
    made, _ = fusionways.opened(sweeps.parser().parse_args(words), 2, most=1)
    return made


def test_a_way_is_given_every_linear_and_what_each_concept_sees_there(bench: Bench) -> None:
    cast, seen = bench.concepts(), bench.statistics()
    model = rivals.fused(summed, cast, seen)
    assert set(model.deltas) == set(cast[0].deltas)
    for linear, delta in model.deltas.items():
        wanted = cast[0].deltas[linear].weight() + cast[1].deltas[linear].weight()
        torch.testing.assert_close(delta.weight(), wanted.float())
    assert set(model.tokens) == {"pip", "juna"}


def test_what_concepts_see_is_found_once_for_all_ways(bench: Bench) -> None:
    assert bench.statistics() is bench.statistics()


def test_a_linear_that_one_concept_changes_is_no_change_of_the_others(bench: Bench) -> None:
    first, second = bench.concepts()
    linear, *rest = first.deltas
    lacking = replace(second, deltas={name: second.deltas[name] for name in rest})
    model = rivals.fused(summed, [first, lacking], bench.statistics())
    wanted = first.deltas[linear].weight().float()
    torch.testing.assert_close(model.deltas[linear].weight(), wanted)
    assert set(model.deltas) == set(first.deltas)


@pytest.mark.parametrize("name", [*WAYS])
def test_a_concept_that_leaves_a_linear_alone_is_one_whose_change_is_nothing(name: str) -> None:
    ups, downs, grams = concepts(2)
    nothing = WAYS[name]([ups[0], torch.zeros(ROWS, 1)], [downs[0], torch.zeros(1, WIDTH)], grams)
    absent = WAYS[name]([ups[0], torch.zeros(ROWS, 0)], [downs[0], torch.zeros(0, WIDTH)], grams)
    torch.testing.assert_close(absent.weight(), nothing.weight(), rtol=1e-4, atol=1e-4)
    assert absent.weight().any()


def test_models_mixed_by_stage_keep_what_only_one_of_them_changes(bench: Bench) -> None:
    one, other = (concept.alone() for concept in bench.concepts())
    text, kv = (next(n for n in one.deltas if Family.stage(n) == own) for own in ("text", "kv"))
    short = replace(one, deltas={text: one.deltas[text]})
    made = fusionways.mixed(short, replace(other, deltas={kv: other.deltas[kv]}), ["text"])
    assert made.deltas == {text: one.deltas[text], kv: other.deltas[kv]}


def summed(ups: Sequence[Tensor], downs: Sequence[Tensor], grams: Sequence[Tensor]) -> Delta:
    """The plain sum, once it is seen that the Grams are of this linear's input."""
    assert all(gram.shape == (downs[0].shape[1],) * 2 for gram in grams)
    return joined([Delta(up, down) for up, down in zip(ups, downs, strict=True)])
