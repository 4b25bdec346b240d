"""What was drawn and judged is kept, so that a measurement of an hour goes on where it was stopped.

Everything lies under the hash of all that it came from; nothing is ever asked for by a name that
could be out of date. Not covered: what is drawn with adapters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks import easel, judge, misleading, questions, redrawn
from storyforge.pocket import world
from storyforge.pocket.world.picture import Picture

LOT: Final = 8
"""Pictures that are judged between two that are kept."""

Pixels = NDArray[np.uint8]


def remembering(judging: redrawn.Judge, folder: Path) -> redrawn.Judge:
    """The same judge, which knows what it said of each picture; not another's of other code."""
    folder.mkdir(parents=True, exist_ok=True)
    code = _code()

    def judged(pictures: Sequence[Pixels], asked: Sequence[Picture]) -> judge.Answers:
        starts = [repr(each) for each in asked] or [""] * len(pictures)
        files = [
            folder / f"{_hash(code, start, picture.tobytes())}.json"
            for picture, start in zip(pictures, starts, strict=True)
        ]
        left = [index for index, file in enumerate(files) if not file.is_file()]
        for first in range(0, len(left), LOT):
            lot = left[first : first + LOT]
            found = judging([pictures[i] for i in lot], [asked[i] for i in lot] if asked else ())
            for row, index in enumerate(lot):
                said = {name: int(values[row]) for name, values in found.items()}
                _write(files[index], json.dumps(said).encode())
        rows = [json.loads(file.read_text()) for file in files]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]} if rows else {}

    return judged


def pictures(
    folder: Path, made_by: Sequence[str], draw: Callable[[], list[Pixels]]
) -> list[Pixels]:
    """What was drawn by all that is said in `made_by`, or what `draw` draws now."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{_hash(*made_by)}.npy"
    if not file.is_file():
        made = np.stack(draw())
        part = file.with_suffix(".part")
        with part.open("wb") as stream:
            np.save(stream, made)
        part.replace(file)
    return list(np.load(file))


def _hash(*parts: str | bytes) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode() if isinstance(part, str) else part)
        found.update(b"\0")
    return found.hexdigest()[:32]


def _write(file: Path, data: bytes) -> None:
    part = file.with_suffix(".part")
    part.write_bytes(data)
    part.replace(file)


def _code() -> str:
    """The hash of the judge's own code, and of the illustrator's."""
    own = [Path(str(each.__file__)) for each in (easel, judge, misleading, questions, redrawn)]
    drawing = sorted(Path(str(world.__file__)).parent.glob("*.py"))
    return _hash(*(file.read_bytes() for file in own + drawing))
