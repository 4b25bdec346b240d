"""Ordinary adapter files of other tools, merged into a base as they are: styles, few-step adapters.

What is read, and by which formula, is `formats.adapter`'s to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from torch import nn

from storyforge.model.base import BaseModel
from storyforge.model.formats.adapter import change_of, layers_of, read_adapter
from storyforge.model.kept_weights import changed, is_kept


def changes_of(base: BaseModel, path: Path) -> dict[nn.Module, torch.Tensor]:
    """Layer -> the change of its weight.

    Raises:
      EnvironmentProblem: if the file cannot be read, or does not fit the base.
    """
    adapter, known = read_adapter(path), layers_of(base)
    made = {}
    for name in adapter.layers:
        layer = known.get(name)
        change = change_of(base, adapter, name, layer)
        if layer is not None and change.weight is not None:
            made[layer] = change.weight
    return made


@contextmanager
def loras_merged(base: BaseModel, files: Mapping[Path, float]) -> Iterator[None]:
    """Change the weights by files of given strengths while the block runs, and then not a bit.

    Every file changes the weights that are there before: some kinds ask for them.
    """
    adapters = [(read_adapter(path), strength) for path, strength in files.items()]
    known = layers_of(base)
    kept: dict[nn.Parameter, torch.Tensor] = {}
    with ExitStack() as stack:
        stack.callback(_put_back, kept)
        with torch.no_grad():
            for name in dict.fromkeys(name for adapter, _ in adapters for name in adapter.layers):
                layer = known.get(name)
                own = [
                    (change_of(base, adapter, name, layer), strength)
                    for adapter, strength in adapters
                    if name in adapter.layers
                ]
                for change, strength in own:
                    if layer is None:
                        continue
                    if change.weight is not None and is_kept(layer):
                        stack.enter_context(changed(layer, strength * change.weight))
                    elif change.weight is not None:
                        _add(layer.get_parameter("weight"), strength * change.weight, kept)
                    if change.bias is not None:
                        _add(layer.get_parameter("bias"), strength * change.bias, kept)
        yield


def _add(there: nn.Parameter, more: torch.Tensor, kept: dict[nn.Parameter, torch.Tensor]) -> None:
    kept.setdefault(there, there.detach().clone())
    there.add_(more.to(there))


@torch.no_grad()
def _put_back(kept: Mapping[nn.Parameter, torch.Tensor]) -> None:
    for there, before in kept.items():
        there.copy_(before)
