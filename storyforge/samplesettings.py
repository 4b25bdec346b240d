"""How pictures are drawn: the settings of a story's `sampling:` and of a panel's own extras.

What is left out is the base family's own habit. What the words mean to the model is `sample`'s
work.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

_STRICT: Final = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

Steps = Annotated[int, Field(ge=1, le=1000)]
GuidanceScale = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Scheduler = Literal["ddim", "dpm++2m", "euler", "lcm", "tcd", "unipc"]
RegionModel = Literal["fused", "exact-text", "exact"]
Compose = Literal["fused", "training-free"]
Drawn = Literal["pose", "sketch"]


class Lora(BaseModel):
    """An ordinary LoRA file, as other tools write them."""

    model_config = _STRICT

    file: str = Field(min_length=1)
    """a .safetensors file; its path is relative to the story's"""
    weight: float = Field(default=1.0, ge=-4, le=4)
    """how strongly it changes the model"""


class Sampling(BaseModel):
    """How pictures are drawn; what is left out is the base family's own default."""

    model_config = _STRICT

    steps: Steps | None = None
    """denoising steps"""
    guidance_scale: GuidanceScale | None = None
    """how closely pictures keep to their prompts"""
    guidance_rescale: Share | None = None
    """how much of the contrast that guidance adds is taken back"""
    scheduler: Scheduler | None = None
    """the name of the noise schedule's solver"""
    lora: tuple[Lora, ...] = Field(default=(), max_length=8)
    """LoRA files that change the model after fusion: a style, or one that needs few steps"""
    region_blend: float = Field(default=1.0, ge=0, le=1)
    """how much a region listens to its own prompt (1) rather than to the panel's (0)"""
    regions: RegionModel | None = None
    """what a region with a concept is drawn with: the fused model, or the concept's own weights for
    its text alone (`exact-text`, if left out) or for all of the region"""
    injection: bool = True
    """training-free: a region is drawn with its concept's own cross-attention"""
    enhancement: bool | None = None
    """pull every subject into its region and let it fill it; on if training-free"""
    isolation: bool | None = None
    """regions do not look at each other; on if training-free"""
    reinitialisation: bool | None = None
    """start every region from the noise that suits it best; on if training-free"""


class Control(BaseModel):
    """A picture that says where things stand, read by a T2I-Adapter or a ControlNet."""

    model_config = _STRICT

    adapter: str | None = Field(default=None, min_length=1)
    """a folder, a hub id with or without @revision, or one that came with the embedded model:
    `pocket/keypose`, `pocket/sketch`, `pocket/controlnet-sketch`"""
    picture: str | None = Field(default=None, min_length=1)
    """what the adapter reads: a sketch, a pose, edges; its path is relative to the story's"""
    draw: Drawn | None = None
    """draw that picture from the regions: stick figures in their poses, or outlines; the embedded
    model has an adapter for either"""
    weight: float = Field(default=1.0, ge=0, le=10)
    """how strongly it speaks"""
    start: Share = 0.0
    """from which part of the steps it speaks"""
    end: Share = 1.0
    """until which part of the steps it speaks"""
    region: str | None = None
    """the region that it speaks to; the whole picture if left out"""

    @model_validator(mode="after")
    def _one_picture(self) -> Self:
        if (self.picture is None) == (self.draw is None):
            message = "say either `picture`, a file, or `draw`, which is `pose` or `sketch`"
            raise PydanticCustomError("one_picture", message)
        if self.picture is not None and self.adapter is None:
            message = "an `adapter` has to read this picture, such as `pocket/sketch`"
            raise PydanticCustomError("no_adapter", message)
        return self

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.start >= self.end:
            message = "`start` comes before `end`; both are fractions of the steps"
            raise PydanticCustomError("empty_span", message)
        return self


class Refine(BaseModel):
    """Draw over a picture: the panel's own first drawing, made larger, or one from a file."""

    model_config = _STRICT

    picture: str | None = None
    """the picture to start from; the panel's own first drawing if left out"""
    scale: float = Field(default=1.0, ge=1, le=4)
    """how much larger the result is than the first drawing"""
    strength: float = Field(default=0.5, gt=0, le=1)
    """how much is drawn anew: a little (0.2) keeps the picture, 1 forgets it"""
