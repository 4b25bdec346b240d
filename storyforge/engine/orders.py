"""A task on its way to another machine: plain JSON, and what it reads named by content.

A file of the author's becomes `inputs/KEY/NAME` and travels as a product does; an adapter of the
package becomes `package/…`. The base stays where it is: every machine has its own, which is
compared by its hash.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal, TypeVar

from pydantic import TypeAdapter

from storyforge import __version__
from storyforge.engine.inputs import learnt_of, sums_of
from storyforge.errors import EnvironmentProblem, InputChanged
from storyforge.modelref import ADAPTERS
from storyforge.pictures import files_read
from storyforge.plan.keys import KEY_DIGITS
from storyforge.plan.plan import Plan
from storyforge.store import Store, fingerprint
from storyforge.store.parcels import parcel_of_folder
from storyforge.store.products import Source
from storyforge.store.sums import files_of
from storyforge.tasks import FuseTask, ImportTask, PanelTask, TrainTask

Sendable = TrainTask | ImportTask | FuseTask | PanelTask
"""What is done on other machines; books are bound here, which takes no model."""

Kind = Literal["train", "import", "fuse", "panel"]

_KINDS: Final[dict[type[Sendable], Kind]] = {
    TrainTask: "train",
    ImportTask: "import",
    FuseTask: "fuse",
    PanelTask: "panel",
}

_INPUT: Final = "inputs/"
_PACKAGE: Final = "package/"

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class RemoteTask:
    """A task, and all that has to be known to do it elsewhere.

    task      its fields, with paths that mean the same everywhere
    paths     these paths
    reads     the products that it is made from
    concepts  the files of its concepts by name: a product's key, or one of `paths`
    sums      what a concept's pictures were when its key was made
    store     a store that whoever does it sees, too; None if products travel
    seen      the mark that stands in this store, so that another at the same path is not taken
              for it
    tight     whether to do with little memory, for it did not fit before
    """

    kind: Kind
    task: dict[str, object]
    paths: tuple[str, ...] = ()
    reads: tuple[Source, ...] = ()
    concepts: tuple[tuple[str, str], ...] = ()
    sums: tuple[tuple[str, str], ...] = ()
    store: Path | None = None
    seen: str = ""
    tight: bool = False
    version: str = __version__

    def text(self) -> str:
        """The order as JSON."""
        return _ORDER.dump_json(self).decode()

    @staticmethod
    def read(text: str) -> RemoteTask:
        """The order in a text.

        Raises ValueError for a text that is none, EnvironmentProblem for another version's.
        """
        order = _ORDER.validate_json(text)
        if order.version != __version__:
            message = f"storyforge {order.version} asks, and here is storyforge {__version__}"
            raise EnvironmentProblem(message, hint="install the same version on every machine")
        return order

    @property
    def inputs(self) -> tuple[str, ...]:
        """The keys of the author's files."""
        names = (path.split("/")[1] for path in self.paths if path.startswith(_INPUT))
        return tuple(dict.fromkeys(names))

    def opened(self, store: Store) -> Sendable:
        """The task with the paths of this machine."""
        task: Sendable = _TASKS[self.kind].validate_python(self.task)
        return _with_paths(task, lambda path: _here(path, store), self.paths)

    def concept_files(self, store: Store) -> dict[str, Path]:
        """The files of the task's concepts."""
        return {
            name: _here(Path(where), store)
            if where in self.paths
            else store.path("concepts", where)
            for name, where in self.concepts
        }


_ORDER: Final = TypeAdapter(RemoteTask)
_TASKS: Final[dict[Kind, TypeAdapter[Any]]] = {
    kind: TypeAdapter(made) for made, kind in _KINDS.items()
}


@dataclass(slots=True)
class Sender:
    """Writes orders for the tasks of a plan, and knows the author's files that they name.

    store   what products are taken from
    seen    the mark by which those who do the tasks know the store; None if they do not see it
    files   what is in each input: a file or folder, and its files by their names there
    """

    plan: Plan
    store: Store
    seen: str | None = None
    files: dict[str, dict[str, Path]] = field(default_factory=dict)
    known: dict[Path, str] = field(default_factory=dict)

    def order(self, task: Sendable, *, tight: bool = False) -> RemoteTask:
        """How the task is told to others."""
        paths: dict[str, None] = {}

        def there(path: Path) -> Path:
            learnt = isinstance(task, TrainTask) and path == task.folder
            name = self._named(path, files_read if learnt else files_of)
            paths[name] = None
            return Path(name)

        told = _with_paths(task, there)
        concepts = tuple((name, self._concept(name, key, there)) for name, key in _cast(task))
        sums = sums_of(task, self.plan.key_inputs) if isinstance(task, TrainTask) else {}
        reads = learnt_of(task, self.plan) if isinstance(task, FuseTask | PanelTask) else []
        if isinstance(task, PanelTask) and task.fused is not None:
            reads.append(("fused", task.fused))
        return RemoteTask(
            kind=_KINDS[type(task)],
            task=_TASKS[_KINDS[type(task)]].dump_python(told, mode="json", exclude_unset=True),
            paths=tuple(paths),
            reads=tuple(reads),
            concepts=concepts,
            sums=tuple(sums.items()),
            store=None if self.seen is None else self.store.root,
            seen=self.seen or "",
            tight=tight,
        )

    def input(self, key: str) -> bytes:
        """The author's files under this key, ready to travel.

        Raises InputChanged if they are not any more what the key says.
        """
        files = self.files[key]
        try:
            content = {name: file.read_bytes() for name, file in files.items()}
        except OSError:
            content = {}
        if _input_key({n: hashlib.sha256(c).hexdigest() for n, c in content.items()}) != key:
            changed = next(iter(files.values())).parent
            message = f"files in `{changed}` were changed while they were used"
            raise InputChanged(message, hint="run the same command again")
        return parcel_of_folder("inputs", key, content)

    def _concept(self, name: str, key: str, there: Callable[[Path], Path]) -> str:
        spec = self.plan.story.concepts[name]
        imported = any(task.concept == name for task in self.plan.imports)
        return there(spec).as_posix() if isinstance(spec, Path) and not imported else key

    def _named(self, path: Path, files_in: Callable[[Path], list[Path]]) -> str:
        """What a path of this machine is called everywhere; of a folder, which files count."""
        if path.is_relative_to(ADAPTERS):
            return _PACKAGE + path.relative_to(ADAPTERS).as_posix()
        if path not in self.known:
            found = [path] if path.is_file() else files_in(path)
            files = {file.relative_to(path.parent).as_posix(): file for file in found}
            key = _input_key({name: fingerprint(file) for name, file in files.items()})
            self.files[key] = files
            self.known[path] = f"{_INPUT}{key}/{path.name}"
        return self.known[path]


def _input_key(sums: Mapping[str, str]) -> str:
    """What files are called together, by the SHA-256 of each."""
    told = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    return hashlib.sha256(told.encode()).hexdigest()[:KEY_DIGITS]


def mark_in(store: Path, seen: str) -> Path:
    """Where a store's mark stands."""
    return store / "locks" / f"{seen}.lock"


def sees(store: str | Path, seen: str) -> bool:
    """Whether this machine sees a store, by the mark that stands in it for as long as is asked."""
    return appears(mark_in(Path(store), seen))


def appears(path: Path) -> bool:
    """Whether a file is there that another machine may just have written."""
    if path.exists():
        return True
    # Network file systems remember what was not there, until the folder is read again.
    with suppress(OSError):
        os.listdir(path.parent)
    return path.exists()


def products_of(order: RemoteTask) -> list[Source]:
    """Every product that an order reads."""
    own: list[Source] = [("concepts", key) for _, key in order.concepts if key not in order.paths]
    return list(dict.fromkeys([*order.reads, *own]))


def _here(path: Path, store: Store) -> Path:
    """The path on this machine of what has the same name everywhere."""
    name = path.as_posix()
    if name.startswith(_PACKAGE):
        return ADAPTERS / PurePosixPath(name).relative_to(_PACKAGE)
    _, key, *rest = PurePosixPath(name).parts
    return store.path("inputs", key).joinpath(*rest)


def _cast(task: Sendable) -> tuple[tuple[str, str], ...]:
    return task.concepts if isinstance(task, FuseTask | PanelTask) else ()


def _with_paths(part: Part, change: Callable[[Path], Path], texts: Collection[str] = ()) -> Part:
    """The same with every path changed; `texts` are those that JSON has made plain text."""
    made: object = part
    kind: type = type(part)
    if isinstance(part, Path) or (isinstance(part, str) and part in texts):
        made = change(Path(part))
    elif isinstance(part, tuple):
        parts = tuple(_with_paths(each, change, texts) for each in part)
        made = part if all(new is old for new, old in zip(parts, part, strict=True)) else parts
    elif names := _fields(kind):
        values: Mapping[str, object] = {
            name: _with_paths(getattr(part, name), change, texts) for name in names
        }
        # Few parts name a path, and thousands of orders are written in a moment.
        if any(values[name] is not getattr(part, name) for name in names):
            made = replace(part, **values)  # type: ignore[type-var]
    return made  # type: ignore[return-value]


@lru_cache(maxsize=256)
def _fields(kind: type) -> tuple[str, ...]:
    """The names of a dataclass's fields; none for other types."""
    return tuple(each.name for each in fields(kind)) if is_dataclass(kind) else ()
