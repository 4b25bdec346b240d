"""Whether a trained concept shows what it has: its horn, its stripes, its glow, alone and fused.

`python -m benchmarks.features --json` learns the sample concepts and the first N of the cast, draws
each alone and all of a folder fused, and asks the judge (`benchmarks/redrawn.py`) for every feature
that a concept has. The judge draws again what it sees, and has no part in training the model; it
begins with who a character is and what it wears, and is told none of its features.
`drawings` is what it finds in the concepts' own pictures: no model can do better; `base` what it
finds where the model is told the concept's class instead. A share is of pictures; each concept
counts the same. What is learnt and drawn is kept, and an interrupted run goes on. Not covered:
whether it is the right horn (`storyforge evaluate fusion` compares whole likenesses).
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks import cast, judge, redrawn
from benchmarks.fusionways import Variant, opened, told
from concepts import draw
from storyforge.errors import StoryForgeError
from storyforge.pocket import world
from storyforge.pocket.world.looks import FURS, Look
from storyforge.settings import FuseSettings

SAMPLES: Final = Path(draw.__file__).parent
CHARACTERS: Final = {"pip": draw.PIP, "juna": draw.JUNA, "mo": draw.MO, **cast.CHARACTERS}
LANTERN: Final = {"glow": "glow", "pattern": "star"}
ELSE: Final[Mapping[str, Mapping[str, str]]] = {
    "lantern": LANTERN,
    "glimmer": LANTERN,
    "stripy": {"pattern": "stripes"},
    "moonwood": {"sky": "big moon", "tint": "violet"},
    "reef": {"place": "seabed"},
}
"""Of objects and scenes: the judge's question -> the answer that is right."""

ANYBODY: Final = Look("fox", "orange")
MIDDLE: Final = world.Subject(ANYBODY, 0.5, 0.9, 0.6)
"""Who is looked for, and where, if nobody is guessed."""

Shares = dict[str, dict[str, float]]
"""Concept -> feature -> share of pictures"""

Pixels = NDArray[np.uint8]

Judging = tuple[judge.Judge, redrawn.Judge]
"""What guesses, and what draws the guess again."""


def wanted(name: str) -> dict[str, str]:
    """The judge's questions about a concept, and the answers that are right; {} for none."""
    if name not in CHARACTERS:
        return dict(ELSE.get(name, {}))
    extras = [feature for feature, _ in CHARACTERS[name].extras]
    return {
        question: feature
        for question in ("pattern", "marks", "crown", "wings", "glow")
        for feature in extras
        if feature in world.EACH[question]
    }


def found(answers: judge.Answers, question: str, right: str) -> NDArray[np.bool_]:
    """In which pictures the right answer is given: of the whole, or of any side with somebody.

    Returns:
      (n,)  one a picture
    """
    if question in judge.WHOLE:
        value = judge.WHOLE[question].index(right)
        return np.asarray(answers[question] == value, bool)
    value = judge.EACH[question].index(right)
    sides = [
        (answers[f"{side}.kind"] > 0) & (answers[f"{side}.{question}"] == value)
        for side in judge.COLUMNS
    ]
    return np.asarray(np.any(sides, axis=0), bool)


def begun(name: str, guess: world.Picture) -> world.Picture:
    """A guess with the character itself, without its features, in the place of the largest."""
    if name not in CHARACTERS:
        return guess
    largest = max(guess.subjects, key=lambda subject: subject.size, default=MIDDLE)
    seen = largest.what if isinstance(largest.what, Look) else ANYBODY
    fur = seen.fur if seen.fur in FURS else ANYBODY.fur
    look = replace(CHARACTERS[name], extras=(), fur=fur, pose=seen.pose, holding=seen.holding)
    others = (subject for subject in guess.subjects if subject is not largest)
    return replace(guess, subjects=(replace(largest, what=look), *others))


def shares(judging: Judging, name: str, pictures: Sequence[Pixels]) -> dict[str, float]:
    """Feature of a concept -> share of its pictures in which it is found."""
    learnt, who = judging
    guesses = redrawn.guesses(learnt, pictures)
    answers = who(pictures, [begun(name, guess) for guess in guesses])
    return {
        right: float(found(answers, question, right).mean())
        for question, right in wanted(name).items()
    }


def summed(concepts: Shares) -> dict[str, object]:
    """Means over concepts and, feature by feature, over those that have it."""
    names = sorted({feature for row in concepts.values() for feature in row})
    return {
        "share": mean(mean(row.values()) for row in concepts.values()),
        "features": {n: mean(row[n] for row in concepts.values() if n in row) for n in names},
        "concepts": concepts,
    }


def read(paths: Sequence[Path]) -> list[Pixels]:
    """Pictures as (h, w, 3)."""
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


def own_pictures(folder: Path) -> list[Pixels]:
    """The drawings that a concept is learnt from, in their order."""
    return read(sorted(p for p in folder.glob("*.png") if not p.stem.endswith("-mask")))


def measured(asked: argparse.Namespace, judging: Judging) -> dict[str, Shares]:
    """The shares of one folder of concepts, by `drawings`, `base`, `alone` and `fused`."""
    known = len(list(asked.concepts.glob("*/concept.yaml")))
    bench, gallery = opened(asked, min(asked.n, known))
    fused = Variant("fused", str(bench.count), FuseSettings())
    bench.make(fused)
    bench.shown.draw(gallery, told, asked.jobs)
    rows: dict[str, Shares] = {"drawings": {}, "base": {}, "alone": {}, "fused": {}}
    conditions = {"base": "base", "alone": "alone", "fused": ": ".join(fused.name)}
    for name in (task.concept for task in bench.cast.tasks("ed-lora", bench.count)):
        if not wanted(name):
            continue
        rows["drawings"][name] = shares(judging, name, own_pictures(asked.concepts / name))
        for row, condition in conditions.items():
            tasks = [task for _, task in bench.shown.answers[condition][name]]
            rows[row][name] = shares(judging, name, read([gallery.path(task) for task in tasks]))
    return rows


def parser() -> argparse.ArgumentParser:
    """What can be asked."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.features", description=(__doc__ or "").partition("\n")[0]
    )
    made.add_argument("--json", action="store_true", help="understood; there is no other form")
    made.add_argument("--cast", type=Path, default=Path("cast"), help="the cast's folder [cast]")
    made.add_argument("--store", type=Path, help="where products are kept [DIR/.storyforge]")
    made.add_argument("--out", type=Path, help="where pictures are kept [DIR/sweeps]")
    made.add_argument("--n", type=int, default=8, help="how many of a folder to fuse [8]")
    made.add_argument("--prompts", type=int, default=5, help="of each of the four kinds [5]")
    made.add_argument("--seeds", type=int, default=1, help="pictures of each prompt [1]")
    made.add_argument("--steps", type=int, help="denoising steps; the model's habit if left out")
    made.add_argument("--jobs", type=int, default=1, help="processes side by side [1]")
    made.add_argument("--samples", action="store_true", help="the sample concepts alone")
    made.add_argument("--drawings", action="store_true", help="judge the concepts' drawings alone")
    made.add_argument("--threads", type=int, default=1)
    return made


def main() -> None:
    """Measure and print."""
    asked = parser().parse_args()
    torch.set_num_threads(asked.threads)
    folders = [SAMPLES] if asked.samples else [SAMPLES, asked.cast]
    if not asked.samples and not asked.cast.is_dir():
        cast.draw_all(asked.cast)
    learnt = judge.open_judge()
    judging = learnt, redrawn.judge_of(learnt, asked.jobs)
    rows: dict[str, Shares] = {}
    try:
        for folder in folders:
            asked.concepts = folder
            made = _drawn(folder, judging) if asked.drawings else measured(asked, judging)
            for row, concepts in made.items():
                rows.setdefault(row, {}).update(concepts)
    except StoryForgeError as exc:
        raise SystemExit(f"{exc.message}; {exc.hint}" if exc.hint else exc.message) from exc
    figures: dict[str, object] = {row: summed(concepts) for row, concepts in rows.items()}
    figures["command"] = shlex.join(["python", "-m", "benchmarks.features", *sys.argv[1:]])
    print(json.dumps(figures, indent=1))


def _drawn(folder: Path, judging: Judging) -> dict[str, Shares]:
    names = [path.parent.name for path in sorted(folder.glob("*/concept.yaml"))]
    return {
        "drawings": {n: shares(judging, n, own_pictures(folder / n)) for n in names if wanted(n)}
    }


if __name__ == "__main__":
    main()
