"""One picture as a task: what it shows, where, and by which method, as plain data.

`drawn_from` is all that decides about its pixels. Settings that came later stand in it only where
they are used, so that a picture keeps its key when storyforge learns something new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Final

from storyforge.bases import HUB_ID, Base, Said
from storyforge.errors import EnvironmentProblem
from storyforge.layout import Box, Corners, RegionShape
from storyforge.pose import Stand
from storyforge.samplesettings import Compose, Control, Drawn, RegionModel
from storyforge.story import Panel, Story
from storyforge.subject import text_in
from storyforge.wording import negative_prompt, panel_prompt, pose_of, region_prompt

_NOT_DRAWN: Final = ("key", "page", "base", "alt")
"""Fields of a panel's task that change no pixel."""

ADAPTERS: Final = Path(__file__).parent / "pocket" / "adapters"
"""Those that came with the embedded model; a story calls them `pocket/…`."""

_OF_POCKET: Final[dict[Drawn, str]] = {"pose": "pocket/keypose", "sketch": "pocket/sketch"}
"""Which of them reads what is drawn."""

_ALWAYS: Final = ("mask",)
"""Fields that a recipe names though they have a default: they were there from the beginning."""


@dataclass(frozen=True, slots=True)
class RegionTask:
    """What one region shows.

    box             in fractions of the picture
    weight          how strongly the prompt speaks, 1 for plainly
    z               the larger number is in front
    mask            a picture, white where the region is; None for the whole box
    polygon         corners (x, y) in fractions of the picture; None for the whole box
    soft            width of the fading edge, as a fraction of the picture's shorter side
    guidance_scale  None for the panel's
    """

    name: str
    box: Box
    prompt: str
    negative: str
    weight: float
    z: int
    concept: str | None
    mask: Path | None = None
    polygon: Corners | None = None
    soft: float = 0.0
    guidance_scale: float | None = None


@dataclass(frozen=True, slots=True)
class ControlTask:
    """A picture that says where things stand.

    adapter     a folder, or a hub id
    weight      how strongly it speaks, 1 for plainly
    start, end  the part of the steps in which it speaks, each in [0, 1]
    picture     a file; None if it is drawn
    region      a region's name; None for the whole picture
    draw        how `stands` are drawn
    stands      who stands where, those in front last
    """

    adapter: Path | str
    picture: Path | None
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0
    region: str | None = None
    draw: Drawn | None = None
    stands: tuple[Stand, ...] = ()


@dataclass(frozen=True, slots=True)
class RefineTask:
    """Draw over a picture.

    picture   None for the panel's own first drawing
    scale     how much larger the result is
    strength  how much is drawn anew, in (0, 1]
    """

    picture: Path | None
    scale: float
    strength: float


@dataclass(frozen=True, slots=True)
class Method:
    """How several concepts come into one picture.

    compose           by one fused model, or by each concept in its own region
    regions           whose weights a region with a concept is drawn with
    injection         training-free: a region's own cross-attention
    enhancement       gradient steps that pull subjects into their regions
    isolation         regions do not look at each other
    reinitialisation  regions start from the noise that suits them best
    """

    compose: Compose = "fused"
    regions: RegionModel = "fused"
    injection: bool = True
    enhancement: bool = False
    isolation: bool = False
    reinitialisation: bool = False

    @property
    def needs_concepts(self) -> bool:
        """Whether drawing needs the concepts' own files."""
        return self.compose == "training-free" or self.regions != "fused"


@dataclass(frozen=True, slots=True)
class PanelTask:
    """Draw one picture.

    page      its number in the story, from 1; not part of the key
    fused     the fused model's key; None if there is none
    size      width and height in pixels; None for the base's own
    seed      31 bits, unless the author chose another
    alt       the picture in words; not part of the key
    concepts  pairs of a name and its file's key, where the method needs the files
    loras     pairs of a LoRA's file and its weight
    habits    how the base draws where nothing is said; part of the key alone
    """

    key: str
    panel: str
    page: int
    base: str
    base_hash: str
    fused: str | None
    prompt: str
    negative: str
    regions: tuple[RegionTask, ...]
    size: tuple[int, int] | None
    steps: int | None
    guidance_scale: float | None
    scheduler: str | None
    region_blend: float
    seed: int
    alt: str | None
    guidance_rescale: float | None = None
    method: Method = Method()
    concepts: tuple[tuple[str, str], ...] = ()
    controls: tuple[ControlTask, ...] = ()
    refine: RefineTask | None = None
    loras: tuple[tuple[Path, float], ...] = ()
    habits: Said = ()


def panel_task(
    story: Story,
    page: int,
    panel: Panel,
    base: Base,
    fused: str | None,
    concepts: tuple[tuple[str, str], ...],
) -> PanelTask:
    """The task of one panel, its key still empty.

    Args:
      story: whose panel it is.
      page: from 1.
      panel: what to draw.
      base: what draws it.
      fused: the fused model's key, if there is one.
      concepts: every concept that the story shows, with its file's key.
    """
    sampling, guidance_scale, method = story.sampling, panel.guidance_scale, method_of(story)
    return PanelTask(
        key="",
        panel=panel.id,
        page=page,
        base=base.reference,
        base_hash=base.hash,
        fused=fused,
        prompt=panel_prompt(story, panel),
        negative=negative_prompt(story, panel),
        regions=tuple(_region_tasks(story, panel)),
        size=panel.size or story.size,
        steps=panel.steps or sampling.steps,
        guidance_scale=sampling.guidance_scale if guidance_scale is None else guidance_scale,
        scheduler=sampling.scheduler,
        region_blend=sampling.region_blend,
        seed=seed_of(story, panel),
        alt=text_in(panel.alt, story.language, "en") if panel.alt else None,
        guidance_rescale=sampling.guidance_rescale,
        method=method,
        concepts=concepts if method.needs_concepts else (),
        controls=tuple(_control_task(story, panel, each, base.reference) for each in panel.control),
        refine=_refine_task(story, panel),
        loras=tuple((_beside(story, each.file), each.weight) for each in sampling.lora),
        habits=base.habits.drawing,
    )


def method_of(story: Story) -> Method:
    """How the story's concepts come into one picture; what is not said depends on `compose`."""
    said, free = story.sampling, story.compose == "training-free"
    return Method(
        compose=story.compose,
        regions=said.regions or ("fused" if free else "exact-text"),
        injection=said.injection,
        enhancement=free if said.enhancement is None else said.enhancement,
        isolation=free if said.isolation is None else said.isolation,
        reinitialisation=free if said.reinitialisation is None else said.reinitialisation,
    )


def seed_of(story: Story, panel: Panel) -> int:
    """The panel's own seed, or 31 bits that depend on the story's seed, its id and its take."""
    if panel.seed is not None:
        return panel.seed
    digest = hashlib.sha256(f"{story.seed}/{panel.id}/{panel.take}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


def _region_tasks(story: Story, panel: Panel) -> Iterator[RegionTask]:
    shapes = story.region_shapes(panel)
    for name, region in panel.regions.items():
        shape: RegionShape = shapes[name]
        yield RegionTask(
            name=name,
            box=shape.bounds(),
            prompt=region_prompt(story, panel, name),
            negative=negative_prompt(story, panel, name),
            weight=shape.weight,
            z=shape.z,
            concept=region.concept,
            mask=_beside(story, shape.mask) if shape.mask else None,
            polygon=shape.polygon,
            soft=shape.soft,
            guidance_scale=region.guidance_scale,
        )


def _beside(story: Story, path: str) -> Path:
    return (story.folder / Path(path).expanduser()).absolute()


def _control_task(story: Story, panel: Panel, control: Control, base: str) -> ControlTask:
    return ControlTask(
        adapter=_adapter(story, panel, control, base),
        picture=_beside(story, control.picture) if control.picture else None,
        weight=control.weight,
        start=control.start,
        end=control.end,
        region=control.region,
        draw=control.draw,
        stands=_stands(story, panel, control) if control.draw else (),
    )


def _adapter(story: Story, panel: Panel, control: Control, base: str) -> Path | str:
    """Its folder, beside the story or in the package, or its hub id."""
    name = control.adapter
    if name is None and control.draw is not None and base == "pocket":
        name = _OF_POCKET[control.draw]
    if name is None:
        message = f"panel `{panel.id}`: `control` names no `adapter` made for `{base}`"
        raise EnvironmentProblem(message, hint="only the embedded model brings adapters of its own")
    folder = _beside(story, name)
    if name.startswith("pocket/") and not folder.is_dir():
        folder = ADAPTERS / name.removeprefix("pocket/")
    elif not folder.is_dir() and HUB_ID.fullmatch(name):
        return name
    if not folder.is_dir():
        known = sorted(f"pocket/{path.name}" for path in ADAPTERS.glob("*/"))
        message = f"panel `{panel.id}`: no adapter in `{folder}`"
        raise EnvironmentProblem(message, hint=f"the embedded model has {', '.join(known)}")
    return folder


def _stands(story: Story, panel: Panel, control: Control) -> tuple[Stand, ...]:
    """Who and what is drawn: bodies in their poses, and for a sketch everything else, too."""
    shapes = story.region_shapes(panel)
    names = [name for name in panel.regions if control.region in {None, name}]
    stands = []
    for name in sorted(names, key=lambda name: shapes[name].z):
        pose = pose_of(story, panel, name)
        if control.draw == "sketch" and panel.regions[name].concept in story.characters:
            pose = pose or "standing"
        if control.draw == "sketch" or pose is not None:
            stands.append(Stand(shapes[name].bounds(), pose, shapes[name].facing))
    if not stands:
        message = f"panel `{panel.id}`: `control` has nothing to draw"
        raise EnvironmentProblem(message, hint="give a region a `pose`, such as `pose: waving`")
    return tuple(stands)


def _refine_task(story: Story, panel: Panel) -> RefineTask | None:
    if panel.refine is None:
        return None
    picture = _beside(story, panel.refine.picture) if panel.refine.picture else None
    return RefineTask(picture, panel.refine.scale, panel.refine.strength)


def drawn_from(task: PanelTask) -> dict[str, object]:
    """All that decides about the picture, and what was said of nothing else."""
    said = _said(task)
    make = "panel 1" if task.method.regions == "fused" else "panel 2"
    return {"make": make} | {k: v for k, v in said.items() if k not in _NOT_DRAWN}


def _said(
    task: PanelTask | RegionTask | ControlTask | RefineTask | Method | Stand,
) -> dict[str, object]:
    """The fields of a task by name, without those of later origin that are at their defaults."""
    said: dict[str, object] = {}
    for each in fields(task):
        value = getattr(task, each.name)
        if each.default is MISSING or each.name in _ALWAYS or value != each.default:
            said[each.name] = _plain(value)
    return said


def _plain(value: object) -> object:
    if isinstance(value, PanelTask | RegionTask | ControlTask | RefineTask | Method | Stand):
        return _said(value)
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value
