"""Peak memory of recording one concept of Stable Diffusion 1.5, each way in its own process.

`python -m benchmarks.fusion.memory keep` does as the published code: of every linear what it reads
and what it says, in half precision, until all steps are done; then one layer at a time is put
together in fp32, as it is for the solver. `stream` adds the same rows into Grams as they pass and
packs those. Features are ones: only their number matters. The figure is the highest resident
memory, less what the process held before. What is freed goes back to the system at once, both ways:
else glibc's heap keeps some of it or not, and the same run differs by hundreds of megabytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.fusion.shapes import STEPS, Input, stable_diffusion
from storyforge.executor import forget_peak_memory, peak_memory
from storyforge.fuse.packing import Full, Packed, Sum
from storyforge.fuse.solve import normalised


def compare(shrink: int) -> dict[str, float]:
    """Both ways' peaks in bytes, and the second over the first."""
    kept, streamed = (_peak(way, shrink) for way in ("keep", "stream"))
    return {
        "keeping_bytes": kept,
        "keeping_bytes_counted": counted(stable_diffusion(shrink)),
        "streaming_bytes": streamed,
        "ratio": round(streamed / kept, 5),
    }


def counted(shapes: tuple[Input, ...]) -> int:
    """Bytes of all that the published code keeps, in half precision."""
    return sum(2 * s.rows * (s.width + out) for s in shapes for _, out in s.linears)


def _peak(way: str, shrink: int) -> int:
    command = [sys.executable, "-m", "benchmarks.fusion.memory", way, str(shrink)]
    eager = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**18)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=eager)
    return int(json.loads(done.stdout))


def keep(shapes: tuple[Input, ...]) -> None:
    """Record everything, then visit one linear after the other."""
    kept: dict[str, list[Tensor]] = {}
    for shape, rows in passing(shapes):
        for name, out in shape.linears:
            kept.setdefault(f"{name} reads", []).append(rows.half())
            kept.setdefault(f"{name} says", []).append(torch.ones(len(rows), out).half())
    for name in list(kept):
        torch.cat(kept.pop(name)).float()


def stream(shapes: tuple[Input, ...]) -> None:
    """Add everything up, then pack."""
    sums: dict[str, Sum] = {}
    for shape, rows in passing(shapes):
        if shape.source in sums:
            sums[shape.source].add(rows)
        else:
            sums[shape.source] = Sum.of(rows)
    packed: dict[str, Packed] = {}
    for source in list(sums):
        packed[source] = Full.of(normalised(sums.pop(source).gram()))


def passing(shapes: tuple[Input, ...]) -> Iterator[tuple[Input, Tensor]]:
    """What passes into every input: text once, pictures in every step."""
    for shape in shapes:
        if shape.stage != "spatial":
            yield shape, torch.ones(shape.rows, shape.width)
    for _ in range(STEPS):
        for shape in shapes:
            if shape.stage == "spatial":
                yield shape, torch.ones(max(1, shape.rows // STEPS), shape.width)


def main() -> None:
    """Print how many bytes the way that is named takes more at its peak than before it."""
    way, shrink = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    shapes = stable_diffusion(shrink)
    # The libraries' own memory is taken up before.
    Full.of(Sum.of(torch.ones(4, 8)).gram())
    forget_peak_memory()
    before = peak_memory()
    {"keep": keep, "stream": stream}[way](shapes)
    print(peak_memory() - before)


if __name__ == "__main__":
    main()
