"""Regionally controllable sampling (Mix-of-Show §3.4): panels in, PNG files with their recipe out.

The text of every prompt is encoded, and its keys and values are computed, once per panel. Several
plain panels are drawn at once where that pays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.executor import OnProgress, silent
from storyforge.model.attention import AttentionContext
from storyforge.model.base import BaseModel
from storyforge.model.concept import Concept, FusedModel, plain
from storyforge.model.denoising import Conditions, Extras, start_latents
from storyforge.model.lora import attached_locally, merged
from storyforge.model.lorafile import loras_merged
from storyforge.model.tokens import PromptEmbeds
from storyforge.pictures import on_paper, open_picture
from storyforge.sample.control import Rack
from storyforge.sample.drawing import denoised
from storyforge.sample.finding import settled
from storyforge.sample.glance import Glance
from storyforge.sample.guidance import guide_of, isolated, prepared, steering
from storyforge.sample.heads import with_heads
from storyforge.sample.injection import Concepts, Reading, reading_of
from storyforge.sample.recipe import save_png
from storyforge.sample.regions import guidance_map
from storyforge.sample.watching import Watch, watch_of
from storyforge.sample.whereabouts import Whereabouts, told
from storyforge.tasks import Method, PanelTask, RefineTask

_TOGETHER = 4
"""Plain panels drawn at once on an accelerator; a processor is no faster with more than one."""

Preview = Callable[[PanelTask, int, int, np.ndarray], None]
"""Hears (panel, step, steps, (h, w, 3) uint8 picture so far); what it raises ends the drawing."""


def previews_in(folder: Path) -> Preview:
    """Keep the picture so far of every panel in a folder, each as `PANEL.png`."""
    folder.mkdir(parents=True, exist_ok=True)

    def keep(task: PanelTask, step: int, steps: int, pixels: np.ndarray) -> None:
        # Whoever looks on never sees half of a file.
        """Put one picture in the place of the last."""
        part = folder / f"{task.panel}.part.png"
        Image.fromarray(pixels).save(part)
        part.replace(folder / f"{task.panel}.png")

    return keep


@dataclass(frozen=True, slots=True)
class SamplingContext:
    """What panels are drawn with.

    model     its deltas are merged into `base` while panels are drawn
    concepts  by name, where a panel's method needs them
    preview   sees the picture every `every` steps
    """

    base: BaseModel
    model: FusedModel
    concepts: Concepts = field(default_factory=dict)
    on_progress: OnProgress = silent
    preview: Preview | None = None
    every: int = 5
    rack: Rack = field(init=False)
    glance: Glance = field(init=False)

    def __post_init__(self) -> None:
        """Begin without adapters."""
        object.__setattr__(self, "rack", Rack(self.base))
        object.__setattr__(self, "glance", Glance(self.base))


@dataclass(frozen=True, slots=True)
class DrawnPicture:
    """One picture as it came out.

    pixels    (h, w, 3) uint8
    subjects  region -> where its subject is, as far as that was seen
    """

    pixels: np.ndarray
    subjects: Mapping[str, Whereabouts]


@dataclass(frozen=True, slots=True)
class _Drawing:
    """Several at once: (n, 3, h, w) in [0, 1], and of each where its subjects are."""

    pictures: torch.Tensor
    subjects: Sequence[Mapping[str, Whereabouts]]


def draw_panels(
    base: BaseModel,
    tasks: Sequence[PanelTask],
    fused: Path | None,
    out: Callable[[PanelTask], AbstractContextManager[Path | None]],
    on_progress: OnProgress,
    concepts: Mapping[str, Path] | None = None,
    preview: Preview | None = None,
) -> None:
    """Draw panels with one base and one fused model; each is kept as soon as it is done.

    `out` gives the path of each, or None for one that need not be drawn.
    `concepts` are the files of those concepts that some panel's method needs, by name.
    """
    own = {name: Concept.load(path).renamed(name) for name, path in (concepts or {}).items()}
    for concept in own.values():
        concept.fits(base)
    model = _unfused(base, own) if fused is None else FusedModel.load(fused)
    if model.base_hash != base.hash:
        raise EnvironmentProblem(
            f"the fused model was made for another base than `{base.reference}`",
            hint="run `storyforge fuse` again",
        )
    context = SamplingContext(base, model, own, on_progress, preview)
    done = 0
    most = 1 if base.device.type == "cpu" or base.door is not None else _TOGETHER
    with merged(base, model.deltas):
        for loras, some in groupby(tasks, lambda task: task.loras):
            with loras_merged(base, dict(loras)):
                for batch in _batches(list(some), most):
                    on_progress(f"drawing {batch[0].panel}", done, len(tasks))
                    with ExitStack() as stack:
                        places = [(task, stack.enter_context(out(task))) for task in batch]
                        whole = [(_cut(base, t), path) for t, path in places if path]
                        wanted = [(_settled(context, t), path) for t, path in whole]
                        drawn = pictures(context, [task for task, _ in wanted]) if wanted else []
                        for (task, path), made in zip(wanted, drawn, strict=True):
                            save_png(made.pixels, task, base, path, made.subjects)
                    done += len(batch)
    on_progress("drawing", len(tasks), len(tasks))


def _cut(base: BaseModel, task: PanelTask) -> PanelTask:
    """The task in whole cells: of a base that was not here, the plan did not know them."""
    if task.size is None:
        return task
    with base.sized(task.decode):
        cell = base.vae_scale
    width, height = (max(cell, side // cell * cell) for side in task.size)
    return replace(task, size=(width, height))


def _unfused(base: BaseModel, concepts: Concepts) -> FusedModel:
    """The base as it is, with the words of concepts that are not fused."""
    return replace(plain(base), tokens={name: each.tokens for name, each in concepts.items()})


def _batches(tasks: Sequence[PanelTask], most: int) -> Iterator[list[PanelTask]]:
    """Neighbours that can be drawn at once."""
    batch: list[PanelTask] = []
    for task in tasks:
        if batch and (len(batch) == most or _kind(task) is None or _kind(task) != _kind(batch[0])):
            yield batch
            batch = []
        batch.append(task)
    if batch:
        yield batch


def _kind(task: PanelTask) -> tuple[object, ...] | None:
    """What plain panels must have in common; None for a panel that is drawn by itself."""
    if task.method != Method() or task.controls or task.refine or task.heads:
        return None
    guidance = (task.guidance_scale, task.guidance_rescale, task.guided)
    return (task.size, task.decode, task.steps, task.scheduler, task.region_blend, *guidance)


def picture(
    base: BaseModel, model: FusedModel, task: PanelTask, on_progress: OnProgress | None = None
) -> np.ndarray:
    """Draw one panel with `model`'s deltas already merged into `base`.

    Returns:
      (h, w, 3) uint8

    Raises:
      StoryForgeError: for a size that the base cannot draw, or a prompt that it cannot read.
    """
    context = SamplingContext(base, model, on_progress=on_progress or silent)
    return pictures(context, [task])[0].pixels


def pictures(context: SamplingContext, tasks: Sequence[PanelTask]) -> list[DrawnPicture]:
    """Draw panels at once, as `picture` does one; several are plain and of one kind."""
    base = context.base
    tasks = [_settled(context, task) for task in tasks]
    first = tasks[0]
    base.check_asked(_asked(first))
    with base.sized(first.decode):
        made = _with_refinement(context, tasks, first.size or (base.side, base.side))
        drawn = made.pictures
        if first.heads:
            drawn = torch.stack([with_heads(base, first, drawn[0], partial(_over, context))])
    return [
        DrawnPicture(pixels_of(each), where)
        for each, where in zip(drawn, made.subjects, strict=True)
    ]


def _settled(context: SamplingContext, task: PanelTask) -> PanelTask:
    """The panel with a place for every region."""
    drawn_with = context.base, context.model, context.concepts, context.rack
    return settled(*drawn_with, task, context.on_progress)


def _asked(task: PanelTask) -> dict[str, bool]:
    """What not every base does."""
    method = task.method
    return {
        "control": bool(task.controls),
        "compose: training-free": method.compose == "training-free",
        "regions: exact": method.regions == "exact",
        "enhancement": method.enhancement,
        "isolation": method.isolation,
        "reinitialisation": method.reinitialisation,
    }


def _over(
    context: SamplingContext, task: PanelTask, size: tuple[int, int], over: torch.Tensor
) -> torch.Tensor:
    return _drawn(context, [task], size, over, task.refine)


def _with_refinement(
    context: SamplingContext, tasks: Sequence[PanelTask], size: tuple[int, int]
) -> _Drawing:
    """The panels in (width, height) pixels, drawn over if they ask."""
    base, first = context.base, tasks[0]
    if any(side % base.vae_scale for side in size):
        raise StoryForgeError(
            f"panel `{first.panel}`: a picture of {size[0]}×{size[1]} pixels does not fit the base",
            hint=f"width and height must be multiples of {base.vae_scale}",
        )
    refine = first.refine
    if refine is None:
        return _watched(context, tasks, size)
    larger = _enlarged(base, size, refine.scale)
    if refine.picture is None:
        start = _drawn(context, tasks, size)
        start = torch.nn.functional.interpolate(
            start, larger[::-1], mode="bicubic", antialias=True
        ).clamp(0, 1)
    else:
        start = _from_file(refine.picture, larger)
    over = base.encode(start.to(base.device))
    return _watched(context, tasks, larger, over, refine)


def _enlarged(base: BaseModel, size: tuple[int, int], scale: float) -> tuple[int, int]:
    width, height = (round(side * scale / base.vae_scale) * base.vae_scale for side in size)
    return width, height


def _from_file(path: Path, size: tuple[int, int]) -> torch.Tensor:
    """(1, 3, h, w) in [0, 1]: the middle of the picture, as large as the panel."""
    fitted = ImageOps.fit(on_paper(open_picture(path)), size, Image.Resampling.LANCZOS)
    pixels = np.asarray(fitted, dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def _watched(
    context: SamplingContext,
    tasks: Sequence[PanelTask],
    size: tuple[int, int],
    over: torch.Tensor | None = None,
    refine: RefineTask | None = None,
) -> _Drawing:
    """Draw, and see where the subjects come to be."""
    base = context.base
    asked = None
    if not base.tells_figures:
        asked = watch_of(base, context.model, tasks, _latent(base, size))
    clean = _denoised(context, tasks, size, over, refine, watch=asked)
    seen: Sequence[Mapping[str, Whereabouts]] = [{} for _ in tasks]
    if asked is not None:
        seen = asked.found(tasks)
    elif base.tells_figures and any(task.regions for task in tasks):
        places = [{region.name: region.box for region in task.regions} for task in tasks]
        seen = [told(*each) for each in zip(base.figures(clean), places, strict=True)]
    return _Drawing(base.decode(clean), seen)


def _latent(base: BaseModel, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the latents of a picture of (width, height) pixels."""
    return size[1] // base.vae_scale, size[0] // base.vae_scale


def _drawn(
    context: SamplingContext,
    tasks: Sequence[PanelTask],
    size: tuple[int, int],
    over: torch.Tensor | None = None,
    refine: RefineTask | None = None,
) -> torch.Tensor:
    """(n, 3, h, w) in [0, 1], drawn from noise or over the latents of a picture."""
    return context.base.decode(_denoised(context, tasks, size, over, refine))


def _denoised(
    context: SamplingContext,
    tasks: Sequence[PanelTask],
    size: tuple[int, int],
    over: torch.Tensor | None = None,
    refine: RefineTask | None = None,
    *,
    watch: Watch | None = None,
) -> torch.Tensor:
    """Latents, drawn from noise or over those of a picture."""
    base, task = context.base, tasks[0]
    noise = start_latents(base, [each.seed for each in tasks], size)
    latent = _latent(base, size)
    with torch.no_grad():
        readings = [
            reading_of(base, context.model, context.concepts, each, latent) for each in tasks
        ]
    attention = _together([each.attention for each in readings])
    own, steer = readings[0], None
    with attached_locally(base, own.local):
        if task.regions and task.method.isolation:
            attention.isolation = isolated(own.region_weights)
        if task.regions and (task.method.enhancement or task.method.reinitialisation):
            guide = guide_of(base, context.model, task, attention, own.region_weights, latent)
            noise = prepared(guide, noise, task) if over is None else noise
            steer = steering(guide, task)
        return denoised(
            base,
            attention,
            noise,
            task,
            guidance_scale=_scale(base, tasks, readings, latent),
            extras=Extras(
                seeds=tuple(each.seed for each in tasks),
                over=over,
                strength=refine.strength if refine else 1.0,
                steer=steer,
                conditions=_conditions(context, task, size, attention, own),
                watch=watch,
            ),
            on_step=lambda done, total, latents: _heard(context, tasks, done, total, latents),
        )


def _conditions(
    context: SamplingContext,
    task: PanelTask,
    size: tuple[int, int],
    attention: AttentionContext,
    own: Reading,
) -> Conditions | None:
    """What the panel's control pictures add, some of them in one region alone."""
    latent = _latent(context.base, size)
    areas = {
        region.name: own.region_weights[latent[0] * latent[1]][index].reshape(latent)
        for index, region in enumerate(task.regions)
    }
    return context.rack.controls(task.controls, size, attention.text, areas)


def _together(contexts: Sequence[AttentionContext]) -> AttentionContext:
    """Several panels as one batch: all negative prompts, then all prompts."""
    if len(contexts) == 1:
        return contexts[0]
    text = PromptEmbeds.joined([each.text.rows([row]) for row in range(2) for each in contexts])
    regions = [
        replace(region, rows=(index, len(contexts) + index))
        for index, each in enumerate(contexts)
        for region in each.regions
    ]
    return AttentionContext(text, regions, contexts[0].blend)


def _scale(
    base: BaseModel,
    tasks: Sequence[PanelTask],
    readings: Sequence[Reading],
    latent: tuple[int, int],
) -> float | torch.Tensor:
    """The guidance scale: one number, or one for every cell of every panel."""
    usual = tasks[0].guidance_scale
    usual = base.defaults.guidance_scale if usual is None else usual
    finest = latent[0] * latent[1]
    scales = [
        guidance_map(usual, task.regions, each.region_weights[finest], latent)
        for task, each in zip(tasks, readings, strict=True)
    ]
    if all(isinstance(scale, float | int) for scale in scales):
        return usual
    whole = torch.ones(1, 1, *latent, device=base.device)
    return torch.cat([scale * whole for scale in scales])


def _heard(
    context: SamplingContext,
    tasks: Sequence[PanelTask],
    done: int,
    total: int,
    latents: torch.Tensor,
) -> None:
    names = ", ".join(task.panel for task in tasks)
    context.on_progress(f"drawing {names}: step", done, total)
    if context.preview is not None and done < total and done % context.every == 0:
        for task, made in zip(tasks, context.glance.pictures(latents), strict=True):
            context.preview(task, done, total, pixels_of(made))


def pixels_of(picture: torch.Tensor) -> np.ndarray:
    """(3, h, w) in [0, 1] to (h, w, 3) uint8.

    Raises StoryForgeError for a picture with NaN or infinity.
    """
    if not torch.isfinite(picture).all():
        raise StoryForgeError(
            "the picture came out with numbers that are none, and would be black",
            hint="leave out LoRAs one by one; `storyforge doctor FILE` looks into each",
        )
    pixels = picture.permute(1, 2, 0)
    return (pixels * 255).round().to(torch.uint8).cpu().numpy()
