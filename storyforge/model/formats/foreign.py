"""A concept out of any file that can be one: words, and changes of the attention layers.

Layers beside the attention (feed-forward, convolutions) have no place in a concept, because fusion
knows nothing of them; how much of the change they hold is told, never hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from storyforge.errors import EnvironmentProblem
from storyforge.headers.header import Header
from storyforge.headers.kinds import (
    CONCEPTS,
    XTI_SITES,
    Described,
    describe,
    licence_of,
    trigger_of,
)
from storyforge.model.base import BaseModel
from storyforge.model.concept import Concept
from storyforge.model.family import token_table
from storyforge.model.formats import carried_words, mix_of_show, textual_inversion, xti
from storyforge.model.formats.adapter import (
    AdapterFile,
    LayerParts,
    change_of,
    layers_of,
    read_adapter,
)
from storyforge.model.formats.tensors import read_tensors
from storyforge.model.lora import Delta
from storyforge.model.tokens import ConceptTokens

EXACT: Final = 1e-3
"""Of a change without a low rank, the share that may be lost: what half precision loses, too."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a file does not say of itself.

    trigger  the words that call the concept up; None for those that the file states
    """

    name: str
    kind: str
    class_phrase: str
    trigger: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """A concept, and what was not taken.

    left   layers that are not attention -> nothing of them is in the concept
    share  what they hold of the whole change, of its squared length
    said   the words that call it up: the file's own vectors, or text
    """

    concept: Concept
    left: tuple[str, ...]
    share: float
    said: str


def import_concept(base: BaseModel, path: Path, wanted: Wanted) -> Imported:
    """Read a concept from any file that can be one.

    Raises:
      EnvironmentProblem: if it is none, is broken, or does not fit the base.
    """
    header, tensors = read_tensors(path)
    told = describe(header)
    if told.kind not in CONCEPTS or told.kind == "concept":
        raise EnvironmentProblem(
            f"`{path}` is {told.named}, and no concept can be made of it",
            hint="a LoRA, a textual inversion, XTI or a file of Mix-of-Show can be a concept",
        )
    words, layers = _content(base, told, tensors)
    deltas, left, share = _attention(base, told, layers)
    text = None
    if wanted.trigger is None and (carried := _carried(header)) is not None:
        words = carried
    if words is None:
        text = wanted.trigger or trigger_of(header) or wanted.class_phrase
        words = _written(base, path, text)
    _check_words(base, told, words)
    said = text or ("a vector" if len(words) == 1 else f"{len(words)} vectors") + " of its own"
    recipe: dict[str, object] = {
        "imported": told.kind,
        "writer": told.writer,
        "file": path.name,
        "trigger": text,
        "left_out": round(share, 4),
    }
    concept = Concept(
        wanted.name,
        wanted.kind,
        wanted.class_phrase,
        ConceptTokens(wanted.name, words),
        deltas,
        base.name,
        base.hash,
        {key: value for key, value in recipe.items() if value not in (None, 0.0)},
        licence_of(header),
    )
    return Imported(concept, left, share, said)


def _content(
    base: BaseModel, told: Described, tensors: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor | None, Mapping[str, LayerParts]]:
    """(n, G or 1, d) words, if the file brings any, and the changes."""
    match told.kind:
        case "textual inversion":
            if told.family == "SDXL" and len(base.encoders) == 1:
                raise _misfit(base, told, "it is for two text encoders, and the base has one")
            return _flat(textual_inversion.read_words(tensors)), {}
        case "XTI":
            return (xti.read_words if "MID" in tensors else xti.read_plus)(tensors), {}
        case "Mix-of-Show ED-LoRA":
            try:
                held = mix_of_show.read(tensors)
            except ValueError as exc:
                raise EnvironmentProblem(f"cannot read `{told.header.path}`: {exc}") from exc
            return (torch.stack([*held.words.values()]) if held.words else None), held.layers
        case _:
            adapter = read_adapter(told.header.path)
            return _flat(textual_inversion.read_words(tensors)), adapter.layers


def _carried(header: Header) -> torch.Tensor | None:
    """Every layer's words, where storyforge wrote the file."""
    try:
        return carried_words.read(header.metadata)
    except ValueError as exc:
        raise EnvironmentProblem(
            f"`{header.path}` brings words along that cannot be read: {exc}",
            hint="get the file again, or say its words: `concept import FILE --trigger WORDS`",
        ) from exc


def _flat(words: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """All vectors of a file in a row, the same for every layer."""
    return torch.cat([*words.values()])[:, None] if words else None


def _attention(
    base: BaseModel, told: Described, layers: Mapping[str, LayerParts]
) -> tuple[dict[str, Delta], tuple[str, ...], float]:
    """The changes of attention layers as low-rank deltas, and what is beside them."""
    known = layers_of(base)
    names = {id(module): name for name, module in base.linears.items()}
    adapter = AdapterFile(told, dict(layers), {})
    deltas: dict[str, Delta] = {}
    left, lost, whole = [], 0.0, 0.0
    for name, parts in layers.items():
        layer = known.get(name)
        change = change_of(base, adapter, name, layer)
        energy = sum(
            float(part.square().sum()) for part in (change.weight, change.bias) if part is not None
        )
        whole += energy
        linear = names.get(id(layer))
        if linear is None or change.weight is None:
            left.append(name)
            lost += energy
            continue
        factors = parts.factors()
        deltas[linear] = Delta(*factors) if factors else low_rank(change.weight)
    return deltas, tuple(left), lost / whole if whole else 0.0


def low_rank(change: torch.Tensor) -> Delta:
    """A change (out, in) as a product of the least rank that loses no more than `EXACT` of it."""
    u, s, v = torch.linalg.svd(change.flatten(1).double(), full_matrices=False)
    tail = s.square().flip(0).cumsum(0).flip(0).sqrt()  # what is lost by each cut
    rank = max(1, int((tail > EXACT * tail[0]).sum()))
    root = s[:rank].sqrt()
    return Delta((u[:, :rank] * root).float(), (root[:, None] * v[:rank]).float())


def _written(base: BaseModel, path: Path, text: str) -> torch.Tensor:
    """(n, 1, d): what the text encoders' own tables have for the text."""
    ids = base.tokenizer(text, add_special_tokens=False).input_ids
    if not ids:
        raise EnvironmentProblem(
            f"`{path}` does not say by which words it is called up",
            hint="`storyforge concept import FILE --trigger WORDS`",
        )
    tables = [token_table(each.model).float().cpu() for each in base.encoders]
    return torch.cat([table[ids] for table in tables], -1)[:, None]


def _check_words(base: BaseModel, told: Described, words: torch.Tensor) -> None:
    """Raise EnvironmentProblem for words of another number of layers, or of another width."""
    _, groups, width = words.shape
    own, layers = sum(base.widths), base.family.groups
    if width != own:
        raise _misfit(base, told, f"a word has {width} numbers in it, and {own} in the base")
    if groups not in (1, layers):
        of = f"{groups} layers" if groups != len(XTI_SITES) else f"the {groups} layers of SD 1.x"
        raise _misfit(base, told, f"it has words for {of}, and the base has {layers}")


def _misfit(base: BaseModel, told: Described, why: str) -> EnvironmentProblem:
    header: Header = told.header
    return EnvironmentProblem(
        f"the {told.kind} `{header.path}` does not fit the base `{base.reference}`: {why}",
        hint="a concept belongs to the kind of model that it was learnt on",
    )
