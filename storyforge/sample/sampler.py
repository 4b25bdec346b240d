"""Regionally controllable sampling (Mix-of-Show §3.4): panels in, PNG files with their recipe out.

The text of every prompt is encoded, and its keys and values are computed, once per panel. Pose and
sketch control, guidance and several takes at once are not covered yet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from storyforge import __version__
from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.executor import Tell
from storyforge.model.attention import Reader
from storyforge.model.base import BaseModel, best_device, open_base
from storyforge.model.concept import FusedModel, plain
from storyforge.model.denoising import denoise, start_latents
from storyforge.model.lora import merged
from storyforge.model.tokens import encode
from storyforge.plan import PanelTask
from storyforge.provenance import XMP, XMP_CHUNK
from storyforge.sample.regions import region_texts


def perform(
    tasks: Sequence[PanelTask],
    fused: Path | None,
    out: Callable[[PanelTask], AbstractContextManager[Path]],
    tell: Tell,
) -> None:
    """Draw panels of one base and one fused model; each is kept as soon as it is done."""
    base = open_base(tasks[0].base, tasks[0].base_hash, device=best_device())
    model = plain(base) if fused is None else FusedModel.load(fused)
    if model.base_hash != base.hash:
        raise EnvironmentProblem(
            f"the fused model was made for another base than `{base.reference}`",
            hint="run `storyforge fuse` again",
        )
    with merged(base, model.deltas):
        for index, task in enumerate(tasks):
            tell(f"drawing {task.panel}", index, len(tasks))
            with out(task) as path:
                save_png(picture(base, model, task, tell), task, base, path)
    tell("drawing", len(tasks), len(tasks))


def picture(
    base: BaseModel, model: FusedModel, task: PanelTask, tell: Tell | None = None
) -> np.ndarray:
    """Draw one panel with `model`'s deltas already merged into `base`.

    Returns:
      (h, w, 3) uint8

    Raises:
      StoryForgeError: for a size that the base cannot draw, or a prompt that it cannot read.
    """
    width, height = task.size or (base.side, base.side)
    step = base.vae_scale * 2 ** (len(base.unet.config.block_out_channels) - 1)
    if width % step or height % step:
        raise StoryForgeError(
            f"panel `{task.panel}`: a picture of {width}×{height} pixels does not fit the base",
            hint=f"width and height must be multiples of {step}",
        )
    latents = start_latents(base, [task.seed], (width, height))
    with torch.no_grad():
        reader = Reader(
            encode(base, [task.negative, task.prompt], model.tokens),
            region_texts(base, model, task.regions, (latents.shape[2], latents.shape[3])),
            blend=task.region_blend,
        )

    def on_step(done: int, total: int, _: torch.Tensor) -> None:
        if tell:
            tell(f"drawing {task.panel}: step", done, total)

    clean = denoise(
        base,
        reader,
        latents,
        steps=task.steps,
        guidance_scale=task.guidance_scale,
        scheduler=task.scheduler,
        on_step=on_step,
    )
    pixels = base.decode(clean)[0].permute(1, 2, 0)
    return (pixels * 255).round().to(torch.uint8).cpu().numpy()


def save_png(pixels: np.ndarray, task: PanelTask, base: BaseModel, path: Path) -> None:
    """Write the picture with its recipe: `parameters` as web UIs read it, `storyforge` as JSON."""
    notes = PngInfo()
    notes.add_text("parameters", parameters(task, base, pixels.shape[1], pixels.shape[0]))
    notes.add_itxt("storyforge", json.dumps(recipe(task, base), sort_keys=True, ensure_ascii=False))
    notes.add_itxt(XMP_CHUNK, XMP)
    Image.fromarray(pixels).save(path, format="PNG", pnginfo=notes, optimize=True)


def parameters(task: PanelTask, base: BaseModel, width: int, height: int) -> str:
    """The text that A1111-like programs show for a picture."""
    habits = base.habits
    scale = habits.guidance_scale if task.guidance_scale is None else task.guidance_scale
    return (
        f"{task.prompt}\nNegative prompt: {task.negative}\n"
        f"Steps: {task.steps or habits.steps}, Sampler: {task.scheduler or habits.scheduler}, "
        f"CFG scale: {scale}, Seed: {task.seed}, Size: {width}x{height}, "
        f"Model hash: {task.base_hash[:10]}, Model: {base.name}, Version: storyforge {__version__}"
    )


def recipe(task: PanelTask, base: BaseModel) -> dict[str, object]:
    """All that the picture was made from, as plain JSON."""
    return {
        "schema_version": 1,
        "version": __version__,
        "key": task.key,
        "panel": task.panel,
        "prompt": task.prompt,
        "negative": task.negative,
        "seed": task.seed,
        "steps": task.steps,
        "guidance_scale": task.guidance_scale,
        "scheduler": task.scheduler,
        "size": task.size,
        "region_blend": task.region_blend,
        "base": base.name,
        "base_hash": task.base_hash,
        "fused": task.fused,
        "regions": [
            {
                "name": r.name,
                "box": [r.box.x0, r.box.y0, r.box.x1, r.box.y1],
                "prompt": r.prompt,
                "negative": r.negative,
                "weight": r.weight,
                "z": r.z,
                "concept": r.concept,
                "mask": r.mask.name if r.mask else None,
            }
            for r in task.regions
        ],
        "digital_source_type": "trainedAlgorithmicMedia",
    }
