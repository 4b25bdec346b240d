"""What all stages share: several CPU workers as one, a wall-clock budget, checkpoints, EMA.

On a CPU one process per core with one thread each is steadier than one process with many threads;
gradients are averaged by `torch.distributed` (gloo). On a GPU there is one worker.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import nn
from torch.multiprocessing.spawn import start_processes

from storyforge.model.placement import half_on

MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
    "OMP_NUM_THREADS": "1",
}
"""glibc keeps freed tensors instead of giving each back to the kernel: +15 % on CPU."""

SAY_EVERY = 50
"""Steps."""
KEEP_EVERY = 2.0
"""Minutes."""
LONG = 0.998
"""What a moving average keeps of itself at a step."""


@dataclass(frozen=True, slots=True)
class Job:
    """How one stage is to be run. `minutes` is wall clock for this call; `decay` its share of
    falling learning rate at the end, in [0, 1]; `rate` times the usual is the learning rate."""

    stage: str
    folder: Path
    minutes: float
    decay: float
    device: str
    workers: int
    batch_size: int
    pictures: int
    seed: int
    rate: float = 1.0


class Counters(Protocol):
    """What workers count in together; `torch.distributed`'s stores do."""

    def add(self, key: str, amount: int) -> int:
        """Add to the number of that name, which begins at 0; what it is then."""
        ...


@dataclass(frozen=True, slots=True)
class Team:
    """This worker among `size`."""

    rank: int
    size: int
    store: Counters | None = None

    def share(self, name: str, parts: int) -> Iterator[int]:
        """The numbers below `parts` that fall to this worker: whoever is free takes the next.

        Cores that other work slows down take fewer; every number is taken by one worker.
        """
        if self.store is None:
            yield from range(parts)
            return
        while (index := self.store.add(name, 1) - 1) < parts:
            yield index

    def average(self, parameters: Iterable[nn.Parameter], parts: int | None = None) -> None:
        """Replace every gradient by its mean over the workers, or its sum by that over `parts`."""
        if self.size == 1 and parts is None:
            return
        grads = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            grads.append(parameter.grad)
        flat = torch.cat([g.reshape(-1) for g in grads])
        if self.size > 1:
            dist.all_reduce(flat)
        flat /= parts or self.size
        start = 0
        for grad in grads:
            grad.copy_(flat[start : start + grad.numel()].view_as(grad))
            start += grad.numel()

    @torch.no_grad()
    def exchange(self, owned: Sequence[Sequence[torch.Tensor]]) -> None:
        """Give every worker the values of what each of them owns, in the workers' order."""
        if self.size == 1:
            return
        for rank, tensors in enumerate(owned):
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
            dist.broadcast(flat, rank)
            if rank != self.rank:
                sizes = [tensor.numel() for tensor in tensors]
                for tensor, values in zip(tensors, torch.split(flat, sizes), strict=True):
                    tensor.copy_(values.view_as(tensor))

    def agree(self, value: float) -> float:
        """Worker 0's value, for all."""
        if self.size == 1:
            return value
        box = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(box, 0)
        return float(box)


def launch(stage: Callable[[Job, Team], None], job: Job) -> None:
    """Run `stage` in `job.workers` processes and wait for them."""
    os.environ.update(MALLOC)
    if job.workers == 1:
        stage(job, Team(0, 1))
        return
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ["MASTER_PORT"] = str(20000 + os.getpid() % 20000)
    start: Callable[..., object] = start_processes
    start(_worker, args=(stage, job), nprocs=job.workers, start_method="spawn")


def _worker(rank: int, stage: Callable[[Job, Team], None], job: Job) -> None:
    torch.set_num_threads(1)
    # Two days: a worker that waits for a core is not a worker that is lost.
    patience = timedelta(days=2)
    dist.init_process_group("gloo", rank=rank, world_size=job.workers, timeout=patience)
    port = int(os.environ["MASTER_PORT"]) + 1
    store = dist.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", port, job.workers, is_master=rank == 0, timeout=patience
    )
    stage(job, Team(rank, job.workers, store))
    dist.destroy_process_group()


def scatter(job: Job, team: Team, step: int) -> None:
    """Give each worker, and each resumed run, noise of its own; weights begin from one seed."""
    seed = np.random.SeedSequence((job.seed, team.rank, step)).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(seed) % 2**63)


class Clock:
    """The share of a budget that is spent, and the learning rate that goes with it."""

    def __init__(self, job: Job, warm_up: int) -> None:
        """Start now; `warm_up` steps."""
        self.start, self.job, self.warm_up, self.steps = time.monotonic(), job, warm_up, 0

    def spent(self) -> float:
        """Share of the minutes used, 0 at the start, 1 at the end."""
        return (time.monotonic() - self.start) / (60 * self.job.minutes)

    def factor(self, spent: float) -> float:
        """Multiplier of the learning rate: linear warm-up, constant, linear fall to 2 %."""
        self.steps += 1
        rise = min(1.0, self.steps / max(1, self.warm_up))
        left = (1 - spent) / self.job.decay if self.job.decay else 1.0
        return self.job.rate * rise * max(0.02, min(1.0, left))


class Learner(Protocol):
    """What is trained by one loss."""

    @property
    def trained(self) -> Trained:
        """What counts its steps."""
        ...

    def learn(self, factor: float) -> float:
        """One step at `factor` of the peak learning rate; the loss."""

    def keep(self) -> None:
        """Write the checkpoint and what comes of it."""


def learn_on(job: Job, team: Team, learner: Learner, warm_up: int = 50) -> None:
    """Steps until the minutes are spent; what was learnt is kept now and then, and at the end."""
    clock, kept = Clock(job, warm_up), 0.0
    while (spent := team.agree(clock.spent())) < 1:
        loss, minutes = learner.learn(clock.factor(spent)), spent * job.minutes
        step = learner.trained.step
        if team.rank == 0 and step % SAY_EVERY == 0:
            say(job, step=step, minutes=minutes, loss=loss)
        if team.rank == 0 and minutes - kept > KEEP_EVERY:
            kept = minutes
            learner.keep()
    if team.rank == 0:
        learner.keep()


class Average:
    """Exponential moving average of a module's parameters."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Start from the module as it is."""
        self.decay, self.steps = decay, 0
        self.values = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move towards the module."""
        self.steps += 1
        keep = min(self.decay, (1 + self.steps) / (5 + self.steps))
        for name, value in module.state_dict().items():
            if value.dtype.is_floating_point:
                self.values[name].lerp_(value, 1 - keep)


def adam(
    module: nn.Module, rate: float, others: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """AdamW for what of a module is trained; it keeps its peak rate as `base`. `others` are the
    rates of what has one of these names in its path, the last of them."""
    rates = {**(others or {}), "": rate}
    parts: dict[str, list[nn.Parameter]] = {name: [] for name in rates}
    for path, parameter in module.named_parameters():
        if parameter.requires_grad:
            parts[next((name for name in reversed(path.split(".")) if name in rates), "")].append(
                parameter
            )
    groups = [{"params": parts[name], "base": at} for name, at in rates.items()]
    return torch.optim.AdamW(groups, lr=0.0, weight_decay=1e-4, betas=(0.9, 0.99))


def narrowly(device: str) -> torch.autocast:
    """The precision that this device trains in. A processor without units for bfloat16 multiplies
    in it fifty times slower than in float32."""
    return torch.autocast(device, torch.bfloat16, enabled=half_on(device) is not None)


def at_rate(factor: float, *optimizers: torch.optim.Optimizer) -> None:
    """Forget the gradients, and let every group learn at so much of its peak rate, its `base`."""
    for optimizer in optimizers:
        optimizer.zero_grad()
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * factor


def save_checkpoint(
    path: Path,
    modules: dict[str, nn.Module],
    averages: dict[str, Average],
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    progress: dict[str, float],
) -> None:
    """Write everything that a resumed run needs, whole, then rename."""
    tensors: dict[str, torch.Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"model.{name}.{k}": v for k, v in module.state_dict().items()}
    for name, average in averages.items():
        tensors |= {f"ema.{name}.{k}": v for k, v in average.values.items()}
    for kind, one in _named(optimizer):
        for index, state in one.state_dict()["state"].items():
            tensors |= {f"{kind}.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    part = path.with_suffix(".part")
    save_file(
        {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()},
        part,
        {"progress": json.dumps(progress)},
    )
    part.replace(path)


def load_checkpoint(
    path: Path,
    modules: dict[str, nn.Module],
    averages: dict[str, Average],
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
) -> dict[str, float]:
    """Restore what `save_checkpoint` wrote; {} when there is none."""
    if not path.is_file():
        return {}
    from safetensors import safe_open

    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        progress: dict[str, float] = json.loads(file.metadata()["progress"])
    for name, module in modules.items():
        module.load_state_dict(under(tensors, f"model.{name}."))
    for name, average in averages.items():
        device = next(iter(average.values.values())).device
        average.values = {k: v.to(device) for k, v in under(tensors, f"ema.{name}.").items()}
        average.steps = int(progress["step"])
    for kind, one in _named(optimizer):
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in under(tensors, f"{kind}.").items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        if state:
            one.load_state_dict({"state": state, "param_groups": one.state_dict()["param_groups"]})
    return progress


class Trained:
    """A module in training, with its average, its optimiser and the checkpoint of its stage."""

    def __init__(
        self,
        job: Job,
        team: Team,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Go on from the checkpoint of the stage."""
        self.job, self.team, self.module, self.optimizer = job, team, module, optimizer
        self.average = Average(module, LONG)
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.path = job.folder / f"{job.stage}.safetensors"
        self.parts = {"module": module}, {"module": self.average}, optimizer
        progress = load_checkpoint(self.path, *self.parts)
        self.step = int(progress.get("step", 0))
        scatter(job, team, self.step)

    def descend(self, loss: torch.Tensor, factor: float) -> float:
        """One step down a loss at `factor` of the peak learning rate; what it was."""
        self.step += 1
        at_rate(factor, self.optimizer)
        torch.autograd.backward(loss)
        self.team.average(self.parameters)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.average.update(self.module)
        found: float = loss.item()
        return found

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(self.path, *self.parts, {"step": self.step})


def _named(
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
) -> list[tuple[str, torch.optim.Optimizer]]:
    """The optimisers by the names of their states in a checkpoint."""
    if isinstance(optimizer, torch.optim.Optimizer):
        return [("adam", optimizer)]
    return list(zip(("adam", "muon"), optimizer, strict=True))


def under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def say(job: Job, **figures: float) -> None:
    """One line of figures to stderr and to `<folder>/<stage>.jsonl`."""
    line = json.dumps({k: round(v, 5) for k, v in figures.items()})
    sys.stderr.write(f"{job.stage} {line}\n")
    with (job.folder / f"{job.stage}.jsonl").open("a") as log:
        log.write(line + "\n")
