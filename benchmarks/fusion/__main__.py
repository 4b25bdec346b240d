"""Fusion measured, all in one run: the solver, its memory and its time.

`python -m benchmarks.fusion --json` prints one JSON document; `--concepts DIR` names other concept
files of the embedded model than those of the sample story; `--quick` shrinks everything, to see
whether it runs. All is done on one thread. Seconds are of the processor, unless they say `clock`:
they depend little on what else the machine does. Compare only figures of one run.

`solver`, `solver_pocket`    L-BFGS as published over the closed form: times, objectives
`memory_ratio`               peak memory of streaming Grams over that of keeping features
`ten_concepts_seconds`       concepts of Stable Diffusion 1.5's size, from statistics on disk
`eleventh_seconds`           one more; `eleven_afresh_seconds` reads all of them again
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import torch

from benchmarks.fusion import embedded, many, memory, solvers
from storyforge import __version__
from storyforge.executor import processors
from storyforge.model.base import open_base
from storyforge.model.concept import Concept
from storyforge.modelref import base_at

HERE = Path(__file__).parents[1]
CONCEPTS = HERE.parent / "tests" / "goldens" / "fox-and-lantern" / "concepts"

Made = TypeVar("Made")


def measured(folder: Path, *, quick: bool) -> dict[str, object]:
    """All figures."""
    torch.set_num_threads(1)
    cast = [Concept.load(path) for path in sorted(folder.glob("*.safetensors"))]
    cast = cast[:2] if quick else cast
    base = open_base("pocket", base_at("pocket", HERE).hash)
    for concept in cast:
        concept.fits(base)
    shrink, every, count = (8, 40, 3) if quick else (1, embedded.EVERY, 10)
    scene = told("watching concepts", lambda: embedded.watched(base, cast, every))
    room = told("comparing memory", lambda: memory.compare(shrink))
    crowd = told("fusing many", lambda: many.measure(scene, count, shrink))
    spent = crowd["cpu"]
    assert isinstance(spent, dict)
    packing = told("packing", lambda: embedded.compare_packings(scene))
    ways = told("comparing ways to fuse", lambda: embedded.compare_solvers(scene))
    collision = told("measuring collisions", lambda: embedded.collisions(scene))
    again = embedded.re_solving(scene)
    on_pocket = told("racing on recorded rows", lambda: solvers.on_embedded(scene))
    raced = told("racing on large layers", lambda: solvers.on_stable_diffusion(scene, shrink))
    return {
        "solver": raced,
        "solver_pocket": on_pocket,
        "memory_ratio": room["ratio"],
        "memory": room,
        "ten_concepts_seconds": spent["ten"],
        "eleventh_seconds": spent["eleventh"],
        "eleven_afresh_seconds": spent["eleven_afresh"],
        "many": crowd,
        "packing": packing,
        "ways": ways,
        "statistics_seconds": [round(seconds, 2) for seconds in scene.seconds],
        "re_solving_seconds": again,
        "collision": collision,
        "concepts": [each.name for each in cast],
        "run": _run(),
    }


def _run() -> dict[str, object]:
    """What made the figures."""
    return {
        "command": "python -m benchmarks.fusion " + " ".join(sys.argv[1:]),
        "date": datetime.now(UTC).date().isoformat(),
        "processors": processors(),
        "threads": torch.get_num_threads(),
        "versions": {
            "storyforge": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "diffusers", "transformers")},
        },
    }


def told(what: str, work: Callable[[], Made]) -> Made:
    """Do it, and say beside the data how long it took."""
    started = perf_counter()
    made = work()
    print(f"{what}: {perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--concepts", type=Path, default=CONCEPTS, help="folder of concept files")
    parser.add_argument("--quick", action="store_true", help="everything small, to try it")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args()
    found = measured(asked.concepts, quick=asked.quick)
    if asked.json:
        print(json.dumps(found, indent=1))
    else:
        for name, value in found.items():
            print(f"{name}: {json.dumps(value)}")


if __name__ == "__main__":
    main()
