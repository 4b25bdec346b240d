"""Which of a panel's takes to look at first: who looks like themselves, does as told, and has eyes.

A number to choose by, not a choice. Takes with a face that ran come last, however alike their
colours are; the others by likeness and obedience together, each counted in its own spread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, pstdev
from typing import Final

from PIL import Image

from storyforge.evaluate.story import region_scores
from storyforge.geometry.box import Box
from storyforge.metrics.alignment import text_alignment
from storyforge.metrics.clip import Clip
from storyforge.metrics.eyes import eyes_seen
from storyforge.metrics.references import cut, references_of
from storyforge.model.prompt_weights import pieces_of
from storyforge.pictures import with_articles
from storyforge.plan.plan import Plan
from storyforge.provenance.found import found_boxes
from storyforge.provenance.recipe import subjects_in
from storyforge.store import Store
from storyforge.story.story import Story
from storyforge.tasks import PanelTask

EYES: Final = 0.13
"""From here on eyes are said to be seen. Of 60 heads of the illustrator's all had clearer ones, and
95 % after a blur as of a small picture; smeared so that nobody would take them, nine in ten had
less. Eyes that are painted over whole are found missing only now and then."""

_AROUND: Final = 0.15
"""A head is looked at with so much of its sides around it: where it is, is known coarsely."""


@dataclass(frozen=True, slots=True)
class TakeScore:
    """What there is to say of one take; None where nobody could judge.

    likeness   image-alignment of its regions with their concepts' references, the mean
    obedience  text-alignment of the picture and of its regions with their prompts, the mean
    eyes       how clearly the eyes of all characters are seen, by who has the least
    """

    likeness: float | None = None
    obedience: float | None = None
    eyes: float | None = None

    @property
    def eyeless(self) -> bool:
        """Whether somebody has no eyes to be seen."""
        return self.eyes is not None and self.eyes < EYES

    @property
    def known(self) -> dict[str, float]:
        """The scores that there are, by name."""
        every = {"likeness": self.likeness, "obedience": self.obedience, "eyes": self.eyes}
        return {name: round(value, 4) for name, value in every.items() if value is not None}

    def __str__(self) -> str:
        """The scores in words."""
        parts = [f"{name} {value:.2f}" for name, value in self.known.items() if name != "eyes"]
        if self.eyes is not None:
            parts.append("no eyes seen" if self.eyeless else "eyes seen")
        return ", ".join(parts)


def take_scores(
    plan: Plan, store: Store, takes: Sequence[PanelTask], clip: Clip | None
) -> dict[str, TakeScore]:
    """Key of a take -> what there is to say of it; of takes that are not drawn nothing.

    clip  None if there is none: then eyes are looked for alone
    """
    drawn = [take for take in takes if store.has("panels", take.key)]
    likeness = _likeness(plan, store, drawn, clip) if clip else {}
    found = {}
    for take in drawn:
        path = store.path("panels", take.key)
        obedience = _obedience(plan.story, take, path, clip) if clip else None
        eyes = _eyes(plan.story, take, path)
        found[take.key] = TakeScore(likeness.get(take.key), obedience, eyes)
    return found


def ranking(scores: Mapping[int, TakeScore]) -> list[int]:
    """The numbers of takes, the most promising first."""
    likeness = _spread({number: each.likeness for number, each in scores.items()})
    obedience = _spread({number: each.obedience for number, each in scores.items()})

    def order(number: int) -> tuple[bool, float, float, int]:
        """Eyes first; of takes that weigh the same the more alike."""
        both = likeness.get(number, 0.0) + obedience.get(number, 0.0)
        return scores[number].eyeless, -round(both, 6), -likeness.get(number, 0.0), number

    return sorted(scores, key=order)


def _spread(values: Mapping[int, float | None]) -> dict[int, float]:
    """How many standard deviations each is above the mean; the two scores differ in scale."""
    known = {number: value for number, value in values.items() if value is not None}
    spread = pstdev(known.values()) if known else 0.0
    middle = mean(known.values()) if known else 0.0
    return {number: (value - middle) / spread if spread else 0.0 for number, value in known.items()}


def _likeness(plan: Plan, store: Store, takes: Sequence[PanelTask], clip: Clip) -> dict[str, float]:
    """Left out are takes without a region of a concept with pictures."""
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


def _obedience(story: Story, take: PanelTask, path: Path, clip: Clip) -> float:
    found = found_boxes(path)
    with Image.open(path) as picture:
        whole = picture.convert("RGB")
    parts = [whole, *(cut(whole, found.get(r.name, r.box)) for r in take.regions)]
    words = [_plain(story, each) for each in (take.prompt, *(r.prompt for r in take.regions))]
    return text_alignment(clip.pictures(parts), clip.words(words))


def _plain(story: Story, prompt: str) -> str:
    """A prompt as a CLIP reads it: without weights, each concept called by its class."""
    words = "".join(text for text, _ in pieces_of(prompt))
    for name, spec in story.concepts.items():
        words = words.replace(f"<{name}>", name if isinstance(spec, Path) else spec.class_)
    return with_articles(words)


def _eyes(story: Story, take: PanelTask, path: Path) -> float | None:
    """None if nobody in the picture has a face."""
    alive = [region for region in take.regions if region.concept in story.characters]
    if not alive:
        return None
    known, found = subjects_in(path), found_boxes(path)
    heads: Iterable[Box] = (
        (r.name in known and known[r.name].head) or _upper(found.get(r.name, r.box)) for r in alive
    )
    with Image.open(path) as picture:
        whole = picture.convert("RGB")
    return min(eyes_seen(cut(whole, _wider(head))) for head in heads)


def _upper(box: Box) -> Box:
    return Box(x0=box.x0, y0=box.y0, x1=box.x1, y1=box.y0 + box.height / 2)


def _wider(box: Box) -> Box:
    across, down = _AROUND * box.width, _AROUND * box.height
    return Box(
        x0=max(0.0, box.x0 - across),
        y0=max(0.0, box.y0 - down),
        x1=min(1.0, box.x1 + across),
        y1=min(1.0, box.y1 + down),
    )
