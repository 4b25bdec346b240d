"""storyforge makes illustrated books whose characters look the same in every picture.

The names below are all of it that other programs may rely on. They are fetched when they are first
used, so that importing storyforge waits for no model.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storyforge.errors import (
        EnvironmentProblem,
        StoryError,
        StoryForgeError,
        TaskFailed,
    )
    from storyforge.model.concept import Concept, FusedModel
    from storyforge.project.api import Region, draw, fuse, open_model, train
    from storyforge.project.project import Project
    from storyforge.settings import FuseSettings, TrainSettings

__version__ = "0.2.0"

__all__ = [
    "Concept",
    "EnvironmentProblem",
    "FuseSettings",
    "FusedModel",
    "Project",
    "Region",
    "StoryError",
    "StoryForgeError",
    "TaskFailed",
    "TrainSettings",
    "__version__",
    "draw",
    "fuse",
    "open_model",
    "train",
]

_HOMES = {
    "errors": {"EnvironmentProblem", "StoryError", "StoryForgeError", "TaskFailed"},
    "model.concept": {"Concept", "FusedModel"},
    "project.api": {"Region", "draw", "fuse", "open_model", "train"},
    "project.project": {"Project"},
    "settings": {"FuseSettings", "TrainSettings"},
}
_VERBS = {"train", "fuse"}
"""Functions that folders are called like, too."""

logging.getLogger(__name__).addHandler(logging.NullHandler())


class _Face(ModuleType):
    """This module: its verbs stay verbs, though folders beside it are called so, too."""

    def __setattr__(self, name: str, value: object) -> None:
        # Whoever imports `storyforge.train.…` has the import system hang the folder up here.
        if not (name in _VERBS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> object:
        for home, names in _HOMES.items():
            if name in names:
                found = getattr(import_module(f"{__name__}.{home}"), name)
                if name in _VERBS:
                    # `import storyforge.fuse.solve as s` asks the verb for `solve`, and where it
                    # has none looks for a module of its `__name__` and that.
                    found.__name__ = f"{__name__}.{name}"
                setattr(self, name, found)
                return found
        raise AttributeError(f"module `{__name__}` has no `{name}`")

    def __dir__(self) -> list[str]:
        return sorted({*__all__, *self.__dict__})


sys.modules[__name__].__class__ = _Face
