"""The file that names approved pictures: `story.lock.yaml`, beside the story.

It holds one line a pin, with a count and a sum, so that a cut is noticed; what a picture was made
from lies beside the picture. The format before, which repeated every recipe, is still read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from storyforge.errors import Report, StoryError
from storyforge.settings import written_as
from storyforge.store import write_whole
from storyforge.store.durable import remove, sync_folder, writing
from storyforge.store.locks import held
from storyforge.story.story import PanelId
from storyforge.story.validate import validated
from storyforge.story.yaml import Limits, Node, load

ENDING: Final = ".lock.yaml"

_LIMITS: Final = Limits(bytes=64_000_000, values=4_000_000)
"""The format before took 5 kB a pin, and nothing else in it can be large."""

PATIENCE: Final = 60.0
"""Seconds to wait for another command that is writing the same lock."""

_STRICT: Final = ConfigDict(frozen=True, extra="forbid")

_HEADER: Final = """\
# Approved pictures, written by `storyforge pick`, `pin` and `unpin`; the sum is of all its lines.
# They lie in pins/, named by panel and key; keep this file and that folder together.
"""

Key = Annotated[str, *written_as(r"[0-9a-f]{8,64}", "a key; it is made of 0-9 and a-f")]
PictureSum = Annotated[str, *written_as(r"[0-9a-f]{64}", "a SHA-256, 64 hex digits")]


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 9 else value


class PinnedPicture(BaseModel):
    """What the lock says of one panel.

    recipe, model  what it and its fused model were made from, in the format before
    """

    model_config = _STRICT

    take: int = Field(ge=0)
    key: Key
    sha256: PictureSum
    recipe: dict[str, JsonValue] = Field(default_factory=dict, repr=False)
    model: dict[str, JsonValue] = Field(default_factory=dict, repr=False)


class LockFile(BaseModel):
    """What a story.lock.yaml says."""

    model_config = _STRICT

    storyforge: Annotated[Literal[1, 2], BeforeValidator(_number)]
    pins: int | None = Field(default=None, ge=0)
    sum: PictureSum | None = None
    panels: dict[PanelId, PinnedPicture] = Field(default_factory=dict)


def lock_path(story: Path) -> Path:
    """The lock of the story in this file."""
    return story.with_name(f"{story.stem}{ENDING}")


@contextmanager
def editing(path: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Keep others from pinning in the same folder, whatever story and store they work with."""
    with held(path.with_name(".pins.lock"), patience):
        yield


def locks_in(folder: Path) -> list[Path]:
    """Every lock in a story's folder."""
    return sorted(folder.glob(f"[!.]*{ENDING}"))


def parsed(path: Path, report: Report) -> tuple[Node, LockFile] | None:
    """The lock at `path` with its places; None, and why in the report, if it has mistakes."""
    root = load(path, report, _LIMITS)
    lock = None if root is None else validated(LockFile, root, report)
    if root is None or lock is None:
        return None
    if not _is_whole(lock):
        message = "the list of pinned pictures is not the one that was written"
        remedy = "get it back from version control, or `storyforge pin --mend` makes it anew"
        report.error(root.mark_of("pins"), "SF702", message, remedy)
        return None
    return root, lock


def read_lock(path: Path) -> LockFile:
    """The lock at `path`, one without pins if there is none.

    Raises StoryError, with the places, for a lock with mistakes.
    """
    if not path.is_file():
        return LockFile(storyforge=2)
    report = Report(str(path))
    found = parsed(path, report)
    if found is None:
        raise StoryError(f"mistakes in `{path}`", diagnostics=report.findings())
    return found[1]


def named_by_hand(path: Path) -> dict[str, PinnedPicture]:
    """Every pin that the lock still names, whole or not; none if it cannot be read at all."""
    report = Report(str(path))
    root = load(path, report, _LIMITS) if path.is_file() else None
    lock = None if root is None else validated(LockFile, root, report)
    return {} if lock is None else dict(lock.panels)


def write_lock(path: Path, panels: Mapping[str, PinnedPicture]) -> None:
    """Replace the lock, which is known to read back; without pins there is none."""
    if not panels:
        with writing(path):
            remove(path)
            sync_folder(path.parent)
        return

    def reads_back(draft: Path) -> None:
        """Raise ValueError for a draft that would not be read."""
        # A lock that no command can read locks its story out: better to write none.
        if read_lock(draft).panels != {name: _plain(kept) for name, kept in panels.items()}:
            raise ValueError(f"`{path}` would not read back")

    write_whole(path, _text(panels).encode(), reads_back)


def _plain(kept: PinnedPicture) -> PinnedPicture:
    return PinnedPicture(take=kept.take, key=kept.key, sha256=kept.sha256)


def _text(panels: Mapping[str, PinnedPicture]) -> str:
    head = f"storyforge: 2\npins: {len(panels)}\nsum: {_sum(panels)}\npanels:\n"
    # By name, so that the same pins are the same bytes, whichever was approved first.
    return f"{_HEADER}{head}" + "".join(
        f"  {name}: {{take: {kept.take}, key: {kept.key}, sha256: {kept.sha256}}}\n"
        for name, kept in sorted(panels.items())
    )


def _is_whole(lock: LockFile) -> bool:
    if lock.storyforge == 1:
        return True
    return lock.pins == len(lock.panels) and lock.sum == _sum(lock.panels)


def _sum(panels: Mapping[str, PinnedPicture]) -> str:
    told = [[name, kept.take, kept.key, kept.sha256] for name, kept in sorted(panels.items())]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
