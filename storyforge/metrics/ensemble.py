"""How well many concepts are kept by one model: means over concepts, and who is taken for whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from storyforge.metrics.alignment import among_themselves, image_alignment, text_alignment
from storyforge.metrics.clip import Vectors


@dataclass(frozen=True, slots=True)
class Views:
    """One concept's pictures by one model, as a CLIP sees them.

    pictures  (n, d)
    texts     (n, d)  of each picture's prompt, the class in the concept's place
    """

    pictures: Vectors
    texts: Vectors


@dataclass(frozen=True, slots=True)
class Tally:
    """Means over concepts, each of which counts the same.

    image       image-alignment, in [−1, 1]
    text        text-alignment, in [0, 2.5]
    identified  share of pictures that are more like their own concept's references than like those
                of any other concept, in [0, 1]
    """

    image: float
    text: float
    identified: float


def tally(looks: Mapping[str, Views], references: Mapping[str, Vectors]) -> Tally:
    """Sum up what one model made of some concepts; NaN for none.

    looks       by concept
    references  of those concepts and of all that they may be taken for
    """
    rows = [
        (
            image_alignment(look.pictures, references[name]),
            text_alignment(look.pictures, look.texts),
            identified(look.pictures, name, references),
        )
        for name, look in looks.items()
    ]
    return Tally(*(_mean([row[index] for row in rows]) for index in range(3)))


def identified(pictures: Vectors, name: str, references: Mapping[str, Vectors]) -> float:
    """Share of pictures whose mean cosine with `name`'s references no other concept's reaches."""
    if not len(pictures):
        return np.nan
    alike = {other: (pictures @ rows.T).mean(1) for other, rows in references.items()}
    rivals = [values for other, values in alike.items() if other != name]
    nearest = [alike[name] > rival for rival in rivals]
    return float(np.all(nearest, axis=0).mean()) if rivals else 1.0


def upper_bound(references: Mapping[str, Vectors]) -> float:
    """Mean likeness of references among themselves; NaN where every concept has but one."""
    return _mean([among_themselves(rows) for rows in references.values()])


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else np.nan
