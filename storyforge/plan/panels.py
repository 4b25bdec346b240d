"""From a story's panel to the task of drawing it: prompts, places, seed, method."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from storyforge.errors import Diagnostic, StoryError
from storyforge.geometry.pose import Stand, head_box
from storyforge.modelref import (
    ADAPTERS,
    HUB_ID,
    BaseParts,
    ModelRef,
    is_of_hub,
    own_adapter,
    picture_size,
)
from storyforge.pictures import beside
from storyforge.settings import Control
from storyforge.story.concept import text_in
from storyforge.story.continuity import drawn_as
from storyforge.story.layout import RegionShape
from storyforge.story.places import StoryPlace
from storyforge.story.prompts import (
    found_words,
    head_prompt,
    negative_prompt,
    panel_prompt,
    pose_of,
    region_prompt,
)
from storyforge.story.story import Panel, Story, refused
from storyforge.story.wording import bare, standing, starts
from storyforge.tasks import ControlTask, HeadTask, Method, PanelTask, RefineTask, RegionTask


def panel_task(
    story: Story,
    page: int,
    panel: Panel,
    base: ModelRef,
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
        regions=tuple(_region_tasks(story, panel, base)),
        size=_size(story, panel, base),
        steps=panel.steps or sampling.steps,
        guidance_scale=sampling.guidance_scale if guidance_scale is None else guidance_scale,
        scheduler=sampling.scheduler,
        region_blend=sampling.region_blend,
        seed=seed_of(story, panel),
        alt=text_in(panel.alt, story.language, "en") if panel.alt else None,
        guidance_rescale=sampling.guidance_rescale,
        method=method,
        concepts=concepts if method.needs_concepts else (),
        controls=tuple(
            _control_task(story, panel, number, BaseParts.of(base.reference).model)
            for number in range(len(panel.control))
        ),
        refine=_refine_task(story, panel),
        loras=tuple((named_file(story, each.file), each.weight) for each in sampling.lora),
        defaults=base.defaults.drawing,
        guided=_guided(story, base),
        heads=_heads(story, panel, base),
        decode=sampling.decode,
    )


def _guided(story: Story, base: ModelRef) -> tuple[float, float] | None:
    """The part of the steps in which there is guidance, if the author says anything of it."""
    said, usual = story.sampling, base.defaults
    start, stop = said.guidance_start, said.guidance_stop
    if start is None and stop is None:
        return None
    return (
        usual.guidance_start if start is None else start,
        usual.guidance_stop if stop is None else stop,
    )


def _heads(story: Story, panel: Panel, base: ModelRef) -> tuple[HeadTask, ...]:
    """The heads to draw again: of characters, and of whoever is in a pose."""
    wanted = story.sampling.heads
    if not (base.defaults.heads if wanted is None else wanted):
        return ()
    shapes, found = story.region_shapes(panel), []
    # Where somebody is to be found, nobody knows yet where the head is.
    names = [name for name in panel.regions if not shapes[name].auto]
    for name in sorted(names, key=lambda name: shapes[name].z):
        pose = pose_of(story, panel, name)
        if pose is None and panel.regions[name].concept in story.characters:
            pose = "standing"
        if pose is not None:
            box = head_box(
                Stand(shapes[name].bounds(), pose, shapes[name].facing), _aspect(story, panel)
            )
            found.append(HeadTask(name, box, head_prompt(story, panel, name)))
    return tuple(found)


def _size(story: Story, panel: Panel, base: ModelRef) -> tuple[int, int] | None:
    """Width and height in pixels, each cut to what the base can draw; None for the base's own.

    A base of the hub may not be here: its sizes are cut when it draws.
    """
    asked = panel.size or story.size
    if asked is None or is_of_hub(base.reference):
        return asked
    known, decode = picture_size(base.reference), story.sampling.decode
    cell = known.scale if decode is None else max(1, decode // known.cells)
    width, height = (max(cell, side // cell * cell) for side in asked)
    return width, height


def _aspect(story: Story, panel: Panel) -> float:
    """Width by height of the panel's picture."""
    width, height = panel.size or story.size or (1, 1)
    return width / height


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
    # 31 bits: what other programs read as a seed is often a signed number of 32.
    return int.from_bytes(digest[:4]) >> 1


def _region_tasks(story: Story, panel: Panel, base: ModelRef) -> Iterator[RegionTask]:
    shapes, company = story.region_shapes(panel), story.sampling.company
    company = base.defaults.company if company is None else company
    sought = {n: found_words(story, panel, n) for n in panel.regions if shapes[n].auto}
    whole = panel_prompt(story, panel) if sought else ""
    for name, region in panel.regions.items():
        shape: RegionShape = shapes[name]
        yield RegionTask(
            name=name,
            box=shape.bounds(),
            prompt=region_prompt(story, panel, name, company=company),
            negative=negative_prompt(story, panel, name),
            weight=shape.weight,
            z=shape.z,
            concept=drawn_as(story, panel, name),
            mask=named_file(story, shape.mask) if shape.mask else None,
            polygon=shape.polygon,
            soft=shape.soft,
            guidance_scale=region.guidance_scale,
            found=sought.get(name),
            standing=_standing(whole, name, sought),
        )


def _standing(whole: str, name: str, sought: Mapping[str, str]) -> tuple[int, ...]:
    """Which of the times that a region's words stand in the prompt mean it; empty for all."""
    if name not in sought:
        return ()
    text, words = bare(whole), bare(sought[name])
    mine = standing(text, words, map(bare, sought.values()))
    return () if len(mine) == len(starts(text, words)) else mine


def named_file(story: Story, path: str) -> Path:
    """A file that the story names, wherever storyforge was started."""
    return beside(story.folder, path).absolute()


def control_findings(story: Story) -> tuple[Diagnostic, ...]:
    """Every `control` for which there is no adapter, or nothing to draw."""
    found: list[Diagnostic] = []
    for _, panel in story.panels():
        for number in range(len(panel.control)):
            try:
                _control_task(story, panel, number, story.base_parts.model)
            except StoryError as exc:
                found += exc.diagnostics
    return tuple(found)


def _control_task(story: Story, panel: Panel, number: int, base: str) -> ControlTask:
    control = panel.control[number]
    where: StoryPlace = ("panel", panel.id, "control", number)
    return ControlTask(
        adapter=_adapter(story, where, control, base),
        picture=named_file(story, control.picture) if control.picture else None,
        weight=control.weight,
        start=control.start,
        end=control.end,
        region=control.region,
        draw=control.draw,
        stands=_stands(story, panel, where, control) if control.draw else (),
    )


def _adapter(story: Story, where: StoryPlace, control: Control, base: str) -> Path | str:
    """Its folder, beside the story or in the package, or its hub id."""
    name = control.adapter
    if name is None and control.draw is not None:
        name = own_adapter(base, control.draw)
    if name is None:
        message = f"this needs an `adapter` made for `{base}`; only `pocket` brings its own"
        raise refused(story, where, "SF327", message)
    folder = named_file(story, name)
    if name.startswith("pocket/") and not folder.is_dir():
        folder = ADAPTERS / name.removeprefix("pocket/")
    elif not folder.is_dir() and HUB_ID.fullmatch(name):
        return name
    if not folder.is_dir():
        known = sorted(f"pocket/{path.name}" for path in ADAPTERS.glob("*/"))
        message = f"no adapter folder at `{folder}`; the embedded model has {', '.join(known)}"
        raise refused(story, (*where, "adapter"), "SF303", message)
    return folder


def _stands(story: Story, panel: Panel, where: StoryPlace, control: Control) -> tuple[Stand, ...]:
    """Who and what is drawn: bodies in their poses, and for a sketch everything else, too."""
    shapes = story.region_shapes(panel)
    asked = [name for name in panel.regions if control.region in {None, name}]
    names = [name for name in asked if not shapes[name].auto]
    stands = []
    for name in sorted(names, key=lambda name: shapes[name].z):
        pose = pose_of(story, panel, name)
        if control.draw == "sketch" and panel.regions[name].concept in story.characters:
            pose = pose or "standing"
        if control.draw == "sketch" or pose is not None:
            stands.append(Stand(shapes[name].bounds(), pose, shapes[name].facing))
    if asked and not names:
        message = f"where `regions: auto` puts somebody is not known yet; `draw: {control.draw}`"
        raise refused(story, (*where, "draw"), "SF326", f"{message} needs a place")
    if not stands:
        message = "nobody has a pose to draw; give a region one, such as `pose: waving`"
        if control.draw == "sketch":
            message = "there is nothing to draw; give the panel a region"
        raise refused(story, (*where, "draw"), "SF326", message)
    return tuple(stands)


def _refine_task(story: Story, panel: Panel) -> RefineTask | None:
    if panel.refine is None:
        return None
    picture = named_file(story, panel.refine.picture) if panel.refine.picture else None
    return RefineTask(picture, panel.refine.scale, panel.refine.strength)
