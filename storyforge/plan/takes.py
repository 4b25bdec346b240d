"""Which picture of a panel a book shows: the one that its story asks for, or one that was pinned.

Another take is the same panel from another seed; only its number is the author's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from storyforge.errors import StoryForgeError, closest
from storyforge.plan.keys import KeyInputs, key_of
from storyforge.plan.panels import seed_of
from storyforge.plan.pins import Pin
from storyforge.plan.plan import Plan
from storyforge.store import Store
from storyforge.story.story import Panel
from storyforge.tasks import BookTask, PanelTask


def with_pins(plan: Plan, pins: Mapping[str, Pin]) -> Plan:
    """The plan with its books bound from pinned pictures, where there are some.

    No other key changes: a pin decides what is shown, not what is made.
    """
    own = {task.panel for task in plan.own}
    pins = {name: pin for name, pin in pins.items() if name not in own}
    # Of drafts the plan draws fewer panels than its books show.
    shown = {name for book in plan.books for name, _ in book.panels}
    held = {name: pin for name, pin in pins.items() if name in shown}
    key_inputs: dict[str, KeyInputs] = dict(plan.key_inputs)
    books = tuple(_bound(book, held, key_inputs) for book in plan.books) if held else plan.books
    return replace(plan, books=books, key_inputs=key_inputs, pins=dict(pins))


def _bound(book: BookTask, pins: Mapping[str, Pin], key_inputs: dict[str, KeyInputs]) -> BookTask:
    pairs = tuple((name, pins[name].key if name in pins else key) for name, key in book.panels)
    recipe = {**key_inputs.pop(book.key), "panels": dict(pairs)}
    key = key_of(recipe)
    key_inputs[key] = recipe
    return replace(book, key=key, panels=pairs)


def take_of(plan: Plan, task: PanelTask, take: int) -> tuple[PanelTask, KeyInputs]:
    """A panel's task drawn from the seed of another take, and its recipe.

    Raises StoryForgeError for a panel with a seed of its own: all its takes would be the same.
    """
    panel = panel_named(plan, task.panel)
    if panel.seed is not None:
        message = f"panel `{panel.id}` has a seed of its own, so all its takes would be the same"
        raise StoryForgeError(message, hint="take `seed` out of the panel")
    seed = seed_of(plan.story, panel.model_copy(update={"take": take}))
    recipe = {**plan.key_inputs[task.key], "seed": seed}
    return replace(task, seed=seed, key=key_of(recipe)), recipe


def panel_named(plan: Plan, name: str) -> Panel:
    """The story's panel with this id; KeyError if there is none."""
    return {panel.id: panel for _, panel in plan.story.panels()}[name]


def picture_of(plan: Plan, store: Store, panel: str, key: str) -> Path | None:
    """The picture that the book shows of a panel: the pinned one, or the one with this key.

    None if it is not drawn.
    """
    if panel in plan.pins:
        return plan.pins[panel].picture
    return store.path("panels", key) if store.has("panels", key) else None


def check_panels(drawn: Plan, names: Sequence[str]) -> None:
    """Raise StoryForgeError for a name that no panel of the story has, or none that is drawn."""
    own = {task.panel for task in drawn.own}
    known = [panel.panel for panel in drawn.panels]
    for name in names:
        if name in own:
            message = f"panel `{name}` shows a picture of your own; there is nothing to draw"
            raise StoryForgeError(message, hint="take `picture` out of the panel")
        if name not in known:
            guess = closest(name, known)
            hint = f"did you mean `{guess}`?" if guess else None
            raise StoryForgeError(f"no panel named `{name}` in this story", hint=hint)
