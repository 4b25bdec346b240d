"""Pictures that were approved and are kept, whatever changes around them.

Beside `story.yaml` lies `story.lock.yaml`, which says of every pinned panel which picture it is and
what it was made from, and a folder `pins` with the pictures themselves: both belong into version
control. Whether a picture is still what the story asks for is `plan.status`'s question.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from storyforge.errors import Diagnostic, Report, StoryError
from storyforge.settings import written_as
from storyforge.store import Store, fingerprint, write_whole
from storyforge.story.concept import Version
from storyforge.story.story import PanelId, Story
from storyforge.story.validate import validated
from storyforge.story.yaml import Node, load

_STRICT: Final = ConfigDict(frozen=True, extra="forbid")

_HEADER: Final = """\
# Approved pictures, written by `storyforge pick`, `pin` and `unpin`.
# They lie in pins/, named by panel and key; keep this file and that folder together.
"""

_WHOLE: Final = re.compile(r"-?(0|[1-9]\d{0,30})")
_BROKEN: Final = re.compile(r"-?\d{1,30}\.\d{1,30}([eE][+-]?\d{1,2})?")

_ENDING: Final = ".lock.yaml"


class PinnedPicture(BaseModel):
    """What the lock says of one panel."""

    model_config = _STRICT

    take: int = Field(ge=0)
    key: Annotated[str, *written_as(r"[0-9a-f]{8,64}", "a key; it is made of 0-9 and a-f")]
    sha256: Annotated[str, *written_as(r"[0-9a-f]{64}", "the SHA-256 of a file, 64 hex digits")]
    recipe: dict[str, JsonValue]
    model: dict[str, JsonValue] = Field(default_factory=dict)


class LockFile(BaseModel):
    """What a story.lock.yaml says."""

    model_config = _STRICT

    storyforge: Version
    panels: dict[PanelId, PinnedPicture] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pin:
    """One approved picture.

    take     its number
    key      of the recipe
    sha256   of the file
    recipe   what it was made from
    model    the recipe of the fused model that it was drawn with; empty if there was none
    picture  the file
    """

    panel: str
    take: int
    key: str
    sha256: str
    recipe: Mapping[str, object]
    model: Mapping[str, object]
    picture: Path


def lock_path(story: Path) -> Path:
    """The lock of the story in this file."""
    return story.with_name(f"{story.stem}{_ENDING}")


def read_pins(story: Story, store: Store) -> dict[str, Pin]:
    """Every pin of the story by its panel, the picture's sum checked; none without a lock.

    A picture that is lost is taken from the store. Raises StoryError, with the places, for a lock
    with mistakes, and for pictures that are gone or were changed.
    """
    path = lock_path(story.path)
    if not path.is_file():
        return {}
    report = Report(str(path))
    pins = _pins(path, story.folder, store, report)
    if report.has_errors():
        raise StoryError(f"mistakes in `{path}`", diagnostics=report.findings())
    return pins


def findings_in(story: Path) -> tuple[Diagnostic, ...]:
    """Every mistake in the lock of the story in this file; no file can make this raise."""
    path = lock_path(story)
    if not path.is_file():
        return ()
    report = Report(str(path))
    _pins(path, story.parent, Store(story.parent / ".storyforge"), report)
    return tuple(report.findings())


def _pins(path: Path, folder: Path, store: Store, report: Report) -> dict[str, Pin]:
    root = load(path, report)
    lock = None if root is None else validated(LockFile, root, report)
    pins: dict[str, Pin] = {}
    for panel, kept in lock.panels.items() if lock is not None else ():
        picture = picture_path(folder, panel, kept.key)
        if not picture.is_file() and _has(store, kept):
            picture = store.path("panels", kept.key)
        if root is not None:
            _check_picture(root, panel, kept, picture, report)
        recipe, model = _typed_map(kept.recipe), _typed_map(kept.model)
        pins[panel] = Pin(panel, kept.take, kept.key, kept.sha256, recipe, model, picture)
    return pins


def _has(store: Store, kept: PinnedPicture) -> bool:
    if not store.has("panels", kept.key):
        return False
    return fingerprint(store.path("panels", kept.key)) == kept.sha256


def _check_picture(
    root: Node, panel: str, kept: PinnedPicture, picture: Path, report: Report
) -> None:
    panels = root.get("panels") or root
    remedy = f"get it back from version control, or `storyforge unpin` `{panel}`"
    if not picture.is_file():
        message = f"the pinned picture `{picture.parent.name}/{picture.name}` is gone"
        report.error(panels.mark_of(panel), "SF700", message, remedy)
    elif fingerprint(picture) != kept.sha256:
        message = f"`{picture.parent.name}/{picture.name}` is not the picture that was pinned"
        report.error(panels.mark_of(panel), "SF701", message, remedy)


def pinned_keys(folder: Path) -> set[str]:
    """The keys of every picture that a lock in the folder names.

    Raises StoryError for a lock with mistakes: what it names is not known.
    """
    keys: set[str] = set()
    for path in sorted(folder.glob(f"*{_ENDING}")):
        keys |= {kept.key for kept in _read_lock(path).panels.values()}
    return keys


def pinned_panels(story: Story) -> dict[str, int]:
    """The number of the take by panel, for all that the lock names; its pictures may be gone."""
    lock = _read_lock(lock_path(story.path))
    return {panel: kept.take for panel, kept in lock.panels.items()}


def _read_lock(path: Path) -> LockFile:
    if not path.is_file():
        return LockFile(storyforge=1)
    report = Report(str(path))
    root = load(path, report)
    lock = None if root is None else validated(LockFile, root, report)
    if lock is None:
        raise StoryError(f"mistakes in `{path}`", diagnostics=report.findings())
    return lock


def keep(story: Story, approved: Collection[Pin]) -> None:
    """Pin pictures: copy each beside the story, then write the lock.

    Pins that are replaced lose their copy.
    """
    path = lock_path(story.path)
    lock = _read_lock(path)
    for pin in approved:
        target = picture_path(story.folder, pin.panel, pin.key)
        if not target.is_file() or fingerprint(target) != pin.sha256:
            write_whole(target, pin.picture.read_bytes())
    new = {pin.panel: pin for pin in approved}
    _write(path, {**lock.panels, **new})
    _sweep(story.folder, {(panel, lock.panels[panel].key) for panel in new if panel in lock.panels})


def release(story: Story, panels: Collection[str], store: Store) -> None:
    """Unpin panels: write the lock without them; their pictures go back to the store."""
    path = lock_path(story.path)
    lock = _read_lock(path)
    gone = {panel: kept for panel, kept in lock.panels.items() if panel in panels}
    for panel, kept in gone.items():
        picture = picture_path(story.folder, panel, kept.key)
        if picture.is_file() and not store.has("panels", kept.key):
            with store.make("panels", kept.key) as out:
                out.write_bytes(picture.read_bytes())
    _write(path, {panel: kept for panel, kept in lock.panels.items() if panel not in gone})
    _sweep(story.folder, {(panel, kept.key) for panel, kept in gone.items()})


def picture_path(folder: Path, panel: str, key: str) -> Path:
    """Where the copy of a pinned picture lies; `folder` is the story's."""
    return folder / "pins" / f"{panel}-{key}.png"


def _write(path: Path, panels: Mapping[str, PinnedPicture | Pin]) -> None:
    """Replace the lock; without pins there is none."""
    if not panels:
        path.unlink(missing_ok=True)
        return
    told = {panel: _told(kept) for panel, kept in panels.items()}
    content = {"storyforge": 1, "panels": told}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=96)
    write_whole(path, f"{_HEADER}{text}".encode())


def _told(kept: PinnedPicture | Pin) -> dict[str, object]:
    told: dict[str, object] = {"take": kept.take, "key": kept.key, "sha256": kept.sha256}
    told["recipe"] = _typed_map(kept.recipe)
    return told | ({"model": _typed_map(kept.model)} if kept.model else {})


def _sweep(folder: Path, once: Collection[tuple[str, str]]) -> None:
    """Remove copies that no lock in the folder names any more; none if a lock cannot be read."""
    try:
        named = {
            (panel, kept.key)
            for path in sorted(folder.glob(f"*{_ENDING}"))
            for panel, kept in _read_lock(path).panels.items()
        }
    except StoryError:
        return
    for panel, key in once:
        if (panel, key) not in named:
            picture_path(folder, panel, key).unlink(missing_ok=True)
    if (folder / "pins").is_dir() and not any((folder / "pins").iterdir()):
        (folder / "pins").rmdir()


def typed(value: object) -> object:
    """Plain JSON in which texts that are numbers or switches are these, as YAML reads them.

    Recipes are compared in this form: in a lock every value is a text.
    """
    match value:
        case dict():
            return {str(name): typed(part) for name, part in value.items()}
        case list() | tuple():
            return [typed(part) for part in value]
        case "true" | "false":
            return value == "true"
        case str() if _WHOLE.fullmatch(value):
            return int(value)
        case str() if _BROKEN.fullmatch(value):
            return float(value)
    return value


def _typed_map(value: Mapping[str, object]) -> dict[str, object]:
    return {name: typed(part) for name, part in value.items()}
