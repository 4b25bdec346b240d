"""A run half done, on disk: weights, optimiser and losses, so that it goes on bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from storyforge.train.config import TrainConfig
from storyforge.train.stopping import Check, CheckHistory
from storyforge.train.trainable import TrainableConcept, WeightAverage


@dataclass(slots=True)
class TrainingState:
    """Everything that changes from step to step.

    losses   of every step so far
    average  of the weights; None without EMA
    scaler   of fp16 losses; None in other precisions
    seen     checks of the run; None if nothing is judged
    """

    trainable: TrainableConcept
    optimizer: torch.optim.Optimizer
    losses: list[float]
    average: WeightAverage | None = None
    scaler: torch.amp.GradScaler | None = None
    seen: CheckHistory | None = None


def save_state(path: Path, progress: TrainingState, config: TrainConfig) -> None:
    """Write the state of a run; the file is never seen half written."""
    tensors = {f"learner.{k}": v for k, v in progress.trainable.state_dict().items()}
    if progress.average is not None:
        tensors |= {f"average.{i}": mean for i, mean in enumerate(progress.average.weights)}
    if progress.seen is not None:
        tensors |= {f"best.{i}": weight for i, weight in enumerate(progress.seen.weights)}
    numbers: dict[str, float] = {}
    for index, state in progress.optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
            elif isinstance(value, int | float):
                numbers[f"{index}.{key}"] = value
    meta = {
        "losses": json.dumps(progress.losses),
        "recipe": json.dumps(asdict(config)),
        "numbers": json.dumps(numbers),
        "groups": json.dumps([_scalars(group) for group in progress.optimizer.param_groups]),
        "scaler": json.dumps(progress.scaler.state_dict() if progress.scaler else {}),
        "checks": json.dumps([astuple(check) for check in progress.seen.checks])
        if progress.seen
        else "[]",
    }
    part = path.with_suffix(".part")
    save_file({k: v.detach().cpu().clone() for k, v in tensors.items()}, part, meta)
    part.replace(path)


def _scalars(group: Mapping[str, object]) -> dict[str, int | float]:
    """What an optimiser counts for a whole group, as Prodigy its estimate of the rate."""
    return {key: value for key, value in group.items() if isinstance(value, int | float)}


def load_state(path: Path, progress: TrainingState, config: TrainConfig) -> None:
    """Go on from a checkpoint of the same recipe, if there is one."""
    if not path.is_file():
        return
    with safe_open(path, "pt") as file:
        meta = file.metadata()
        if json.loads(meta["recipe"]) != asdict(config) or "numbers" not in meta:
            return
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    progress.trainable.load_state_dict(
        {k.removeprefix("learner."): v for k, v in tensors.items() if k.startswith("learner.")}
    )
    if progress.average is not None:
        for index, mean in enumerate(progress.average.weights):
            mean.copy_(tensors[f"average.{index}"])
    if progress.seen is not None:
        progress.seen.checks[:] = [Check(*each) for each in json.loads(meta["checks"])]
        count = sum(key.startswith("best.") for key in tensors)
        progress.seen.weights[:] = [tensors[f"best.{i}"] for i in range(count)]
    _give_back(progress.optimizer, tensors, meta)
    if progress.scaler is not None:
        progress.scaler.load_state_dict(json.loads(meta["scaler"]))
    progress.losses[:] = json.loads(meta["losses"])


def _give_back(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, str]
) -> None:
    state: dict[int, dict[str, torch.Tensor | float]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    for key, number in json.loads(meta["numbers"]).items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = number
    groups = optimizer.state_dict()["param_groups"]
    for group, scalars in zip(groups, json.loads(meta["groups"]), strict=True):
        group.update(scalars)
    optimizer.load_state_dict({"state": state, "param_groups": groups})
