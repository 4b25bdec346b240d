"""Concepts from Python: open a model, learn, fuse and draw, without a story.

What a story does beyond that (keeping products by their keys, books, pins) is `Project`'s.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from storyforge.errors import StoryForgeError
from storyforge.executor import OnProgress, silent
from storyforge.geometry.box import Box, place
from storyforge.modelref import ModelRef, base_at
from storyforge.plan.plan import train_task
from storyforge.settings import FuseSettings, TrainSettings
from storyforge.story.concept import read_concept
from storyforge.tasks import Method, PanelTask, RegionTask

if TYPE_CHECKING:
    from PIL.Image import Image

    from storyforge.fuse.statistics import Statistics
    from storyforge.model.base import BaseModel
    from storyforge.model.concept import Concept, FusedModel

_OPENED: WeakValueDictionary[str, BaseModel] = WeakValueDictionary()
"""Models that somebody still holds, by hash: `draw` need not be told which."""


@dataclass(frozen=True, slots=True)
class Region:
    """One part of a picture, and what is seen there.

    box      left, top, right, bottom in fractions of the picture; or a place, such as `left`
    prompt   what is seen there; a concept stands in it as `<name>`
    concept  whose own weights draw it
    weight   how strongly the prompt speaks
    z        the larger number is in front
    soft     width of the fading edge, as a fraction of the picture's shorter side
    """

    box: Box | tuple[float, float, float, float] | str
    prompt: str
    concept: Concept | None = None
    negative: str = ""
    weight: float = 1.0
    z: int = 0
    soft: float = 0.0
    guidance_scale: float | None = None


def open_model(reference: str | Path = "pocket", *, device: str | None = None) -> BaseModel:
    """Open a base model, on the best device if none is named.

    reference  `pocket`, a diffusers folder, a `.safetensors` file, or a hub id

    Raises EnvironmentProblem if it cannot be found or read.
    """
    from storyforge.model.base import open_base
    from storyforge.model.placement import open_placed

    found = base_at(str(reference), Path())
    if device is None:
        model = open_placed(found.reference, found.hash)
    else:
        model = open_base(found.reference, found.hash, device=device)
    # Weakly: whoever lets go of the model gets the memory back.
    _OPENED[model.hash] = model
    return model


def train(
    model: BaseModel,
    folder: str | Path,
    settings: TrainSettings | None = None,
    *,
    scratch: Path | None = None,
    on_progress: OnProgress = silent,
) -> Concept:
    """Learn the concept in a folder with a `concept.yaml`, and give it back; keep it by `.save`.

    settings  in place of what `train:` says there
    scratch   where a run that is interrupted goes on; None for nowhere

    Raises StoryForgeError for pictures that cannot be learnt from.
    """
    from storyforge.engine.judge import judge_of
    from storyforge.model.concept import Concept
    from storyforge.train.edlora import train_concept

    spec = read_concept(Path(folder))
    if settings is not None:
        spec = spec.model_copy(update={"train": settings})
    task = train_task(spec.name, spec, _ref(model), {})
    with TemporaryDirectory(prefix="storyforge-") as made:
        out, own = Path(made) / "concept.safetensors", scratch or Path(made) / "scratch" / task.key
        own.mkdir(parents=True, exist_ok=True)
        train_concept(model, task, out, own, on_progress, judge=judge_of(task))
        return Concept.load(out)


def fuse(
    model: BaseModel,
    concepts: Sequence[Concept | str | Path],
    settings: FuseSettings | None = None,
    *,
    on_progress: OnProgress = silent,
) -> FusedModel:
    """Fuse concepts, learnt or in their files, into one model; `.report` says what it cost whom.

    Raises EnvironmentProblem for a concept that was learnt on another model.
    """
    from storyforge.fuse import fusion, statistics
    from storyforge.fuse.carried import carried
    from storyforge.fuse.packing import Compact, Full
    from storyforge.fuse.terms import Terms
    from storyforge.model.concept import Concept

    asked = settings or FuseSettings()
    packing = Compact if asked.statistics == "compact" else Full
    viewing = statistics.USUAL.of(asked)
    cast = [each if isinstance(each, Concept) else Concept.load(Path(each)) for each in concepts]
    terms = Terms.of(asked, {concept.name: concept.kind for concept in cast})
    fusion.check_terms(terms, cast, model)
    seen: list[Statistics] = []
    for concept, given in zip(cast, concepts, strict=True):
        concept.fits(model)
        own = None if isinstance(given, Concept) or terms.subject else Path(given)
        brought = None if own is None else carried(own, asked.steps)
        on_progress(f"watching `{concept.name}`", len(seen), len(cast))
        seen.append(
            brought
            or statistics.of_concept(
                model, concept, packing, subject=terms.subject, viewing=viewing
            )
        )
    ordinary = statistics.of_base(model, packing, viewing=viewing) if terms.preserves else None
    return fusion.fuse(cast, seen, ordinary, terms, on_progress, model, viewing)


def draw(
    model: FusedModel | Concept | BaseModel,
    prompt: str,
    *,
    regions: Sequence[Region] = (),
    negative: str = "",
    seed: int | None = None,
    steps: int | None = None,
    guidance_scale: float | None = None,
    size: tuple[int, int] | None = None,
    method: Method | None = None,
    on_progress: OnProgress = silent,
) -> Image:
    """Draw one picture; what is left out is the base's own default.

    model   a fused model, one concept alone, or the base without any
    prompt  what the whole picture shows; a concept stands in it as `<name>`
    seed    None for another picture every time; it is in the picture's `info`
    method  how regions are composed; None for each region's text by its concept's own weights

    Raises StoryForgeError for a prompt that cannot be read, or a size that cannot be drawn.
    """
    from PIL import Image

    from storyforge.model.lora import merged
    from storyforge.sample.recipe import parameters
    from storyforge.sample.sampler import SamplingContext, pictures

    base, fused = _known(model)
    own = {each.concept.name: each.concept for each in regions if each.concept is not None}
    for concept in own.values():
        concept.fits(base)
    task = PanelTask(
        key="",
        panel="picture",
        page=1,
        base=base.reference,
        base_hash=base.hash,
        fused=None,
        prompt=prompt,
        negative=negative,
        regions=tuple(_region(number, each) for number, each in enumerate(regions, start=1)),
        size=size,
        steps=steps,
        guidance_scale=guidance_scale,
        scheduler=None,
        region_blend=1.0,
        seed=random.getrandbits(31) if seed is None else seed,
        alt=None,
        method=method or Method(regions="exact-text" if own else "fused"),
    )
    with merged(base, fused.deltas):
        (drawn,) = pictures(SamplingContext(base, fused, own, on_progress), [task])
    made = Image.fromarray(drawn.pixels)
    made.info |= {"seed": task.seed, "parameters": parameters(task, base, *made.size)}
    return made


def _known(model: FusedModel | Concept | BaseModel) -> tuple[BaseModel, FusedModel]:
    """The opened base, and what is merged into it."""
    from storyforge.model.base import BaseModel
    from storyforge.model.concept import Concept, plain

    if isinstance(model, BaseModel):
        return model, plain(model)
    fused = model.alone() if isinstance(model, Concept) else model
    base = _OPENED.get(fused.base_hash) or open_model(fused.base)
    if base.hash != fused.base_hash:
        message = f"this was made for another model than `{base.reference}` is now"
        raise StoryForgeError(message, hint="open that model first, or fuse again")
    return base, fused


def _region(number: int, region: Region) -> RegionTask:
    box = region.box
    if isinstance(box, str):
        box = place(box)
    elif not isinstance(box, Box):
        box = Box.model_validate(box)
    name = None if region.concept is None else region.concept.name
    return RegionTask(
        name=f"region {number}",
        box=box,
        prompt=region.prompt,
        negative=region.negative,
        weight=region.weight,
        z=region.z,
        concept=name,
        soft=region.soft,
        guidance_scale=region.guidance_scale,
    )


def _ref(model: BaseModel) -> ModelRef:
    return ModelRef(model.reference, model.hash, model.defaults)
