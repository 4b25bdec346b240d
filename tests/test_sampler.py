"""Panels drawn: sizes, seeds, concepts, and files that say how they were made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.executor import silent
from storyforge.geometry.box import Box
from storyforge.model.base import BaseModel
from storyforge.model.concept import Concept, FusedModel, plain
from storyforge.model.denoising import make_scheduler, start_latents
from storyforge.model.lora import Delta
from storyforge.model.tokens import ConceptTokens
from storyforge.provenance.xmp import DIGITAL_SOURCE, XMP_CHUNK
from storyforge.sample.recipe import parameters, save_png
from storyforge.sample.sampler import SamplingContext, draw_panels, picture, pictures, previews_in
from storyforge.tasks import Method, PanelTask, RefineTask, RegionTask

LEFT = Box(x0=0, y0=0, x1=0.5, y1=1)


def smallest(base: BaseModel) -> int:
    return base.vae_scale * 2 ** (len(base.unet.config.block_out_channels) - 1)


@pytest.fixture
def task(base: BaseModel) -> PanelTask:
    """A small panel with one region."""
    return PanelTask(
        key="k" * 20,
        panel="found",
        page=1,
        base=base.reference,
        base_hash=base.hash,
        fused=None,
        prompt="ein großer Fuchs “im” Schnee, 狐",
        negative="a house",
        regions=(RegionTask("owl", LEFT, "an owl", "", 1.0, 0, None),),
        size=(smallest(base), smallest(base)),
        steps=2,
        guidance_scale=4.0,
        scheduler=None,
        region_blend=1.0,
        seed=11,
        alt="a fox",
    )


def test_a_panel_without_regions_and_concepts_is_the_stock_pipelines_picture(
    base: BaseModel, task: PanelTask
) -> None:
    pipe = StableDiffusionPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=base.unet,
        scheduler=make_scheduler(base, None),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    stock = pipe(
        task.prompt,
        negative_prompt=task.negative,
        latents=start_latents(base, [task.seed], task.size),
        num_inference_steps=task.steps,
        guidance_scale=task.guidance_scale,
        guidance_rescale=base.defaults.guidance_rescale,
        output_type="np",
    ).images[0]
    made = picture(base, plain(base), replace(task, regions=()))
    assert np.abs(made - np.rint(255 * stock)).max() <= 1


def test_a_picture_is_bytes_rows_by_columns(base: BaseModel, task: PanelTask) -> None:
    side = smallest(base)
    made = picture(base, plain(base), replace(task, size=(2 * side, side), steps=1))
    assert made.dtype == np.uint8
    assert made.shape == (side, 2 * side, 3)


def test_without_a_size_the_picture_is_as_large_as_the_base_draws(
    base: BaseModel, task: PanelTask
) -> None:
    made = picture(base, plain(base), replace(task, size=None, steps=1))
    assert made.shape == (base.side, base.side, 3)


def test_a_size_that_does_not_fit_is_refused_with_the_step(
    base: BaseModel, task: PanelTask
) -> None:
    with pytest.raises(StoryForgeError, match="`found`.*24×64") as caught:
        picture(base, plain(base), replace(task, size=(24, 64)))
    assert caught.value.hint == f"width and height must be multiples of {base.vae_scale}"


def saved(base: BaseModel, task: PanelTask, path: Path) -> bytes:
    save_png(picture(base, plain(base), task), task, base, path)
    return path.read_bytes()


def test_the_same_task_gives_the_same_bytes(
    base: BaseModel, task: PanelTask, tmp_path: Path
) -> None:
    one, other = (saved(base, task, tmp_path / f"{i}.png") for i in range(2))
    assert one == other


def test_another_seed_gives_another_picture(base: BaseModel, task: PanelTask) -> None:
    one, other = (picture(base, plain(base), replace(task, seed=seed)) for seed in (1, 2))
    assert not np.array_equal(one, other)


def test_a_region_shows(base: BaseModel, task: PanelTask) -> None:
    one, other = (picture(base, plain(base), t) for t in (task, replace(task, regions=())))
    assert not np.array_equal(one, other)


def test_concepts_that_change_nothing_draw_what_the_base_draws(
    base: BaseModel, task: PanelTask, pip: ConceptTokens
) -> None:
    model = FusedModel("pocket", base.hash, {"pip": pip}, {})
    assert np.array_equal(picture(base, model, task), picture(base, plain(base), task))


def test_a_concept_may_stand_in_every_prompt_of_a_panel(
    base: BaseModel, task: PanelTask, pip: ConceptTokens
) -> None:
    model = FusedModel("pocket", base.hash, {"pip": pip}, {})
    owl = replace(task.regions[0], prompt="a <pip>", negative="<pip>")
    with_pip = replace(task, prompt="a <pip>", negative="<pip>", regions=(owl,), steps=1)
    assert picture(base, model, with_pip).std() > 0


@pytest.fixture(scope="module")
def canvas() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)


def test_the_file_holds_the_pixels(
    base: BaseModel, task: PanelTask, canvas: np.ndarray, tmp_path: Path
) -> None:
    save_png(canvas, task, base, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as file:
        assert (file.format, file.mode) == ("PNG", "RGB")
        assert np.array_equal(np.asarray(file), canvas)


def test_the_file_tells_other_programs_its_parameters(
    base: BaseModel, task: PanelTask, canvas: np.ndarray, tmp_path: Path
) -> None:
    save_png(canvas, task, base, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as file:
        told = str(file.info["parameters"])
    assert told == parameters(task, base, 16, 8)
    prompt, negative, settings = told.split("\n")
    assert prompt == task.prompt
    assert negative == "Negative prompt: a house"
    assert "Steps: 2, " in settings
    assert "CFG scale: 4.0, Seed: 11, Size: 16x8, " in settings


def test_the_file_tells_all_that_it_was_made_from(
    base: BaseModel, task: PanelTask, canvas: np.ndarray, tmp_path: Path
) -> None:
    save_png(canvas, task, base, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as file:
        told = json.loads(str(file.info["storyforge"]))
        xmp = str(file.info[XMP_CHUNK])
    assert DIGITAL_SOURCE in xmp
    for key in ("key", "panel", "prompt", "negative", "seed", "steps", "base_hash"):
        assert told[key] == getattr(task, key)
    assert told["regions"][0]["prompt"] == "an owl"
    assert told["regions"][0]["box"] == [0, 0, 0.5, 1]
    assert told["digital_source_type"] == "trainedAlgorithmicMedia"


class Shelf:
    """Where `perform` puts its pictures; counts those that were finished."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.finished = folder, list[str]()

    @contextmanager
    def __call__(self, task: PanelTask) -> Iterator[Path]:
        yield self.folder / f"{task.panel}.png"
        self.finished.append(task.panel)


def test_panels_are_drawn_one_after_another_and_kept_at_once(
    base: BaseModel, task: PanelTask, tmp_path: Path
) -> None:
    shelf, told = Shelf(tmp_path), []

    def on_progress(what: str, done: int, total: int) -> None:
        told.append((what, done, total))

    wrong = replace(task, panel="wrong", prompt="a <nobody>")
    with pytest.raises(StoryForgeError, match="<nobody>"):
        draw_panels(base, [task, wrong], None, shelf, on_progress)
    assert shelf.finished == ["found"]
    with Image.open(tmp_path / "found.png") as file:
        assert np.array_equal(np.asarray(file), picture(base, plain(base), task))
    assert ("drawing found: step", 2, 2) in told


def test_a_fused_model_is_merged_into_the_base(
    base: BaseModel, task: PanelTask, deltas: dict[str, Delta], tmp_path: Path
) -> None:
    name = base.family.linears[0]
    FusedModel(base.reference, base.hash, {}, {name: deltas[name]}).save(tmp_path)
    shelf = Shelf(tmp_path)
    draw_panels(base, [task], tmp_path, shelf, silent)
    with Image.open(tmp_path / "found.png") as file:
        made = np.asarray(file)
    assert not np.array_equal(made, picture(base, plain(base), task))


def test_a_fused_model_of_another_base_is_refused_by_name(
    base: BaseModel, task: PanelTask, tmp_path: Path
) -> None:
    delta = Delta(torch.ones(2, 1), torch.ones(1, 2))
    FusedModel("elsewhere", "0ther" * 8, {}, {"x": delta}).save(tmp_path)
    with pytest.raises(EnvironmentProblem, match=f"another base than `{base.reference}`") as caught:
        draw_panels(base, [task], tmp_path, Shelf(tmp_path), silent)
    assert caught.value.hint


def test_panels_drawn_at_once_are_those_drawn_alone(base: BaseModel, task: PanelTask) -> None:
    right = replace(task.regions[0], box=Box(x0=0.5, y0=0, x1=1, y1=1), guidance_scale=6.0)
    pair = [task, replace(task, panel="other", prompt="a house", seed=12, regions=(right,))]
    together = pictures(SamplingContext(base, plain(base)), pair)
    for made, alone in zip(together, pair, strict=True):
        wanted = picture(base, plain(base), alone)
        assert np.abs(made.pixels.astype(int) - wanted.astype(int)).max() <= 2


def test_a_panel_is_refined_larger_with_its_regions(base: BaseModel, task: PanelTask) -> None:
    side = smallest(base)
    refined = replace(task, refine=RefineTask(None, 1.5, 0.5))
    made = picture(base, plain(base), refined)
    assert made.shape == (3 * side // 2, 3 * side // 2, 3)
    assert (made != picture(base, plain(base), replace(refined, regions=()))).any()


def test_a_picture_from_a_file_is_drawn_over(
    base: BaseModel, task: PanelTask, tmp_path: Path
) -> None:
    made = []
    for name in ("black", "white"):
        Image.new("RGB", (40, 30), name).save(tmp_path / f"{name}.png")
        over = replace(task, refine=RefineTask(tmp_path / f"{name}.png", 1.0, 0.5))
        made.append(picture(base, plain(base), over).mean())
    assert made[0] < made[1]


def test_a_preview_sees_the_picture_so_far_and_may_end_it(base: BaseModel, task: PanelTask) -> None:
    seen: list[tuple[int, int, tuple[int, ...]]] = []

    def look(panel: PanelTask, step: int, steps: int, pixels: np.ndarray) -> None:
        seen.append((step, steps, pixels.shape))
        if step == 2:
            raise KeyboardInterrupt

    studio = SamplingContext(base, plain(base), preview=look, every=1)
    with pytest.raises(KeyboardInterrupt):
        pictures(studio, [replace(task, steps=4)])
    side = smallest(base)
    assert seen == [(1, 4, (side, side, 3)), (2, 4, (side, side, 3))]


def test_the_picture_so_far_can_be_seen_in_a_folder_and_is_not_the_last(
    base: BaseModel, task: PanelTask, tmp_path: Path
) -> None:
    looks = tmp_path / "looks"
    draw_panels(
        base, [replace(task, steps=6)], None, Shelf(tmp_path), silent, preview=previews_in(looks)
    )
    assert [path.name for path in looks.iterdir()] == ["found.png"]
    seen, made = (Image.open(folder / "found.png").convert("RGB") for folder in (looks, tmp_path))
    assert seen.size == made.size
    assert seen.tobytes() != made.tobytes()


def test_concepts_are_drawn_from_their_files_without_fusion(
    base: BaseModel,
    task: PanelTask,
    pip: ConceptTokens,
    deltas: dict[str, Delta],
    tmp_path: Path,
) -> None:
    concept = Concept("fox", "character", "fox", pip, deltas, base.reference, base.hash)
    concept.save(tmp_path / "fox.safetensors")
    owl = replace(task.regions[0], prompt="a <pip>", concept="pip")
    free = replace(task, regions=(owl,), method=Method(compose="training-free"))
    draw_panels(base, [free], None, Shelf(tmp_path), silent, {"pip": tmp_path / "fox.safetensors"})
    with Image.open(tmp_path / "found.png") as file:
        told = json.loads(str(file.info["storyforge"]))
        assert np.asarray(file).std() > 0
    assert told["compose"] == "training-free"
    assert str(tmp_path) not in json.dumps(told)
