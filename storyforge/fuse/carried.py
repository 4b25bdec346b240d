"""Statistics in a concept's own file: whoever has the file fuses it without watching the concept.

Tensors and metadata that begin with `statistics.` are those of a statistics file; who reads the
concept alone passes over them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from storyforge.errors import EnvironmentProblem
from storyforge.executor import OnProgress
from storyforge.fuse import statistics
from storyforge.fuse.packing import Compact, Full
from storyforge.fuse.statistics import STEPS, USUAL, Statistics, Viewing
from storyforge.headers.checked import sort_head
from storyforge.model.base import BaseModel
from storyforge.model.card import CARRIED
from storyforge.model.concept import Concept
from storyforge.tasks import TrainTask

_STEPS: Final = "steps"


def carry_statistics(
    base: BaseModel,
    task: TrainTask,
    path: Path,
    on_progress: OnProgress,
    viewing: Viewing = USUAL,
) -> None:
    """Watch the concept that was learnt for `task`, and keep what is seen in its file."""
    packing = Compact if task.settings.statistics == "compact" else Full

    def on_step(step: int, steps: int, latents: object) -> None:
        """Pass a step on."""
        on_progress("watching", step, steps)

    concept = Concept.load(path)
    seen = statistics.of_concept(base, concept, packing, on_step, viewing=viewing)
    carry(path, seen, viewing.length)


def carry(path: Path, seen: Statistics, steps: int = STEPS) -> None:
    """Put statistics into a concept's file, in place of those that it has.

    steps  of denoising that were watched
    """
    with safe_open(path, "pt") as file:
        meta = {k: v for k, v in file.metadata().items() if not k.startswith(CARRIED)}
        own = [key for key in file.keys() if not key.startswith(CARRIED)]  # noqa: SIM118
        tensors = {key: file.get_tensor(key).clone() for key in own}
    added, said = seen.content()
    said |= {_STEPS: str(steps)}
    tensors |= {CARRIED + key: value for key, value in added.items()}
    part = path.with_name(f".{path.name}.part")
    save_file(tensors, part, meta | {CARRIED + key: value for key, value in said.items()})
    sort_head(part)
    part.replace(path)


def carried(path: Path, steps: int | None = None) -> Statistics | None:
    """The statistics in a concept's file; None if it has none, or of another length.

    steps  of denoising that are to have been watched; None for any number

    Raises EnvironmentProblem if they are damaged or of another base than the concept.
    """
    try:
        with safe_open(path, "pt") as file:
            whole = file.metadata() or {}
            meta = {k.removeprefix(CARRIED): v for k, v in whole.items() if k.startswith(CARRIED)}
            if not meta or (steps is not None and steps != int(meta.get(_STEPS, STEPS))):
                return None
            keys = [key for key in file.keys() if key.startswith(CARRIED)]  # noqa: SIM118
            tensors = {key.removeprefix(CARRIED): file.get_tensor(key) for key in keys}
        seen = Statistics.of_content(tensors, meta)
        if seen.base_hash != whole.get("base_hash"):
            raise ValueError("they were taken on another base")
        return seen
    except (OSError, SafetensorError, KeyError, ValueError, AttributeError) as exc:
        message = f"the statistics in `{path}` are damaged: {exc}"
        raise EnvironmentProblem(message, hint="learn the concept again") from exc
