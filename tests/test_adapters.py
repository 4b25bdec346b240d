"""Conditions that the illustrator gives, training on them, and the adapters that are shipped."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    T2IAdapter,
)
from PIL import Image
from torch import Tensor

from storyforge.geometry.box import Box
from storyforge.geometry.pose import Stand, keypoint_picture
from storyforge.model.attention import AttentionContext
from storyforge.model.base import BaseModel, open_base
from storyforge.model.denoising import Extras, denoise, start_latents
from storyforge.model.tokens import encode
from storyforge.modelref import ADAPTERS, POCKET
from storyforge.pocket import world
from storyforge.pocket.pretrain import parts, ship
from storyforge.pocket.pretrain.adapters import (
    PEAK,
    narrowed,
    new_adapter,
    train_adapter,
    widened,
)
from storyforge.pocket.pretrain.conditions import CONDITIONS, stand_of
from storyforge.pocket.pretrain.latents import draw_latents
from storyforge.pocket.pretrain.run import Job, Team
from storyforge.pocket.world import pencil
from storyforge.pocket.world.looks import Look
from storyforge.sample.control import Rack
from storyforge.tasks import ControlTask

ALONE = Team(0, 1)
LIMIT = 24_000_000
"""Bytes of all adapters in the package."""


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture_of(pose: str, x: float = 0.5) -> world.Picture:
    look = Look("fox", "orange", "coat", pose=pose)
    return world.Picture("forest", "day", "clear", (world.Subject(look, x, 0.9, 0.6),), 1)


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_is_made_by_its_seed(name: str) -> None:
    picture = world.imagine(generator(4))
    one, other = (CONDITIONS[name](picture, generator(9)) for _ in range(2))
    assert one.size == (256, 256)
    assert one.tobytes() == other.tobytes()


def test_a_sketch_has_its_lines_where_the_drawing_has_its_ink() -> None:
    picture = picture_of("waving")
    lines = pencil.sketch(picture) > 127
    drawing, masks = world.draw(picture)
    dark = drawing.max(2) < 128
    assert lines.sum() > 1000
    assert not lines[masks[0] == 0].any()
    assert dark[lines].mean() > 0.9


def test_a_stick_figure_stands_where_the_creature_stands() -> None:
    for x in (0.25, 0.75):
        picture = picture_of("jumping", x)
        columns = np.nonzero(np.asarray(CONDITIONS["keypose"](picture, generator(1))).max(2))[1]
        assert abs(columns.mean() / 256 - x) < 0.05


def test_a_mirrored_creature_has_a_mirrored_figure() -> None:
    look = Look("fox", "orange", "coat", pose="running", mirror=True)
    turned = world.Subject(look, 0.5, 0.9, 0.6)
    figures = [
        np.asarray(keypoint_picture([stand_of(s)], 64, 64)).max(2) > 64
        for s in (picture_of("running").subjects[0], turned)
    ]
    assert (figures[0] & figures[1][:, ::-1]).sum() > 0.9 * figures[0].sum()
    assert (figures[0] & figures[1]).sum() < 0.5 * figures[0].sum()


def test_things_have_no_pose() -> None:
    ball = world.Subject(world.Thing("ball", "red"), 0.5, 0.9, 0.4)
    assert stand_of(ball).pose is None


def job(folder: Path, stage: str) -> Job:
    return Job(stage, folder, 0.005, 0.0, "cpu", 1, 2, 2, 0)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained U-Net and four drawings as latents."""
    folder = tmp_path_factory.mktemp("begun")
    parts.new_autoencoder().save_pretrained(folder / "vae")
    draw_latents(replace(job(folder, "latents"), pictures=4), ALONE)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts.new_unet().half().save_pretrained(folder / "unet")
    return folder


def test_adapters_train_for_a_moment_go_on_and_are_shipped_as_the_same_bytes(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "adapters_folder", lambda: tmp_path / "shipped")
    shipped = []
    with torch.random.fork_rng():
        for name in ("keypose", "controlnet-sketch"):
            train_adapter(job(begun, name), ALONE)
        for _ in range(2):
            ship.ship_adapters(job(begun, "ship-adapters"), ALONE)
            shipped.append(digests(tmp_path / "shipped"))
        train_adapter(job(begun, "keypose"), ALONE)
        ship.ship_adapters(job(begun, "ship-adapters"), ALONE)
    assert shipped[0] == shipped[1]
    assert {Path(name).parts[0] for name in shipped[0]} == {"keypose", "controlnet-sketch"}
    changed = {n for n, d in digests(tmp_path / "shipped").items() if d != shipped[0][n]}
    assert changed == {"keypose/diffusion_pytorch_model.safetensors"}


def test_a_controlnet_adds_nothing_before_its_first_step(begun: Path) -> None:
    net = new_adapter("controlnet-sketch", begun / "unet")
    assert isinstance(net, ControlNetModel)
    with torch.no_grad():
        down, mid = net(
            torch.randn(1, parts.LATENT_CHANNELS, *[parts.PICTURE // parts.DOWNSCALE] * 2),
            torch.tensor([500]),
            torch.randn(1, parts.POSITIONS, parts.TEXT_WIDTH),
            torch.rand(1, 3, 2 * parts.PICTURE, 2 * parts.PICTURE),
            return_dict=False,
        )
    assert all((each == 0).all() for each in (*down, mid))


@pytest.mark.parametrize("colours", [1, 3])
def test_a_wider_adapter_says_of_a_picture_what_the_other_says_of_its_means(colours: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        narrow = T2IAdapter(colours, [16, 32], 1, 4)
        seen = torch.rand(2, colours, 32, 48)
    wide = T2IAdapter(colours, [16, 32], 1, 8)
    wide.load_state_dict(widened(narrow.state_dict()))
    means = torch.nn.functional.avg_pool2d(seen, 2)
    for one, other in zip(wide(seen), narrow(means), strict=True):
        torch.testing.assert_close(one, other)
    for name, value in narrowed(wide.state_dict()).items():
        torch.testing.assert_close(value, narrow.state_dict()[name])


def test_the_shipped_adapters_are_small_and_whole() -> None:
    files = [file for file in ADAPTERS.rglob("*") if file.is_file()]
    assert {file.parent.name for file in files} == set(PEAK)
    assert {file.suffix for file in files} == {".json", ".safetensors"}
    assert sum(file.stat().st_size for file in files) <= LIMIT
    assert all(file.stat().st_mode & 0o444 == 0o444 for file in files)


# diffusers' adapter pipeline calls what diffusers wants no one to call.
@pytest.mark.filterwarnings("ignore:The decode_latents method is deprecated:FutureWarning")
@pytest.mark.parametrize("name", ["keypose", "sketch"])
def test_the_stock_adapter_pipeline_opens_and_draws(name: str) -> None:
    adapter = T2IAdapter.from_pretrained(ADAPTERS / name, dtype=torch.float32)
    pipe = StableDiffusionAdapterPipeline.from_pretrained(
        POCKET, adapter=adapter, dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    condition = CONDITIONS[name](picture_of("waving"), generator(0), 512)
    made = pipe("a fox", image=condition, num_inference_steps=2, output_type="np").images
    assert made.shape == (1, 512, 512, 3)
    assert np.isfinite(made).all()


def test_the_stock_controlnet_pipeline_opens_and_draws() -> None:
    net = ControlNetModel.from_pretrained(ADAPTERS / "controlnet-sketch", dtype=torch.float32)
    pipe = StableDiffusionControlNetPipeline.from_pretrained(
        POCKET, controlnet=net, dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    condition = Image.fromarray(pencil.sketch(picture_of("waving"), 512)).convert("RGB")
    made = pipe("a fox", image=condition, num_inference_steps=2, output_type="np").images
    assert made.shape == (1, 512, 512, 3)
    assert np.isfinite(made).all()


@pytest.fixture(scope="module")
def pocket() -> BaseModel:
    return open_base("pocket", "5eed" * 16)


def drawn(base: BaseModel, control: ControlTask | None) -> Tensor:
    """(3, h, w): a fox after two steps."""
    attention = AttentionContext(encode(base, ["", "a fox in a meadow"], {}))
    tasks = [control] if control else []
    made = Rack(base).controls(tasks, (base.side, base.side), attention.text, {})
    noise = start_latents(base, [3])
    return base.decode(denoise(base, attention, noise, steps=2, extras=Extras(conditions=made)))[0]


def posed(name: str, left: float = 0.1, **changes: float | str) -> ControlTask:
    stands = (Stand(Box(x0=left, y0=0.3, x1=left + 0.45, y1=0.9), "waving"),)
    draw = "pose" if name == "keypose" else "sketch"
    return ControlTask(ADAPTERS / name, None, draw=draw, stands=stands, **changes)


@pytest.mark.parametrize("name", PEAK)
def test_without_weight_a_shipped_adapter_changes_no_bit(pocket: BaseModel, name: str) -> None:
    assert torch.equal(drawn(pocket, posed(name, weight=0.0)), drawn(pocket, None))


@pytest.mark.parametrize("name", PEAK)
def test_what_is_drawn_from_the_layout_moves_the_picture(pocket: BaseModel, name: str) -> None:
    left, right = (drawn(pocket, posed(name, x)) for x in (0.02, 0.5))
    assert (left - right).abs().mean() > 0.01
