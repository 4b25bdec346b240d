"""Other ways to make one model of many LoRAs, each as published, over the deltas and Grams we have.

What concept i wants of a linear is ΔWᵢ = BᵢAᵢ, what it sees there Gᵢ = XᵢXᵢᵀ. Each way gives one
change D of a linear; they are compared with ours by `python -m benchmarks.sweeps --only rivals`.
Not covered: ways that need a training of their own (Orthogonal Adaptation), and those that
`storyforge/fuse/solvers.py` has (mean, sum, L-BFGS, Custom Diffusion).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from storyforge.fuse.statistics import Statistics
from storyforge.model.concept import Concept, FusedModel
from storyforge.model.lora import Delta

Way = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]], Delta]
"""B, A and G of every concept to D."""

TIES_KEPT: Final = 0.2
"""Share of each change that TIES keeps (Yadav et al. 2023, §3; their default)."""
DARE_KEPT: Final = 0.5
"""Share that DARE keeps: low-rank changes of few steps stand less than the paper's .1."""
ZIP_RIDGE: Final = 1e-3


def ssr(ups: Sequence[Tensor], downs: Sequence[Tensor], grams: Sequence[Tensor]) -> Delta:
    """SSR-Merge (2026): least squares in the ranks, D = B R A with all A above each other.

    min_R Σᵢ ‖(B R A − BᵢAᵢ)Xᵢ‖²: R = (Σᵢ Sᵢ A Gᵢ Aᵀ)(A ΣGᵢ Aᵀ)⁻¹, where Sᵢ lets concept i through.

    ups    N × (m, rᵢ)
    downs  N × (rᵢ, d)
    grams  N × (d, d)
    """
    up, down = torch.cat([*ups], 1).double(), torch.cat([*downs]).double()
    wanted = torch.zeros(len(down), len(down), dtype=torch.float64)
    seen, first = torch.zeros_like(wanted), 0
    for own, gram in zip(downs, grams, strict=True):
        read = down @ gram.double() @ down.T
        rows = slice(first, first + len(own))
        wanted[rows] += read[rows]
        seen += read
        first += len(own)
    route = wanted @ torch.linalg.pinv(seen, hermitian=True)
    return Delta(up.float(), (route @ down).float())


def ties(
    ups: Sequence[Tensor], downs: Sequence[Tensor], _: Sequence[Tensor], kept: float = TIES_KEPT
) -> Delta:
    """TIES (Yadav et al. 2023): trim, elect a sign, mean of those that agree."""
    return _whole(_elected(torch.stack(_changes(ups, downs)), kept))


def dare(ups: Sequence[Tensor], downs: Sequence[Tensor], _: Sequence[Tensor]) -> Delta:
    """DARE (Yu et al. 2024): a part of each dropped at random, the rest larger; then summed."""
    chance = torch.Generator().manual_seed(0)
    total = torch.zeros(len(ups[0]), downs[0].shape[1])
    for change in _changes(ups, downs):
        kept = torch.rand(change.shape, generator=chance) < DARE_KEPT
        total += change * kept / DARE_KEPT
    return _whole(total)


def knots(
    ups: Sequence[Tensor], downs: Sequence[Tensor], _: Sequence[Tensor], kept: float = TIES_KEPT
) -> Delta:
    """KnOTS (Stoica et al. 2025): the changes beside each other in one basis, merged there by TIES.

    [ΔW₁ … ΔWₙ] = U S [V₁ … Vₙ]ᵀ, D = U S V′ᵀ.
    """
    beside = torch.cat(_changes(ups, downs), 1).double()
    u, s, v = torch.linalg.svd(beside, full_matrices=False)
    rank = int((s > s[0] * 1e-6).sum()) if len(s) else 0
    parts = torch.stack(v[:rank].split(downs[0].shape[1], 1))
    return Delta((u[:, :rank] * s[:rank]).float(), _elected(parts, kept).float())


def zipped(ups: Sequence[Tensor], downs: Sequence[Tensor], grams: Sequence[Tensor]) -> Delta:
    """ZipLoRA (Shah et al. 2024), for any number: every column of every change gets a weight.

    min_m Σᵢ ‖(Σⱼ ΔWⱼ diag(mⱼ) − ΔWᵢ)Xᵢ‖², solved as the quadratic that it is. Theirs is searched
    by gradients, with a term against columns that both use; there is none here.
    """
    changes = [each.double() for each in _changes(ups, downs)]
    total = torch.stack([gram.double() for gram in grams]).sum(0)
    width = len(total)
    rows = [torch.cat([(one.T @ other) * total for other in changes], 1) for one in changes]
    quadratic = torch.cat(rows)
    pulled = torch.cat(
        [
            torch.stack(
                [
                    ((one.T @ other) * gram.double()).sum(1)
                    for other, gram in zip(changes, grams, strict=True)
                ]
            ).sum(0)
            for one in changes
        ]
    )
    quadratic.diagonal().add_(ZIP_RIDGE * quadratic.diagonal().mean())
    weights = torch.linalg.lstsq(quadratic, pulled[:, None]).solution[:, 0].split(width)
    merged = sum(
        (change * weight for change, weight in zip(changes, weights, strict=True)),
        torch.zeros_like(changes[0]),
    )
    return _whole(merged.float())


WAYS: Final[Mapping[str, Way]] = {
    "ssr-merge": ssr,
    "ties": ties,
    "dare": dare,
    "knots": knots,
    "zip": zipped,
}


def fused(way: Way, cast: Sequence[Concept], seen: Sequence[Statistics]) -> FusedModel:
    """The model that a way makes of concepts and what each of them sees."""
    deltas = {}
    for source, linears in seen[0].readers.items():
        changed = [linear for linear in linears if any(linear in own.deltas for own in cast)]
        grams = [each.gram(source) for each in seen] if changed else []
        for linear in changed:
            ups, downs = zip(*_factors(cast, linear), strict=True)
            deltas[linear] = way(ups, downs, grams)
    first = cast[0]
    tokens = {concept.name: concept.tokens for concept in cast}
    return FusedModel(first.base, first.base_hash, tokens, deltas)


def _factors(cast: Sequence[Concept], linear: str) -> Iterator[tuple[Tensor, Tensor]]:
    """B and A of every concept; of no rank for those that leave a linear as it is."""
    shape = next(own.deltas[linear] for own in cast if linear in own.deltas)
    for concept in cast:
        delta = concept.deltas.get(linear)
        if delta is None:
            yield torch.zeros(len(shape.up), 0), torch.zeros(0, shape.down.shape[1])
        else:
            yield delta.scale * delta.up.float(), delta.down.float()


def _changes(ups: Sequence[Tensor], downs: Sequence[Tensor]) -> list[Tensor]:
    return [up.float() @ down.float() for up, down in zip(ups, downs, strict=True)]


def _whole(change: Tensor) -> Delta:
    """A change of whatever rank, as factors."""
    rows, columns = change.shape
    if rows <= columns:
        return Delta(torch.eye(rows), change)
    return Delta(change, torch.eye(columns))


def _elected(changes: Tensor, kept: float) -> Tensor:
    """(N, …) to (…): each trimmed to its largest, then the mean of those of the heavier sign."""
    flat = changes.flatten(1).abs()
    count = max(1, round(kept * flat.shape[1]))
    least = flat.topk(count, dim=1).values[:, -1].reshape(-1, *[1] * (changes.ndim - 1))
    trimmed = torch.where(changes.abs() >= least, changes, 0)
    agree = (trimmed != 0) & (trimmed.sign() == trimmed.sum(0).sign())
    return (trimmed * agree).sum(0) / agree.sum(0).clamp_min(1)
