"""What can be asked of a story's fused model once it is made: warnings, a report, a merged copy.

Making it is `Project.fuse`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from storyforge.engine.engine import concept_file
from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.headers.header import read_header
from storyforge.headers.kinds import licence_of
from storyforge.plan.plan import Plan
from storyforge.store import Store, size_of
from storyforge.tasks import FuseTask

if TYPE_CHECKING:
    from storyforge.fuse.checkpoint import Target
    from storyforge.model.concept import FusedModel


@dataclass(frozen=True, slots=True)
class Fusion:
    """A story's fused model, and the files that went into it.

    files   what -> path
    """

    task: FuseTask
    model: FusedModel
    files: dict[str, Path]

    def warnings(self) -> tuple[str, ...]:
        """Which concepts get into each other's way."""
        from storyforge.fuse.account import Account

        return Account.model_validate(self.model.report).warnings

    def report(self, folder: Path) -> tuple[Path, Path]:
        """Write what fusing cost which concept into the folder, as a page and as JSON."""
        from storyforge.fuse.report import write_report

        sizes = {what: size_of(path) for what, path in self.files.items()}
        return write_report(self.model, sizes, folder)

    def merge(self, folder: Path, to: Target = "diffusers", *, half: bool = True) -> Path:
        """Write the model into a new or empty folder as one that stock diffusers or web UIs open.

        half  whether its weights are in half precision
        """
        from storyforge.fuse.checkpoint import write_checkpoint
        from storyforge.model.base import open_base

        base = open_base(self.task.base, self.task.base_hash)
        write_checkpoint(base, self.model, folder, to, half=half, licences=self._licences())
        return folder

    def _licences(self) -> dict[str, str]:
        """Concept -> the licence that its file states."""
        stated = {}
        for name, _ in self.task.concepts:
            try:
                licence = licence_of(read_header(self.files[f"concept {name}"]))
            except EnvironmentProblem:
                continue  # tidied away since it was fused
            if licence:
                stated[name] = licence
        return stated


def check_vacant(folder: Path) -> None:
    """Raise StoryForgeError, before any work is done, where `Fusion.merge` could not write."""
    from storyforge.fuse.checkpoint import check_vacant as check

    check(folder)


def fusion_of(drawn: Plan, store: Store) -> Fusion | None:
    """The fused model of a planned story, made already; None if the story shows no concept."""
    from storyforge.model.concept import FusedModel

    task = drawn.fuse
    if task is None:
        return None
    fused = store.path("fused", task.key)
    if not store.has("fused", task.key):
        raise StoryForgeError("not fused yet", hint=f"run `storyforge fuse {drawn.story.path}`")
    files = {"fused model": fused}
    for name, key in task.concepts:
        files[f"concept {name}"] = concept_file(drawn, store, name, key)
    for name, key in task.statistics:
        if store.has("statistics", key):
            files[f"what {name} sees"] = store.path("statistics", key)
    return Fusion(task, FusedModel.load(fused), files)
