"""Pictures of the same questions by many models, hung side by side and judged together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from storyforge.engine.stages import DrawingJob
from storyforge.evaluate.gallery import Gallery
from storyforge.evaluate.judge import PictureJudge
from storyforge.evaluate.questions import DrawingStyle, Question
from storyforge.executor import OnProgress
from storyforge.metrics.clip import Vectors
from storyforge.metrics.ensemble import Tally, tally
from storyforge.tasks import PanelTask

Answers = dict[str, list[tuple[Question, PanelTask]]]
"""Concept -> its pictures"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Who drew what.

    asked     concept -> what is asked of it
    answers   condition -> its pictures
    jobs      in the order in which pictures are drawn
    """

    style: DrawingStyle
    asked: Mapping[str, Sequence[Question]]
    answers: dict[str, Answers] = field(default_factory=dict)
    jobs: list[DrawingJob] = field(default_factory=list)

    def show(
        self, condition: str, names: Iterable[str], key: str | None, model: Path | None
    ) -> None:
        """Let a model answer what is asked of some concepts.

        key    what names the model in its pictures' keys; None for the base
        model  its folder; None for the base
        """
        own = {name: [(q, self.style.task(q, key)) for q in self.asked[name]] for name in names}
        self.answers.setdefault(condition, {}).update(own)
        tasks = tuple(task for each in own.values() for _, task in each)
        self.jobs.append(DrawingJob(tasks, model))

    def borrow(self, condition: str, names: Iterable[str], source: str) -> None:
        """Hang pictures of one condition that another would draw just the same."""
        self.answers[condition] = {name: self.answers[source][name] for name in names}

    def draw(self, gallery: Gallery, on_progress: OnProgress, at_once: int = 1) -> int:
        """Draw what is missing; how many pictures those were."""
        return gallery.draw(self.jobs, on_progress, at_once)

    def tally(
        self,
        judge: PictureJudge,
        condition: str,
        references: Mapping[str, Vectors],
        names: Iterable[str] | None = None,
    ) -> Tally:
        """Sum up one condition's pictures of some concepts; of all in `references` if None.

        references  of every concept that pictures may be taken for
        """
        chosen = references if names is None else names
        looks = {name: judge.look(self.answers[condition][name]) for name in chosen}
        return tally(looks, references)
