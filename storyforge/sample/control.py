"""Spatial control: T2I-Adapters and ControlNets, several at once, each for a region and a time.

Both are read by diffusers' own classes. A T2I-Adapter looks at its picture once; a ControlNet is
asked at every step in which it speaks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ControlNetModel, T2IAdapter
from PIL import Image
from safetensors import SafetensorError

from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.geometry.pose import keypoint_picture, sketch_picture
from storyforge.model.attention import Residuals, added_conditions
from storyforge.model.base import BaseModel
from storyforge.model.tokens import PromptEmbeds
from storyforge.tasks import ControlTask

Adapter: TypeAlias = T2IAdapter | ControlNetModel
_CLASSES: Mapping[str, type[Adapter]] = {
    "T2IAdapter": T2IAdapter,
    "ControlNetModel": ControlNetModel,
}


def open_adapter(reference: Path | str, base: BaseModel) -> Adapter:
    """A T2I-Adapter or a ControlNet, whichever the folder or hub id holds.

    Raises:
      EnvironmentProblem: if it cannot be read, or is something else.
    """
    name, _, revision = str(reference).partition("@")
    where, revision = (str(reference), "") if isinstance(reference, Path) else (name, revision)
    try:
        config = T2IAdapter.load_config(where, revision=revision or None)
        kind = _CLASSES.get(str(config.get("_class_name")))
        if kind is None:
            raise EnvironmentProblem(
                f"`{where}` is a {config.get('_class_name')}, not a T2IAdapter or ControlNetModel"
            )
        made = kind.from_pretrained(
            where, revision=revision or None, dtype=base.dtype, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as exc:
        reason = next(iter(str(exc).splitlines()), type(exc).__name__)
        raise EnvironmentProblem(f"cannot open the adapter `{where}`: {reason}") from exc
    if not _fits(made, base):
        raise EnvironmentProblem(
            f"the adapter `{where}` does not fit the base `{base.reference}`",
            hint="an adapter belongs to the kind of model that it was trained with",
        )
    adapter: Adapter = made.to(base.device).eval().requires_grad_(False)
    return adapter


def _fits(adapter: Adapter, base: BaseModel) -> bool:
    """Whether what it says has the shape that the U-Net adds."""
    widths = list(base.unet.config.block_out_channels)
    if isinstance(adapter, T2IAdapter):
        own = list(adapter.config.channels)
        # Those of SDXL speak once more, to the middle of the U-Net.
        return own == widths or own == [*widths, widths[-1]]
    config = adapter.config
    same = ("in_channels", "layers_per_block", "cross_attention_dim")
    alike = all(config[name] == base.unet.config[name] for name in same)
    return alike and list(config.block_out_channels) == widths


def condition_of(task: ControlTask, size: tuple[int, int], channels: int) -> torch.Tensor:
    """(1, channels, h, w) in [0, 1]: what an adapter reads, in (width, height) pixels.

    Raises:
      StoryForgeError: if the file cannot be read.
    """
    if task.picture is not None:
        return read_condition(task.picture, size, channels)
    drawn = (keypoint_picture if task.draw == "pose" else sketch_picture)(task.stands, *size)
    return _tensor(drawn, channels)


def read_condition(path: Path, size: tuple[int, int], channels: int) -> torch.Tensor:
    """(1, channels, h, w) in [0, 1]: the picture stretched to (width, height) pixels.

    Raises:
      StoryForgeError: if it cannot be read.
    """
    try:
        with Image.open(path) as file:
            picture = file.convert("L" if channels == 1 else "RGB")
            return _tensor(picture.resize(size, Image.Resampling.LANCZOS), channels)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise StoryForgeError(f"cannot read the control picture `{path}`: {exc}") from exc


def _tensor(picture: Image.Image, channels: int) -> torch.Tensor:
    pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"), dtype=np.float32)
    return torch.from_numpy(pixels / 255).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)[None]


@dataclass(slots=True)
class OpenControl:
    """One adapter at work on one panel.

    where  (1, 1, h, w) how much it speaks in each latent cell
    """

    task: ControlTask
    adapter: Adapter
    picture: torch.Tensor
    where: torch.Tensor
    features: list[torch.Tensor] = field(default_factory=list)

    def speaks(self, part: float) -> bool:
        """Whether it speaks when `part` of the steps is done."""
        return self.task.start <= part < self.task.end

    def weighted(self, residual: torch.Tensor) -> torch.Tensor:
        """Louder or softer by cell."""
        here = F.interpolate(self.where, residual.shape[2:], mode="area")
        return residual * (self.task.weight * here).to(residual)


@dataclass(slots=True)
class Controls:
    """All control of one panel; called at every step."""

    base: BaseModel
    text: PromptEmbeds
    controls: Sequence[OpenControl]

    def __call__(
        self, part: float, latents: torch.Tensor, timestep: torch.Tensor
    ) -> Residuals | None:
        """The sum of what the adapters that speak at this step add to the U-Net."""
        speaking = [each for each in self.controls if each.speaks(part)]
        sketched = [_features(each) for each in speaking if isinstance(each.adapter, T2IAdapter)]
        nets = [
            self._net(each, latents, timestep)
            for each in speaking
            if isinstance(each.adapter, ControlNetModel)
        ]
        if not speaking:
            return None
        summed = [sum(level[1:], level[0]) for level in zip(*nets, strict=True)]
        return Residuals(
            adapter=[sum(level[1:], level[0]) for level in zip(*sketched, strict=True)] or None,
            down=summed[:-1] or None,
            mid=summed[-1] if summed else None,
        )

    def _net(
        self, control: OpenControl, latents: torch.Tensor, timestep: torch.Tensor
    ) -> list[torch.Tensor]:
        """Residuals of the skip connections, then that of the middle."""
        # The prompts come last, and are alone where there is no guidance.
        text = self.text.rows(slice(-len(latents), None))
        down, mid = control.adapter(
            latents.to(self.base.dtype),
            timestep,
            encoder_hidden_states=text.features[0],
            added_cond_kwargs=added_conditions(self.base, latents, text),
            controlnet_cond=control.picture.expand(len(latents), -1, -1, -1),
            return_dict=False,
        )
        return [control.weighted(each) for each in (*down, mid)]


def _features(control: OpenControl) -> list[torch.Tensor]:
    if not control.features:
        control.features = [control.weighted(each) for each in control.adapter(control.picture)]
    return control.features


@dataclass(slots=True)
class Rack:
    """Opened adapters, each once for all panels."""

    base: BaseModel
    opened: dict[Path | str, Adapter] = field(default_factory=dict)

    def controls(
        self,
        tasks: Sequence[ControlTask],
        size: tuple[int, int],
        text: PromptEmbeds,
        areas: Mapping[str, torch.Tensor],
    ) -> Controls | None:
        """What a panel of (width, height) pixels is controlled by; None if by nothing.

        text   what ControlNets read
        areas  region -> (h, w) its share of each latent cell
        """
        made = []
        for task in tasks:
            if task.adapter not in self.opened:
                self.opened[task.adapter] = open_adapter(task.adapter, self.base)
            adapter = self.opened[task.adapter]
            channels, pixels = _channels(adapter), _pixels(adapter)
            width, height = (side // self.base.vae_scale * pixels for side in size)
            picture = condition_of(task, (width, height), channels).to(self.base.device)
            whole = torch.ones(1, 1, device=self.base.device)
            area = whole if task.region is None else areas[task.region]
            made.append(OpenControl(task, adapter, picture.to(self.base.dtype), area[None, None]))
        return Controls(self.base, text, made) if made else None


def _channels(adapter: Adapter) -> int:
    config = adapter.config
    is_net = isinstance(adapter, ControlNetModel)
    return int(config.conditioning_channels if is_net else config.in_channels)


def _pixels(adapter: Adapter) -> int:
    """Pixels along a side of its picture for one cell of the latents."""
    if isinstance(adapter, ControlNetModel):
        return int(2 ** (len(adapter.config.conditioning_embedding_out_channels) - 1))
    # Those of SDXL begin where the U-Net has gone down once.
    levels_down = 2 if adapter.config.adapter_type == "full_adapter_xl" else 1
    return int(adapter.config.downscale_factor) // levels_down
