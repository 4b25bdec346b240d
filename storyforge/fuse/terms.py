"""On what terms concepts are fused: what a story says, and what holds where it says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from storyforge.model.family import Stage
from storyforge.settings import FuseSettings, Solver

STAGES: Final[tuple[Stage, ...]] = ("text", "kv", "spatial")
"""In the order in which data passes them."""

RIDGE: Final[dict[Stage, float]] = {"text": 1e-2, "kv": 1e-2, "spatial": 1e-3}
"""λ where the story names none: held-out residuals preferred more of it where rows are few."""

PRESERVATION: Final = 0.5
"""p where the story names none. Of fourteen concepts of the embedded model, likeness hardly depends
on p up to here, and falls beyond; drift falls all the way (`python -m benchmarks.sweeps`)."""

WEIGHTS: Final[Mapping[str, float]] = {"character": 1.0, "object": 1.0, "scene": 3.0}
"""How much a concept counts where the story does not say. A scene's pictures are full of cells that
are like everybody's: if it counts no more than others, it loses most of all."""

LEAST: Final = 1e-6
"""λ of Custom Diffusion's merge, whose Gram of ordinary text must not be singular."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms N concepts are fused, with nothing left open.

    ridge         λ of each stage
    preservation  p
    weights       N  how much each concept counts
    strengths     N  how strongly each changes the base
    chain         whether each stage is watched through the fused ones before it
    refine        how often all is watched again through the fused model
    rank          the largest of a fused delta; None for N·r
    subject       whether what is seen where the concept is counts above all
    """

    solver: Solver
    ridge: Mapping[Stage, float]
    preservation: float
    weights: tuple[float, ...]
    strengths: tuple[float, ...]
    chain: bool = False
    refine: int = 0
    rank: int | None = None
    subject: bool = False

    @staticmethod
    def of(settings: FuseSettings, kinds: Mapping[str, str]) -> Terms:
        """The story's terms for these concepts, given by name and kind.

        A concept alone has nobody to compromise with: it keeps its delta, as its own mean, unless
        the story asks for ridge or preservation.
        """
        held = (settings.ridge, settings.ridges, settings.preservation)
        alone = len(kinds) == 1 and held == (None, None, None)
        ridge = RIDGE if settings.ridge is None else dict.fromkeys(RIDGE, settings.ridge)
        weights, strengths = settings.weights or {}, settings.strengths or {}
        return Terms(
            solver="average" if alone and settings.solver != "sum" else settings.solver,
            ridge={**ridge, **(settings.ridges or {})},
            preservation=PRESERVATION if settings.preservation is None else settings.preservation,
            weights=tuple(weights.get(name, WEIGHTS[kind]) for name, kind in kinds.items()),
            strengths=tuple(strengths.get(name, 1.0) for name in kinds),
            chain=settings.stages == "chain" and not alone,
            refine=0 if alone else settings.refine or 0,
            rank=settings.rank,
            subject=settings.area == "subject",
        )

    @property
    def looks(self) -> bool:
        """Whether what the layers see decides anything."""
        return self.solver not in {"average", "sum"}

    @property
    def preserves(self) -> bool:
        """Whether what the base ordinarily sees decides anything."""
        return self.solver == "custom-diffusion" or (self.looks and self.preservation > 0)
