"""How alike takes of a panel are to whom they show: a number to choose by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import mean

from storyforge.evaluate.story import region_scores
from storyforge.metrics.clip import Clip
from storyforge.metrics.references import references_of
from storyforge.plan.plan import Plan
from storyforge.store import Store
from storyforge.tasks import PanelTask


def image_alignments(
    plan: Plan, store: Store, takes: Sequence[PanelTask], clip: Clip
) -> dict[str, float]:
    """Key of a take -> image-alignment of its regions with their concepts' references, the mean.

    Left out are takes that are not drawn, and those without a region of a concept with pictures.
    """
    asked = {region.concept for take in takes for region in take.regions}
    references = {
        task.concept: references_of(clip, task) for task in plan.train if task.concept in asked
    }
    found = {}
    for take in takes:
        seen = list(region_scores(replace(plan, panels=(take,)), store, clip, references))
        if seen:
            found[take.key] = mean(each.image_alignment[each.concept] for each in seen)
    return found
