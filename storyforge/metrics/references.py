"""Pictures of concepts against references and prompts: what a CLIP makes of them, summed up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from PIL import Image

from storyforge.geometry.box import Box
from storyforge.metrics.alignment import (
    RegionScore,
    among_themselves,
    image_alignment,
    text_alignment,
)
from storyforge.metrics.clip import Clip, Vectors
from storyforge.pictures import cut_out, sources
from storyforge.tasks import TrainTask

Condition = Literal["base", "single", "fused"]
CONDITIONS: Final[tuple[Condition, ...]] = ("base", "single", "fused")


@dataclass(frozen=True, slots=True)
class Given:
    """One picture to be judged: who drew it, from what kind of prompt, and the prompt's words with
    the class in the concept's place."""

    condition: Condition
    kind: str
    plain: str
    path: Path


@dataclass(frozen=True, slots=True)
class Score:
    """Alignment of some pictures: with references, in [−1, 1], and with their prompts, in [0, 2.5].

    pictures  how many
    """

    pictures: int
    image: float
    text: float


@dataclass(frozen=True, slots=True)
class Alignments:
    """One concept's results.

    upper       the references' likeness among themselves
    conditions  `base` is the lower bound
    kinds       the same by kind of prompt
    """

    kind: str
    upper: float
    conditions: Mapping[str, Score]
    kinds: Mapping[str, Mapping[str, Score]]


def references_of(clip: Clip, task: TrainTask) -> Vectors:
    """The concept's own pictures, cut to its masks where there are any."""
    # Cut to the subject: else the judge compares backgrounds, which no concept is to keep.
    own = sources(task.folder, task.images)
    return clip.pictures([cut_out(task.folder, picture) for picture in own])


def alignments_of(
    clip: Clip, task: TrainTask, references: Vectors, own: Sequence[Given]
) -> Alignments:
    """The results of one concept, from its own pictures."""
    seen = clip.pictures([Image.open(each.path) for each in own])
    said = clip.words([each.plain for each in own])

    def score(chosen: Sequence[int]) -> Score:
        """How well some of the pictures do."""
        rows = list(chosen)
        return Score(
            len(rows),
            image_alignment(seen[rows], references),
            text_alignment(seen[rows], said[rows]),
        )

    def where(condition: str, kind: str | None = None) -> list[int]:
        """The pictures of a condition, and of one kind of prompt."""
        return [
            index
            for index, each in enumerate(own)
            if each.condition == condition and kind in (None, each.kind)
        ]

    present = [condition for condition in CONDITIONS if where(condition)]
    kinds = list(dict.fromkeys(each.kind for each in own))
    return Alignments(
        kind=task.kind,
        upper=among_themselves(references),
        conditions={condition: score(where(condition)) for condition in present},
        kinds={k: {c: score(where(c, k)) for c in present} for k in kinds},
    )


def cut(picture: Image.Image, box: Box) -> Image.Image:
    """The part of a picture that a region is."""
    width, height = picture.size
    return picture.crop(
        (
            round(box.x0 * width),
            round(box.y0 * height),
            round(box.x1 * width),
            round(box.y1 * height),
        )
    )


def region_scores_of(
    clip: Clip,
    panel: str,
    picture: Path,
    regions: Sequence[tuple[str, Box, str]],
    references: Mapping[str, Vectors],
) -> list[RegionScore]:
    """Every region of a panel, cut out of its picture, against all references.

    regions  (name, box, concept)
    """
    with Image.open(picture) as opened:
        seen = clip.pictures([cut(opened, box) for _, box, _ in regions])
    return [
        RegionScore(
            panel,
            region,
            concept,
            {name: image_alignment(row[None], rows) for name, rows in references.items()},
        )
        for (region, _, concept), row in zip(regions, seen, strict=True)
    ]


def threshold(references: Vectors, marks: Alignments | None) -> float:
    """Half-way between a stranger of the same class and the references; −1 if that is unknown."""
    if marks is None or "base" not in marks.conditions:
        return -1.0
    return (marks.conditions["base"].image + among_themselves(references)) / 2
