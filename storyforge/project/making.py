"""What is missing of a plan is made, stage by stage, and the books laid where an author looks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

from storyforge.book.faces import ABOUT_FACES
from storyforge.engine.cluster import Cluster
from storyforge.engine.engine import Engine
from storyforge.engine.inputs import checked
from storyforge.engine.maker import Counts, Trouble
from storyforge.engine.opening import ClusterSpec, opened_cluster, usual_cluster
from storyforge.engine.sharing import Sharing, cache_of
from storyforge.errors import Damaged, Diagnostic, StoryForgeError
from storyforge.executor import OnProgress
from storyforge.plan.pins import tidied
from storyforge.plan.plan import Plan, only
from storyforge.plan.status import missing, shelf_of, subject_of
from storyforge.project.output import published
from storyforge.store import Store
from storyforge.tasks import BookTask
from storyforge.train.logs import Logs

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did.

    books     the files in the folder of books
    findings  what a printer would send back of the PDF, if there is one
    pinned    the panels whose picture was kept as it is
    damaged   what was not what it had been, and was made again if the run needed it
    taken     what came out of the shared cache
    warnings  what went wrong and stopped nothing
    """

    made: Counts
    skipped: Counts
    books: tuple[Path, ...]
    troubles: tuple[Trouble, ...]
    seconds: float
    findings: tuple[Diagnostic, ...] = ()
    pinned: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def then(self, again: Outcome) -> Outcome:
        """What both runs did, of which the second knows what is there and what is wrong now."""
        return replace(
            again,
            made=self.made + again.made,
            skipped=self.skipped,
            seconds=self.seconds + again.seconds,
            damaged=_together(self.damaged, again.damaged),
            taken=_together(self.taken, again.taken),
            warnings=_together(self.warnings, again.warnings),
        )


def _together(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))


@dataclass(frozen=True, slots=True)
class Making:
    """How a plan is made; what is made is the plan's.

    out       the folder of books; None for `build` beside the story
    jobs      concepts learnt at a time; None for as many as the machine has processors
    logs      where losses and previews of the training go; None for nowhere
    previews  a folder where every picture can be seen while it is drawn
    names     what the ledger calls a product, by key, where it is not the plan's own
    cluster   where the tasks are done; None for here, or on all GPUs that are here

    Raises StoryForgeError for what a cluster is asked that it does not do.
    """

    out: Path | None = None
    jobs: int | None = None
    logs: Logs | None = None
    previews: Path | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    cluster: ClusterSpec | None = None

    def __post_init__(self) -> None:
        """Refuse what would not be obeyed."""
        if self.cluster is not None and (asked := self._only_here()):
            hint = f"leave out {asked}, or `--cluster`"
            if self.jobs is not None:
                hint += "; how many workers there are, `local:4` says"
            raise StoryForgeError(f"a cluster does not obey {asked}", hint=hint)

    def _only_here(self) -> str:
        """What is asked that this machine alone does, in words."""
        asked = {"--jobs": self.jobs, "--logs": self.logs, "--previews": self.previews}
        return " and ".join(f"`{name}`" for name, each in asked.items() if each is not None)

    def usual_cluster(self, count: int) -> ClusterSpec | None:
        """Where so many tasks are done if nobody says: on all GPUs, if nothing forbids it."""
        return None if count < 2 or self._only_here() else usual_cluster()


def make(asked: Plan, store: Store, how: Making, on_progress: OnProgress) -> Outcome:
    """Make what is missing of `asked`, stage by stage, and lay the books out."""
    started = perf_counter()
    with store.at_work():
        tidied(asked.story, store)
        damaged = checked(asked, store)
        sharing = Sharing(cache_of(asked.story), store)
        sharing.fetch(asked, _wanted)
        wanted = _wanted(asked, store)
        _log_what_is_there(asked, wanted)
        engine = Engine(asked, store, on_progress, names=how.names, share=sharing.offer)
        with engine.noting(), _elsewhere(wanted, how, store) as cluster:
            if cluster is not None:
                engine.go_to(cluster)
            _stages(engine, wanted, how)
            troubles = engine.maker.troubles
            if found := [each.subject for each in troubles if isinstance(each.error, Damaged)]:
                damaged += tuple(found)
                # All are tried once more: others may have failed for want of what was damaged.
                troubles.clear()
                _stages(engine, _wanted(asked, store), how)
            complete = [task for task in wanted.books if engine.all_drawn(task)]
            engine.maker.check_made([*wanted.panels, *complete])
            bound = [t for t in asked.books if store.has(t.format, t.key) and engine.all_drawn(t)]
            findings = _found(engine, bound, on_progress)
        engine.maker.give_up_if_hopeless()
        finished = [task for task in asked.books if store.has(task.format, task.key)]
        books = tuple(published(asked.story, task, store, how.out) for task in finished)
    return Outcome(
        made=engine.maker.counts(),
        skipped=_skipped(asked, wanted),
        books=books,
        troubles=tuple(engine.maker.troubles),
        seconds=perf_counter() - started,
        findings=findings,
        pinned=tuple(task.panel for task in asked.panels if task.panel in asked.pins),
        damaged=tuple(dict.fromkeys(damaged)),
        taken=tuple(subject_of(task) for task in sharing.taken),
        warnings=tuple(sharing.warnings),
    )


def make_one(asked: Plan, key: str, store: Store, how: Making, on_progress: OnProgress) -> Outcome:
    """Do one task of a plan here; no more of the store is read than it needs.

    Raises StoryForgeError for a key that the plan does not have.
    """
    started, one = perf_counter(), only(asked, key)
    with store.at_work():
        todo = [task for task in one.tasks() if not store.sound(shelf_of(task), task.key)]
        engine = Engine(asked, store, on_progress, names=how.names)
        with engine.noting():
            if todo:
                _stages(engine, one, how)
            engine.maker.check_made([*one.panels, *one.books])
        engine.maker.give_up_if_hopeless()
        finished = [task for task in one.books if store.has(task.format, task.key)]
        books = tuple(published(asked.story, task, store, how.out) for task in finished)
    seconds = perf_counter() - started
    return Outcome(engine.maker.counts(), Counts(), books, tuple(engine.maker.troubles), seconds)


@contextmanager
def _elsewhere(wanted: Plan, how: Making, store: Store) -> Iterator[Cluster | None]:
    """The cluster that tasks are done on, if there is one and there are any."""
    count = len(wanted.train) + len(wanted.panels)
    if not (count or wanted.imports or wanted.fuse):
        yield None
        return
    spec = how.cluster or how.usual_cluster(count)
    if spec is None:
        yield None
        return
    with opened_cluster(spec, store) as cluster:
        yield cluster


def _skipped(asked: Plan, wanted: Plan) -> Counts:
    """What was there already, or is not needed."""
    return Counts(
        concepts=len(asked.train) + len(asked.imports) - len(wanted.train) - len(wanted.imports),
        fused=(asked.fuse is not None) - (wanted.fuse is not None),
        panels=len(asked.panels) + len(asked.own) - len(wanted.panels) - len(wanted.own),
        books=len(asked.books) - len(wanted.books),
    )


def _stages(engine: Engine, wanted: Plan, how: Making) -> None:
    """Make what is wanted, each stage from what those before it made."""
    engine.maker.take_own(wanted.own)
    engine.compose(wanted.books)
    engine.maker.learn(wanted.train, how.jobs, how.logs)
    engine.maker.take_in(wanted.imports)
    engine.fuse(wanted.fuse)
    engine.draw(wanted.panels, how.previews)
    engine.bind(wanted.books)


def _found(
    engine: Engine, bound: Sequence[BookTask], on_progress: OnProgress
) -> tuple[Diagnostic, ...]:
    """What stands against printing; of books that are only looked at, what hides faces."""
    if printed := [task for task in bound if task.format == "pdf"]:
        return engine.books.judged(printed, on_progress)
    found = engine.books.judged(bound[:1], on_progress)
    return tuple(each for each in found if each.code in ABOUT_FACES)


def _log_what_is_there(asked: Plan, wanted: Plan) -> None:
    missing_keys = {task.key for task in wanted.tasks()}
    for task in asked.tasks():
        if task.key not in missing_keys:
            _log.info("%s: there, or not needed (%s)", subject_of(task), task.key)


def _wanted(asked: Plan, store: Store) -> Plan:
    """What is missing; products that were asked for by themselves count without anyone's need."""
    if asked.panels or asked.books or asked.own:
        return missing(asked, store)
    concepts = {task.key: task for task in asked.train if not store.has("concepts", task.key)}
    fused = asked.fuse if asked.fuse and not store.has("fused", asked.fuse.key) else None
    imports = tuple(task for task in asked.imports if not store.has("concepts", task.key))
    if asked.fuse is not None and fused is None:
        return replace(asked, train=(), imports=(), fuse=None)
    return replace(asked, train=tuple(concepts.values()), imports=imports, fuse=fused)
