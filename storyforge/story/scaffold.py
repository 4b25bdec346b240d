"""A story to begin with: the sample that comes with storyforge, copied where it can be edited."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.store.durable import make_folder, writing
from storyforge.story.layout import find, shipped
from storyforge.story.lint.cast import GROUPS
from storyforge.story.schema import schema
from storyforge.story.story import Story, read

SAMPLE: Final = "fox-and-lantern"

_IGNORED: Final = ".storyforge/\nbuild/\n.pins.lock\n"
"""What git need not keep: all of it comes again with `storyforge render` and `pin`."""


_MODELINE: Final = "# yaml-language-server: $schema=story.schema.json\n---\n"
"""What editors read: with it they complete a story's keys."""


def scaffold(folder: Path) -> Path:
    """Copy the sample story with its concepts and layouts into `folder`; the new story's file.

    Raises StoryForgeError if the folder holds anything, EnvironmentProblem if it cannot be written.
    """
    sample = shipped("stories") / f"{SAMPLE}.yaml"
    if not sample.is_file():
        message = "the sample story is not in this installation"
        raise EnvironmentProblem(message, hint="install storyforge again")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoryForgeError(f"`{folder}` is not empty", hint="name a new folder")
    story, folder = read(sample), folder.absolute()
    with writing(folder):
        make_folder(folder.parent)
        # Half a story is in nobody's way: the folder appears when all is in it.
        with TemporaryDirectory(prefix=".storyforge-", dir=folder.parent) as draft:
            _copy(story, Path(draft) / "new")
            if folder.exists():
                folder.rmdir()
            os.replace(Path(draft) / "new", folder)
    return folder / "story.yaml"


def _copy(story: Story, folder: Path) -> None:
    """Copy all that the story refers to, and let it refer to the copies."""
    for subfolder in ("concepts", "layouts"):
        (folder / subfolder).mkdir(parents=True, exist_ok=True)
    text = story.path.read_text(encoding="utf-8")
    for group in GROUPS:
        written: dict[str, str] = getattr(story, group)
        for name, place in written.items():
            copied = _copied_concept(story, name, place, folder / "concepts")
            text = re.sub(rf"(?m)(?<=[\s:]){re.escape(place)}(?=\s|$|[,}}])", copied, text)
    for name in story.layouts:
        file = find(name, (story.folder / "layouts",))
        if file is not None:
            shutil.copyfile(file, folder / "layouts" / file.name)
    for file in sorted((story.folder / "locales").glob(f"{story.path.stem}.*.yaml")):
        (folder / "locales").mkdir(exist_ok=True)
        shutil.copyfile(file, folder / "locales" / file.name.removeprefix(f"{story.path.stem}."))
    (folder / "story.yaml").write_text(f"{_MODELINE}{text}", encoding="utf-8", newline="\n")
    (folder / "story.schema.json").write_text(json.dumps(schema(), indent=1), encoding="utf-8")
    (folder / ".gitignore").write_text(_IGNORED, encoding="utf-8")


def _copied_concept(story: Story, name: str, place: str, concepts: Path) -> str:
    """Copy one concept, a folder or a file; its path as the new story writes it."""
    source = story.folder / place
    if source.is_dir():
        for file in sorted(source.rglob("*")):
            target = concepts / name / file.relative_to(source)
            if file.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
        return f"concepts/{name}"
    shutil.copyfile(source, concepts / source.name)
    return f"concepts/{source.name}"
