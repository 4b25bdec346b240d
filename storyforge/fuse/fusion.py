"""Concepts → one fused model: solve every layer from what it sees, report what it cost whom.

The fused model is a change of rank N·r of the base's attention layers, beside everybody's tokens.
What is watched comes from the store: adding or removing a concept is solving anew, and no more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from storyforge.errors import EnvironmentProblem
from storyforge.executor import OnProgress
from storyforge.fuse import solve, statistics
from storyforge.fuse.account import Account, account
from storyforge.fuse.carried import carried
from storyforge.fuse.packing import Compact, Full
from storyforge.fuse.solve import Fit
from storyforge.fuse.solvers import Problem, solved
from storyforge.fuse.statistics import USUAL, Statistics, Viewing
from storyforge.fuse.terms import LEAST, STAGES, Terms
from storyforge.headers.joint import refuse_joint
from storyforge.model.base import BaseModel
from storyforge.model.concept import Concept, FusedModel
from storyforge.model.denoising import OnStep
from storyforge.model.family import Family, Stage
from storyforge.model.lora import Delta, joined
from storyforge.store import Store
from storyforge.tasks import FuseTask

_log = logging.getLogger(__name__)


def fuse_concepts(
    opened: Callable[[], BaseModel],
    task: FuseTask,
    concepts: Mapping[str, Path],
    store: Store,
    out: Path,
    on_progress: OnProgress,
    viewing: Viewing = USUAL,
) -> None:
    """Fuse the concepts of `task` and write the fused model into the folder `out`.

    Statistics are those in the concepts' own files, else those that the store has; others are
    taken and kept there.

    opened    opens the base; asked only if something has to be watched
    concepts  name in the story -> its file
    viewing   what is watched where statistics are missing

    Raises EnvironmentProblem for a base or a file that cannot be read, and for a concept that was
    learnt on another base.
    """
    viewing = viewing.of(task.settings)
    cast = [Concept.load(concepts[name]).renamed(name) for name, _ in task.concepts]
    for concept in cast:
        concept.fits_hash(task.base, task.base_hash)
    terms = Terms.of(task.settings, {concept.name: concept.kind for concept in cast})
    keys = [key for _, key in task.statistics]
    # What files bring was seen in whole pictures.
    own = [
        None if terms.subject else carried(concepts[concept.name], task.settings.steps)
        for concept in cast
    ]
    lacking = [
        key
        for key, brought in zip(keys, own, strict=True)
        if brought is None and not store.sound("statistics", key)
    ]
    preserving = terms.preserves and not store.sound("statistics", task.ordinary)
    base = None
    check_terms(terms, cast)
    if lacking or preserving or terms.chain or terms.refine:
        base = opened()
        check_terms(terms, cast, base)
    started = perf_counter()
    packing = Compact if task.settings.statistics == "compact" else Full
    shelf = _Shelf(store, base, packing, on_progress, viewing, subject=terms.subject)
    shelf.total = viewing.length * ((1 + terms.subject) * len(lacking) + preserving)
    triples = zip(own, keys, cast, strict=True)
    seen = [brought or shelf.of_concept(key, concept) for brought, key, concept in triples]
    ordinary = shelf.of_base(task.ordinary) if terms.preserves else None
    spent = perf_counter() - started
    fused = fuse(cast, seen, ordinary, terms, on_progress, base, viewing)
    told = Account.model_validate(fused.report)
    _log.info("watched for %.1f s, then solved: %s", spent, told.seconds)
    # The same concepts make the same bytes: what it took stands in the ledger.
    told = told.model_copy(update={"seconds": {}})
    fused = replace(fused, base=task.base, report=told.model_dump(mode="json"))
    out.mkdir(parents=True, exist_ok=True)
    fused.save(out)


def check_terms(terms: Terms, concepts: Sequence[Concept], base: BaseModel | None = None) -> None:
    """Raise StoryForgeError, before anything is watched, for what a transformer does not do.

    Where the base is not open, the layers that concepts change tell that it is one.
    """
    custom = terms.solver == "custom-diffusion"
    asked = {"area: subject": terms.subject, "solver: custom-diffusion": custom}
    if base is not None:
        base.check_asked(asked)
    for concept in concepts:
        if concept.joint:
            refuse_joint(concept.base, asked)


@dataclass(slots=True)
class _Shelf:
    """Statistics from the store, taken and put there where they are missing."""

    store: Store
    base: BaseModel | None
    packing: type[Full] | type[Compact]
    on_progress: OnProgress
    viewing: Viewing
    subject: bool = False
    total: int = 0
    done: int = 0

    def of_concept(self, key: str, concept: Concept) -> Statistics:
        """What the layers see while the concept is drawn."""
        hears = self._hears(f"watching `{concept.name}`")

        def taken() -> Statistics:
            """What is seen now."""
            base = self._opened()
            return statistics.of_concept(
                base, concept, self.packing, hears, subject=self.subject, viewing=self.viewing
            )

        return self._kept(key, taken)

    def of_base(self, key: str) -> Statistics:
        """What the layers ordinarily see."""
        hears = self._hears("watching the base")

        def taken() -> Statistics:
            """What is seen now."""
            base = self._opened()
            return statistics.of_base(base, self.packing, hears, viewing=self.viewing)

        return self._kept(key, taken)

    def _kept(self, key: str, taken: Callable[[], Statistics]) -> Statistics:
        """From the store; taken if nobody has, and waited for if another run is at it."""
        while not self.store.sound("statistics", key):
            with self.store.make_missing("statistics", key) as path:
                if path is not None:
                    taken().save(path)
            self.store.wait_for("statistics", key)
        return Statistics.load(self.store.path("statistics", key))

    def _opened(self) -> BaseModel:
        if self.base is None:
            raise EnvironmentProblem("statistics vanished from the store", hint="run it again")
        return self.base

    def _hears(self, what: str) -> OnStep:
        def on_step(step: int, steps: int, latents: torch.Tensor) -> None:
            """Count one step of all."""
            self.done += 1
            self.on_progress(what, self.done, self.total)

        return on_step


def fuse(
    concepts: Sequence[Concept],
    seen: Sequence[Statistics],
    ordinary: Statistics | None,
    terms: Terms,
    on_progress: OnProgress,
    base: BaseModel | None = None,
    viewing: Viewing = USUAL,
) -> FusedModel:
    """One model that knows every concept; its report says how well.

    seen      of every concept
    ordinary  of the base; None where nothing is to be preserved
    base      opened; called for by a chain and by refining
    viewing   what is watched again there

    Raises StoryForgeError for a way to fuse that a transformer does not have.
    """
    check_terms(terms, concepts, base)
    if len({concept.name for concept in concepts}) != len(concepts) or not concepts:
        raise ValueError("fusion takes one or more concepts, each of its own name")
    if (terms.chain or terms.refine) and base is None:
        raise ValueError("a chain and refining watch the base again, which is not open")
    started = perf_counter()
    on_progress("solving", 0, 1)
    solution = _Solution(concepts, ordinary, terms)
    if terms.chain and base is not None:
        solution.add(seen, ("text",))
        for stage in ("kv", "spatial"):
            on_progress(f"watching again for {stage}", 0, 1)
            seen = solution.watched_again(base, viewing)
            solution.add(seen, (stage,))
    else:
        solution.add(seen, STAGES)
    for _ in range(terms.refine if base is not None else 0):
        on_progress("watching the fused model", 0, 1)
        assert base is not None
        solution.add(solution.watched_again(base, viewing), STAGES)
    told = account(concepts, terms, solution.deltas, solution.fits, solution.lost)
    told = told.model_copy(update={"seconds": {"solution": round(perf_counter() - started, 3)}})
    report = told.model_dump(mode="json")
    tokens = {concept.name: concept.tokens for concept in concepts}
    first = concepts[0]
    return FusedModel(first.base, first.base_hash, tokens, solution.deltas, report)


class _Solution:
    """A fused model in the making; a stage that is solved again replaces what was there.

    deltas  linear -> its fused change
    fits    linear -> how well that serves each concept
    lost    linear -> share of the change that a smaller rank lost
    """

    def __init__(
        self, concepts: Sequence[Concept], ordinary: Statistics | None, terms: Terms
    ) -> None:
        self.ordinary, self.terms = ordinary, terms
        self.cast = [
            _strengthened(concept, strength)
            for concept, strength in zip(concepts, terms.strengths, strict=True)
        ]
        self.deltas: dict[str, Delta] = {}
        self.fits: dict[str, Fit] = {}
        self.lost: dict[str, float] = {}

    def add(self, seen: Sequence[Statistics], stages: Sequence[Stage]) -> None:
        """Solve every linear of these stages."""
        for source, readers in seen[0].readers.items():
            if Family.stage(source) in stages:
                changed = [n for n in readers if any(n in c.deltas for c in self.cast)]
                self._solve(source, changed, seen)

    def _solve(self, source: str, linears: Sequence[str], seen: Sequence[Statistics]) -> None:
        """Solve the linears that read one input."""
        if not linears:
            return
        stage = Family.stage(source)
        grams = [each.gram(source) for each in seen]
        pairs = zip(self.terms.weights, grams, strict=True)
        weighted = [gram if weight == 1 else weight * gram for weight, gram in pairs]
        own = [[_delta(self.cast, concept, name) for concept in self.cast] for name in linears]
        ups = [[delta.up for delta in each] for each in own]
        downs = [[delta.down for delta in each] for each in own]
        held = self._held(source, stage, weighted)
        words = [each.words[source] for each in seen] if source in seen[0].words else None
        problem = Problem(stage, ups, downs, weighted, held, self.terms.weights, words)
        for index, (linear, fused) in enumerate(
            zip(linears, solved(self.terms.solver, problem), strict=True)
        ):
            whole, used = (
                joined([Delta(u, d) for u, d in zip(ups[index], fused, strict=True)]),
                None,
            )
            if self.terms.rank is not None and self.terms.rank < whole.rank:
                total = torch.stack(weighted).sum(0) + held
                up, down, lost = solve.compressed(whole.up, whole.down, total, self.terms.rank)
                whole, self.lost[linear] = Delta(up, down), lost
                used = (whole.up, whole.down)
            self.deltas[linear] = whole
            self.fits[linear] = solve.fit(ups[index], downs[index], fused, grams, used)

    def _held(self, source: str, stage: Stage, grams: Sequence[Tensor]) -> Tensor:
        """What holds the change back: the pull, or all that is ordinarily said."""
        ordinary = None if self.ordinary is None else self.ordinary.gram(source)
        if self.terms.solver == "custom-diffusion" and ordinary is not None:
            return ordinary + LEAST * torch.eye(len(ordinary), dtype=ordinary.dtype)
        return solve.pull(grams, self.terms.ridge[stage], ordinary, self.terms.preservation)

    def watched_again(self, base: BaseModel, viewing: Viewing) -> list[Statistics]:
        """What is seen while each concept is drawn by what is fused so far and the rest its own."""
        tokens = {concept.name: concept.tokens for concept in self.cast}
        return [
            statistics.through(
                base,
                concept,
                FusedModel(base.reference, base.hash, tokens, {**concept.deltas, **self.deltas}),
                subject=self.terms.subject,
                viewing=viewing,
            )
            for concept in self.cast
        ]


def _strengthened(concept: Concept, strength: float) -> Concept:
    """The concept with its deltas in full precision, their scale and strength in `up`."""
    deltas = {
        linear: Delta(strength * delta.scale * delta.up.float().cpu(), delta.down.float().cpu())
        for linear, delta in concept.deltas.items()
    }
    return replace(concept, deltas=deltas)


def _delta(cast: Sequence[Concept], concept: Concept, linear: str) -> Delta:
    """A concept's delta; of rank 0 where it leaves the linear alone."""
    if linear in concept.deltas:
        return concept.deltas[linear]
    other = next(each.deltas[linear] for each in cast if linear in each.deltas)
    return Delta(other.up[:, :0], other.down[:0])
