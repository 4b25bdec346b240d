"""What of a story is made, what is to be made and why, and how long that may take.

Makes nothing. Where a large base would lie is asked only if something is to be made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from storyforge.engine.engine import ledger_of
from storyforge.errors import EnvironmentProblem
from storyforge.headers.bases import LARGE, weights_in
from storyforge.modelref import BaseParts, ModelRef, files_here
from storyforge.plan.cost import Cost, total
from storyforge.plan.plan import Plan, needs
from storyforge.plan.status import StatusLine, status_lines
from storyforge.store import Store


@dataclass(frozen=True, slots=True)
class Survey:
    """A plan's outline, and where its products are kept.

    total    what everything that is stale may take
    strange  panels with a pinned picture that the story does not have
    needs    by a task's key, the keys of those whose products it reads
    placed   where a large base would lie on this machine, and why; None for others
    """

    lines: tuple[StatusLine, ...]
    store: Path
    total: Cost = Cost()
    strange: tuple[str, ...] = ()
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    placed: str | None = None

    @property
    def stale(self) -> tuple[StatusLine, ...]:
        """What is to be made."""
        return tuple(line for line in self.lines if line.state == "stale")


def surveyed(drawn: Plan, store: Store, base: ModelRef, pins: Collection[str]) -> Survey:
    """A plan compared with what is made.

    pins  the panels with a pinned picture
    """
    own = ledger_of(store, drawn.story)
    others = [ledger for ledger in store.ledgers() if ledger != own]
    known = [entry for ledger in others for entry in ledger.entries().values()]
    lines = status_lines(drawn, store, own.entries(), known, base)
    stale = [line.cost for line in lines if line.state == "stale"]
    panels = {task.panel for task in drawn.panels}
    strange = tuple(panel for panel in pins if panel not in panels)
    needed = {task.key: needs(drawn, task) for task in drawn.tasks()}
    placed = _placed(base.reference) if stale else None
    return Survey(tuple(lines), store.root, total(stale), strange, needed, placed)


def _placed(reference: str) -> str | None:
    """Where a large base would lie; None for a small one, for which torch is not waited for."""
    path = files_here(BaseParts.of(reference).model)
    try:
        if not path.exists() or weights_in(path) < LARGE:
            return None
    except EnvironmentProblem:
        return None  # which is told when it is opened
    from storyforge.model.placement import asked_placement, told

    return told(asked_placement(reference))
