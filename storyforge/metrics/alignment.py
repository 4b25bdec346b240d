"""Numbers for "does it look like its concept" and "does it show what was asked", from CLIP vectors.

Image- and text-alignment are those of Custom Diffusion (Kumari et al. 2023, §4) and Mix-of-Show
(Gu et al. 2023, §4.1). They are read together: text-alignment rises when identity is lost. For
several subjects in one picture, which those papers do not measure, regions are judged one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from storyforge.metrics.clip import Vectors

TEXT_SCALE: Final = 2.5
"""w of CLIPScore (Hessel et al. 2021, §3)."""


def image_alignment(pictures: Vectors, references: Vectors) -> float:
    """Mean cosine of every picture with every reference, in [−1, 1]; NaN without pairs."""
    return float((pictures @ references.T).mean()) if len(pictures) and len(references) else np.nan


def text_alignment(pictures: Vectors, texts: Vectors) -> float:
    """Mean of 2.5 · max(cosine, 0) of each picture with its own text, in [0, 2.5]; NaN of none."""
    if len(pictures) == 0:
        return np.nan
    return float(TEXT_SCALE * np.maximum((pictures * texts).sum(1), 0).mean())


def among_themselves(references: Vectors) -> float:
    """Mean cosine of different references, what a perfect picture may reach; NaN for one."""
    if len(references) < 2:
        return np.nan
    alike = references @ references.T
    return float(alike[~np.eye(len(alike), dtype=bool)].mean())


@dataclass(frozen=True, slots=True)
class RegionScore:
    """One region of one panel.

    concept          who is asked for there
    image_alignment  mean cosine of the region's picture with each concept's references
    """

    panel: str
    region: str
    concept: str
    image_alignment: Mapping[str, float]

    @property
    def found(self) -> bool:
        """Whether no other concept is more alike."""
        return (
            max(self.image_alignment, key=lambda name: self.image_alignment[name]) == self.concept
        )

    def margin(self, others: Iterable[str]) -> float:
        """How much more alike its own concept is than the most alike of some others."""
        rivals = [self.image_alignment[name] for name in others if name != self.concept]
        return self.image_alignment[self.concept] - max(rivals)


@dataclass(frozen=True, slots=True)
class Togetherness:
    """How subjects hold beside each other.

    regions   how many were judged
    found     share whose own concept is the most alike, in [0, 1]
    complete  share of the panels with several subjects where every region is found
    missing   share whose likeness to its own concept is nearer to a stranger of its class than to
              the references, in [0, 1]
    leakage   leakage[i][j]: mean likeness to concept j in the regions of i
    """

    regions: int
    found: float
    complete: float
    missing: float
    leakage: Mapping[str, Mapping[str, float]]


def together(sightings: Sequence[RegionScore], thresholds: Mapping[str, float]) -> Togetherness:
    """Sum up what was seen; below its threshold a concept is missing. NaN without panels."""
    if not sightings:
        return Togetherness(0, np.nan, np.nan, np.nan, {})
    panels: dict[str, list[RegionScore]] = {}
    for sighting in sightings:
        panels.setdefault(sighting.panel, []).append(sighting)
    crowds = [seen for seen in panels.values() if len(seen) > 1]
    names = sorted({sighting.concept for sighting in sightings})
    leakage = {
        name: {
            other: float(
                np.mean([s.image_alignment[other] for s in sightings if s.concept == name])
            )
            for other in sightings[0].image_alignment
        }
        for name in names
    }
    lost = [s.image_alignment[s.concept] < thresholds[s.concept] for s in sightings]
    return Togetherness(
        regions=len(sightings),
        found=float(np.mean([sighting.found for sighting in sightings])),
        complete=float(np.mean([all(s.found for s in seen) for seen in crowds]))
        if crowds
        else np.nan,
        missing=float(np.mean(lost)),
        leakage=leakage,
    )


@dataclass(frozen=True, slots=True)
class Apartness:
    """How well the subjects of one picture are told from each other.

    apart     share of the regions that are more like their own concept than like any other of the
              panel, in [0, 1]
    complete  share of the panels where all are
    margin    mean of how much more, in [−2, 2]
    margins   the mean of each panel
    """

    apart: float
    complete: float
    margin: float
    margins: Mapping[str, float]


def apartness(sightings: Sequence[RegionScore]) -> Apartness:
    """Sum up panels of several subjects; NaN without any."""
    panels: dict[str, list[RegionScore]] = {}
    for sighting in sightings:
        panels.setdefault(sighting.panel, []).append(sighting)
    seen = {
        panel: [each.margin(other.concept for other in own) for each in own]
        for panel, own in panels.items()
        if len(own) > 1
    }
    if not seen:
        return Apartness(np.nan, np.nan, np.nan, {})
    every = [margin for margins in seen.values() for margin in margins]
    return Apartness(
        apart=float(np.mean([margin > 0 for margin in every])),
        complete=float(np.mean([min(margins) > 0 for margins in seen.values()])),
        margin=float(np.mean(every)),
        margins={panel: float(np.mean(margins)) for panel, margins in seen.items()},
    )
