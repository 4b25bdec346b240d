"""Many concepts of Stable Diffusion 1.5's size fused from statistics on disk.

The Grams are stand-ins with energies like recorded ones; what is timed is reading the files,
unpacking, solving every layer and accounting for it, on one thread: two cores need no longer. No
layer is watched.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import torch
from torch import Tensor

from benchmarks.fusion.embedded import Scene
from benchmarks.fusion.shapes import RANK, Input, directions, energies, stable_diffusion
from benchmarks.fusion.solvers import gram_of, like
from storyforge.executor import silent
from storyforge.fuse import fusion
from storyforge.fuse.packing import Full
from storyforge.fuse.solve import normalised
from storyforge.fuse.statistics import Statistics
from storyforge.fuse.terms import Terms
from storyforge.model.concept import Concept
from storyforge.model.lora import Delta
from storyforge.model.tokens import ConceptTokens
from storyforge.settings import FuseSettings
from storyforge.store import size_of

ROUNDS = 4
"""How often adding and beginning afresh take turns at going first; the least time of each counts.
They differ in the reading of some files alone, which is less than what one solution differs from
the next, so that fewer rounds say nothing."""

Seconds = tuple[float, float]
"""Of the processor, and of the clock."""


def measure(scene: Scene, count: int, shrink: int) -> dict[str, object]:
    """Fuse `count` concepts, then one more: with what is at hand, and from the files again."""
    shapes = stable_diffusion(shrink)
    generator = torch.Generator().manual_seed(0)
    cast = [_concept(f"c{index}", shapes, generator) for index in range(count + 1)]
    with TemporaryDirectory() as scratch:
        files = _written(scene, shapes, count + 2, Path(scratch), generator)
        return _timed(cast, files)


def _timed(cast: list[Concept], files: list[Path]) -> dict[str, object]:
    """The last file is the base's."""
    most = len(cast)

    def fused(seen: list[Statistics]) -> None:
        terms = Terms.of(FuseSettings(), {c.name: c.kind for c in cast[: len(seen) - 1]})
        fusion.fuse(cast[: len(seen) - 1], seen[:-1], seen[-1], terms, silent)

    def read(paths: list[Path]) -> list[Statistics]:
        return [Statistics.load(path) for path in paths]

    few = [*files[: most - 1], files[-1]]
    first = _spent(lambda: fused(read(few)))
    had = read(few)
    ways = (
        lambda: fused([*had[:-1], *read([files[most - 1]]), had[-1]]),
        lambda: fused(read(files)),
    )
    spent: tuple[list[Seconds], list[Seconds]] = ([], [])
    for turn in range(ROUNDS):
        for way in (0, 1) if turn % 2 else (1, 0):
            spent[way].append(_spent(ways[way]))
    added, afresh = spent
    return {
        "concepts": most - 1,
        "bytes_of_one": size_of(files[0]),
        "cpu": {"ten": first[0], "eleventh": min(added)[0], "eleven_afresh": min(afresh)[0]},
        "clock": {"ten": first[1], "eleventh": min(added)[1], "eleven_afresh": min(afresh)[1]},
    }


def _spent(work: Callable[[], None]) -> Seconds:
    used, clock = process_time(), perf_counter()
    work()
    return round(process_time() - used, 2), round(perf_counter() - clock, 2)


def _concept(name: str, shapes: tuple[Input, ...], generator: torch.Generator) -> Concept:
    deltas = {
        linear: Delta(
            torch.randn(out, RANK, generator=generator),
            torch.randn(RANK, shape.width, generator=generator),
        )
        for shape in shapes
        for linear, out in shape.linears
    }
    tokens = ConceptTokens(name, torch.zeros(2, 1, 1))
    return Concept(name, "object", name, tokens, deltas, "stand-in", "stand-in")


def _written(
    scene: Scene, shapes: tuple[Input, ...], count: int, folder: Path, generator: torch.Generator
) -> list[Path]:
    """Statistics of so many concepts, one file each; inputs of one kind and width see alike."""
    axes = {width: directions(width, generator) for width in {shape.width for shape in shapes}}
    readers = {shape.source: tuple(name for name, _ in shape.linears) for shape in shapes}
    files = []
    for index in range(count):
        known: dict[tuple[str, int], Full] = {}
        for shape in shapes:
            if (shape.kind, shape.width) not in known:
                gram = scene.exact[index % len(scene.exact)][like(scene, shape)]
                strengths = energies([gram], shape.width)[0]
                known[shape.kind, shape.width] = _packed(strengths, axes[shape.width], generator)
        packed = {shape.source: _copied(known[shape.kind, shape.width]) for shape in shapes}
        files.append(folder / f"{index}.safetensors")
        Statistics("stand-in", readers, dict(packed), {}).save(files[-1])
    return files


def _packed(strengths: Tensor, axes: Tensor, generator: torch.Generator) -> Full:
    """A Gram of these energies, each of them a little off, as no two concepts see the same."""
    own = strengths * torch.exp(0.5 * torch.randn(len(strengths), generator=generator))
    return Full.of(normalised(gram_of(own, axes)))


def _copied(packed: Full) -> Full:
    """A copy of its own: no two tensors of a file may share memory."""
    return Full(packed.scale.clone(), packed.folded.clone())
