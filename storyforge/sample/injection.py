"""Whose weights every prompt of a panel is read with: the fused model's, or a concept's own.

A region that knows its concept can do without the compromise of a fused model: its text features,
keys and values come from the concept's own deltas, once per panel, and its spatial layers may have
the concept's deltas on the region's cells alone. The panel's scene has its own prompt and the rest
of the cells likewise. Region-aware injection (LoRA-Composer §3.2) is the same on a base without any
fused model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from storyforge.model.attention import AttentionContext, Heads, RegionText, text_heads
from storyforge.model.base import BaseModel
from storyforge.model.concept import Concept, FusedModel
from storyforge.model.family import Family
from storyforge.model.lora import Delta, Local, difference, joined, merged
from storyforge.model.tokens import PromptEmbeds, encode_weighted
from storyforge.model.wordtable import PLACEHOLDER
from storyforge.sample.regions import Size, region_weights_of
from storyforge.tasks import PanelTask, RegionTask

Concepts = Mapping[str, Concept]
Deltas = Mapping[str, Delta]

SCENE: Final = 0.5
"""How much a scene's own text weights count in the prompt of a subject that stands in it. Of ten
panels in a scene (27 regions of trained concepts), subjects were as recognisable as with none of it
and the scene more so; with all of it subjects suffered."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a panel is drawn with.

    attention          its texts, the negative prompts first
    local           changes of spatial layers on the cells of a region
    region_weights  cells of a level -> (r, cells): what each region has of each cell
    """

    attention: AttentionContext
    local: tuple[Local, ...]
    region_weights: Mapping[int, torch.Tensor]


def reading_of(
    base: BaseModel,
    model: FusedModel,
    concepts: Concepts,
    task: PanelTask,
    latent: Size,
) -> Reading:
    """Encode every prompt of a panel, each with the weights that its method asks for.

    Args:
      base: with `model`'s deltas merged into it.
      model: the fused model, or the plain base with the concepts' tokens.
      concepts: by name, where the method needs them.
      task: the panel.
      latent: rows and columns of the latent grid.
    """
    region_weights = region_weights_of(base, task.regions, latent)
    scene = _background(task, concepts)
    owners = [_owner(task, concepts, region.concept) for region in task.regions]
    pairs = zip(owners, task.regions, strict=True)
    own = [scene.deltas if scene else None, *(_own_text(task, concepts, *pair) for pair in pairs)]
    whole, *read = _read(base, model, own, [task, *task.regions])
    texts = []
    for index, (text, heads) in enumerate(read):
        grids = {cells: grid[index] for cells, grid in region_weights.items()}
        texts.append(RegionText(text.features, grids, heads=heads))
    attention = AttentionContext(whole[0], texts, blend=task.region_blend, heads=whole[1])
    return Reading(
        attention, tuple(_local(base, model, concepts, task, region_weights, scene)), region_weights
    )


def _injected(task: PanelTask) -> bool:
    return task.method.compose == "training-free" and task.method.injection


def _owner(task: PanelTask, concepts: Concepts, name: str | None) -> Concept | None:
    """The concept that a region is drawn with; None for the model."""
    wanted = task.method.regions != "fused" or _injected(task)
    return concepts[name] if wanted and name else None


def _background(task: PanelTask, concepts: Concepts) -> Concept | None:
    """The only concept that the global prompt names; if injected, its only scene will do."""
    if task.method.regions == "fused" and not _injected(task):
        return None
    named = [concepts.get(name) for name in dict.fromkeys(PLACEHOLDER.findall(task.prompt))]
    scenes = [each for each in named if each and each.kind == "scene"]
    chosen = scenes if scenes and _injected(task) else named
    return chosen[0] if len(chosen) == 1 else None


def _own_text(
    task: PanelTask, concepts: Concepts, owner: Concept | None, region: RegionTask
) -> Deltas | None:
    """The changes that a region's prompt is read with: its concept's, and some of its scene's."""
    if owner is None:
        return None
    named = [concepts.get(name) for name in PLACEHOLDER.findall(region.prompt)]
    scene = next((each for each in named if each and each.kind == "scene"), owner)
    if scene is owner or _injected(task):
        return owner.deltas
    some = {n: Delta(d.up, d.down, SCENE * d.scale) for n, d in scene.deltas.items()}
    both = {n: joined([owner.deltas[n], some[n]]) for n in owner.deltas.keys() & some}
    return {**some, **owner.deltas, **both}


def _read(
    base: BaseModel,
    model: FusedModel,
    changes: Sequence[Deltas | None],
    asked: Sequence[PanelTask | RegionTask],
) -> list[tuple[PromptEmbeds, dict[int, Heads]]]:
    """What each negative prompt and prompt reads as; keys and values if they are not the model's.

    changes  what each is read with; None for the model's

    What is read with the model's own weights is encoded at once, and nothing of it twice.
    """
    prompts = [[each.negative, each.prompt] for each in asked]
    pairs = [pair for pair, own in zip(prompts, changes, strict=True) if own is None]
    shared = [prompt for pair in pairs for prompt in pair]
    usual = encode_weighted(base, shared, model.tokens) if shared else None
    made: list[tuple[PromptEmbeds, dict[int, Heads]]] = []
    place = 0
    for pair, own in zip(prompts, changes, strict=True):
        if own is not None:
            made.append(_read_by(base, model, own, pair))
        elif usual is not None:
            made.append((usual.rows(slice(place, place + 2)), {}))
            place += 2
    return made


def _read_by(
    base: BaseModel, model: FusedModel, own: Deltas, prompts: list[str]
) -> tuple[PromptEmbeds, dict[int, Heads]]:
    """The same by other weights than the model's, which change for that alone."""
    names = [name for name in base.linears if base.family.stage(name) != "spatial"]
    with merged(base, difference(own, model.deltas, names)):
        text = encode_weighted(base, prompts, model.tokens)
        return text, text_heads(base, text.features)


def _local(
    base: BaseModel,
    model: FusedModel,
    concepts: Concepts,
    task: PanelTask,
    region_weights: Mapping[int, torch.Tensor],
    scene: Concept | None,
) -> list[Local]:
    """The concepts' own spatial changes on the cells of their regions, in place of the model's."""
    if task.method.regions == "exact":
        chosen: Callable[[str], bool] = _is_spatial
    elif _injected(task):
        chosen = _is_cross_output
    else:
        return []
    left = {cells: torch.ones(cells, device=base.device) for cells in region_weights}
    parts, lost = [], {cells: torch.zeros_like(rest) for cells, rest in left.items()}
    for index, region in enumerate(task.regions):
        grids = {cells: task.region_blend * grid[index] for cells, grid in region_weights.items()}
        left = {cells: rest - grids[cells] for cells, rest in left.items()}
        if own := _owner(task, concepts, region.concept):
            parts.append(Local(_some(own.deltas, chosen), grids))
            lost = {cells: gone + grids[cells] for cells, gone in lost.items()}
    if scene is not None:
        parts.append(Local(_some(scene.deltas, chosen), left))
        lost = {cells: gone + left[cells] for cells, gone in lost.items()}
    if parts:
        parts.append(Local(_some(_negated(model.deltas), chosen), lost))
    return [part for part in parts if part.deltas]


def _is_spatial(name: str) -> bool:
    return Family.stage(name) == "spatial"


def _is_cross_output(name: str) -> bool:
    return name.endswith("attn2.to_out.0")


def _some(deltas: Mapping[str, Delta], chosen: Callable[[str], bool]) -> dict[str, Delta]:
    return {name: delta for name, delta in deltas.items() if chosen(name)}


def _negated(deltas: Mapping[str, Delta]) -> dict[str, Delta]:
    return {name: Delta(d.up, d.down, -d.scale) for name, d in deltas.items()}
