"""A story from `train` to `gc`, whose stages cost nothing, and all that must be the same after it.

Concepts, fused models, pictures and books are bytes made from their keys; everything else, the
plan, the store, the ledger, the pins, the books where an author looks, is the program's own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from storyforge.engine import books, engine, maker, stages
from storyforge.engine.inputs import check_panel
from storyforge.executor import OnProgress
from storyforge.project import stores
from storyforge.project.project import Project
from storyforge.store import Store, tidying
from storyforge.store.products import Source
from storyforge.store.sums import NOTE
from storyforge.tasks import BookTask, FuseTask, TrainTask

STORY = """
storyforge: 1
title: {title}
base: base
characters: {{pip: concepts/pip, owl: concepts/owl}}
book: {{formats: [html, cbz], colophon: false}}
pages:
  - text: One night, Pip found a lantern.
    panels:
      - {{id: found, prompt: night, regions: {{left: {{at: left, concept: pip}}}}, alt: A fox.}}
  - text: The end.
    panels:
      - {{id: end, prompt: day, regions: {{one: {{at: right, concept: owl}}}}, alt: An owl.}}
"""

_NEEDLESS = "0" * 20
"""The key of a picture that no story asks for."""

_KEPT = ("concepts", "statistics", "fused", "panels", "books", "web")
"""The folders of a store whose every file is compared."""


def write_story(folder: Path, names: Sequence[str] = ("tale",)) -> list[Path]:
    """Stories of two concepts and two panels each, in one folder."""
    for name, noun in [("pip", "fox"), ("owl", "owl")]:
        concept = folder / "concepts" / name
        concept.mkdir(parents=True)
        (concept / "concept.yaml").write_text(f"kind: character\nclass: {noun}\n")
        Image.new("RGB", (8, 8), (len(noun), 2, 3)).save(concept / "1.png")
    _write_base(folder / "base")
    paths = [folder / f"{name}.yaml" for name in names]
    for path in paths:
        path.write_text(STORY.format(title=path.stem))
    return paths


def _write_base(folder: Path) -> None:
    """A base as far as its headers say, with weights of one number each."""
    folder.mkdir()
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    configs = {
        "unet": {"in_channels": 4, "cross_attention_dim": 768},
        "vae": {"latent_channels": 4},
        "text_encoder": {},
    }
    files = {
        "tokenizer/tokenizer.json": "{}",
        "scheduler/scheduler_config.json": '{"_class_name": "DDIMScheduler", "beta_start": 0.001}',
    }
    for name, text in files.items():
        (folder / name).parent.mkdir()
        (folder / name).write_text(text)
    for part, config in configs.items():
        (folder / part).mkdir()
        (folder / part / "config.json").write_text(json.dumps(config))
        save_file({"one": np.zeros(1, np.float32)}, folder / part / "model.safetensors")


def bytes_of(key: str, count: int = 600) -> bytes:
    """What a product with this key consists of."""
    return b"".join(hashlib.sha256(f"{key} {n}".encode()).digest() for n in range(count // 32))


def _learn(
    root: Path, logs: None, sums: Mapping[str, object], task: TrainTask, on_progress: OnProgress
) -> None:
    store = Store(root)
    with store.make_missing("concepts", task.key) as path:
        if path is not None:
            (store.scratch(task.key) / "state").write_bytes(b"half")
            path.write_bytes(bytes_of(task.key))


def _fuse(
    store: Store,
    concepts: dict[str, Path],
    learnt: Sequence[Source],
    task: FuseTask,
    on_progress: OnProgress,
) -> None:
    with store.make_missing("fused", task.key, learnt) as path:
        if path is None:
            return
        for key in (*(key for _, key in task.statistics), task.ordinary):
            while not store.sound("statistics", key):
                with store.make_missing("statistics", key) as seen:
                    if seen is not None:
                        seen.write_bytes(bytes_of(key))
                store.wait_for("statistics", key)
        path.mkdir()
        read = b"".join(file.read_bytes() for file in concepts.values())
        (path / "deltas").write_bytes(hashlib.sha256(read).digest())
        (path / "manifest.json").write_bytes(bytes_of(task.key))


def _draw(
    store: Store,
    previews: Path | None,
    drawn: stages.Drawn,
    job: stages.DrawingJob,
    on_progress: OnProgress,
) -> None:
    model = b"" if job.model is None else (job.model / "deltas").read_bytes()
    for task in job.tasks:
        with store.make_missing("panels", task.key, job.sources(task)) as path:
            if path is not None:
                path.write_bytes(model + bytes_of(task.key))
                check_panel(task)
        if path is not None:
            drawn(task, 0.0)


def _bind(self: books.Books, task: BookTask, on_progress: OnProgress) -> None:
    with self.store.make_missing(task.format, task.key, self._sources(task)) as path:
        if path is not None:
            shown = [self._drawn(panel, key).read_bytes() for panel, key in task.panels]
            path.write_bytes(b"".join(shown))


@contextmanager
def stages_for_nothing() -> Iterator[None]:
    """Let stages make their products out of the keys, and of what they read."""
    with ExitStack() as stack:
        for owner, name, made in (
            *((module, "learn_concept", _learn) for module in (maker, stages)),
            *((module, "fuse_concepts", _fuse) for module in (maker, stages)),
            *((module, "draw_panels", _draw) for module in (maker, stages)),
            (maker, "_usual_jobs", lambda count: 1),
            (books.Books, "perform", _bind),
            (books.Books, "judged", lambda self, bound, on_progress: ()),
            (engine.Engine, "compose", lambda self, tasks: None),
        ):
            stack.enter_context(patch.object(owner, name, made))
        yield


def live(story: Path, store: Path | None = None) -> None:
    """Train, fuse, render, pin, unpin, pin all, verify, render again and throw away."""
    project = Project(story, store=store)
    with project.store.make("panels", _NEEDLESS) as path:
        path.write_bytes(bytes_of(_NEEDLESS))
    project.train(jobs=1)
    project.fuse(jobs=1)
    Project(story, store=store).render(jobs=1)
    Project(story, store=store).pin(["found"])
    Project(story, store=store).unpin(["found"])
    Project(story, store=store).pin()
    tidying.verify(project.store)
    outcome = Project(story, store=store).render(jobs=1)
    if outcome.troubles:
        raise outcome.troubles[0].error
    stores.gc(project.store.root)


def left(story: Path, store: Path | None = None) -> dict[str, str]:
    """Every file that must be there after it, by its name; SHA-256.

    Notes are left out: a book may have been bound before its picture was pinned, or after.
    """
    folder, root = story.parent, store or story.parent / ".storyforge"
    files = [*(folder / "build").rglob("*"), *(folder / "pins").rglob("*")]
    files += [folder / f"{story.stem}.lock.yaml"]
    files += [file for name in _KEPT for file in (root / name).rglob("*")]
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file() and file.suffix != NOTE
    }


def unsound(store: Store) -> list[str]:
    """The products that are not what their notes say."""
    return [key for shelf, key in store.noted() if not store.sound(shelf, key)]


def half_done(story: Path) -> list[Path]:
    """What a killed run may leave, and the next may not."""
    root = story.parent / ".storyforge"
    partial = [
        path for path in story.parent.rglob("*.partial") if root / "trash" not in path.parents
    ]
    return [*partial, *(root / "partial").glob("*")]
