"""Files that the author names: where they lie, and whether they are there."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from storyforge.errors import Mark, Report, StoryForgeError, shortened
from storyforge.pictures import MAX_FILES, PICTURES, beside, check_readable, picture_size
from storyforge.story.yaml import Node

_REPEATED: Final = re.compile(r"\d+_")
"""How kohya's scripts begin the name of a folder: how often its pictures are shown."""


def located(node: Node, folder: Path, what: str, report: Report) -> Path | None:
    """The path written at `node`, seen from `folder`; None for an address on the network."""
    written = node.text or ""
    if "://" in written:
        message = f"`{shortened(written)}` is not on this machine; download it and name the {what}"
        report.error(node.mark, "SF307", message)
        return None
    if os.path.isabs(written) or written.startswith("~"):
        message = f"`{shortened(written)}` leads out of the project; the story runs only here"
        report.warning(node.mark, "SF407", message)
    return beside(folder, written)


def check_own_picture(panel: Node, folder: Path, report: Report) -> None:
    """Whether the picture that a panel or a person brings is there and can be read."""
    named = panel.get("picture")
    if named is None or named.text is None:
        return
    path = located(named, folder, "file", report)
    if path is not None:
        check_picture(named.mark, path, "picture", report)


def shape_of_own(panel: Node, folder: Path) -> float | None:
    """Width over height of the picture that a panel brings; None without one that can be read."""
    named = panel.text_at("picture")
    try:
        width, height = picture_size(beside(folder, named)) if named else (0, 1)
    except StoryForgeError:
        return None  # which is told elsewhere
    return width / height or None


def check_narration(page: Node, folder: Path, report: Report) -> None:
    """Whether a page's recordings are there."""
    said = page.get("narration")
    for named in [] if said is None else [said, *(said.entries or {}).values()]:
        path = located(named, folder, "file", report) if named.text else None
        if path is not None and not os.path.isfile(path):
            report.error(named.mark, "SF303", f"no recording at `{path}`")


def check_picture(mark: Mark, path: Path, what: str, report: Report) -> None:
    """Report a file that is missing, or that cannot be read as a picture."""
    if not os.path.isfile(path):
        report.error(mark, "SF303", f"no {what} at `{path}`")
        return
    try:
        _check_undamaged(path, path.stat().st_mtime_ns)
    except StoryForgeError as exc:
        report.error(mark, "SF328", f"this is no {what}: {exc.message}", exc.hint)
    except OSError as exc:
        report.error(mark, "SF328", f"this is no {what}: {exc}")


@lru_cache(maxsize=256)
def _check_undamaged(path: Path, changed: int) -> None:
    """Raise as `check_readable` does; what was whole need not be read again until it `changed`."""
    check_readable(path)


def check_pictures(folder: Path, mark: Mark, report: Report, most: int = MAX_FILES) -> None:
    """Report a folder that is missing or holds no picture."""
    try:
        with os.scandir(folder) as files:
            count = sum(file.name.lower().endswith(PICTURES) for file in files)
    except (OSError, ValueError):
        report.error(mark, "SF303", f"no picture folder at `{folder}`")
        return
    if count > most:
        message = f"`{folder}` holds {count} pictures; {most} is the limit for one concept"
        report.error(mark, "SF303", message)
    if not count:
        remedy = f"put some {', '.join(PICTURES[:3])} files there"
        if repeats := repeated(folder):
            named = " or ".join(f"`{name}`" for name in repeats[:3])
            remedy = f"they lie below it, as kohya has them: move what is in {named} here"
        report.error(mark, "SF303", f"no pictures in `{folder}` itself; {remedy}")


def repeated(folder: Path) -> list[str]:
    """Folders of pictures in the folder that are called as kohya's scripts want them, `10_fox`."""
    return sorted(
        inner.name
        for inner in folder.iterdir()
        if _REPEATED.match(inner.name)
        and inner.is_dir()
        and any(file.suffix.lower() in PICTURES for file in inner.iterdir())
    )
