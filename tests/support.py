"""What several files of tests share: a short training, runs that are killed, a panel, a bomb."""

from __future__ import annotations

import signal
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from storyforge.geometry.box import Box
from storyforge.model.base import BaseModel
from storyforge.model.lora import Delta
from storyforge.settings import TrainSettings
from storyforge.tasks import Method, PanelTask, RegionTask, TrainTask
from storyforge.train.config import TrainConfig
from storyforge.train.dataset import Example
from storyforge.train.prior import PriorSet
from storyforge.train.trainable import TrainableConcept
from storyforge.train.training_set import TrainingSet

CONFIG = TrainConfig(
    steps=6,
    batch_size=1,
    rank=2,
    alpha=2.0,
    embedding_lr=1e-2,
    text_lr=1e-3,
    unet_lr=1e-2,
    noise_offset=0.1,
    prior_share=0.0,
    seed=5,
)
"""Six steps of the simplest kind, none of them on ordinary pictures."""


def hub_of(folder: Path, cache: Path) -> None:
    """A cache of the hub in which `owner/tiny` lies."""
    home = cache / "models--owner--tiny"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("0" * 40)
    (home / "snapshots").mkdir()
    (home / "snapshots" / ("0" * 40)).symlink_to(folder)


def random_deltas(
    base: BaseModel,
    generator: torch.Generator,
    rank: int = 2,
    scale: float = 1.0,
    only: str = "",
) -> dict[str, Delta]:
    """A visible change of every attention linear, or of those with `only` in their names."""
    return {
        name: Delta(
            0.1 * torch.randn(linear.out_features, rank, generator=generator),
            0.1 * torch.randn(rank, linear.in_features, generator=generator),
            scale,
        )
        for name, linear in base.linears.items()
        if only in name
    }


def toy(base: BaseModel, *captions: str, prior: PriorSet | None = None) -> TrainingSet:
    """Two pictures of the fewest cells that the U-Net takes."""
    side = 2 ** (len(base.unet.config.block_out_channels) - 1)
    generator = torch.Generator().manual_seed(9)
    latents = torch.randn(2, base.unet.config.in_channels, side, side, generator=generator)
    examples = [Example(f"{i}.png", torch.zeros(3, 1, 1), None, captions) for i in range(2)]
    return TrainingSet(examples, list(latents), list(torch.ones(2, 1, side, side)), prior)


def trainable(base: BaseModel, config: TrainConfig = CONFIG) -> TrainableConcept:
    return TrainableConcept(base, "pip", "fox", config)


def train_task(base: BaseModel, folder: Path, **settings: float) -> TrainTask:
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        noise = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{name}.png")
    asked = TrainSettings.model_validate({"rank": 1, "batch_size": 1, "prior_share": 0, **settings})
    images = ("a.png", "b.png")
    return TrainTask(
        "key", "pip", "character", "fox", folder, images, base.reference, base.hash, asked
    )


class Killed(BaseException):
    """What a run does not expect."""


def killer(step: int) -> Callable[[str, int, int], None]:
    def on_progress(what: str, done: int, total: int) -> None:
        if done == step:
            raise Killed

    return on_progress


def hear_interrupts() -> None:
    """Whoever runs the tests in the background has their children ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def panel(base: BaseModel, method: Method) -> PanelTask:
    """Two regions, one of which is guided harder."""
    boxes = Box(x0=0, y0=0, x1=0.5, y1=1), Box(x0=0.5, y0=0, x1=1, y1=1)
    regions = [
        RegionTask(name, box, f"a {name}", "", 1.0, 0, None, guidance_scale=scale)
        for name, box, scale in zip(("fox", "owl"), boxes, (None, 3.0), strict=True)
    ]
    return PanelTask(
        key="",
        panel="one",
        page=1,
        base=base.reference,
        base_hash=base.hash,
        fused=None,
        prompt="a meadow",
        negative="",
        regions=tuple(regions),
        size=None,
        steps=3,
        guidance_scale=2.0,
        scheduler="ddim",
        region_blend=1.0,
        seed=5,
        alt=None,
        method=method,
    )


def bomb(path: Path) -> None:
    """A PNG of a few bytes that says it has ten thousand million pixels."""
    size = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", size), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        sums = struct.pack(">I", zlib.crc32(kind + body))
        data += struct.pack(">I", len(body)) + kind + body + sums
    path.write_bytes(data)
