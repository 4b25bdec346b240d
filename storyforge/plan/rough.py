"""What a task may take where nothing like it was made here yet: what others took elsewhere.

Times are those of an ordinary machine: two processors, or a graphics card where one is seen. They
tell minutes from hours and no more; as soon as something was made, `cost` knows better.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from storyforge.modelref import Defaults, ModelRef, PictureSize, is_embedded, picture_size
from storyforge.plan.cost import Cost
from storyforge.tasks import (
    BookTask,
    FuseTask,
    ImportTask,
    OwnPictureTask,
    PanelTask,
    Task,
    TrainTask,
)


@dataclass(frozen=True, slots=True)
class _Pace:
    """What one model takes on one kind of machine; memory and sizes in bytes.

    step     seconds of one denoising step of the base's own square picture
    learn    seconds of one picture in one optimiser step
    fuse     seconds of watching and solving, a concept
    memory   of drawing, and of learning
    concept  the size of a concept's file of rank 4
    fused    the size of the fused model, a concept
    picture  the size of one
    """

    step: float
    learn: float
    fuse: float
    memory: tuple[int, int]
    concept: int
    fused: int
    picture: int


_EMBEDDED: Final = _Pace(0.12, 0.19, 10, (790_000_000, 1_120_000_000), 390_000, 360_000, 300_000)
_LARGE: Final = _Pace(8.0, 30, 400, (3_200_000_000, 3_900_000_000), 5_000_000, 40_000_000, 500_000)
"""Measured with the embedded model, and with Stable Diffusion 1.5 in half precision, on two
processors."""

_FASTER: Final = {True: 5.0, False: 60.0}
"""How much faster a graphics card is with the embedded model, and with a large one."""

_LARGEST_CELLS: Final = 96
_LARGER: Final = 3.0
"""A base of more cells than this along a side is of SDXL's kind, and so much larger; one of a
single level is a transformer, and no smaller than that."""

_FULL: Final = 2
"""How much more memory a large base takes in full precision."""

_RANK: Final = 4
_BOOK: Final = (0.8, 0.06, 700_000_000, 150_000)
"""A book's seconds, those of each of its pictures, memory, and bytes of each picture."""

_TAKEN_IN: Final = Cost(0.5, 300_000_000, 2_000_000, rough=True)
_READ: Final = 20.0
"""Importing a file takes as long as so many denoising steps: most of it opens the base."""

_NVIDIA: Final = Path("/dev/nvidiactl")
_PROCESSOR: Final = Path("/proc/cpuinfo")
_HALF: Final = re.compile(r"\b(avx512_bf16|amx_tile)\b")
"""What a processor says that computes in half precision."""


def rough(task: Task, base: ModelRef) -> Cost:
    """What the task may take, in the order of magnitude."""
    embedded, size = is_embedded(base.reference), picture_size(base.reference)
    pace = _EMBEDDED if embedded else _large(size)
    slower = 1.0 if embedded else _larger(size)
    slower /= _FASTER[embedded] if _accelerated() else 1.0
    match task:
        case TrainTask():
            return _learning(task, base.defaults, pace, slower)
        case ImportTask():
            return Cost(_READ * pace.step * slower, pace.memory[0], pace.concept, rough=True)
        case FuseTask():
            count = max(1, len(task.concepts))
            return Cost(count * pace.fuse * slower, pace.memory[0], count * pace.fused, rough=True)
        case PanelTask():
            return _drawing(task, base.defaults, size, pace, slower)
        case OwnPictureTask():
            return _TAKEN_IN
        case BookTask():
            first, each, memory, weight = _BOOK
            count = max(1, len(task.panels))
            return Cost(first + each * count, memory, weight * count, rough=True)


def _larger(size: PictureSize) -> float:
    return _LARGER if size.cells > _LARGEST_CELLS or size.levels == 1 else 1.0


def _large(size: PictureSize) -> _Pace:
    drawing, learning = _LARGE.memory
    times = _larger(size) * (1 if _halved() else _FULL)
    return replace(_LARGE, memory=(round(drawing * times), round(learning * times)))


def _learning(task: TrainTask, defaults: Defaults, pace: _Pace, slower: float) -> Cost:
    steps = task.settings.steps or defaults.train_steps
    batch = task.settings.batch_size or defaults.train_batch
    prior = defaults.prior_pictures * defaults.steps * pace.step
    seconds = (steps * batch * pace.learn + prior / 8) * slower
    weight = pace.concept * (task.settings.rank or _RANK) // _RANK
    return Cost(seconds, pace.memory[1], weight, rough=True)


def _drawing(
    task: PanelTask, defaults: Defaults, size: PictureSize, pace: _Pace, slower: float
) -> Cost:
    width, height = task.size or (size.side, size.side)
    larger = width * height / size.side**2
    seconds = (task.steps or defaults.steps) * pace.step * larger * slower
    seconds *= 1 + len(task.heads) / 2
    return Cost(
        seconds, round(pace.memory[0] * larger**0.5), round(pace.picture * larger), rough=True
    )


def _halved() -> bool:
    """Whether large bases will lie in half precision."""
    try:
        said = _PROCESSOR.read_text(encoding="utf-8", errors="replace")
    except OSError:
        said = ""
    return _accelerated() or _HALF.search(said) is not None


def _accelerated() -> bool:
    """Whether there seems to be a graphics card; torch, which would know, is slow to ask."""
    return _NVIDIA.exists() or (platform.system(), platform.machine()) == ("Darwin", "arm64")
