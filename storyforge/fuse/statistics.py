"""What the attention layers of a model see while it draws: one Gram matrix per distinct input.

A model draws a few varied prompts, padded and guided as at inference and seeded; features are
added into XXᵀ as they pass and are never kept. Every Gram has a mean diagonal of 1, so that layers,
concepts and numbers of rows compare. Each guidance branch counts half. Statistics of a concept are
taken with that concept alone (no chain through fused stages).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from storyforge.fuse.solve import normalised
from storyforge.model.attention import Reader
from storyforge.model.base import BaseModel
from storyforge.model.concept import Concept, FusedModel, plain
from storyforge.model.denoising import OnStep, denoise, start_latents
from storyforge.model.lora import merged
from storyforge.model.tokens import encode

Grams = dict[str, Tensor]
"""Distinct input, as `family.inputs` names it -> (d, d), fp64, on the CPU, mean diagonal 1."""

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


def of_concept(base: BaseModel, concept: Concept, on_step: OnStep | None = None) -> Grams:
    """What the layers see while `concept` alone draws itself.

    `on_step` hears every one of `STEPS` denoising steps.
    """
    prompts = [line.replace("<it>", f"<{concept.name}>") for line in CONCEPT_PROMPTS[concept.kind]]
    alone = FusedModel(base.reference, base.hash, {concept.name: concept.tokens}, concept.deltas)
    return of_model(base, alone, prompts, on_step)


def of_base(base: BaseModel, on_step: OnStep | None = None) -> Grams:
    """What the layers ordinarily see: the base without any concept."""
    return of_model(base, plain(base), ORDINARY_PROMPTS, on_step)


@torch.no_grad()
def of_model(
    base: BaseModel, model: FusedModel, prompts: Sequence[str], on_step: OnStep | None = None
) -> Grams:
    """What the layers see while `model` draws `prompts`, all in one batch and from seeds 0, 1, ….

    The same prompts give the same noise, so that models differ by nothing but what they learnt.
    """
    with merged(base, model.deltas):
        with _watched(base) as said:
            positive = encode(base, prompts, model.tokens)
        with _watched(base) as unsaid:
            negative = encode(base, [""] * len(prompts), model.tokens)
        with _watched(base) as drawn:
            denoise(
                base,
                Reader(torch.cat([negative, positive], dim=1)),
                start_latents(base, list(range(len(prompts)))),
                steps=STEPS,
                on_step=on_step,
            )
    # Prompts without a concept are encoded once for all groups: in plain sums they would not count.
    text = {name: normalised(gram) + normalised(unsaid[name]) for name, gram in said.items()}
    return {name: normalised(gram) for name, gram in {**text, **drawn}.items()}


@contextmanager
def _watched(base: BaseModel) -> Iterator[Grams]:
    """Fill a mapping with XXᵀ (d, d) of every input that passes while the block runs."""
    sums: Grams = {}
    # All linears of an input see the same; the first stands for them.
    handles = [
        base.linears[readers[0]].register_forward_pre_hook(_Adder(sums, name))
        for name, readers in base.family.inputs.items()
    ]
    try:
        yield sums
    finally:
        for handle in handles:
            handle.remove()


class _Adder:
    def __init__(self, sums: Grams, name: str) -> None:
        self.sums, self.name = sums, name

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = inputs[0].flatten(0, -2).double()
        gram = (rows.T @ rows).cpu()
        self.sums[self.name] = self.sums[self.name] + gram if self.name in self.sums else gram
