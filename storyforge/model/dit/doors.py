"""The doors that there are, by the pipelines whose folders they open."""

from __future__ import annotations

from typing import Final

from storyforge.model.dit.door import Door
from storyforge.model.dit.flux2 import Flux2
from storyforge.model.dit.z_image import ZImage

_ALL: Final[tuple[Door, ...]] = (Flux2(), ZImage())

DOORS: Final[dict[str, Door]] = {door.pipeline: door for door in _ALL}
