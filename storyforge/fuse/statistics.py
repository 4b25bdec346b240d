"""What the attention layers of a model see while it draws: one Gram matrix per distinct input.

A model draws a few varied prompts, padded and guided as at inference and seeded; features are
added into XXᵀ as they pass and are never kept. Every Gram has a mean diagonal of 1, so that layers,
concepts and numbers of rows compare. Each guidance branch counts half, and where text is read a
concept's own words count more than others. Statistics of a concept are taken with that concept
alone, which is why they can be kept beside it and serve any fusion; watching it again `through` a
fused model is the exception.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from storyforge.errors import EnvironmentProblem
from storyforge.fuse.area import Area, subject_area
from storyforge.fuse.emphasis import EMPHASIS, RowWeights, Stress, of_cells, of_words
from storyforge.fuse.packing import Compact, Full, Packed, Sum, unpacked
from storyforge.fuse.solve import normalised
from storyforge.headers.checked import sort_head
from storyforge.model.attention import AttentionContext
from storyforge.model.base import BaseModel
from storyforge.model.concept import Concept, FusedModel, plain
from storyforge.model.denoising import OnStep, denoise, start_latents
from storyforge.model.lora import merged
from storyforge.model.tokens import (
    ConceptTokens,
    PromptEmbeds,
    counts_of,
    encode,
    token_ids,
    word_ids,
)
from storyforge.settings import FuseSettings

Sums = dict[str, Sum]
"""Distinct input, as `family.inputs` names it -> what was seen there so far."""

Kept = TypeVar("Kept")

FORMAT: Final = "1"
_MARK: Final = "storyforge.statistics"

STEPS: Final = 10
"""Denoising steps that are watched; features of neighbouring steps hardly differ."""

_BEINGS: Final = (
    "<it>",
    "<it> waving, on the left, in a forest",
    "<it> sitting, on the right, in a bedroom at night",
    "a picture of <it> running on a beach",
    "<it> jumping, in the middle, in the snow",
    "<it> on the left and a red ball on the right, in a meadow",
    "a girl on the left and <it> on the right, in a town at sunset",
    "a drawing of <it> in a green coat, in a library",
)
_THINGS: Final = (
    "<it>",
    "<it> on the left, in a forest",
    "<it> on the right, in a bedroom at night",
    "a picture of <it> on a beach",
    "<it> in the middle, in the snow",
    "<it> on the left and a red ball on the right, in a meadow",
    "a girl on the left and <it> on the right, in a town at sunset",
    "a bear holding <it>, in a library",
)
_SCENES: Final = (
    "<it>",
    "in <it>, at night",
    "a picture of <it> in the rain",
    "a fox waving, on the left, in <it>",
    "a girl sitting, on the right, in <it>, at sunset",
    "a red ball in the middle, in <it>",
    "a cat on the left and a dog on the right, in <it>",
    "a drawing of a bear in a green coat, in <it>",
)
CONCEPT_PROMPTS: Final[dict[str, tuple[str, ...]]] = {
    "character": _BEINGS,
    "object": _THINGS,
    "scene": _SCENES,
}
"""What a concept is watched drawing; `<it>` is the concept."""

ORDINARY_PROMPTS: Final = (
    "a fox waving, on the left, in a forest",
    "a cat in a red coat on the right, in a bedroom at night",
    "a girl and a dog, on a beach",
    "a boy sitting, in the middle, in the snow",
    "a blue ball on the left and a bear on the right, in a meadow",
    "a house under the moon, in a town",
    "a picture of a rabbit in a yellow shirt, in a library at sunset",
    "a mountain landscape in the rain",
)
"""What the base is watched drawing, to be preserved."""


@dataclass(frozen=True, slots=True)
class Viewing:
    """What a model is watched drawing, and for how long.

    steps     of denoising; None for `STEPS`
    concepts  kind -> prompts in which `<it>` is the concept
    ordinary  prompts of the base, to be preserved
    """

    steps: int | None = None
    concepts: Mapping[str, Sequence[str]] = field(default_factory=lambda: CONCEPT_PROMPTS)
    ordinary: Sequence[str] = ORDINARY_PROMPTS

    @property
    def length(self) -> int:
        """Steps that are heard of each time."""
        return self.steps or STEPS

    def of(self, settings: FuseSettings) -> Viewing:
        """The same for as long as an author wants."""
        return replace(self, steps=settings.steps or self.steps)


USUAL: Final = Viewing()


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the layers see while one concept is drawn, packed; or the base, where none is.

    readers  distinct input -> the linears that read it
    packed   distinct input -> its Gram
    words    input of keys and values -> (n, d), what the concept's words are there on average
    """

    base_hash: str
    readers: dict[str, tuple[str, ...]]
    packed: dict[str, Packed]
    words: dict[str, Tensor]

    def gram(self, source: str) -> Tensor:
        """The Gram of an input (d, d), fp64, mean diagonal 1."""
        return self.packed[source].gram()

    def save(self, path: Path) -> None:
        """Write one `.safetensors` file."""
        tensors, metadata = self.content()
        save_file(tensors, path, metadata)
        sort_head(path)

    def content(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """What a file holds of it: tensors and metadata."""
        tensors = {f"{name}.words": words.half() for name, words in self.words.items()}
        for name, packed in self.packed.items():
            tensors |= {f"{name}.{part}": value for part, value in packed.tensors().items()}
        metadata = {
            _MARK: FORMAT,
            "base_hash": self.base_hash,
            "readers": json.dumps({name: list(own) for name, own in self.readers.items()}),
        }
        return {key: value.contiguous() for key, value in tensors.items()}, metadata

    @staticmethod
    def of_content(tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> Statistics:
        """What a file holds, put together; ValueError or KeyError if it holds no statistics."""
        if meta.get(_MARK) != FORMAT:
            raise ValueError("it does not hold statistics")
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            name, part = key.rsplit(".", 1)
            parts.setdefault(name, {})[part] = value
        readers = {name: tuple(own) for name, own in json.loads(meta["readers"]).items()}
        packed = {name: unpacked(parts[name]) for name in readers}
        words = {n: own["words"].float() for n, own in parts.items() if "words" in own}
        return Statistics(meta["base_hash"], readers, packed, words)

    @staticmethod
    def load(path: Path) -> Statistics:
        """Read statistics.

        Raises EnvironmentProblem if the file does not hold any.
        """
        hint = "run `storyforge cache verify`, which removes what is damaged"
        try:
            with safe_open(path, "pt") as file:
                meta = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return Statistics.of_content(tensors, meta)
        except (OSError, SafetensorError, KeyError, ValueError, AttributeError) as exc:
            raise EnvironmentProblem(f"cannot read `{path}`: {exc}", hint=hint) from exc


def of_concept(
    base: BaseModel,
    concept: Concept,
    packing: type[Full] | type[Compact] = Full,
    on_step: OnStep | None = None,
    *,
    subject: bool = False,
    viewing: Viewing = USUAL,
) -> Statistics:
    """What the layers see while `concept` alone draws itself.

    on_step  hears every one of the denoising steps, twice for `subject`
    subject  whether spatial layers see above all where the concept is
    """
    alone = concept.alone()
    return through(base, concept, alone, packing, on_step, subject=subject, viewing=viewing)


def through(
    base: BaseModel,
    concept: Concept,
    model: FusedModel,
    packing: type[Full] | type[Compact] = Full,
    on_step: OnStep | None = None,
    *,
    subject: bool = False,
    viewing: Viewing = USUAL,
) -> Statistics:
    """What the layers see while `model` draws `concept`."""
    lines = viewing.concepts[concept.kind]
    prompts = [line.replace("<it>", f"<{concept.name}>") for line in lines]
    keep: Callable[[Tensor], Packed] = packing.of
    where = positions(base, prompts, model.tokens, concept.name)
    packed, text = watch(
        base, model, prompts, keep, on_step, where=where, subject=subject, steps=viewing.steps
    )
    words = {
        name: _average_words(text.features[group], where)
        for group, name in enumerate(base.family.text_inputs)
    }
    return Statistics(base.hash, base.family.inputs, packed, words)


def of_base(
    base: BaseModel,
    packing: type[Full] | type[Compact] = Full,
    on_step: OnStep | None = None,
    *,
    viewing: Viewing = USUAL,
) -> Statistics:
    """What the layers ordinarily see: the base without any concept."""
    keep: Callable[[Tensor], Packed] = packing.of
    packed, _ = watch(base, plain(base), viewing.ordinary, keep, on_step, steps=viewing.steps)
    return Statistics(base.hash, base.family.inputs, packed, {})


def positions(
    base: BaseModel, prompts: Sequence[str], tokens: Mapping[str, ConceptTokens], name: str
) -> list[tuple[int, ...]]:
    """Where in each prompt the words of a concept stand."""
    names, counts = list(tokens), counts_of(tokens)
    own = word_ids(base, names, counts)[name]
    firsts = [token_ids(base, prompt, names, counts).index(own.start) for prompt in prompts]
    return [tuple(range(first, first + len(own))) for first in firsts]


def _average_words(text: Tensor, where: Sequence[tuple[int, ...]]) -> Tensor:
    """(words, d): the mean of each word over the prompts of `text` (n, T, d)."""
    rows = [features[list(places)] for features, places in zip(text, where, strict=True)]
    return torch.stack(rows).mean(0).float().cpu()


@torch.no_grad()
def watch(
    base: BaseModel,
    model: FusedModel,
    prompts: Sequence[str],
    keep: Callable[[Tensor], Kept],
    on_step: OnStep | None = None,
    *,
    where: Sequence[tuple[int, ...]] | None = None,
    subject: bool = False,
    steps: int | None = None,
    emphasis: float = EMPHASIS,
) -> tuple[dict[str, Kept], PromptEmbeds]:
    """What the layers see while `model` draws `prompts`, all in one batch and from seeds 0, 1, ….

    The same prompts give the same noise, so that models differ by nothing but what they learnt.

    keep     what to make of the Gram (d, d), fp64, on the CPU, mean diagonal 1, of an input: only
             one at a time is there in full
    where    places of words in each prompt that count more than others in text and in keys and
             values; None for all alike
    subject  whether spatial layers see above all where those words are looked for
    steps    of denoising; None for `STEPS`
    emphasis what those words count

    Returns that of every input, and what the prompts read as.
    """
    stressed = None if where is None else (where, emphasis)
    with merged(base, model.deltas):
        with _watched(base, None, stressed) as said:
            positive = encode(base, prompts, model.tokens)
        with _watched(base) as unsaid:
            negative = encode(base, [""] * len(prompts), model.tokens)
        both = PromptEmbeds.joined([negative, positive])
        steps = steps or STEPS
        asked = where if subject else None
        area = None if asked is None else subject_area(base, both, asked, steps, on_step)
        with _watched(base, area, stressed) as drawn:
            denoise(
                base,
                AttentionContext(both),
                start_latents(base, list(range(len(prompts)))),
                steps=steps,
                on_step=on_step,
            )
    kept: dict[str, Kept] = {}
    for name in list(said):
        # Prompts without a concept are encoded once for all groups: plain sums would forget them.
        halves = normalised(said.pop(name).gram()) + normalised(unsaid.pop(name).gram())
        kept[name] = keep(normalised(halves))
    for name in list(drawn):
        # Popped: each sum goes before the next is unfolded.
        kept[name] = keep(normalised(drawn.pop(name).gram()))
    return kept, positive


@contextmanager
def _watched(
    base: BaseModel, area: Area | None = None, stressed: Stress | None = None
) -> Iterator[Sums]:
    """Fill a mapping with XXᵀ of every input that passes while the block runs.

    area      what each cell counts in spatial layers, in both guidance branches; None for all alike
    stressed  what counts more in the others; None for all alike
    """
    sums: Sums = {}
    # All linears of an input see the same; the first stands for them.
    handles = []
    for name, readers in base.family.inputs.items():
        stage = base.family.stage(name)
        counts = of_cells(area) if stage == "spatial" else of_words(stressed, stage)
        linear = base.linears[readers[0]]
        handles.append(linear.register_forward_pre_hook(_Adder(sums, name, counts)))
    try:
        yield sums
    finally:
        for handle in handles:
            handle.remove()


class _Adder:
    def __init__(self, sums: Sums, name: str, counts: RowWeights | None) -> None:
        self.sums, self.name, self.counts = sums, name, counts

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen = inputs[0]
        if self.counts is not None:
            # The Gram has every row twice: by its root, a row counts what it is to count.
            seen = seen * self.counts(seen).sqrt()[..., None]
        rows = seen.flatten(0, -2)
        if self.name in self.sums:
            self.sums[self.name].add(rows)
        else:
            self.sums[self.name] = Sum.of(rows)
