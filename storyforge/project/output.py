"""Books under readable names: what the store keeps by key, copied to where an author looks."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from storyforge.store import Store, write_whole
from storyforge.store.durable import sweep
from storyforge.story.story import Story
from storyforge.tasks import BookTask

_ENDINGS: Final = {
    "web": ".web",
    "epub-reflow": ".reflow.epub",
    "png": ".pages",
    "cover": "-cover.pdf",
    "inside": "-inside.pdf",
    "booklet": "-booklet.pdf",
}
"""How books are called whose format is not their files' ending."""


def published(story: Story, task: BookTask, store: Store, out: Path | None) -> Path:
    """The book under its readable name; the file is only touched if it is another one."""
    tongue = "" if task.language == story.language else f".{task.language}"
    ending = _ENDINGS.get(task.format, f".{task.format}")
    target = file_of(story, out, f"{tongue}{ending}")
    # Not once in a process alone: the desk lives long, and a run beside it may be killed.
    sweep(target.parent)
    product = store.path(task.format, task.key)
    if product.is_dir():
        _publish_folder(product, target)
    else:
        _publish_file(product, target)
    return target


def _publish_file(product: Path, target: Path) -> None:
    data, former = product.read_bytes(), target.read_bytes() if target.is_file() else None
    if former is not None and former != data and target.suffix == ".epub":
        from storyforge.book.package import edition

        data = edition(data, former)
    if former != data:
        write_whole(target, data)


def _publish_folder(product: Path, target: Path) -> None:
    """Copy the files, and remove those of the same kind that an earlier book left."""
    wanted = {path.relative_to(product) for path in product.rglob("*") if path.is_file()}
    for name in wanted:
        _publish_file(product / name, target / name)
    for folder in {name.parent for name in wanted}:
        for pattern in ("page-*.png", "picture-*.jpg"):
            for path in (target / folder).glob(pattern):
                if path.relative_to(target) not in wanted:
                    path.unlink()


def file_of(story: Story, out: Path | None, ending: str) -> Path:
    """A file in the folder of books, `build` beside the story if None, named as the story's file.

    The name is the folder's if the file is called `story.yaml`.
    """
    stem = story.path.stem
    name = stem if stem != "story" else story.path.absolute().parent.name
    return (out or story.folder / "build") / f"{name}{ending}"
