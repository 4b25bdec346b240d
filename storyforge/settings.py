"""What may be set for training, fusion and sampling: bounds, defaults, one line on each.

What is left out is the base's own default, and stays out of every key, so that a new setting
renames no product. What the words mean to the model is the stages' own work.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from storyforge.errors import shortened

_STRICT: Final = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def written_as(
    pattern: str, words: str, editors: str | None = None
) -> tuple[AfterValidator, WithJsonSchema]:
    r"""Check a text against `pattern`; `words` say to the author how it is written.

    `editors` is the pattern for JSON schemas, where \w knows English letters only.
    """

    def check(text: str) -> str:
        """Refuse a text that is written otherwise."""
        if re.fullmatch(pattern, text) is None:
            told = {"text": shortened(text), "words": words}
            raise PydanticCustomError("written_as", "`{text}` is not {words}", told)
        return text

    return AfterValidator(check), WithJsonSchema(
        {"type": "string", "pattern": f"^{editors or pattern}$"}
    )


_CONCEPT = written_as(
    r"[^\W\d_][\w-]{0,63}",
    "a name for a concept; begin with a letter, use letters, digits, `-`, `_`",
    r"[A-Za-z\u0080-\uffff][\w\u0080-\uffff-]{0,63}",
)

ConceptName = Annotated[str, *_CONCEPT]

Rate = Annotated[float, Field(ge=0, le=1)]

Seed = Annotated[int, Field(ge=0, lt=2**63)]

Kind = Literal["character", "object", "scene"]

Made = Literal["model", "hand", "retouched"]
"""How a picture came about: by a model, by hand, or by a model and a hand after it."""

_COLOR = written_as(r"#[0-9a-fA-F]{6}", "a colour; write it as `#2a2320`")
Color = Annotated[str, *_COLOR]

Edge = Literal["left", "right", "above", "below"]
"""A side of a picture."""

Layers = Literal["text", "kv", "cross", "self"]


class TrainSettings(BaseModel):
    """How one concept is learnt; what is left out is the base family's own default."""

    model_config = _STRICT

    steps: int | None = Field(default=None, ge=1, le=1_000_000)
    """optimiser steps"""
    rank: int = Field(default=4, ge=1, le=1024)
    """rank of the low-rank deltas"""
    alpha: float | None = Field(default=None, gt=0)
    """the deltas are scaled by alpha / rank"""
    batch_size: int | None = Field(default=None, ge=1, le=4096)
    """pictures a step"""
    embedding_lr: Rate | None = None
    """learning rate of the token embeddings"""
    text_lr: Rate | None = None
    """learning rate of the text encoder's deltas"""
    unet_lr: Rate | None = None
    """learning rate of the UNet's deltas"""
    noise_offset: float | None = Field(default=None, ge=0, le=1)
    """strength of the noise that shifts whole channels"""
    seed: Seed = 0
    """seed of the training's randomness"""
    prior_share: float | None = Field(default=None, ge=0, lt=1)
    """share of each batch that shows the class instead of the concept"""
    masked_prior: float | None = Field(default=None, ge=0, le=100)
    """weight of what is around the subject in pictures with a mask, which is to stay what the base
    makes of it when it is told the class"""
    method: Literal["ed-lora", "lora", "textual-inversion", "p-plus", "custom-diffusion"] = (
        "ed-lora"
    )
    """how the concept is learnt"""
    layers: tuple[Layers, ...] | None = Field(default=None, min_length=1)
    """which layers learn, of `text`: the text encoder; `kv`: keys and values of what is read;
    `cross`: the rest of that attention; `self`: attention within the picture. All if left out"""
    buckets: bool | None = None
    """whether pictures keep their shape; else their middle square is cut out"""
    flip: bool | None = None
    """whether pictures are shown mirrored as well; not for subjects whose sides differ"""
    optimizer: Literal["adamw", "prodigy", "adamw-8bit"] | None = None
    """what moves the weights; `prodigy` finds its own learning rate"""
    precision: Literal["fp32", "bf16", "fp16", "auto"] | None = None
    """of the passes through the model; `auto` is what the device does best"""
    accumulate: int | None = Field(default=None, ge=1, le=4096)
    """parts in which a batch is worked through, to save memory"""
    checkpointing: bool | None = None
    """whether activations are computed twice, to save memory"""
    ema: float | None = Field(default=None, ge=0, lt=1)
    """share of the past in the running mean of the weights that is kept as the concept"""
    min_snr_gamma: float | None = Field(default=None, gt=0)
    """above this signal-to-noise ratio a timestep counts less; 5 is usual"""
    norm_guard: float | None = Field(default=None, gt=0)
    """longest embedding, in lengths of the encoder's own words; 1.4 is usual"""
    attention_reg: float | None = Field(default=None, ge=0, le=1)
    """weight of the pull of the concept's attention into the masks; 0.0025 is usual"""
    statistics: Literal["full", "compact"] | None = None
    """keep what fusing needs to know in the concept's own file, so that whoever has the file fuses
    it without drawing; `compact` takes a quarter of the room"""
    composed: float | None = Field(default=None, gt=0, le=1)
    """share of the concept's pictures that show it cut out, beside others; needs masks"""
    keep: Literal["best"] | None = None
    """keep the step whose pictures a CLIP finds best, instead of the last one"""
    stop_early: int | None = Field(default=None, ge=1, le=1000)
    """end after so many checks without a better step, and keep the best one"""
    check_every: int | None = Field(default=None, ge=1, le=1_000_000)
    """steps between checks; an eighth of the run if there are any, and without `keep` only looks"""
    clip: str | None = Field(default=None, min_length=1)
    """the CLIP that checks: a folder, seen from here, or a hub id; the base's own if left out"""

    @model_validator(mode="after")
    def _with_layers(self) -> Self:
        if self.layers is not None and self.method not in {"ed-lora", "lora"}:
            message = "`{method}` has no choice of `layers`; only `ed-lora` and `lora` have"
            raise PydanticCustomError("no_layers", message, {"method": self.method})
        return self

    @property
    def judged(self) -> bool:
        """Whether pictures are drawn and judged on the way."""
        return any((self.keep, self.stop_early, self.check_every))


Format = Literal[
    "pdf", "html", "web", "epub", "epub-reflow", "cbz", "png", "cover", "inside", "booklet", "mp4"
]

Solver = Literal["closed-form", "lbfgs", "average", "sum", "custom-diffusion"]

FusionStage = Literal["text", "kv", "spatial"]

Importance = Annotated[float, Field(gt=0, le=100)]

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
    weights: dict[ConceptName, Importance] | None = None
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
    steps: int | None = Field(default=None, ge=1, le=1000)
    """denoising steps while it is watched what concepts see; 10 if left out"""


Steps = Annotated[int, Field(ge=1, le=1000)]
GuidanceScale = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Scheduler = Literal[
    "ddim", "ddim-trailing", "dpm++2m", "euler", "euler-trailing", "lcm", "tcd", "unipc"
]
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
    guidance_start: Share | None = None
    """from which part of the steps there is guidance"""
    guidance_stop: Share | None = None
    """until which part of the steps there is guidance; the rest is drawn faster"""
    scheduler: Scheduler | None = None
    """the name of the noise schedule's solver; those with `-trailing` begin with noise alone, as
    adapters for few steps want it"""
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
    company: bool | None = None
    """whether the prompt of a region names who is in the others, by their class"""
    heads: bool | None = None
    """draw the heads of characters again, each as large as a picture of its own"""
    decode: int | None = Field(default=None, ge=64, le=8192)
    """pixels along a side of the base's own square picture, for bases that can write several sizes:
    256, 512 or 1024 of the embedded model"""

    @model_validator(mode="after")
    def _guided_at_all(self) -> Self:
        start, stop = self.guidance_start or 0.0, self.guidance_stop
        if stop is not None and start >= stop:
            message = "`guidance_start` comes before `guidance_stop`; both are parts of the steps"
            raise PydanticCustomError("no_guidance", message)
        return self


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
