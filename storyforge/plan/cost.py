"""What making something may take, judged by what its like took: seconds, memory and room on disk.

Only what was measured here is told: without a product of the same kind and base in a ledger, or
where a setting that matters was left to the base in one of the two, nothing is known; then `rough`
guesses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from statistics import median

from storyforge.store import Entry


@dataclass(frozen=True, slots=True)
class Cost:
    """What one task, or several, may take; None for what is not known.

    memory   bytes in use at the worst moment
    size     bytes on disk
    rough    whether some of it was measured elsewhere
    """

    seconds: float | None = None
    memory: int | None = None
    size: int | None = None
    rough: bool = False

    def filled(self, other: Cost) -> Cost:
        """The same, with what is not known taken from another."""
        lacking = None in {self.seconds, self.memory, self.size}
        return Cost(
            other.seconds if self.seconds is None else self.seconds,
            other.memory if self.memory is None else self.memory,
            other.size if self.size is None else self.size,
            rough=lacking and other.rough,
        )


@dataclass(frozen=True, slots=True)
class _Work:
    """How much there is to do: factors by name, None where the base decides.

    time, size   factors that seconds and bytes on disk grow with
    memory       factors that must be the same for memory to be alike
    """

    kind: tuple[str, ...]
    factors: Mapping[str, float | None]
    time: tuple[str, ...]
    size: tuple[str, ...] = ()
    memory: tuple[str, ...] = ()


def likely(recipe: Mapping[str, object], known: Iterable[Entry]) -> Cost:
    """What a product of this recipe may take, from what others took: the median, scaled."""
    work = _work(recipe)
    alike = [(entry, _work(entry.recipe)) for entry in known]
    alike = [(entry, other) for entry, other in alike if other.kind == work.kind]
    seconds, memory, size = [], [], []
    for entry, other in alike:
        scale = {name: _ratio(work, other, name) for name in work.factors}
        longer, larger = _product(scale, work.time), _product(scale, work.size)
        if entry.seconds > 0 and longer is not None:
            seconds.append(entry.seconds * longer)
        if entry.size > 0 and larger is not None:
            size.append(entry.size * larger)
        if entry.memory > 0 and all(scale[name] == 1 for name in work.memory):
            memory.append(entry.memory)
    return Cost(
        seconds=median(seconds) if seconds else None,
        memory=round(median(memory)) if memory else None,
        size=round(median(size)) if size else None,
    )


def total(costs: Collection[Cost]) -> Cost:
    """The costs of tasks done one after the other: the sum, and of memory the largest.

    What is not known of one is not known of all.
    """
    seconds = [cost.seconds for cost in costs if cost.seconds is not None]
    memory = [cost.memory for cost in costs if cost.memory is not None]
    size = [cost.size for cost in costs if cost.size is not None]
    return Cost(
        seconds=sum(seconds) if len(seconds) == len(costs) else None,
        memory=max(memory, default=0) if len(memory) == len(costs) else None,
        size=sum(size) if len(size) == len(costs) else None,
        rough=any(cost.rough for cost in costs),
    )


def _ratio(work: _Work, other: _Work, name: str) -> float | None:
    ours, theirs = work.factors[name], other.factors[name]
    if ours is None or theirs is None:
        return 1.0 if ours is theirs else None
    return ours / theirs if theirs else None


def _product(scale: Mapping[str, float | None], names: Iterable[str]) -> float | None:
    factors = [scale[name] for name in names]
    known = [factor for factor in factors if factor is not None]
    return prod(known) if len(known) == len(factors) else None


def _work(recipe: Mapping[str, object]) -> _Work:
    make = str(recipe.get("make", "")).split(" ")[0]
    base = str(recipe.get("base_hash") or recipe.get("base"))
    match make:
        case "concept":
            settings = recipe.get("settings")
            names = ("steps", "batch_size", "rank")
            factors = {name: _number(settings, name) for name in names}
            time, size, memory = ("steps", "batch_size"), ("rank",), ("batch_size", "rank")
            return _Work((make, base), factors, time, size, memory)
        case "fusion":
            solver = str(_part(recipe.get("settings"), "solver"))
            count = _count(recipe, "concepts")
            return _Work((make, base, solver), count, ("concepts",), ("concepts",))
        case "panel":
            factors = {"steps": _number(recipe, "steps"), "pixels": _pixels(recipe.get("size"))}
            return _Work((make, base), factors, ("steps", "pixels"), ("pixels",), ("pixels",))
        case "book":
            count, form = _count(recipe, "panels"), str(recipe.get("format"))
            return _Work((make, form), count, ("panels",), ("panels",))
    return _Work((make,), {}, ())


def _part(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _number(value: object, name: str) -> float | None:
    found = _part(value, name)
    return float(found) if isinstance(found, int | float) else None


def _count(recipe: Mapping[str, object], name: str) -> dict[str, float | None]:
    """How many things the recipe lists; a book without pictures counts as one with one."""
    found = recipe.get(name)
    return {name: float(max(1, len(found))) if isinstance(found, dict | list) else None}


def _pixels(size: object) -> float | None:
    match size:
        case [int(width), int(height)]:
            return float(width * height)
    return None
