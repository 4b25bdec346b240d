"""Packed Gram matrices: what they lose, and what they must never do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from storyforge.fuse import solve
from storyforge.fuse.packing import Compact, Full, Packed, Sum, fold, unfold, unpacked


def gram(width: int, *, seed: int = 0) -> Tensor:
    """Correlated features whose spectrum falls fast, as those of attention layers do."""
    generator = torch.Generator().manual_seed(seed)
    fall = torch.logspace(0, -5, width, dtype=torch.float64)
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64)
    root = mix * fall + 0.3
    return solve.normalised(root @ root.T)


@pytest.mark.parametrize("width", [1, 2, 7, 16])
def test_a_folded_matrix_comes_back_from_half_the_room(width: int) -> None:
    square = gram(width) + gram(width).T
    folded = fold(square)
    assert folded.numel() <= (width + 1) ** 2 / 2
    assert torch.equal(unfold(folded, square.diagonal()), square)


@pytest.mark.parametrize("width", [1, 2, 7, 8])
def test_a_sum_of_rows_is_their_gram_however_they_come(width: int) -> None:
    rows = torch.randn(90, width, generator=torch.Generator().manual_seed(1))
    parts = Sum.of(rows[:40])
    parts.add(rows[40:41])
    parts.add(rows[41:])
    exact = rows.double().T @ rows.double()
    torch.testing.assert_close(parts.gram(), exact, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(Sum.of(rows).gram(), exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("width", [1, 2, 7, 16, 33])
def test_a_full_gram_comes_back_within_a_step_and_on_its_diagonal(width: int) -> None:
    whole = gram(width)
    back = Full.of(whole).gram()
    torch.testing.assert_close(back.diagonal(), whole.diagonal(), rtol=1e-6, atol=1e-9)
    scale = whole.diagonal().sqrt()
    assert ((back - whole) / scale / scale[:, None]).abs().max() < 3e-4


def test_a_full_gram_takes_sixteen_bits_for_every_two_entries() -> None:
    tensors = Full.of(gram(64)).tensors()
    assert tensors["folded"].numel() == 64 * 64 // 2
    assert tensors["folded"].dtype == torch.int16


def test_a_compact_gram_takes_a_quarter_of_a_full_one() -> None:
    sizes = [
        sum(part.numel() * part.element_size() for part in kind.of(gram(256)).tensors().values())
        for kind in (Compact, Full)
    ]
    assert sizes[0] < 0.26 * sizes[1]


@pytest.mark.parametrize("kind", [Full, Compact])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_packed_stays_positive_definite(
    kind: type[Full] | type[Compact], seed: int
) -> None:
    assert torch.linalg.eigvalsh(kind.of(gram(96, seed=seed)).gram()).min() > 0


@pytest.mark.parametrize("kind", [Full, Compact])
def test_packing_twice_changes_little_more(kind: type[Full] | type[Compact]) -> None:
    once = kind.of(gram(48)).gram()
    torch.testing.assert_close(kind.of(once).gram(), once, rtol=2e-3, atol=2e-3)


def test_a_compact_gram_keeps_the_trace() -> None:
    assert Compact.of(gram(80)).gram().trace().item() == pytest.approx(80, rel=1e-3)


def test_an_input_that_never_occurs_stays_zero() -> None:
    assert Full.of(torch.zeros(4, 4)).gram().abs().max() == 0
    half = gram(4)
    half[:, 0] = half[0] = 0
    back = Full.of(half).gram()
    assert back[0].abs().max() == 0
    assert back[1:, 1:].diagonal().min() > 0


@pytest.mark.parametrize("kind", [Full, Compact])
def test_a_gram_is_told_by_its_tensors(kind: type[Full] | type[Compact]) -> None:
    packed: Packed = kind.of(gram(16))
    assert type(unpacked(packed.tensors())) is kind
    with pytest.raises(KeyError):
        unpacked({"scale": torch.ones(4)})


def test_solving_from_packed_grams_costs_next_to_nothing() -> None:
    downs = [torch.randn(2, 96, dtype=torch.float64) for _ in range(2)]
    ups = [torch.randn(8, 2, dtype=torch.float64) for _ in range(2)]
    exact = [gram(96, seed=seed) for seed in range(2)]
    wanted = [up @ down for up, down in zip(ups, downs, strict=True)]
    held = solve.pull(exact, 1e-3, None, 0)

    def cost(grams: list[Tensor]) -> float:
        fused = solve.closed_form(downs, grams, solve.pull(grams, 1e-3, None, 0))
        change = torch.cat(ups, dim=1) @ torch.cat(fused)
        return solve.objective(change, wanted, exact, held).item()

    least = cost(exact)
    assert least <= cost([Full.of(each).gram() for each in exact]) < 1.02 * least
