"""The algebra of fusion, on small random problems."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from storyforge.fuse import solve

WIDTH, OUT, RANK = 12, 7, 2


def seeded(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def deltas(count: int) -> tuple[list[Tensor], list[Tensor]]:
    ups = [seeded(OUT, RANK, seed=10 + i) for i in range(count)]
    downs = [seeded(RANK, WIDTH, seed=20 + i) for i in range(count)]
    return ups, downs


def grams(count: int, rows: int = 40) -> list[Tensor]:
    inputs = [seeded(WIDTH, rows, seed=30 + i) for i in range(count)]
    return [solve.normalised(x @ x.T) for x in inputs]


def product(ups: list[Tensor], downs: list[Tensor]) -> Tensor:
    return torch.cat(ups, dim=1) @ torch.cat(downs)


def test_lbfgs_arrives_at_the_closed_form() -> None:
    ups, downs = deltas(3)
    seen = grams(3)
    held = solve.pull(seen, 1e-2, grams(4)[3], 0.5)
    whole = [up @ down for up, down in zip(ups, downs, strict=True)]
    exact = product(ups, solve.closed_form(downs, seen, held))
    searched = solve.lbfgs(whole, seen, held, 200)
    assert (searched - exact).norm() < 1e-6 * exact.norm()


def test_stopped_early_lbfgs_stays_above_the_closed_form() -> None:
    ups, downs = deltas(3)
    seen = grams(3)
    held = solve.pull(seen, 1e-3, None, 0)
    whole = [up @ down for up, down in zip(ups, downs, strict=True)]
    exact = product(ups, solve.closed_form(downs, seen, held))
    early = solve.lbfgs(whole, seen, held, 3)
    least = solve.objective(exact, whole, seen, held)
    assert least < solve.objective(early, whole, seen, held)
    assert solve.objective(early, whole, seen, held) < solve.objective(0 * exact, whole, seen, held)


def test_the_closed_form_costs_less_than_the_average() -> None:
    ups, downs = deltas(3)
    seen = grams(3)
    held = solve.pull(seen, 1e-3, None, 0)
    whole = [up @ down for up, down in zip(ups, downs, strict=True)]
    exact = product(ups, solve.closed_form(downs, seen, held))
    mean = product(ups, solve.average(downs))
    assert solve.objective(exact, whole, seen, held) < solve.objective(mean, whole, seen, held)


def test_the_gradient_vanishes_at_the_closed_form() -> None:
    ups, downs = deltas(3)
    seen = grams(3)
    held = solve.pull(seen, 1e-2, None, 0)
    whole = [up @ down for up, down in zip(ups, downs, strict=True)]
    change = product(ups, solve.closed_form(downs, seen, held)).requires_grad_()
    solve.objective(change, whole, seen, held).backward()
    assert change.grad is not None
    assert change.grad.abs().max() < 1e-10


def test_one_concept_with_a_tiny_ridge_keeps_its_delta_on_its_inputs() -> None:
    ups, downs = deltas(1)
    inputs = seeded(WIDTH, 5, seed=1)
    seen = [solve.normalised(inputs @ inputs.T)]
    fused = solve.closed_form(downs, seen, solve.pull(seen, 1e-9, None, 0))
    torch.testing.assert_close(
        ups[0] @ fused[0] @ inputs, ups[0] @ downs[0] @ inputs, atol=1e-6, rtol=0
    )


def test_concepts_on_orthogonal_inputs_do_not_meet() -> None:
    ups, downs = deltas(2)
    first, second = seeded(WIDTH, 9, seed=1), seeded(WIDTH, 9, seed=2)
    first[WIDTH // 2 :], second[: WIDTH // 2] = 0, 0
    seen = [first @ first.T, second @ second.T]
    fused = solve.closed_form(downs, seen, solve.pull(seen, 1e-9, None, 0))
    change = product(ups, fused)
    torch.testing.assert_close(change @ first, ups[0] @ downs[0] @ first, atol=1e-6, rtol=0)
    torch.testing.assert_close(change @ second, ups[1] @ downs[1] @ second, atol=1e-6, rtol=0)
    fit = solve.fit(ups, downs, fused, seen)
    assert fit.residuals().max() < 1e-6
    assert fit.interference().max() < 1e-6


def test_a_concept_that_sees_nothing_of_the_other_fuses_to_the_sum() -> None:
    ups, downs = deltas(2)
    half = torch.eye(WIDTH, dtype=torch.float64)[: WIDTH // 2]
    seen = [half.T @ half, torch.eye(WIDTH, dtype=torch.float64) - half.T @ half]
    downs = [down @ gram for down, gram in zip(downs, seen, strict=True)]
    fused = solve.closed_form(downs, seen, solve.pull(seen, 0, None, 0))
    torch.testing.assert_close(product(ups, fused), product(ups, downs))


def test_the_average_is_the_closed_form_where_all_inputs_look_alike() -> None:
    _, downs = deltas(3)
    alike = [torch.eye(WIDTH, dtype=torch.float64)] * 3
    fused = solve.closed_form(downs, alike, solve.pull(alike, 0, None, 0))
    for ours, mean in zip(fused, solve.average(downs), strict=True):
        torch.testing.assert_close(ours, mean)


def test_the_result_has_the_rank_of_all_concepts_together() -> None:
    ups, downs = deltas(3)
    seen = grams(3)
    fused = solve.closed_form(downs, seen, solve.pull(seen, 1e-2, None, 0))
    assert torch.linalg.matrix_rank(product(ups, fused)) == 3 * RANK


def test_an_endless_ridge_gives_the_base_back() -> None:
    _, downs = deltas(2)
    seen = grams(2)
    fused = solve.closed_form(downs, seen, solve.pull(seen, 1e12, None, 0))
    assert torch.cat(fused).abs().max() < 1e-10


def test_preservation_lessens_the_change_on_ordinary_inputs() -> None:
    ups, downs = deltas(2)
    seen = grams(2)
    ordinary = seeded(WIDTH, 3, seed=9)
    preserved = solve.normalised(ordinary @ ordinary.T)
    drift = []
    for preservation in (0.0, 0.5, 5.0, 1e9):
        held = solve.pull(seen, 1e-3, preserved, preservation)
        change = product(ups, solve.closed_form(downs, seen, held))
        drift.append((change @ ordinary).norm().item())
    assert drift == sorted(drift, reverse=True)
    assert drift[0] > 2 * drift[2]
    assert drift[3] < 1e-6


@pytest.mark.parametrize("ridge", [0.0, 1e-13, 1e-6])
def test_singular_grams_are_solved(ridge: float) -> None:
    ups, downs = deltas(2)
    inputs = [seeded(WIDTH, 3, seed=i) for i in range(2)]
    seen = [x @ x.T for x in inputs]
    fused = solve.closed_form(downs, seen, solve.pull(seen, ridge, None, 0))
    assert solve.fit(ups, downs, fused, seen).residuals().max() < 1e-4


def test_without_ridge_the_smallest_change_is_taken() -> None:
    ups, downs = deltas(2)
    inputs = [seeded(WIDTH, 3, seed=i) for i in range(2)]
    seen = [x @ x.T for x in inputs]
    fused = torch.cat(solve.closed_form(downs, seen, solve.pull(seen, 0, None, 0)))
    span = torch.linalg.qr(torch.cat(inputs, dim=1)).Q
    torch.testing.assert_close(fused @ span @ span.T, fused)


def test_no_input_at_all_changes_nothing() -> None:
    _, downs = deltas(2)
    nothing = [solve.normalised(torch.zeros(WIDTH, WIDTH))] * 2
    fused = solve.closed_form(downs, nothing, solve.pull(nothing, 1e-2, None, 0))
    assert torch.cat(fused).abs().max() == 0


def test_the_fit_agrees_with_rows() -> None:
    ups, downs = deltas(2)
    inputs = [seeded(WIDTH, 40, seed=30 + i) for i in range(2)]
    seen = [x @ x.T for x in inputs]
    fused = solve.closed_form(downs, seen, solve.pull(seen, 1e-1, None, 0))
    fit = solve.fit(ups, downs, fused, seen)
    change = product(ups, fused)
    for i, x in enumerate(inputs):
        wanted = ups[i] @ downs[i] @ x
        expected = (change @ x - wanted).norm() / wanted.norm()
        torch.testing.assert_close(fit.residuals()[i], expected)
        spilt = (ups[1 - i] @ fused[1 - i] @ x).norm() / wanted.norm()
        torch.testing.assert_close(fit.interference()[i, 1 - i], spilt)


def test_fits_of_two_weights_add_up() -> None:
    ups, downs = deltas(2)
    seen = grams(2)
    fused = solve.average(downs)
    taller = [torch.cat([up, 2 * up]) for up in ups]
    both = solve.fit(ups, downs, fused, seen) + solve.fit(
        [2 * up for up in ups], downs, fused, seen
    )
    torch.testing.assert_close(both.residuals(), solve.fit(taller, downs, fused, seen).residuals())
    torch.testing.assert_close(
        both.interference(), solve.fit(taller, downs, fused, seen).interference()
    )


def test_a_concept_without_a_delta_here_is_protected_not_changed() -> None:
    ups, downs = deltas(2)
    ups[1], downs[1] = ups[1][:, :0], downs[1][:0]
    seen = grams(2)
    held = solve.pull(seen, 1e-3, None, 0)
    alone = ups[0] @ solve.closed_form(downs[:1], seen[:1], solve.pull(seen[:1], 1e-3, None, 0))[0]
    fused = solve.closed_form(downs, seen, held)
    assert fused[1].shape == (0, WIDTH)
    change = product(ups, fused)
    assert torch.trace(change @ seen[1] @ change.T) < torch.trace(alone @ seen[1] @ alone.T)
    assert solve.fit(ups, downs, fused, seen).residuals()[1].isinf()


def test_stacked_weights_are_solved_as_if_alone() -> None:
    _, downs = deltas(2)
    more = [seeded(3, WIDTH, seed=50 + i) for i in range(2)]
    seen = grams(2)
    held = solve.pull(seen, 1e-2, None, 0)
    stacked = solve.closed_form(
        [torch.cat(pair) for pair in zip(downs, more, strict=True)], seen, held
    )
    for both, one in zip(stacked, solve.closed_form(downs, seen, held), strict=True):
        torch.testing.assert_close(both[:RANK], one)


def test_the_order_of_concepts_does_not_matter() -> None:
    _, downs = deltas(3)
    seen = grams(3)
    held = solve.pull(seen, 1e-2, None, 0)
    forwards = solve.closed_form(downs, seen, held)
    backwards = solve.closed_form(downs[::-1], seen[::-1], held)
    for one, other in zip(forwards, backwards[::-1], strict=True):
        torch.testing.assert_close(one, other)


def test_single_precision_deltas_come_back_single() -> None:
    downs = [down.float() for down in deltas(2)[1]]
    seen = [gram.float() for gram in grams(2)]
    fused = solve.closed_form(downs, seen, solve.pull(seen, 1e-2, None, 0))
    assert {down.dtype for down in fused} == {torch.float32}


def test_a_negative_ridge_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        solve.pull(grams(1), -1e-3, None, 0)


def test_a_weighted_average_is_the_average_of_repeated_concepts() -> None:
    _, downs = deltas(2)
    weighted = solve.average(downs, [2.0, 1.0])
    repeated = solve.average([downs[0], downs[0], downs[1]])
    torch.testing.assert_close(weighted[0], repeated[0] + repeated[1])
    torch.testing.assert_close(weighted[1], repeated[2])


def test_constraints_hold_and_nothing_ordinary_moves_more_than_it_must() -> None:
    ups, downs = deltas(2)
    words = [seeded(2, WIDTH, seed=60 + i) for i in range(2)]
    reserved = grams(3)[2]
    change = product(ups, solve.constrained(downs, words, reserved))
    for up, down, word in zip(ups, downs, words, strict=True):
        torch.testing.assert_close(change @ word.T, up @ down @ word.T)
    # Optimal under equality constraints: D·R must lie in the span of the words.
    span = torch.linalg.qr(torch.cat(words).T).Q
    torch.testing.assert_close(change @ reserved @ span @ span.T, change @ reserved)


def test_words_that_contradict_each_other_are_met_halfway() -> None:
    ups, downs = deltas(2)
    word = seeded(1, WIDTH, seed=60)
    change = product(ups, solve.constrained(downs, [word, word], grams(1)[0]))
    halfway = product(ups, solve.average(downs))
    torch.testing.assert_close(change @ word.T, halfway @ word.T)


def test_compression_is_the_best_there_is_for_these_inputs() -> None:
    up, down, seen = seeded(OUT, 5, seed=1), seeded(5, WIDTH, seed=2), grams(1)[0]
    root = torch.linalg.cholesky(seen)
    values = torch.linalg.svdvals(up @ down @ root)
    for rank in (1, 3, 5):
        small_up, small_down, error = solve.compressed(up, down, seen, rank)
        assert small_up.shape == (OUT, rank)
        assert small_down.shape == (rank, WIDTH)
        best = (values[rank:].square().sum() / values.square().sum()).sqrt().item()
        assert error == pytest.approx(best, abs=1e-6)
        missed = ((up @ down - small_up @ small_down) @ root).norm()
        assert missed.item() == pytest.approx(best * values.norm().item(), abs=1e-6)


def test_the_fit_of_a_compressed_change_is_measured_on_the_change() -> None:
    ups, downs = deltas(2)
    seen = grams(2)
    fused = solve.average(downs)
    every = torch.cat(ups, dim=1), torch.cat(fused)
    whole = solve.fit(ups, downs, fused, seen, every)
    torch.testing.assert_close(whole.missed, solve.fit(ups, downs, fused, seen).missed)
    nothing = torch.zeros(OUT, 1), torch.zeros(1, WIDTH)
    base = solve.fit(ups, downs, fused, seen, nothing)
    torch.testing.assert_close(base.residuals(), torch.ones(2, dtype=torch.float64))
