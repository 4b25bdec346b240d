"""What moves the weights: AdamW, or one of two that come with an extra."""

from __future__ import annotations

import torch

from storyforge.errors import EnvironmentProblem
from storyforge.train.config import TrainConfig
from storyforge.train.trainable import TrainableConcept


def make_optimizer(
    trainable: TrainableConcept, config: TrainConfig, device: torch.device
) -> torch.optim.Optimizer:
    """The optimiser that the recipe names, over all that is learnt.

    Prodigy finds the learning rate by itself: of the recipe's rates it only keeps which are 0.

    Raises:
      EnvironmentProblem: if its package is not installed, or not for this device.
    """
    groups = trainable.rates(config)
    if config.optimizer == "prodigy":
        try:
            from prodigyopt import Prodigy
        except ImportError as exc:
            raise _missing("prodigy", "prodigyopt") from exc
        for group in groups:
            group["peak"] = 1.0 if group["peak"] else 0.0
        prodigy: torch.optim.Optimizer = Prodigy(groups, lr=1.0, weight_decay=0.01)
        return prodigy
    if config.optimizer == "adamw-8bit":
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError as exc:
            raise _missing("adamw-8bit", "bitsandbytes") from exc
        if device.type != "cuda":
            raise EnvironmentProblem(
                "`optimizer: adamw-8bit` needs an NVIDIA GPU",
                hint="leave `optimizer` out: the weights of a concept are few, and AdamW is enough",
            )
        small: torch.optim.Optimizer = AdamW8bit(groups, lr=0.0, weight_decay=0.01)
        return small
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), weight_decay=0.01)


def _missing(extra: str, package: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"`optimizer: {extra}` needs the package {package}, which is not installed",
        hint=f"pip install 'storyforge[{extra}]'",
    )
