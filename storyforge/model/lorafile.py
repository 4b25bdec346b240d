"""Ordinary adapter files of other tools, merged into a base as they are: styles, few-step adapters.

What is read, and by which formula, is `formats.adapter`'s to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from storyforge.model.base import BaseModel
from storyforge.model.formats.adapter import change_of, layers_of, read_adapter


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
    try:
        with torch.no_grad():
            for name in dict.fromkeys(name for adapter, _ in adapters for name in adapter.layers):
                layer = known.get(name)
                own = [
                    (change_of(base, adapter, name, layer), strength)
                    for adapter, strength in adapters
                    if name in adapter.layers
                ]
                for change, strength in own:
                    for part, more in (("weight", change.weight), ("bias", change.bias)):
                        if layer is not None and more is not None:
                            there = layer.get_parameter(part)
                            kept.setdefault(there, there.detach().clone())
                            there.add_((strength * more).to(there))
        yield
    finally:
        with torch.no_grad():
            for there, before in kept.items():
                there.copy_(before)
