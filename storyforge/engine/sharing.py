"""A story's shared cache at work: what others have made is taken, what is made here is offered.

A cache that cannot be reached costs time and nothing else: the run goes on without, and says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from storyforge.errors import EnvironmentProblem
from storyforge.pictures import beside
from storyforge.plan.plan import Plan
from storyforge.plan.status import shelf_of
from storyforge.store import Shelf, Store
from storyforge.store.shared import SharedCache, shared_cache
from storyforge.story.story import CacheFile, Story
from storyforge.tasks import Task

KEY: Final = "STORYFORGE_CACHE_KEY"
"""Names the file of the key that signs what is offered; without it a cache is only read."""

Missing = Callable[[Plan, Store], Plan]
"""What of a plan is to be made."""


def cache_of(story: Story) -> SharedCache | None:
    """The cache that a story names; None if it names none.

    Raises EnvironmentProblem for a key that cannot be read.
    """
    said = story.cache
    if said is None:
        return None
    where, trusted = (said.at, said.trust) if isinstance(said, CacheFile) else (said, ())
    if "://" not in where:
        where = str(beside(story.folder, where).absolute())
    key = os.environ.get(KEY)
    return shared_cache(where, trusted, Path(key) if key else None)


@dataclass(slots=True)
class Sharing:
    """One run's use of a cache; after the first failure it is left alone.

    taken     products that need not be made
    warnings  what went wrong, in words
    """

    cache: SharedCache | None
    store: Store
    taken: list[Task] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def fetch(self, asked: Plan, missing: Missing) -> None:
        """Take what is there already: books first, for what they are made from is not needed."""
        stages: tuple[Callable[[Plan], Sequence[Task]], ...] = (
            lambda plan: plan.books,
            lambda plan: plan.panels,
            lambda plan: () if plan.fuse is None else (plan.fuse,),
            lambda plan: (*plan.train, *plan.imports),
        )
        for stage in stages:
            for task in stage(missing(asked, self.store)):
                if self._try(SharedCache.fetch, task):
                    self.taken.append(task)

    def offer(self, task: Task) -> None:
        """Put what was made here where others find it."""
        self._try(SharedCache.offer, task)

    def _try(self, what: Callable[[SharedCache, Store, Shelf, str], bool], task: Task) -> bool:
        if self.cache is None or self.warnings:
            return False
        try:
            return what(self.cache, self.store, shelf_of(task), task.key)
        except EnvironmentProblem as exc:
            self.warnings.append(exc.message)
            return False
