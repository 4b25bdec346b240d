"""From a story to everything that has to be made for it: tasks as plain data, named by content.

`draw_up` opens no model. A key is the hash of all that a product depends on, and of nothing else:
moving the project, or a panel in it, makes nothing again. Doing the tasks is `workflow`'s work.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storyforge import __version__
from storyforge.layout import Box
from storyforge.story import Panel, Story
from storyforge.subject import Kind, TrainSettings
from storyforge.story import FuseSettings


@dataclass(frozen=True, slots=True)
class TrainTask:
    """Learn one concept.

    folder   where the pictures lie, with captions and masks beside them
    images   the pictures' file names
    base     how to open the base model: `pocket`, an absolute path, or a hub id
    recipe   what the key is the hash of, by field; every task has one
    """

    key: str
    concept: str
    kind: Kind
    class_phrase: str
    folder: Path
    images: tuple[str, ...]
    base: str
    base_hash: str
    settings: TrainSettings


@dataclass(frozen=True, slots=True)
class FuseTask:
    """Fuse concepts into one model; `concepts` are pairs of a name and its file's key."""

    key: str
    base: str
    base_hash: str
    concepts: tuple[tuple[str, str], ...]
    settings: FuseSettings


@dataclass(frozen=True, slots=True)
class RegionTask:
    """What one region shows; `box` in fractions of the picture."""

    name: str
    box: Box
    prompt: str
    negative: str
    weight: float
    z: int
    concept: str | None
    mask: Path | None = None


@dataclass(frozen=True, slots=True)
class PanelTask:
    """Draw one picture.

    fused   the fused model's key; None if the story has no concepts
    size    width and height in pixels; None for the base's own
    seed    31 bits
    """

    key: str
    panel: str
    page: int
    base: str
    base_hash: str
    fused: str | None
    prompt: str
    negative: str
    regions: tuple[RegionTask, ...]
    size: tuple[int, int] | None
    steps: int | None
    guidance_scale: float | None
    scheduler: str | None
    region_blend: float
    seed: int
    alt: str | None


@dataclass(frozen=True, slots=True)
class BookTask:
    """Bind one book; `panels` are pairs of a panel's id and its picture's key."""

    key: str
    format: str
    language: str
    panels: tuple[tuple[str, str], ...]
