"""From a story to everything that has to be made for it: tasks as plain data, named by content.

`draw_up` opens no model. A key is the hash of all that a product depends on, and of nothing else:
moving the project or a panel, or renaming a character, teaches and draws nothing twice that would
come out the same. Doing the tasks is `engine`'s work.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, get_args

from storyforge import __version__
from storyforge.errors import StoryForgeError
from storyforge.headers.kinds import is_foreign
from storyforge.modelref import ModelRef, NamedValues, base_at, clip_at, own_clip
from storyforge.pictures import beside, files_read, picture_names
from storyforge.plan.keys import (
    KEY_DIGITS,
    KeyInputs,
    canonical,
    drawn_from,
    import_recipe,
    key_of,
    own_recipe,
)
from storyforge.plan.panels import named_file, panel_task
from storyforge.plan.pins import Pin
from storyforge.settings import Format, FuseSettings, Kind
from storyforge.store import fingerprint
from storyforge.story.concept import ConceptSpec
from storyforge.story.continuity import drawn_cast
from storyforge.story.locales import check_edition
from storyforge.story.prompts import named_in, negative_prompt
from storyforge.story.readalong import narrations
from storyforge.story.story import Story
from storyforge.tasks import (
    BookTask,
    FuseTask,
    ImportTask,
    OwnPictureTask,
    PanelTask,
    Task,
    TrainTask,
)

FORMATS: Final[tuple[Format, ...]] = get_args(Format)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a story asks for, in the order in which it can be made.

    imports     concepts that come out of other tools' files
    own         pictures that the author brings
    key_inputs  for every key, what it is the hash of
    pins        the panels whose picture is kept as it is, by id
    """

    story: Story
    train: tuple[TrainTask, ...]
    fuse: FuseTask | None
    panels: tuple[PanelTask, ...]
    books: tuple[BookTask, ...]
    key_inputs: Mapping[str, KeyInputs]
    pins: Mapping[str, Pin] = field(default_factory=dict)
    imports: tuple[ImportTask, ...] = ()
    own: tuple[OwnPictureTask, ...] = ()

    @property
    def learnt_keys(self) -> frozenset[str]:
        """The keys of the concepts that are products; what the author brought is none."""
        learnt = (task.key for task in self.train)
        return frozenset((*learnt, *(task.key for task in self.imports)))

    def pictures(self) -> Iterator[PanelTask | OwnPictureTask]:
        """Every task that gives a panel its picture."""
        yield from self.own
        yield from self.panels

    def tasks(self) -> Iterator[Task]:
        """Every task, each after those whose products it needs."""
        yield from self.train
        yield from self.imports
        if self.fuse is not None:
            yield self.fuse
        yield from self.own
        yield from self.panels
        yield from self.books


def only(plan: Plan, key: str) -> Plan:
    """What is wanted, and nothing but the task that has this key.

    Raises StoryForgeError if there is none.
    """
    if all(task.key != key for task in plan.tasks()):
        message = f"the plan of `{plan.story.path}` has no task `{key}`"
        raise StoryForgeError(message, hint="`storyforge plan --json` lists them")
    return replace(
        plan,
        train=tuple(task for task in plan.train if task.key == key)[:1],
        imports=tuple(task for task in plan.imports if task.key == key)[:1],
        fuse=plan.fuse if plan.fuse is not None and plan.fuse.key == key else None,
        panels=tuple(task for task in plan.panels if task.key == key)[:1],
        own=tuple(task for task in plan.own if task.key == key)[:1],
        books=tuple(task for task in plan.books if task.key == key),
    )


def needs(plan: Plan, task: Task) -> tuple[str, ...]:
    """The keys of the tasks whose products a task reads."""
    made = plan.learnt_keys
    match task:
        case FuseTask():
            keys = [key for _, key in task.concepts if key in made]
        case PanelTask():
            keys = [] if task.fused is None else [task.fused]
            keys += [key for _, key in task.concepts if key in made]
        case BookTask():
            keys = [key for panel, key in task.panels if panel not in plan.pins]
        case _:
            keys = []
    return tuple(dict.fromkeys(keys))


def base_of(story: Story) -> ModelRef:
    """Find the story's base, as `base_at` does from the story's folder."""
    return base_at(story.base_parts.reference, story.folder)


@dataclass(frozen=True, slots=True)
class Order:
    """What a run asks for beyond the story; None for the story's own.

    formats    of the books
    language   of the books' texts
    steps      denoising steps of every panel, for drafts
    ppi        pixels an inch of pages as pictures
    assets     whether HTML is a folder with its pictures beside it
    wrap       whether to make what a printer takes too: the cover that wraps the book, its inside
    """

    formats: tuple[Format, ...] | None = None
    language: str | None = None
    steps: int | None = None
    ppi: int | None = None
    assets: bool = False
    wrap: bool = False

    def formats_of(self, story: Story) -> tuple[Format, ...]:
        """The formats of the story's books."""
        formats = self.formats or story.book.formats
        if self.assets:
            formats = tuple("web" if name == "html" else name for name in formats)
        if self.wrap:
            formats = (*formats, "cover", "inside")
        return tuple(dict.fromkeys(formats))


def draw_up(story: Story, *, base: ModelRef, order: Order = Order()) -> Plan:
    """Everything that has to exist for the story to be a book.

    Every concept is listed to be learnt; fused are those that some panel shows. Raises
    StoryForgeError for a language that no text has, and EnvironmentProblem for pictures that cannot
    be read.
    """
    _log.debug("planning %s", story.path)
    check_edition(order.language, story.languages())
    key_inputs: dict[str, KeyInputs] = {}
    train: list[TrainTask] = []
    imports: list[ImportTask] = []
    keys: dict[str, str] = {}
    for name, spec in story.concepts.items():
        if isinstance(spec, Path) and is_foreign(spec):
            imports.append(_import_task(story, name, spec, base, key_inputs))
            keys[name] = imports[-1].key
        elif isinstance(spec, Path):
            keys[name] = fingerprint(spec)[:KEY_DIGITS]
        else:
            train.append(train_task(name, spec, base, key_inputs))
            keys[name] = train[-1].key
    shown = [(name, keys[name]) for name in _shown(story)]
    fused = shown and story.compose == "fused"
    fuse = fuse_task(story.fuse, base, shown, key_inputs) if fused else None
    panels = tuple(_panel_tasks(story, base, order, fuse, shown, key_inputs))
    own = tuple(own_tasks(story, key_inputs))
    drawn = {panel.panel: panel.key for panel in panels} | {each.panel: each.key for each in own}
    books = tuple(book_tasks(story, drawn, order, key_inputs))
    learnt, taken = tuple(train), tuple(imports)
    return Plan(story, learnt, fuse, panels, books, key_inputs, imports=taken, own=own)


def _import_task(
    story: Story, name: str, file: Path, base: ModelRef, key_inputs: dict[str, KeyInputs]
) -> ImportTask:
    """The task of making a concept of another tool's file."""
    kind: Kind = "character"
    if name in story.objects or name in story.scenes:
        kind = "object" if name in story.objects else "scene"
    words = name.replace("-", " ").replace("_", " ")
    key = _entered(key_inputs, import_recipe(file, kind, words, base.hash))
    return ImportTask(key, name, kind, words, file, base.reference, base.hash)


def _shown(story: Story) -> tuple[str, ...]:
    """The concepts that panels show or name, in the order in which the story lists them."""
    shown: set[str] = set()
    for _, panel in story.panels():
        if panel.picture is not None:
            continue
        regions = panel.regions.values()
        words = [story.style, panel.prompt, *(region.prompt for region in regions)]
        words += [region.state or "" for region in regions]
        words += [negative_prompt(story, panel)]
        words += [negative_prompt(story, panel, name) for name in panel.regions]
        shown.update(named_in(words))
        shown.update(drawn_cast(story, panel))
    return tuple(name for name in story.concepts if name in shown)


def train_task(
    name: str, spec: ConceptSpec, base: ModelRef, key_inputs: dict[str, KeyInputs]
) -> TrainTask:
    """The task of learning one concept; its recipe is entered in `key_inputs`."""
    folder = spec.pictures().absolute()
    files = files_read(folder)
    recipe: KeyInputs = {
        "make": "concept 1",
        "kind": spec.kind,
        "class": spec.class_,
        "pictures": {file.relative_to(folder).as_posix(): file for file in files},
        "base": base.hash,
        "settings": spec.train,
    }
    recipe |= _habits(base.defaults.all)
    clip = _clip_of(spec, base)
    if clip is not None:
        where = clip_at(clip)
        recipe["clip"] = where if where.exists() else clip
    return TrainTask(
        key=_entered(key_inputs, recipe),
        concept=name,
        kind=spec.kind,
        class_phrase=spec.class_,
        folder=folder,
        images=picture_names(folder),
        base=base.reference,
        base_hash=base.hash,
        settings=spec.train,
        licence=spec.licence,
        clip=clip,
    )


def _clip_of(spec: ConceptSpec, base: ModelRef) -> str | None:
    """The CLIP that judges while the concept is learnt; None if nothing is judged, or by nobody."""
    if not spec.train.judged:
        return None
    if spec.train.clip is None:
        return own_clip(base.reference)
    path = beside(spec.folder, spec.train.clip).absolute()
    return str(path) if path.exists() else spec.train.clip


def fuse_task(
    settings: FuseSettings,
    base: ModelRef,
    keys: list[tuple[str, str]],
    key_inputs: dict[str, KeyInputs],
) -> FuseTask:
    """The task of fusing concepts, given as pairs of a name and its file's key.

    Its recipe, and those of what is watched for it, are entered in `key_inputs`.
    """
    defaults = _habits(base.defaults.drawing)
    recipe: KeyInputs = {"make": "fusion 3", "base": base.hash, "settings": settings, **defaults}
    key = _entered(key_inputs, {**recipe, "concepts": dict(keys)})
    kept = settings.statistics or "full"
    watched: KeyInputs = {"make": "statistics 2", "base": base.hash, "kept": kept, **defaults}
    watched |= {"steps": settings.steps} if settings.steps else {}
    subject = {"area": "subject"} if settings.area == "subject" else {}
    own = [(name, {**watched, "concept": each, **subject}) for name, each in keys]
    return FuseTask(
        key=key,
        base=base.reference,
        base_hash=base.hash,
        concepts=tuple(keys),
        settings=settings,
        statistics=tuple((name, _entered(key_inputs, recipe)) for name, recipe in own),
        ordinary=_entered(key_inputs, watched),
    )


def _habits(said: NamedValues) -> KeyInputs:
    """What a recipe says of the base's habits: nothing if they are the usual ones."""
    return {"habits": dict(said)} if said else {}


def _panel_tasks(
    story: Story,
    base: ModelRef,
    order: Order,
    fuse: FuseTask | None,
    shown: list[tuple[str, str]],
    key_inputs: dict[str, KeyInputs],
) -> Iterator[PanelTask]:
    key = None if fuse is None else fuse.key
    for page, panel in story.panels():
        if panel.picture is not None:
            continue
        task = panel_task(story, page, panel, base, key, tuple(shown))
        task = replace(task, steps=order.steps or task.steps)
        yield replace(task, key=_entered(key_inputs, drawn_from(task)))


def own_tasks(story: Story, key_inputs: dict[str, KeyInputs]) -> Iterator[OwnPictureTask]:
    """The pictures that the author brings; their recipes are entered in `key_inputs`."""
    for page, panel in story.panels():
        if panel.picture is not None:
            file = named_file(story, panel.picture)
            key = _entered(key_inputs, own_recipe(file, panel.made))
            yield OwnPictureTask(key, panel.id, page, file, panel.made)


def book_tasks(
    story: Story,
    keys: Mapping[str, str],
    order: Order,
    key_inputs: dict[str, KeyInputs],
) -> Iterator[BookTask]:
    """The books; their recipes are entered in `key_inputs`.

    keys  of the picture of every panel
    """
    language = order.language or story.language
    pictures = tuple((panel.id, keys[panel.id]) for _, panel in story.panels())
    words = _book_recipe(story)
    for name in order.formats_of(story):
        ppi = (order.ppi or story.book.ppi) if name == "png" else 0
        recipe: KeyInputs = {"format": name, "language": language, "panels": dict(pictures)}
        recipe |= {"ppi": ppi} if ppi else {}
        yield BookTask(_entered(key_inputs, {**words, **recipe}), name, language, pictures, ppi)


def _book_recipe(story: Story) -> KeyInputs:
    """All that the pages say, and the version of the templates that set them."""
    drawn = {"draft", "seed", "style", "negative", "compose", "sampling", "fuse", "size", "cache"}
    concepts = {
        name: spec.model_dump(mode="json", exclude={"folder", "train"})
        for name, spec in story.concepts.items()
        if not isinstance(spec, Path)
    }
    spoken = {
        language: {str(number): path for number, path in narrations(story, language).items()}
        for language in story.languages()
    }
    named = {
        "title font": _file_named(story, story.book.title_font),
        "upscale": _file_named(story, story.book.upscale),
        "profile": _file_named(story, story.book.print.profile),
    }
    return {
        "make": f"book 5, storyforge {__version__}",
        "story": story.model_dump(mode="json", exclude={"path", "concepts", *drawn}),
        "concepts": concepts,
        "font": _file_named(story, story.book.font),
        **{name: path for name, path in named.items() if path is not None},
        **({"portraits": portraits} if (portraits := _portraits(story)) else {}),
        **({"narration": spoken} if any(spoken.values()) else {}),
    }


def _file_named(story: Story, named: str | None) -> Path | None:
    """The file of that name; None for what names none, such as a bundled font."""
    path = named_file(story, named) if named else None
    return path if path is not None and path.is_file() else None


def _portraits(story: Story) -> list[Path]:
    """The pictures of those who made the book."""
    named = [named_file(story, person.picture) for person in story.book.people if person.picture]
    return [path for path in named if path.is_file()]


def _entered(key_inputs: dict[str, KeyInputs], recipe: KeyInputs) -> str:
    key = key_of(recipe)
    key_inputs[key] = json.loads(canonical(recipe))
    return key
