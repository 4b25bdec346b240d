"""Pictures enlarged by a network of the ESRGAN kind, read with spandrel, tile by tile.

Where enlarging once is not enough to reach the width, it is done again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image

from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.executor import OnProgress
from storyforge.model.base import best_device
from storyforge.model.formats.tensors import raw_tensors

_TILE: Final = 256
_BORDER: Final = 16
"""Pixels of a tile, and of its surroundings that the network sees beside it."""

_WRAPPERS: Final = ("params_ema/", "params-ema/", "params/", "state_dict/", "model/", "net/")
"""Under which trainers keep weights in their files, the smoothed ones first."""

Network = Callable[[torch.Tensor], torch.Tensor]
"""(1, 3, h, w) in 0 to 1 → (1, 3, s·h, s·w)."""


@dataclass(frozen=True, slots=True)
class Upscaler:
    """A network, and how many times it enlarges."""

    network: Network
    scale: int


def open_upscaler(model: Path) -> Upscaler:
    """The network in the file.

    Raises EnvironmentProblem if spandrel is missing, or the file is no enlarging network.
    """
    try:
        from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError
    except ImportError as exc:
        message = f"enlarging with a model needs `{exc.name}`, which is not installed"
        hint = "pip install spandrel, with the torchvision that fits torch; or `upscale: lanczos`"
        raise EnvironmentProblem(message, hint=hint) from exc
    device = best_device()
    weights = network_weights(model)
    try:
        found = ModelLoader(device=device).load_from_state_dict(weights)
    except (UnsupportedModelError, KeyError, RuntimeError, ValueError) as exc:
        raise EnvironmentProblem(f"cannot read `{model}` as a model that enlarges") from exc
    if not isinstance(found, ImageModelDescriptor) or found.scale < 2 or found.input_channels != 3:
        raise StoryForgeError(f"`{model.name}` enlarges no colour pictures")
    found.eval()
    return Upscaler(lambda pixels: found(pixels.to(device)).float().cpu(), found.scale)


def network_weights(model: Path) -> dict[str, torch.Tensor]:
    """A network's weights by name, out of whatever its trainer wrapped them in; runs no code.

    Raises EnvironmentProblem for a file that holds more than numbers.
    """
    # spandrel would open pickles by a reader of its own; this one knows tensors and nothing else.
    _, tensors = raw_tensors(model)
    for wrapper in _WRAPPERS:
        inner = {
            name.removeprefix(wrapper): weight
            for name, weight in tensors.items()
            if name.startswith(wrapper)
        }
        if inner:
            return inner
    return tensors


def enlarge_until(
    picture: Image.Image, upscaler: Upscaler, width: int, on_progress: OnProgress
) -> Image.Image:
    """The picture, `width` pixels across or more."""
    network, scale = upscaler.network, upscaler.scale
    passes = max(1, math.ceil(math.log(width / picture.width, scale) - 1e-6))
    for done in range(passes):
        on_progress("enlarging: pass", done, passes)
        picture = enlarged(picture, network, scale)
    on_progress("enlarging: pass", passes, passes)
    return picture


def enlarged(picture: Image.Image, network: Network, scale: int) -> Image.Image:
    """The picture `scale` times as large, tiles put together without their borders."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
    height, width = pixels.shape[2:]
    made = torch.zeros(1, 3, height * scale, width * scale)
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            bottom, right = min(top + _TILE, height), min(left + _TILE, width)
            y, x = max(top - _BORDER, 0), max(left - _BORDER, 0)
            seen = pixels[:, :, y : bottom + _BORDER, x : right + _BORDER]
            with torch.no_grad():
                drawn = network(seen)
            here = drawn[
                :,
                :,
                (top - y) * scale : (bottom - y) * scale,
                (left - x) * scale : (right - x) * scale,
            ]
            made[:, :, top * scale : bottom * scale, left * scale : right * scale] = here
    content = (made[0].clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(content.permute(1, 2, 0).numpy())
