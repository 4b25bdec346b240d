"""How a story wants its concepts fused: the `fuse:` of a story file.

What is left out is None and stays out of every key, so that a new setting renames no product.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from storyforge.subject import ConceptName

_STRICT: Final = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

Solver = Literal["closed-form", "lbfgs", "average", "sum", "custom-diffusion"]
FusionStage = Literal["text", "kv", "spatial"]

Share = Annotated[float, Field(gt=0, le=100)]
Strength = Annotated[float, Field(ge=0, le=4)]
Ridge = Annotated[float, Field(ge=0)]


class FuseSettings(BaseModel):
    """How the concepts are fused into one model."""

    model_config = _STRICT

    solver: Solver = "closed-form"
    """the least squares solution; `lbfgs` seeks it as Mix-of-Show does, `custom-diffusion` merges
    keys and values under constraints, `average` and `sum` look at nothing"""
    ridge: float | None = Field(default=None, ge=0)
    """weight of the pull towards the base's weights"""
    ridges: dict[FusionStage, Ridge] | None = None
    """the same for single stages: `text`, `kv` or `spatial`"""
    preservation: float | None = Field(default=None, ge=0)
    """weight of what the base says without concepts"""
    weights: dict[ConceptName, Share] | None = None
    """how much a concept counts where concepts compete; of those left out, scenes 3 and others 1"""
    strengths: dict[ConceptName, Strength] | None = None
    """how strongly a concept changes the base; 1 for those left out"""
    stages: Literal["together", "chain"] | None = None
    """`chain` watches each stage through the fused stages before it, as Mix-of-Show does; slower"""
    refine: int | None = Field(default=None, ge=0, le=8)
    """how often to watch again through the fused model and solve anew"""
    rank: int | None = Field(default=None, ge=1, le=4096)
    """the largest rank of a fused delta; smaller files, at a loss that the report states"""
    area: Literal["picture", "subject"] | None = None
    """what of the pictures decides: all alike, or `subject` above all, where the concept's own
    words are looked for; watching then takes twice as long"""
    statistics: Literal["full", "compact"] | None = None
    """how what concepts see is kept: `compact` takes a quarter of the room for large models"""
