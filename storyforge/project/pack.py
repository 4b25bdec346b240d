"""A story in one file that opens elsewhere: its words, concepts, pins, fonts and finished products.

The base is named, not carried. Not covered: model files that the story names beside it (adapters,
upscalers); what is left out is told.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from storyforge import __version__
from storyforge.engine.engine import concept_file
from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.pictures import beside, files_read
from storyforge.plan.lockfile import lock_path, read_lock
from storyforge.plan.pins import Pin, keep, picture_path
from storyforge.plan.plan import Plan
from storyforge.plan.status import shelf_of
from storyforge.store import Store, fingerprint, write_whole
from storyforge.store.durable import make_folder, writing
from storyforge.store.parcels import Parcel, parcel_of
from storyforge.story.edit import quoted, set_value
from storyforge.story.layout import find
from storyforge.story.lint.cast import GROUPS
from storyforge.story.readalong import narrations
from storyforge.story.story import Story
from storyforge.tasks import BookTask

ENDING: Final = ".storyforge.zip"

_MANIFEST: Final = "pack.json"
_MADE_ON: Final = (2000, 1, 1, 0, 0, 0)
_PLAIN_FILE: Final = 0o100644 << 16
_PARCEL: Final = ".parcel"
_STORED: Final = frozenset({_PARCEL, ".png", ".jpg", ".jpeg", ".webp", ".safetensors", ".woff2"})
"""These hardly grow smaller."""

_LARGEST: Final = 64 * 10**9
"""Bytes that a pack may unfold to."""


class PackedFile(BaseModel):
    """One file of a pack: where it goes, and what it must be."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    size: int = Field(ge=0)
    sha256: str


class Manifest(BaseModel):
    """What a pack says of itself; `products` are finished ones, each a file ready to travel."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    storyforge: str
    story: str
    base: str
    base_hash: str | None = None
    files: list[PackedFile]
    products: list[str] = []


@dataclass(frozen=True, slots=True)
class Packed:
    """A pack that was written.

    left_out  files that the story names and the pack does not carry
    """

    path: Path
    files: int
    products: int
    left_out: tuple[str, ...]


def pack(
    story: Story, plan: Plan | None, store: Store, out: Path | None, *, pictures: bool = True
) -> Packed:
    """Write the story with all that belongs to it into one file.

    plan      None if the base is not on this machine: then there are no products to carry
    pictures  whether the concepts' pictures go along; without them, concepts are their files, and
              every picture that is drawn is pinned

    Raises StoryForgeError without pictures where a concept is not learnt yet.
    """
    target = out or Path(f"{_stem(story)}{ENDING}")
    with TemporaryDirectory(prefix="storyforge-pack-") as made:
        tree = Path(made)
        staged, left_out = _staged(story, plan, store, tree, pictures=pictures)
        products = _products(plan, store, tree) if plan is not None and pictures else []
        names = [path for path in sorted(tree.rglob("*")) if path.is_file()]
        files = [
            PackedFile(
                name=path.relative_to(tree).as_posix(),
                size=path.stat().st_size,
                sha256=fingerprint(path),
            )
            for path in names
        ]
        manifest = Manifest(
            storyforge=__version__,
            story=staged.relative_to(tree).as_posix(),
            base=story.base_parts.reference,
            base_hash=plan.panels[0].base_hash if plan is not None and plan.panels else None,
            files=files,
            products=products,
        )
        _write(target, tree, manifest)
    return Packed(target, len(files), len(products), left_out)


def _stem(story: Story) -> str:
    stem = story.path.stem
    return stem if stem != "story" else story.path.absolute().parent.name


def _staged(
    story: Story, plan: Plan | None, store: Store, tree: Path, *, pictures: bool
) -> tuple[Path, tuple[str, ...]]:
    """Lay the story out anew in `tree`, all it refers to below its own folder."""
    home = tree / "story"
    home.mkdir()
    text, left_out = story.path.read_bytes().decode("utf-8-sig"), []
    for group in GROUPS:
        written: Mapping[str, str] = getattr(story, group)
        for name, place in written.items():
            if pictures:
                put = _concept(story, name, home)
            else:
                put = _learnt(story, plan, store, name, home)
            if put != place:
                text = set_value(text, (group, name), quoted(put))
    for path in _beside(story):
        inside = _inside(path, story.folder)
        if inside is None:
            left_out.append(path.name)
        else:
            _copy(path, home / inside)
    staged = home / story.path.name
    staged.write_bytes(text.encode())
    if not pictures and plan is not None:
        _pin_all(plan, store, story.model_copy(update={"path": staged}))
    return staged, tuple(dict.fromkeys(left_out))


def _concept(story: Story, name: str, home: Path) -> str:
    """Copy a concept as the author has it; its path as the packed story writes it."""
    spec = story.concepts[name]
    if isinstance(spec, Path):
        place = f"concepts/{name}{spec.suffix}"
        _copy(spec, home / place)
        return place
    pictures = spec.pictures()
    inner = _inside(pictures, spec.folder)
    if inner is None:
        message = f"the pictures of `{name}` lie outside its folder"
        raise StoryForgeError(message, hint="move them into it, or pack with `--no-pictures`")
    folder = home / "concepts" / name
    _copy(spec.folder / "concept.yaml", folder / "concept.yaml")
    for file in files_read(pictures):
        _copy(file, folder / file.relative_to(spec.folder))
    return f"concepts/{name}"


def _learnt(story: Story, plan: Plan | None, store: Store, name: str, home: Path) -> str:
    """Copy what was learnt of a concept instead of its pictures."""
    spec = story.concepts[name]
    file = spec if isinstance(spec, Path) else None
    if file is None and plan is not None:
        keys = {task.concept: task.key for task in plan.train}
        file = concept_file(plan, store, name, keys[name])
    if file is None or not file.is_file():
        hint = f"run `storyforge train {story.path} {name}` first, or pack it with its pictures"
        raise StoryForgeError(f"concept `{name}` is not learnt yet", hint=hint)
    _copy(file, home / "concepts" / f"{name}.safetensors")
    return f"concepts/{name}.safetensors"


def _pin_all(plan: Plan, store: Store, staged: Story) -> None:
    """Keep every picture that is drawn: without the concepts' pictures it has another key there."""
    pins = []
    for task in plan.panels:
        if task.panel not in plan.pins and store.has("panels", task.key):
            picture = store.path("panels", task.key)
            recipe = plan.key_inputs[task.key]
            take = next(each.take for _, each in staged.panels() if each.id == task.panel)
            sha = fingerprint(picture)
            pins.append(Pin(task.panel, take, task.key, sha, recipe, {}, picture))
    if pins:
        keep(staged, pins, Store(staged.folder / ".storyforge"))


def _beside(story: Story) -> Iterator[Path]:
    """Every file that the story needs besides its concepts."""
    folder = story.folder
    for locale in story.places.locales:
        yield Path(locale.report.file)
    for name in story.layouts:
        file = find(name, (folder / "layouts",))
        if file is not None and file.parent == folder / "layouts":
            yield file
    named = [story.book.font, story.book.title_font, story.book.print.profile]
    for _, panel in story.panels():
        named += [shape.mask for shape in story.region_shapes(panel).values()]
        named += [panel.picture, *(control.picture for control in panel.control)]
        named += [panel.refine.picture] if panel.refine else []
    named += [each.file for each in story.sampling.lora]
    named += [person.picture for person in story.book.people]
    yield from (path for lang in story.languages() for path in narrations(story, lang).values())
    for written in named:
        # What names a font, a place or a bundled thing names no file.
        if written and os.path.isfile(path := beside(folder, written)):
            yield path
    yield from _pinned(story)


def _pinned(story: Story) -> Iterator[Path]:
    """The lock, the pictures that it names, and what lies beside them."""
    lock = lock_path(story.path)
    if not lock.is_file():
        return
    yield lock
    models = False
    for panel, kept in read_lock(lock).panels.items():
        picture = picture_path(story.folder, panel, kept.key)
        if picture.is_file():
            yield picture
        if picture.with_suffix(".json").is_file():
            models = True
            yield picture.with_suffix(".json")
    if models:
        yield from sorted((story.folder / "pins" / "models").glob("*.json"))


def _inside(path: Path, folder: Path) -> Path | None:
    """The path as seen from the folder; None if it does not lie in it."""
    try:
        return Path(os.path.normpath(path.absolute())).relative_to(
            os.path.normpath(folder.absolute())
        )
    except ValueError:
        return None


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except OSError as exc:
        raise EnvironmentProblem(f"cannot read `{source}`: {exc.strerror}") from exc


def _products(plan: Plan, store: Store, tree: Path) -> list[str]:
    """Lay down what is finished of the plan, books apart: these are bound in seconds."""
    names: dict[str, None] = {}
    for task in plan.tasks():
        shelf = shelf_of(task)
        if isinstance(task, BookTask) or not store.sound(shelf, task.key):
            continue
        name = f"products/{shelf}-{task.key}{_PARCEL}"
        if name not in names:
            write_whole(tree / name, parcel_of(store, shelf, task.key))
            names[name] = None
    return list(names)


def _write(target: Path, tree: Path, manifest: Manifest) -> None:
    """Write the archive; the same contents, the same bytes."""
    whole = tree / f"pack{ENDING}"
    with writing(target), zipfile.ZipFile(whole, "w") as archive:
        _add(archive, _MANIFEST, manifest.model_dump_json(indent=1).encode())
        for file in manifest.files:
            _add(archive, file.name, (tree / file.name).read_bytes())
    with whole.open("rb") as source:
        write_whole(target, iter(partial(source.read, 1 << 20), b""))


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _MADE_ON)
    entry.create_system, entry.external_attr = 3, _PLAIN_FILE
    kept = Path(name).suffix.lower() in _STORED
    entry.compress_type = zipfile.ZIP_STORED if kept else zipfile.ZIP_DEFLATED
    archive.writestr(entry, data)


def unpack(path: Path, folder: Path | None = None) -> Path:
    """Open a pack in a new or empty folder; the story in it.

    Nothing in it is run, and nothing is written outside the folder. Raises StoryForgeError for a
    file that is no pack or was changed, and for a folder that holds anything.
    """
    target = folder or Path(path.name.removesuffix(ENDING).removesuffix(".zip"))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StoryForgeError(f"`{target}` is not empty", hint="name a new folder")
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = _manifest(archive)
            with writing(target):
                make_folder(target.absolute().parent)
                with TemporaryDirectory(prefix=".storyforge-", dir=target.absolute().parent) as new:
                    _extract(archive, manifest, Path(new))
                    _shelve(manifest, Path(new))
                    _put(Path(new) / "story", target, PurePosixPath(manifest.story).name)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as exc:
        # A RuntimeError is what zipfile says of an encrypted or strangely packed file.
        raise StoryForgeError(f"`{path}` is no pack that can be read: {exc}") from exc
    return target / PurePosixPath(manifest.story).relative_to("story")


def _put(made: Path, target: Path, story: str) -> None:
    """Let a folder take the place of an empty one, in one step.

    Where a folder cannot be replaced, because somebody stands in it, its parts move one by one, the
    story last: without it nobody takes what is there for whole.
    """
    try:
        os.replace(made, target)
    except OSError:
        make_folder(target)
        for child in sorted(made.iterdir(), key=lambda child: child.name == story):
            os.replace(child, target / child.name)


def _manifest(archive: zipfile.ZipFile) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(archive.read(_MANIFEST))
    except (KeyError, ValidationError) as exc:
        raise StoryForgeError("this is no pack of storyforge's") from exc
    names = [file.name for file in manifest.files]
    if manifest.story not in names or not manifest.story.startswith("story/"):
        raise StoryForgeError("this is no pack of storyforge's")
    names += manifest.products
    for name in names:
        parts = PurePosixPath(name).parts
        bad = ".." in parts or set(name) & set("\\:\0") or PurePosixPath(name).is_absolute()
        if bad or parts[:1] not in {("story",), ("products",)}:
            raise StoryForgeError(f"the pack holds `{name}`, which leads out of its folder")
    if sum(file.size for file in manifest.files) > _LARGEST:
        raise StoryForgeError("the pack is too large")
    return manifest


def _extract(archive: zipfile.ZipFile, manifest: Manifest, folder: Path) -> None:
    """Write every file, each exactly what the pack says of it."""
    for file in manifest.files:
        target, digest, size = folder / file.name, hashlib.sha256(), 0
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with archive.open(file.name) as source, target.open("wb") as out:
                while block := source.read(1 << 20):
                    size += len(block)
                    if size > file.size:
                        break
                    digest.update(block)
                    out.write(block)
        except KeyError as exc:
            raise StoryForgeError(f"`{file.name}` is missing from the pack") from exc
        if size != file.size or digest.hexdigest() != file.sha256:
            raise StoryForgeError(f"`{file.name}` is not what was packed")


def _shelve(manifest: Manifest, folder: Path) -> None:
    """Put the products into the story's store."""
    store = Store((folder / manifest.story).parent / ".storyforge")
    for name in manifest.products:
        parcel = Parcel.read((folder / name).read_bytes())
        if parcel.source[0] not in {"concepts", "fused", "panels"}:
            message = f"the pack holds a product of a strange kind, `{parcel.source[0]}`"
            raise StoryForgeError(message)
        parcel.keep(store)
