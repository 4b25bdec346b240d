"""What of a plan has to be made, why, and how long it may take, judged by what was made before.

Reasons come from the store's ledger; without it everything that is missing is called new.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from storyforge.modelref import ModelRef
from storyforge.plan.cost import Cost, likely
from storyforge.plan.keys import KeyInputs, is_own
from storyforge.plan.panels import seed_of
from storyforge.plan.pins import Pin, typed
from storyforge.plan.plan import Plan
from storyforge.plan.rough import rough
from storyforge.plan.takes import panel_named
from storyforge.store import Entry, Shelf, Store
from storyforge.tasks import (
    BookTask,
    FuseTask,
    ImportTask,
    OwnPictureTask,
    PanelTask,
    Task,
    TrainTask,
)

State = Literal["fresh", "stale", "pinned", "unneeded"]

_FUSED_CHANGED: Final = "the fused model changed"
_CONCEPTS_CHANGED: Final = "its concepts changed"

_CHANGED: Final = {
    "base": "the base changed",
    "base_hash": "the base changed",
    "class": "its class changed",
    "concepts": _CONCEPTS_CHANGED,
    "font": "the font changed",
    "fused": _FUSED_CHANGED,
    "guidance_scale": "guidance changed",
    "habits": "the base's habits changed",
    "make": "storyforge changed",
    "pictures": "pictures changed",
    "region_blend": "region_blend changed",
    "settings": "settings changed",
    "story": "words or settings changed",
}
"""How a field of a recipe is called in a reason; others by their own name."""


@dataclass(frozen=True, slots=True)
class StatusLine:
    """One task of a plan, and what becomes of it.

    state    `fresh`: made already; `stale`: to be made; `pinned`: kept, whatever it is made from;
             `unneeded`: missing, and nothing asks for it
    reasons  why it is stale; none if it is not
    cost     what it may take, judged by its like; nothing known if it is not to be made
    ignores  what a pinned picture would be drawn anew for
    """

    subject: str
    task: Task
    state: State
    reasons: tuple[str, ...] = ()
    cost: Cost = Cost()
    ignores: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Why it is stale, in one line: a few changed panels by name, more by number."""
        panels = [each for each in self.reasons if _A_PANEL.fullmatch(each)]
        if len(panels) <= _NAMED:
            return ", ".join(self.reasons)
        rest = (each for each in self.reasons if each not in panels)
        return ", ".join([f"{len(panels)} panels changed", *rest])


_NAMED: Final = 2
_A_PANEL: Final = re.compile(r"panel `.*` changed")


def shelf_of(task: Task) -> Shelf:
    """Where the store keeps what the task makes."""
    match task:
        case TrainTask() | ImportTask():
            return "concepts"
        case FuseTask():
            return "fused"
        case PanelTask() | OwnPictureTask():
            return "panels"
        case BookTask():
            return task.format


def subject_of(task: Task) -> str:
    """What the task makes, in words that stay the same when its key changes."""
    match task:
        case TrainTask() | ImportTask():
            return f"concept {task.concept}"
        case FuseTask():
            return "fused model"
        case PanelTask() | OwnPictureTask():
            return f"panel {task.panel}"
        case BookTask():
            return f"book {task.format} {task.language}"


def missing(plan: Plan, store: Store) -> Plan:
    """The plan without what exists already, and without what nothing missing is made from."""
    books = tuple(book for book in plan.books if not store.has(book.format, book.key))
    panels = tuple(
        panel
        for panel in plan.panels
        if panel.panel not in plan.pins and not store.has("panels", panel.key)
    )
    own = tuple(task for task in plan.own if not store.has("panels", task.key))
    fuse = plan.fuse
    if fuse is not None and (not panels or store.has("fused", fuse.key)):
        fuse = None
    needed = dict(fuse.concepts) if fuse is not None else {}
    for panel in panels:  # some are drawn with concepts' own weights
        needed |= dict(panel.concepts)
    train = {
        task.key: task
        for task in plan.train
        if task.concept in needed and not store.has("concepts", task.key)
    }
    imports = tuple(
        task
        for task in plan.imports
        if task.concept in needed and not store.has("concepts", task.key)
    )
    learnt = tuple(train.values())
    return replace(
        plan, train=learnt, imports=imports, fuse=fuse, panels=panels, books=books, own=own
    )


def status_lines(
    plan: Plan,
    store: Store,
    entries: Mapping[str, Entry],
    known: Collection[Entry] = (),
    base: ModelRef | None = None,
) -> list[StatusLine]:
    """Every task of the plan in order.

    entries  the story's ledger, by subject
    known    further products to learn costs from
    base     what draws: what its like took elsewhere stands in where nothing was made here
    """
    wanted = {(shelf_of(task), task.key) for task in missing(plan, store).tasks()}
    measured = (*entries.values(), *known)
    lines: list[StatusLine] = []
    for task in plan.tasks():
        subject, shelf, recipe = subject_of(task), shelf_of(task), plan.key_inputs[task.key]
        if isinstance(task, PanelTask) and task.panel in plan.pins:
            ignores = ignored(plan, plan.pins[task.panel], task)
            lines.append(StatusLine(subject, task, "pinned", ignores=ignores))
        elif (shelf, task.key) in wanted:
            reasons = _why(task.key, recipe, entries.get(subject))
            cost = likely(recipe, measured)
            cost = cost if base is None else cost.filled(rough(task, base))
            lines.append(StatusLine(subject, task, "stale", reasons, cost))
        else:
            state: State = "fresh" if store.has(shelf, task.key) else "unneeded"
            lines.append(StatusLine(subject, task, state))
    return lines


def ignored(plan: Plan, pin: Pin, task: PanelTask) -> tuple[str, ...]:
    """What differs between what a pinned picture was made from and what the story asks for."""
    return _summed(_ignored(plan, pin, task))


def _ignored(plan: Plan, pin: Pin, task: PanelTask) -> Iterator[str]:
    if pin.key == task.key:
        return
    if is_own(pin.recipe):
        return
    if not pin.recipe:
        yield "what it was made from is not known any more"
        return
    old, new = _typed(pin.recipe), _typed(plan.key_inputs[task.key])
    panel = panel_named(plan, task.panel)
    picked = panel.model_copy(update={"take": pin.take})
    if panel.take != pin.take and seed_of(plan.story, picked) == old.get("seed"):
        yield f"`take: {panel.take}` of the story"
        old["seed"] = new["seed"]
    if old.get("base_hash") == new.get("base_hash") and plan.fuse is not None and pin.model:
        yield from _learnt_since(plan, _typed(pin.model), _typed(plan.key_inputs[plan.fuse.key]))
        old |= {field: new[field] for field in ("fused", "concepts") if field in new}
    yield from _changes(old, new)


def _learnt_since(plan: Plan, old: Mapping[str, object], new: KeyInputs) -> Iterator[str]:
    """What differs between two fused models; a concept of the story's own is learnt anew."""
    for change in _changes({name: old.get(name) for name in new}, new):
        concept = change.removeprefix("concept `").removesuffix("` changed")
        own = change.endswith("changed") and concept in {task.concept for task in plan.train}
        yield f"concept `{concept}` retrained" if own else _FUSION.get(change, change)


_FUSION: Final = {"settings changed": "settings of the fusion changed"}


def _typed(recipe: Mapping[str, object]) -> KeyInputs:
    return {name: typed(value) for name, value in recipe.items()}


def _why(key: str, recipe: KeyInputs, last: Entry | None) -> tuple[str, ...]:
    if last is None:
        return ("new",)
    if last.key == key:
        return ("its file is missing",)
    return _summed(_changes(last.recipe, recipe)) or ("its recipe changed",)


def _summed(changes: Iterable[str]) -> tuple[str, ...]:
    """Each change once; a panel's prompt is in its regions' prompts, its concepts in its model."""
    told = dict.fromkeys(changes)
    if _FUSED_CHANGED in told:
        told.pop(_CONCEPTS_CHANGED, None)
    known = "prompt changed" in told
    return tuple(each for each in told if not (known and each.endswith("`: prompt changed")))


def chains(lines: Sequence[StatusLine]) -> tuple[str, ...]:
    """What leads to what, a sentence for each cause: `prompt changed → panel `end` → 2 books`."""
    stale = [line for line in lines if line.state == "stale"]
    panels = [line for line in stale if isinstance(line.task, PanelTask | OwnPictureTask)]
    books = [line for line in stale if isinstance(line.task, BookTask)]
    groups: dict[tuple[str, ...], list[StatusLine]] = {}
    for line in panels:
        groups.setdefault(_cause(line, stale), []).append(line)
    if not panels:
        for line in stale:
            groups.setdefault(line.reasons, []).append(line)
        books = []
    everything = all(
        line.state in {"stale", "unneeded"} and line.reasons in {("new",), ()} for line in lines
    )
    first = "everything is new" if everything else "not made before"
    return tuple(
        " → ".join(
            [
                first if cause == ("new",) else ", ".join(cause),
                *_on_the_way(cause, stale),
                _things(group),
                *_ends(books),
            ]
        )
        for cause, group in groups.items()
    )


def _cause(panel: StatusLine, stale: Sequence[StatusLine]) -> tuple[str, ...]:
    """Why a panel is drawn anew, followed back to the concepts where it is the model's doing."""
    if _FUSED_CHANGED not in panel.reasons:
        return panel.reasons
    reasons = {line.subject: line.reasons for line in stale}
    traced = []
    for change in reasons.get("fused model", (_FUSED_CHANGED,)):
        name = change.removesuffix("` changed").removeprefix("concept `")
        learnt = ", ".join(reasons.get(f"concept {name}", ()))
        traced.append(
            f"concept `{name}`: {learnt}"
            if change.endswith("` changed")
            else _FUSION.get(change, change)
        )
    return tuple(cause.removesuffix(": ") for cause in traced)


def _on_the_way(cause: tuple[str, ...], stale: Sequence[StatusLine]) -> Iterator[str]:
    """What has to be made before the panels can be drawn."""
    concepts = [line for line in stale if isinstance(line.task, TrainTask | ImportTask)]
    if concepts and not any("concept `" in words for words in cause):
        yield _things(concepts)
    if any(isinstance(line.task, FuseTask) for line in stale):
        yield "fused model"


def _ends(books: Sequence[StatusLine]) -> Iterator[str]:
    if books:
        yield _things(books)


def _things(lines: Sequence[StatusLine]) -> str:
    """Tasks in words: one or two panels and concepts by name, more by number."""
    words = [line.subject.partition(" ")[0] for line in lines]
    if len(set(words)) > 1 or lines[0].subject == "fused model":
        return ", ".join(line.subject for line in lines)
    plural = f"{words[0]}s" if len(lines) > 1 else words[0]
    if words[0] == "book" or len(lines) > 2:
        return f"{len(lines)} {plural}"
    names = [f"`{line.subject.partition(' ')[2]}`" for line in lines]
    return f"{plural} {', '.join(names)}"


def _changes(old: KeyInputs, new: KeyInputs) -> Iterator[str]:
    """What differs between two recipes, in words."""
    for field in [*new, *(field for field in old if field not in new)]:
        before, after = old.get(field), new.get(field)
        if before == after:
            continue
        match field, before, after:
            case "concepts", dict(), dict() if "fusion" in str(new.get("make")):
                yield from _renamed("concept", before, after)
            case "panels", dict(), dict():
                yield from _renamed("panel", before, after)
            case "regions", list(), list():
                yield from _region_changes(before, after)
            case _:
                yield _CHANGED.get(field, f"{field} changed")


def _renamed(what: str, old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[str]:
    """Which of the things named by a recipe came, changed or left."""
    for name in new:
        if name not in old:
            yield f"{what} `{name}` is new"
        elif old[name] != new[name]:
            yield f"{what} `{name}` changed"
    yield from (f"{what} `{name}` is gone" for name in old if name not in new)


def _region_changes(old: list[object], new: list[object]) -> Iterator[str]:
    before, after = _by_name(old), _by_name(new)
    for name, region in after.items():
        if name not in before:
            yield f"region `{name}` is new"
            continue
        fields = [f for f in region if region[f] != before[name].get(f)]
        yield from (f"region `{name}`: {field} changed" for field in fields)
    yield from (f"region `{name}` is gone" for name in before if name not in after)
    if before == after:
        yield "regions changed places"


def _by_name(regions: list[object]) -> dict[str, KeyInputs]:
    return {str(region["name"]): region for region in regions if isinstance(region, dict)}
