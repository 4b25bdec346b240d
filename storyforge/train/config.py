"""Every number of a training run: what the author says, filled up with the base's habits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch

from storyforge.model.base import BaseModel
from storyforge.tasks import TrainTask


@dataclass(frozen=True, slots=True)
class TrainMethod:
    """What is learnt of a concept; it is always written as two words, V_rand and V_class.

    words    how many of the two are learnt; V_class is last, and stays the class if it is not
    layered  whether a word has one embedding for each cross-attention site, or one for all
    linears  which linears change: all by rank-r factors, keys and values in full, or none
    """

    words: int
    layered: bool
    linears: str


METHODS = {
    "ed-lora": TrainMethod(2, True, "all"),
    "lora": TrainMethod(0, False, "all"),
    "textual-inversion": TrainMethod(1, False, "none"),
    "p-plus": TrainMethod(1, True, "none"),
    "custom-diffusion": TrainMethod(1, False, "kv"),
}
"""ED-LoRA (Mix-of-Show §3.2) and what it is compared with: LoRA with a rare word that stays as it
is, Textual Inversion (Gal et al. 2022), P+ (Voynov et al. 2023), and Custom Diffusion (Kumari et
al. 2023): a word, and the keys and values of cross-attention."""

_RATES = ("embedding_lr", "text_lr", "unet_lr")

_CHECKS = 8
"""Times at which a run is judged, if nothing else is said."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Every number of a training run; see `subject.TrainSettings` for their meaning."""

    steps: int
    batch_size: int
    rank: int
    alpha: float
    embedding_lr: float
    text_lr: float
    unet_lr: float
    noise_offset: float
    prior_share: float
    seed: int
    masked_prior: float = 0.0
    method: str = "ed-lora"
    layers: tuple[str, ...] | None = None
    buckets: bool = False
    flip: bool = False
    optimizer: str = "adamw"
    precision: str = "fp32"
    accumulate: int = 1
    checkpointing: bool = False
    ema: float | None = None
    min_snr_gamma: float | None = None
    norm_guard: float | None = None
    attention_reg: float = 0.0
    composed: float | None = None
    keep: str | None = None
    stop_early: int | None = None
    check_every: int | None = None

    @property
    def check_steps(self) -> int:
        """Steps between two checks."""
        return self.check_every or max(1, self.steps // _CHECKS)

    @property
    def keeps_best(self) -> bool:
        """Whether the best step is kept instead of the last."""
        return self.keep == "best" or self.stop_early is not None

    @property
    def prior_rows(self) -> float:
        """How many pictures of a batch the base drew itself, on average.

        Never all of several; a batch of one shows the base's own in that share of the steps.
        """
        return min(round(self.batch_size * self.prior_share, 6), max(self.batch_size - 1, 1))

    def told(self) -> dict[str, object]:
        """The recipe as plain JSON, without what was not asked for."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def autocast(self, device: torch.device) -> torch.dtype | None:
        """The precision of the passes through the model; None for that of the weights."""
        if self.precision != "auto":
            return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def config_of(task: TrainTask, base: BaseModel) -> TrainConfig:
    """The author's settings, filled up with the base's habits."""
    own, defaults = task.settings, base.defaults

    def pick(value: float | None, habit: float) -> float:
        """The author's value, else the base's."""
        return habit if value is None else value

    return TrainConfig(
        steps=own.steps or defaults.train_steps,
        batch_size=own.batch_size or defaults.train_batch,
        rank=own.rank,
        alpha=pick(own.alpha, own.rank),
        embedding_lr=pick(own.embedding_lr, defaults.embedding_lr),
        text_lr=pick(own.text_lr, defaults.text_lr),
        unet_lr=pick(own.unet_lr, defaults.unet_lr),
        noise_offset=pick(own.noise_offset, defaults.noise_offset),
        prior_share=pick(own.prior_share, defaults.prior_share),
        seed=own.seed,
        masked_prior=pick(own.masked_prior, defaults.masked_prior),
        method=own.method,
        layers=own.layers,
        buckets=bool(own.buckets),
        flip=bool(own.flip),
        optimizer=own.optimizer or "adamw",
        precision=own.precision or "fp32",
        accumulate=own.accumulate or 1,
        # Of large bases, activations are what does not fit.
        checkpointing=base.narrow if own.checkpointing is None else own.checkpointing,
        ema=own.ema,
        min_snr_gamma=own.min_snr_gamma,
        norm_guard=own.norm_guard,
        attention_reg=own.attention_reg or 0.0,
        composed=own.composed,
        keep=own.keep,
        stop_early=own.stop_early,
        check_every=own.check_every,
    )


def unmasked(config: TrainConfig, task: TrainTask, base: BaseModel) -> TrainConfig:
    """The same where no picture has a mask: the base's own rates are slower, by `unmasked_pace`."""
    names = (name for name in _RATES if getattr(task.settings, name) is None)
    pace = base.defaults.unmasked_pace
    return replace(config, **{name: pace * getattr(config, name) for name in names})
