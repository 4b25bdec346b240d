"""What tasks are made from: read over before anything is built on it, and looked at again after.

A damaged product is set aside, so that it is missing and made again. A file of the author's that
changed while it was used ends the task: what came of it would bear the wrong key. `project` then
reads the story again and goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from storyforge.errors import InputChanged
from storyforge.plan.keys import KeyInputs, drawn_from, import_recipe, key_of, own_recipe
from storyforge.plan.plan import Plan
from storyforge.plan.status import subject_of
from storyforge.store import Shelf, Store, fingerprint
from storyforge.store.products import Source
from storyforge.tasks import FuseTask, ImportTask, OwnPictureTask, PanelTask, TrainTask

InputSums = Mapping[str, str]
"""Files by their name below a folder, and how their SHA-256 begins."""


def checked(plan: Plan, store: Store) -> tuple[str, ...]:
    """Read over what a run is going to build on or to hand out; what of it was damaged, in words.

    What nothing missing is made from is not read.
    """
    damaged: list[str] = []

    def is_sound(shelf: Shelf, key: str, subject: str) -> bool:
        """Whether a product is what it was; what is damaged is noted."""
        there = store.path(shelf, key).exists()
        sound = store.sound(shelf, key)
        if there and not sound:
            damaged.append(subject)
        return sound

    for book in plan.books:
        is_sound(book.format, book.key, subject_of(book))
    for own in plan.own:
        is_sound("panels", own.key, subject_of(own))
    drawn = [task for task in plan.panels if task.panel not in plan.pins]
    lacking = [t for t in drawn if not is_sound("panels", t.key, subject_of(t))]
    if plan.panels and not lacking:
        return tuple(damaged)
    fuse = plan.fuse
    if fuse is not None and not is_sound("fused", fuse.key, "fused model"):
        for name, key in (*fuse.statistics, ("the base", fuse.ordinary)):
            is_sound("statistics", key, f"statistics of {name}")
        lacking = list(plan.panels)
    if fuse is None or lacking or not plan.panels:
        for task in plan.train:
            is_sound("concepts", task.key, subject_of(task))
    return tuple(damaged)


def sums_of(task: TrainTask, key_inputs: Mapping[str, KeyInputs]) -> InputSums:
    """What a concept's pictures, captions and masks were when its key was made."""
    match key_inputs.get(task.key, {}).get("pictures"):
        case dict(told):
            return {str(name): str(digest) for name, digest in told.items()}
    return {}


def check_pictures(task: TrainTask, sums: InputSums) -> None:
    """Raise InputChanged if a picture is not what it was when the concept's key was made."""
    for name, digest in sums.items():
        if not _is(task.folder / name, digest):
            raise _changed(task.folder / name)


def check_files(task: FuseTask, files: Mapping[str, Path], learnt: Sequence[Source]) -> None:
    """Raise InputChanged if a concept's file that the author brought is not what it was."""
    for name, key in task.concepts:
        if ("concepts", key) not in learnt and not _is(files[name], key):
            raise _changed(files[name])


def check_panel(task: PanelTask) -> None:
    """Raise InputChanged if a mask, a control picture or a LoRA is not what it was."""
    if key_of(drawn_from(task)) != task.key:
        raise InputChanged(
            f"a file that panel `{task.panel}` is drawn from was changed meanwhile",
            hint="run the same command again",
        )


def check_import(task: ImportTask) -> None:
    """Raise InputChanged if another tool's file is not what it was when its concept was named."""
    said = task.kind, task.class_phrase, task.base_hash
    if key_of(import_recipe(task.file, *said)) != task.key:
        raise _changed(task.file)


def check_own(task: OwnPictureTask) -> None:
    """Raise InputChanged if a picture of the author's own is not what it was."""
    if key_of(own_recipe(task.file, task.made)) != task.key:
        raise _changed(task.file)


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and fingerprint(path).startswith(digest)


def _changed(path: Path) -> InputChanged:
    return InputChanged(
        f"`{path}` was changed while it was used", hint="run the same command again"
    )


def learnt_of(task: FuseTask | PanelTask, plan: Plan) -> list[Source]:
    """The concepts of a task that are products; what the author brought is none."""
    learnt = plan.learnt_keys
    return [("concepts", key) for _, key in task.concepts if key in learnt]
