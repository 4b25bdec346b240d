"""Pictures that were approved and are kept, whatever changes around them.

Beside `story.yaml` lies `story.lock.yaml`, which says of every pinned panel which picture it is,
and a folder `pins` with the pictures and, beside each, what it was made from: both belong into
version control. Whether a picture is still what the story asks for is `plan.status`'s question.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from storyforge.errors import Damaged, Diagnostic, Locked, Report, StoryError
from storyforge.plan.lockfile import (
    LockFile,
    PinnedPicture,
    editing,
    lock_path,
    locks_in,
    named_by_hand,
    parsed,
    read_lock,
    write_lock,
)
from storyforge.store import Store, fingerprint, write_whole
from storyforge.store.durable import remove, sweep, writing
from storyforge.story.story import Story
from storyforge.story.yaml import Node

_WHOLE: Final = re.compile(r"-?(0|[1-9]\d{0,30})")
_BROKEN: Final = re.compile(r"-?\d{1,30}\.\d{1,30}([eE][+-]?\d{1,2})?")

_COPY: Final = re.compile(r"(?P<panel>.{1,64})-(?P<key>[0-9a-f]{8,64})\.(png|json)")
"""How the copy of a pinned picture is called, and what lies beside it."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One approved picture.

    take     its number
    key      of the recipe
    sha256   of the file
    recipe   what it was made from; empty if that is not known any more
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


class _Origin(BaseModel):
    """What lies beside a pinned picture: all that the lock says of it, and what it was made from.

    story  the name of the story's file
    model  the name of the file in `pins/models` with the recipe of its fused model
    sum    of all the rest
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    story: str
    panel: str
    take: int
    key: str
    sha256: str
    recipe: dict[str, JsonValue]
    model: str | None = None
    sum: str

    @property
    def whole(self) -> bool:
        """Whether it says what was written."""
        return self.sum == _sum_of(self.model_dump(exclude={"sum"}))


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
    found = parsed(path, report)
    if found is None:
        return {}
    root, lock = found
    models: dict[str, Mapping[str, object]] = {}
    pins: dict[str, Pin] = {}
    for panel, kept in lock.panels.items():
        picture = picture_path(folder, panel, kept.key)
        if not picture.is_file() and _has(store, kept):
            picture = store.path("panels", kept.key)
        _check_picture(root, panel, kept, picture, report)
        recipe, model = _recipes(folder, panel, kept, models)
        pins[panel] = Pin(panel, kept.take, kept.key, kept.sha256, recipe, model, picture)
    return pins


def _recipes(
    folder: Path, panel: str, kept: PinnedPicture, models: dict[str, Mapping[str, object]]
) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """What the picture, and its fused model, was made from; `models` are those read before."""
    if kept.recipe:
        return _typed_map(kept.recipe), _typed_map(kept.model)
    origin = _origin(_beside(picture_path(folder, panel, kept.key)))
    if origin is None:
        return {}, {}
    if origin.model is not None and origin.model not in models:
        models[origin.model] = _model_named(folder, origin.model)
    return _typed_map(origin.recipe), models.get(origin.model or "", {})


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
        mended = f"`storyforge pin STORY {panel} --picture FILE` keeps a changed one; else {remedy}"
        report.error(panels.mark_of(panel), "SF701", message, mended)


def pinned_keys(folder: Path) -> set[str]:
    """The keys of every picture that a lock in the folder names.

    Raises StoryError for a lock with mistakes: what it names is not known.
    """
    return {kept.key for path in locks_in(folder) for kept in read_lock(path).panels.values()}


def pinned_panels(story: Story) -> dict[str, int]:
    """The number of the take by panel, for all that the lock names; its pictures may be gone."""
    lock = read_lock(lock_path(story.path))
    return {panel: kept.take for panel, kept in lock.panels.items()}


def keep(story: Story, approved: Collection[Pin], store: Store) -> None:
    """Pin pictures: copy each beside the story, then write the lock.

    Pins that are replaced lose their copy. Raises Damaged for a picture that is not the one that
    was approved.
    """
    path = lock_path(story.path)
    with editing(path):
        lock = _with_origins(story, read_lock(path))
        for pin in approved:
            data = pin.picture.read_bytes()
            if hashlib.sha256(data).hexdigest() != pin.sha256:
                message = f"`{pin.picture}` changed while it was pinned"
                raise Damaged(message, hint="run the same command again")
            target = picture_path(story.folder, pin.panel, pin.key)
            if not target.is_file() or fingerprint(target) != pin.sha256:
                write_whole(target, data)
            _write_origin(story, pin)
        new = {pin.panel: _line(pin) for pin in approved}
        write_lock(path, {**lock.panels, **new})
        _tidy(story.folder, store)


def release(story: Story, panels: Collection[str], store: Store) -> None:
    """Unpin panels: their pictures go back to the store, then the lock is written without them.

    Whenever this is interrupted, every panel that the lock names still has its picture.
    """
    path = lock_path(story.path)
    with editing(path):
        lock = _with_origins(story, read_lock(path))
        gone = {panel: kept for panel, kept in lock.panels.items() if panel in panels}
        for panel, kept in gone.items():
            picture = picture_path(story.folder, panel, kept.key)
            own = picture.is_file() and fingerprint(picture) == kept.sha256
            if own and not store.sound("panels", kept.key):
                with store.make("panels", kept.key) as out:
                    out.write_bytes(picture.read_bytes())
        write_lock(path, {panel: kept for panel, kept in lock.panels.items() if panel not in gone})
        _tidy(story.folder, store)


def mend(story: Story) -> tuple[str, ...]:
    """Write the lock anew from what it still names and from what lies in `pins`; all its panels."""
    path = lock_path(story.path)
    with editing(path):
        panels = named_by_hand(path)
        for origin in _origins(story.folder):
            picture = picture_path(story.folder, origin.panel, origin.key)
            ours = origin.story == story.path.name and origin.panel not in panels
            if ours and picture.is_file() and fingerprint(picture) == origin.sha256:
                panels[origin.panel] = PinnedPicture(
                    take=origin.take, key=origin.key, sha256=origin.sha256
                )
        lock = _with_origins(story, LockFile(storyforge=2, panels=panels))
        write_lock(path, lock.panels)
    return tuple(panels)


def picture_path(folder: Path, panel: str, key: str) -> Path:
    """Where the copy of a pinned picture lies; `folder` is the story's."""
    return folder / "pins" / f"{panel}-{key}.png"


def tidied(story: Story, store: Store) -> None:
    """Tidy the pins of a story's folder, if there are any, unless somebody is writing them."""
    if (story.folder / "pins").is_dir():
        with suppress(Locked), editing(lock_path(story.path), 0.0):
            _tidy(story.folder, store)


def _tidy(folder: Path, store: Store) -> None:
    """Throw away copies that no lock in the folder names any more, and what killed runs left.

    They lie in the store's trash for a while. None goes if a lock cannot be read.
    """
    pins = folder / "pins"
    try:
        named = {
            (panel, kept.key)
            for path in locks_in(folder)
            for panel, kept in read_lock(path).panels.items()
        }
    except StoryError:
        return
    for place in (folder, pins, pins / "models"):
        sweep(place)
    for copy in sorted(pins.glob("*.*")):
        match = _COPY.fullmatch(copy.name)
        if match is not None and (match["panel"], match["key"]) not in named:
            store.throw_away(copy, "pins")
    used = {origin.model for origin in _origins(folder)}
    for model in sorted((pins / "models").glob("*.json")):
        if model.stem not in used:
            with writing(model):
                remove(model)
    for place in (pins / "models", pins):
        with suppress(OSError):
            place.rmdir()


def _line(pin: Pin) -> PinnedPicture:
    return PinnedPicture(take=pin.take, key=pin.key, sha256=pin.sha256)


def _beside(picture: Path) -> Path:
    return picture.with_suffix(".json")


def _origin(path: Path) -> _Origin | None:
    """What lies beside a picture; None if it is gone or damaged: it only explains."""
    try:
        origin = _Origin.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    return origin if origin.whole else None


def _sum_of(told: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _origins(folder: Path) -> Iterator[_Origin]:
    for path in sorted((folder / "pins").glob("*.json")):
        origin = _origin(path)
        if origin is not None:
            yield origin


def _model_named(folder: Path, name: str) -> Mapping[str, object]:
    if not re.fullmatch(r"[0-9a-f]{16}", name):
        return {}
    try:
        model = json.loads((folder / "pins" / "models" / f"{name}.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return _typed_map(model) if isinstance(model, dict) else {}


def _write_origin(story: Story, pin: Pin) -> None:
    """Put beside a pinned picture what it was made from; many may share one fused model."""
    name = None
    if pin.model:
        data = json.dumps(pin.model, sort_keys=True, indent=1).encode()
        name = hashlib.sha256(data).hexdigest()[:16]
        _write_other(story.folder / "pins" / "models" / f"{name}.json", data)
    told = {
        "story": story.path.name,
        "panel": pin.panel,
        "take": pin.take,
        "key": pin.key,
        "sha256": pin.sha256,
        "recipe": dict(pin.recipe),
        "model": name,
    }
    told = json.loads(json.dumps(told))
    told["sum"] = _sum_of(told)
    beside = _beside(picture_path(story.folder, pin.panel, pin.key))
    _write_other(beside, json.dumps(told, sort_keys=True, indent=1, ensure_ascii=False).encode())


def _write_other(path: Path, data: bytes) -> None:
    """Write a file, unless it says so already."""
    if not path.is_file() or path.read_bytes() != data:
        write_whole(path, data)


def _with_origins(story: Story, lock: LockFile) -> LockFile:
    """The lock as it is written today: recipes that it repeats go beside their pictures."""
    for panel, kept in lock.panels.items():
        if kept.recipe:
            recipe, model = _typed_map(kept.recipe), _typed_map(kept.model)
            picture = picture_path(story.folder, panel, kept.key)
            pin = Pin(panel, kept.take, kept.key, kept.sha256, recipe, model, picture)
            _write_origin(story, pin)
    panels = {
        panel: PinnedPicture(take=kept.take, key=kept.key, sha256=kept.sha256)
        for panel, kept in lock.panels.items()
    }
    return LockFile(storyforge=2, panels=panels)


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
