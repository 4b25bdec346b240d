"""A picture's file: PNG with its recipe, `parameters` as web UIs read it, `storyforge` as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from storyforge import __version__
from storyforge.geometry.box import Box
from storyforge.model.base import BaseModel
from storyforge.provenance.xmp import XMP, XMP_CHUNK
from storyforge.sample.whereabouts import Whereabouts
from storyforge.tasks import PanelTask, RegionTask

NOBODY: Final[Mapping[str, Whereabouts]] = MappingProxyType({})


def save_png(
    pixels: np.ndarray,
    task: PanelTask,
    base: BaseModel,
    path: Path,
    subjects: Mapping[str, Whereabouts] = NOBODY,
) -> None:
    """Write (h, w, 3) uint8 pixels with all that they were made from, and who is where in them."""
    height, width, _ = pixels.shape
    told = {**picture_metadata(task, base), **_subjects(subjects)}
    notes = PngInfo()
    notes.add_text("parameters", parameters(task, base, width, height))
    notes.add_itxt("storyforge", json.dumps(told, sort_keys=True, ensure_ascii=False))
    notes.add_itxt(XMP_CHUNK, XMP)
    Image.fromarray(pixels).save(path, format="PNG", pnginfo=notes, optimize=True)


def parameters(task: PanelTask, base: BaseModel, width: int, height: int) -> str:
    """The text that A1111-like programs show for a picture."""
    defaults = base.defaults
    scale = defaults.guidance_scale if task.guidance_scale is None else task.guidance_scale
    return (
        f"{task.prompt}\nNegative prompt: {task.negative}\n"
        f"Steps: {task.steps or defaults.steps}, Sampler: {task.scheduler or defaults.scheduler}, "
        f"CFG scale: {scale}, Seed: {task.seed}, Size: {width}x{height}, "
        f"Model hash: {task.base_hash[:10]}, Model: {base.name}, Version: storyforge {__version__}"
    )


def picture_metadata(task: PanelTask, base: BaseModel) -> dict[str, object]:
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
        "regions": [_region(region) for region in task.regions],
        "digital_source_type": "trainedAlgorithmicMedia",
        **_extras(task),
    }


def _subjects(subjects: Mapping[str, Whereabouts]) -> dict[str, object]:
    found = {region: _place(each) for region, each in subjects.items()}
    return {"subjects": found} if found else {}


def _place(subject: Whereabouts) -> dict[str, object]:
    head = {} if subject.head is None else {"head": _corners(subject.head)}
    return {"body": _corners(subject.body), **head, **({"exact": True} if subject.exact else {})}


def _corners(box: Box) -> list[float]:
    return [round(side, 4) for side in box.sides()]


def _region(region: RegionTask) -> dict[str, object]:
    return {
        "name": region.name,
        "box": list(region.box.sides()),
        "prompt": region.prompt,
        "negative": region.negative,
        "weight": region.weight,
        "z": region.z,
        "concept": region.concept,
        "mask": region.mask.name if region.mask else None,
        "polygon": region.polygon,
        "soft": region.soft,
        "guidance_scale": region.guidance_scale,
        **({} if region.found is None else {"found": region.found}),
        **({"standing": region.standing} if region.standing else {}),
    }


def _extras(task: PanelTask) -> dict[str, object]:
    """Method, control and refinement; of files only the name, for no path is anyone's business."""
    method = task.method
    return {
        "guidance_rescale": task.guidance_rescale,
        **({"guided": task.guided} if task.guided else {}),
        **({"decode": task.decode} if task.decode else {}),
        **({"heads": [head.region for head in task.heads]} if task.heads else {}),
        "compose": method.compose,
        "region_model": method.regions,
        "injection": method.injection,
        "enhancement": method.enhancement,
        "isolation": method.isolation,
        "reinitialisation": method.reinitialisation,
        "concepts": dict(task.concepts),
        "loras": [{"file": file.name, "weight": weight} for file, weight in task.loras],
        "controls": [
            {
                "adapter": each.adapter.name if isinstance(each.adapter, Path) else each.adapter,
                "picture": each.picture and each.picture.name,
                **({"draw": each.draw} if each.draw else {}),
                "weight": each.weight,
                "start": each.start,
                "end": each.end,
                "region": each.region,
            }
            for each in task.controls
        ],
        "refine": task.refine
        and {
            "picture": task.refine.picture and task.refine.picture.name,
            "scale": task.refine.scale,
            "strength": task.refine.strength,
        },
    }
