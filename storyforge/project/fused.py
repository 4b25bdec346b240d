"""What can be asked of a story's fused model once it is made: warnings, a report, a merged copy.

Making it is `project.fuse`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from storyforge.errors import StoryForgeError
from storyforge.plan.plan import base_of, draw_up
from storyforge.store import Store, size_of
from storyforge.story import story as stories
from storyforge.tasks import FuseTask

if TYPE_CHECKING:
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

    def merge(self, folder: Path) -> Path:
        """Write the model into a new or empty folder as one that stock diffusers opens."""
        from storyforge.fuse.checkpoint import write_checkpoint
        from storyforge.model.base import open_base

        write_checkpoint(open_base(self.task.base, self.task.base_hash), self.model, folder)
        return folder


def check_vacant(folder: Path) -> None:
    """Raise StoryForgeError, before any work is done, where `Fusion.merge` could not write."""
    from storyforge.fuse.checkpoint import check_vacant as check

    check(folder)


def fusion_of(path: Path, where: Path | None) -> Fusion | None:
    """The fused model of the story at `path`, made already; None if the story shows no concept.

    where  the folder of products; None for `.storyforge` beside the story
    """
    from storyforge.model.concept import FusedModel

    story = stories.read(path)
    store = Store(where or story.folder / ".storyforge")
    task = draw_up(story, base=base_of(story)).fuse
    if task is None:
        return None
    fused = store.path("fused", task.key)
    if not store.has("fused", task.key):
        raise StoryForgeError("not fused yet", hint=f"run `storyforge fuse {path}`")
    files = {"fused model": fused}
    for name, key in task.concepts:
        spec = story.concepts[name]
        files[f"concept {name}"] = spec if isinstance(spec, Path) else store.path("concepts", key)
    for name, key in task.statistics:
        if store.has("statistics", key):
            files[f"what {name} sees"] = store.path("statistics", key)
    return Fusion(task, FusedModel.load(fused), files)
