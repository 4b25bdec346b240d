"""Gradient fusion is linear least squares; here it is solved, from Gram matrices alone.

Of N concepts, concept i wants the change ΔWᵢ = BᵢAᵢ of a weight W₀ and sees the inputs Xᵢ, of which
only Gᵢ = XᵢXᵢᵀ is kept. Sought is one change D for all:

    min  Σᵢ ‖(D − ΔWᵢ)Xᵢ‖² + tr(D P Dᵀ),   P = τ(λI + pG₀),   τ = mean diagonal of Σᵢ Gᵢ
    D  = Σᵢ Bᵢ [Aᵢ Gᵢ (Σⱼ Gⱼ + P)⁻¹]

(Mix-of-Show §3.3.2; the closed form as in RegMean, the pull P as in MACE.) What a concept counts is
the scale of its Gram, what it is strong the scale of its A. Not covered: where Grams come from, and
which solver a story takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

CHOLESKY_LIMIT: Final = 1e-12
"""Smallest over largest pivot below which fp64 Cholesky is not to be trusted."""

CONTRADICTION: Final = 1e-9
"""Share of the largest eigenvalue below which two constraints count as the same."""

LBFGS_HISTORY: Final = 25
LBFGS_TOLERANCE: Final = 1e-16
"""The paper's own: so small that the number of steps alone ends the search."""


def normalised(gram: Tensor) -> Tensor:
    """Scale a Gram (d, d) to a mean diagonal of 1; one that is zero stays zero."""
    mean = gram.diagonal().mean()
    return gram / mean if mean > 0 else gram


def pull(
    grams: Sequence[Tensor], ridge: float, preserved: Tensor | None, preservation: float
) -> Tensor:
    """P = τ(λI + pG₀): how strongly each direction is held at the base's weights.

    grams         N × (d, d)
    ridge         λ ≥ 0
    preserved     (d, d)  G₀, Gram of what the base ordinarily sees, mean diagonal 1
    preservation  p ≥ 0; at 1 the ordinary counts as much as all concepts together

    Returns (d, d), fp64.
    """
    if ridge < 0 or preservation < 0:
        raise ValueError(f"ridge {ridge} and preservation {preservation} must not be negative")
    mean = _mean_diagonal(grams)
    width, device = len(grams[0]), grams[0].device
    held = torch.zeros(width, width, dtype=torch.float64, device=device)
    if preserved is not None:
        torch.mul(preserved.double(), preservation * mean, out=held)
    held.diagonal().add_(ridge * mean)
    return held


def closed_form(downs: Sequence[Tensor], grams: Sequence[Tensor], held: Tensor) -> list[Tensor]:
    """Aᵢ′ = AᵢGᵢ(Σⱼ Gⱼ + P)⁻¹, so that D = Σ BᵢAᵢ′ solves the problem exactly.

    Rows of A are solved for one by one: the A of all weights that read the same input may be
    stacked. Where the sum is singular, D is the smallest of the solutions.

    downs  N × (rᵢ, d)  rᵢ may be 0: the concept leaves this weight as it is
    grams  N × (d, d)
    held   (d, d)       P, see `pull`

    Returns N × (rᵢ, d), dtype as given; the arithmetic is fp64.
    """
    wanted = torch.cat(
        [down.double() @ gram.double() for down, gram in zip(downs, grams, strict=True)]
    )
    solved = _divided(wanted, _sum([held, *grams]))
    parts = torch.split(solved, [len(down) for down in downs])
    return [part.to(down.dtype) for part, down in zip(parts, downs, strict=True)]


def average(downs: Sequence[Tensor], weights: Sequence[float] | None = None) -> list[Tensor]:
    """Aᵢ′ = wᵢAᵢ/Σw, the mean of the deltas, whatever they see: the baseline "weight fusion".

    downs    N × (rᵢ, d)
    weights  N, ≥ 0; all alike if None

    Returns N × (rᵢ, d).
    """
    shares = [1.0] * len(downs) if weights is None else weights
    return [share / sum(shares) * down for share, down in zip(shares, downs, strict=True)]


def constrained(downs: Sequence[Tensor], words: Sequence[Tensor], reserved: Tensor) -> list[Tensor]:
    """Least change of what is ordinarily said under which every concept's words say their own.

    min tr(D R Dᵀ) with D c = ΔWᵢ c for every word c of concept i (Custom Diffusion §3.2, eq. 5):
    D = Σ ΔWᵢCᵢ (CᵀR⁻¹C)⁻¹ CᵀR⁻¹, so that the B stay here too. Words that contradict each other are
    met in the least squares sense.

    downs     N × (rᵢ, d)
    words     N × (nᵢ, d)  features of the concepts' words, C
    reserved  (d, d)       R > 0, Gram of ordinary text

    Returns N × (rᵢ, d), dtype as given; the arithmetic is fp64.
    """
    every = torch.cat([word.double() for word in words])
    eased = _divided(every, reserved.double())
    read = torch.linalg.pinv(every @ eased.T, rtol=CONTRADICTION, hermitian=True) @ eased
    own = torch.split(read, [len(word) for word in words])
    return [
        (down.double() @ word.double().T @ reading).to(down.dtype)
        for down, word, reading in zip(downs, words, own, strict=True)
    ]


def lbfgs(deltas: Sequence[Tensor], grams: Sequence[Tensor], held: Tensor, steps: int) -> Tensor:
    """D by the paper's solver: L-BFGS with strong Wolfe from the base's weights, best D kept.

    For tests and comparisons. The rows' squared errors are summed through Grams, which leaves every
    iterate what it would be with rows but for rounding; the paper takes 500 steps for text, 50 for
    spatial layers.

    deltas  N × (m, d)  ΔWᵢ
    grams   N × (d, d)
    held    (d, d)      P, see `pull`

    Returns (m, d), fp64.
    """
    # Σᵢ‖(D − ΔWᵢ)Xᵢ‖² + tr(D P Dᵀ) = tr(D S Dᵀ) − 2 tr(D Cᵀ) + c: a step costs the same for any N.
    total = _sum(grams) + held.double()
    pulled = _sum(
        [delta.double() @ gram.double() for delta, gram in zip(deltas, grams, strict=True)]
    )
    constant = objective(torch.zeros_like(deltas[0]), deltas, grams, held)
    # The problem is quadratic and its scale free: at a mean diagonal of 1 the first step fits.
    scale = total.diagonal().mean()
    change = torch.zeros_like(deltas[0], dtype=torch.float64)
    best, lowest = change.detach().clone(), float("inf")
    search = torch.optim.LBFGS(
        [change],
        lr=1,
        max_iter=steps,
        history_size=LBFGS_HISTORY,
        tolerance_grad=LBFGS_TOLERANCE,
        tolerance_change=LBFGS_TOLERANCE,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        """The loss and its gradient at the change so far."""
        nonlocal best, lowest
        moved = change @ total
        change.grad = 2 * (moved - pulled) / scale
        value = (((change * (moved - 2 * pulled)).sum() + constant) / scale).item()
        if value < lowest:
            best, lowest = change.detach().clone(), value
        return value

    search.step(closure)  # type: ignore[no-untyped-call]
    return best


def objective(
    change: Tensor, deltas: Sequence[Tensor], grams: Sequence[Tensor], held: Tensor
) -> Tensor:
    """Σᵢ ‖(D − ΔWᵢ)Xᵢ‖² + tr(D P Dᵀ).

    change  (m, d)      D
    deltas  N × (m, d)  ΔWᵢ
    grams   N × (d, d)
    held    (d, d)      P, see `pull`

    Returns (), fp64.
    """
    wanted = change.double()
    cost = _energy(wanted, held.double())
    for delta, gram in zip(deltas, grams, strict=True):
        cost = cost + _energy(wanted - delta.double(), gram.double())
    return cost


@dataclass(frozen=True, slots=True)
class Fit:
    """How well D serves each of N concepts; the fits of several weights add up.

    wanted  (N,)    ‖ΔWᵢXᵢ‖²
    missed  (N,)    ‖(D − ΔWᵢ)Xᵢ‖²
    spilt   (N, N)  ‖BⱼAⱼ′Xᵢ‖²: row i, what concept j's share of D does to the inputs of i
    """

    wanted: Tensor
    missed: Tensor
    spilt: Tensor

    def __add__(self, other: Fit) -> Fit:
        """Add energies: the fit of both weights together."""
        return Fit(self.wanted + other.wanted, self.missed + other.missed, self.spilt + other.spilt)

    def residuals(self) -> Tensor:
        """‖(D − ΔWᵢ)Xᵢ‖ / ‖ΔWᵢXᵢ‖ (N,): 0 exact, 1 no better than the base.

        Not finite where a concept has no delta of its own.
        """
        return (self.missed / self.wanted).sqrt()

    def interference(self) -> Tensor:
        """‖BⱼAⱼ′Xᵢ‖ / ‖ΔWᵢXᵢ‖ (N, N), diagonal 0.

        A row is not finite where that concept has no delta of its own.
        """
        ratio = (self.spilt / self.wanted[:, None]).sqrt()
        return ratio.fill_diagonal_(0)


def fit(
    ups: Sequence[Tensor],
    downs: Sequence[Tensor],
    fused: Sequence[Tensor],
    grams: Sequence[Tensor],
    whole: tuple[Tensor, Tensor] | None = None,
) -> Fit:
    """Measure D = Σ BᵢAᵢ′ against each BᵢAᵢ on what that concept sees.

    ups    N × (m, rᵢ)  B
    downs  N × (rᵢ, d)  A
    fused  N × (rᵢ, d)  A′
    grams  N × (d, d)
    whole  (m, k) and (k, d)  D as it is used, where it is no longer the sum
    """
    every_up = torch.cat([up.double() for up in ups], dim=1)
    every_down = torch.cat([down.double() for down in fused])
    lengths = every_up.T @ every_up
    ranks = [len(down) for down in fused]
    wanted, missed, spilt = [], [], []
    for up, down, gram in zip(ups, downs, grams, strict=True):
        b, a, g = up.double(), down.double(), gram.double()
        own, read = a @ g, every_down @ g
        desired = ((b.T @ b) * (own @ a.T)).sum()
        shares = lengths * (read @ every_down.T)
        done, common = shares.sum(), ((every_up.T @ b) * (read @ a.T)).sum()
        if whole is not None:
            used_up, used_down = whole[0].double(), whole[1].double()
            done = ((used_up.T @ used_up) * (used_down @ g @ used_down.T)).sum()
            common = ((used_up.T @ b) * (used_down @ own.T)).sum()
        wanted.append(desired.clamp_min(0))
        missed.append((done - 2 * common + desired).clamp_min(0))
        rows = enumerate(torch.split(shares, ranks))
        own_shares = [torch.split(row, ranks, dim=1)[j].sum() for j, row in rows]
        spilt.append(torch.stack(own_shares).clamp_min(0))
    return Fit(torch.stack(wanted), torch.stack(missed), torch.stack(spilt))


def compressed(up: Tensor, down: Tensor, seen: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """The change of at most `rank` that differs least from BA on the inputs of Gram `seen`.

    The best rank-k approximation of BA·S½, by a singular value decomposition as wide as BA's rank.

    up    (m, R)  B
    down  (R, d)  A
    seen  (d, d)  S ≥ 0

    Returns (m, k), (k, d), and ‖(D − D_k)S½‖/‖DS½‖.
    """
    turn, small = torch.linalg.qr(up.double())
    core = small @ down.double()
    energy = core @ seen.double() @ core.T
    values, vectors = torch.linalg.eigh((energy + energy.T) / 2)
    kept = vectors[:, -rank:]
    total, lost = values.clamp_min(0).sum(), values[:-rank].clamp_min(0).sum()
    error = (lost / total).sqrt().item() if total > 0 else 0.0
    return (turn @ kept).to(up), (kept.T @ core).to(down), error


def _mean_diagonal(grams: Sequence[Tensor]) -> float:
    """Mean diagonal of the sum of N × (d, d)."""
    return sum(gram.diagonal().double().mean().item() for gram in grams)


def _sum(grams: Sequence[Tensor]) -> Tensor:
    if not grams:
        raise ValueError("there is no Gram to solve with")
    total = grams[0].to(torch.float64, copy=True)
    for gram in grams[1:]:
        total += gram
    return total


def _divided(rows: Tensor, matrix: Tensor) -> Tensor:
    """Rows · matrix⁻¹ for a symmetric matrix ≥ 0; its pseudo-inverse where it is singular."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    pivots = factor.diagonal().square()
    if failed.item() == 0 and bool(pivots.min() > CHOLESKY_LIMIT * pivots.max()):
        return torch.cholesky_solve(rows.T, factor).T
    inverse: Tensor = torch.linalg.pinv(matrix, rtol=CHOLESKY_LIMIT, hermitian=True)
    return rows @ inverse


def _energy(delta: Tensor, gram: Tensor) -> Tensor:
    """‖ΔX‖² = tr(ΔGΔᵀ)."""
    return ((delta @ gram) * delta).sum()
