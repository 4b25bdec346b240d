"""Every way to learn a concept, on the cast: what is trained, drawn and judged, and kept.

Concepts lie in a store under their own keys, so that what others have trained there is found;
pictures lie beside them, one strip for each concept file and strength of its deltas.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from PIL import Image

from storyforge.executor import OnProgress, run
from storyforge.metrics.alignment import among_themselves, image_alignment, text_alignment
from storyforge.metrics.clip import Clip
from storyforge.metrics.prompts import prompts_for
from storyforge.metrics.references import references_of
from storyforge.model.attention import AttentionContext
from storyforge.model.base import BaseModel
from storyforge.model.card import Card
from storyforge.model.concept import Concept
from storyforge.model.denoising import denoise, start_latents
from storyforge.model.lora import attached
from storyforge.model.tokens import ConceptTokens, encode
from storyforge.modelref import ModelRef
from storyforge.pictures import with_articles
from storyforge.plan.keys import key_of
from storyforge.plan.plan import train_task
from storyforge.settings import TrainSettings
from storyforge.store import Store, write_whole
from storyforge.story.concept import read_concept
from storyforge.tasks import TrainTask

_BATCH = 4


@dataclass(frozen=True, slots=True)
class Variant:
    """One training: a concept by a method, with or without prior pictures, from a seed."""

    method: str
    prior: bool
    seed: int
    task: TrainTask

    @property
    def words(self) -> str:
        """What it is called when it is missing."""
        prior = "" if self.prior else " without prior"
        return f"{self.task.concept} by {self.method}{prior}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Figures:
    """What was found of one variant: alignments in full, and of its words without the deltas.

    kinds  kind of prompt -> image- and text-alignment in full
    """

    image: float
    text: float
    words_image: float
    words_text: float
    drift: float
    size: int
    kinds: Mapping[str, tuple[float, float]] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one concept: the base's own pictures of its class, and the references themselves."""

    image: float
    text: float
    upper: float


def variant(
    folder: Path,
    base: ModelRef,
    method: str,
    *,
    prior: bool = True,
    seed: int = 0,
    recipe: Mapping[str, object] = MappingProxyType({}),
) -> Variant:
    """The training of the concept in `folder`, all else by the base's habits.

    recipe  settings as under `train:` in a concept's file
    """
    said = {**recipe, "method": method, "seed": seed}
    if not prior:
        said["prior_share"] = 0.0
    settings = TrainSettings.model_validate(said)
    spec = read_concept(folder).model_copy(update={"train": settings})
    return Variant(method, prior, seed, train_task(spec.name, spec, base, {}))


def learn(variants: Sequence[Variant], store: Store, jobs: int) -> list[str]:
    """Train what the store lacks; what could not be trained, and why."""
    tasks = [each.task for each in variants if not store.has("concepts", each.task.key)]
    count = {"left": len(tasks)}

    def done(task: TrainTask, _: int) -> None:
        count["left"] -= 1
        sys.stderr.write(f"learnt {task.concept} ({task.settings.method}); {count['left']} left\n")

    failures = run(partial(_learn, store.root), tasks, jobs, lambda *_: None, done)
    return [f"{failure.task.concept}: {failure.error.message}" for failure in failures]


def _learn(root: Path, task: TrainTask, on_progress: OnProgress) -> None:
    from storyforge.engine.stages import opened
    from storyforge.train import edlora

    store = Store(root)
    with store.make("concepts", task.key) as path:
        edlora.train_concept(opened(task), task, path, store.scratch(task.key), on_progress)


@dataclass(frozen=True, slots=True)
class Studio:
    """Draws and judges.

    prompts  of each of the four kinds
    """

    base: BaseModel
    clip: Clip
    store: Store
    prompts: int

    def bounds(self, task: TrainTask) -> Bounds:
        """How alike pictures of the class are, and the references among themselves."""
        image, text = _means(self._marks(task, None, 0.0))
        return Bounds(image, text, among_themselves(references_of(self.clip, task)))

    def figures(self, task: TrainTask) -> Figures:
        """What a learnt concept is worth."""
        path = self.store.path("concepts", task.key)
        card = Card.read(path)
        whole = self._marks(task, path, 1.0)
        words = self._marks(task, path, 0.0) if any(card.changed.values()) else whole
        drift = card.drift or 0.0
        return Figures(*_means(whole), *_means(words), drift, card.size, whole)

    def strip(self, task: TrainTask, path: Path | None, strength: float) -> Path:
        """The pictures of all prompts in a row, drawn once: by the concept, or by the base alone.

        strength  of the concept's deltas
        """
        asked = self._asked(task)
        key = key_of(
            {
                "make": "benchmark strip 1",
                "base": self.base.hash,
                "concept": task.key if path else task.class_phrase,
                "strength": strength,
                "prompts": asked,
            }
        )
        strip = self.store.root / "benchmark" / f"{key}.png"
        if not strip.is_file():
            data = BytesIO()
            self._drawn(task, path, strength).save(data, "PNG")
            write_whole(strip, data.getvalue())
        return strip

    def _asked(self, task: TrainTask) -> list[str]:
        every = self._kinds(task).values()
        return [prompt for prompts in every for prompt in prompts]

    def _kinds(self, task: TrainTask) -> dict[str, tuple[str, ...]]:
        every = prompts_for(task.kind, pocket=self.base.reference == "pocket")
        return {kind: prompts[: self.prompts] for kind, prompts in every.items()}

    def _plain(self, task: TrainTask) -> list[str]:
        """The prompts with the class in the concept's place."""
        who = f"a {task.class_phrase}" if task.kind == "scene" else task.class_phrase
        return [with_articles(prompt.format(who)) for prompt in self._asked(task)]

    def _marks(
        self, task: TrainTask, path: Path | None, strength: float
    ) -> dict[str, tuple[float, float]]:
        """Image- and text-alignment by kind of prompt; every kind has as many."""
        with Image.open(self.strip(task, path, strength)) as strip:
            side = strip.height
            tiles = [(x, 0, x + side, side) for x in range(0, strip.width, side)]
            seen = self.clip.pictures([strip.crop(tile) for tile in tiles])
        said, references = self.clip.words(self._plain(task)), references_of(self.clip, task)
        marks, start = {}, 0
        for kind, prompts in self._kinds(task).items():
            rows = slice(start, start + len(prompts))
            image = image_alignment(seen[rows], references)
            marks[kind] = image, text_alignment(seen[rows], said[rows])
            start = rows.stop
        return marks

    @torch.no_grad()
    def _drawn(self, task: TrainTask, path: Path | None, strength: float) -> Image.Image:
        concept = Concept.load(path).renamed(task.concept) if path else None
        tokens: dict[str, ConceptTokens] = {}
        prompts = self._plain(task)
        if concept is not None:
            tokens = {task.concept: concept.tokens}
            prompts = [prompt.format(f"<{task.concept}>") for prompt in self._asked(task)]
        deltas = concept.deltas if concept and strength else {}
        made = []
        with attached(self.base, deltas, strength):
            for first in range(0, len(prompts), _BATCH):
                some = prompts[first : first + _BATCH]
                attention = AttentionContext(encode(self.base, [""] * len(some) + some, tokens))
                seeds = [seed_of(prompt) for prompt in self._asked(task)[first : first + _BATCH]]
                latents = denoise(self.base, attention, start_latents(self.base, seeds))
                made.append(self.base.decode(latents).cpu())
        pixels = (torch.cat(made) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return Image.fromarray(np.concatenate(list(pixels), axis=1))


def seed_of(prompt: str) -> int:
    """The same noise for a prompt, whoever draws."""
    return int.from_bytes(hashlib.sha256(json.dumps(prompt).encode()).digest()[:4])


def _means(marks: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """Image- and text-alignment over all kinds."""
    image, text = zip(*marks.values(), strict=True)
    return sum(image) / len(image), sum(text) / len(text)
