"""The decoder of the embedded model learns to draw what is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("skia")

from untrained import save_autoencoder

from storyforge.model.cell_decoder import COARSE, DRAWN, FINE, POINTS
from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.pocket.pretrain.latents import autoencoder_of
from storyforge.pocket.pretrain.parts import new_autoencoder
from storyforge.pocket.pretrain.run import Job, Team
from storyforge.pocket.pretrain.shapes import (
    LEARNT,
    Shaping,
    around_points,
    train_shapes,
    written,
)

ALONE = Team(0, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an autoencoder whose code has random directions."""
    save_autoencoder(tmp_path)
    return tmp_path


def job(folder: Path, stage: str) -> Job:
    """A moment of training on two drawings."""
    return Job(stage, folder, 0.01, 0.0, "cpu", 1, 1, 2, 0)


def test_the_stage_goes_on_from_its_checkpoint_and_changes_what_it_is_to_change(
    folder: Path,
) -> None:
    before = autoencoder_of(folder).state_dict()
    with torch.random.fork_rng():
        train_shapes(job(folder, "shapes"), ALONE)
        steps = Shaping(job(folder, "shapes"), ALONE).trained.step
        train_shapes(job(folder, "shapes"), ALONE)
        assert 0 < steps < Shaping(job(folder, "shapes"), ALONE).trained.step
    after = PatchAutoencoder.from_pretrained(folder / "vae").float().state_dict()
    changed = {name for name in before if not torch.equal(before[name].half(), after[name].half())}
    assert "decoder.figures.inking.out.weight" in changed
    assert all(name.removeprefix("decoder.").startswith(LEARNT) for name in changed)


def test_what_is_learnt_around_points_is_what_is_drawn_there() -> None:
    torch.manual_seed(0)
    decoder = new_autoencoder().decoder.eval()
    told = torch.randn(1, decoder.telling.told, 4, 4)
    every = torch.ones(1, 4, 4, dtype=torch.bool)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        whole = decoder.drawn(told, every, FINE).reshape(1, 4, 4, DRAWN, DRAWN, 3)
        for _ in range(4):
            raster = around_points(rng)
            made = decoder.drawn(told, every, raster)
            torch.testing.assert_close(made, written(whole, raster)[every], atol=1e-4, rtol=1e-3)


def test_what_points_write_lies_around_them() -> None:
    side = torch.arange(DRAWN) + 0.5
    y, x = torch.meshgrid(side, side, indexing="ij")
    cells = torch.stack([x, y], -1)[None, None, None] / DRAWN - 0.5
    for seed in range(8):
        raster = around_points(np.random.default_rng(seed))
        found = written(cells, raster)[0, 0, 0]
        blocks = found.reshape(POINTS.points, raster.pixels, POINTS.points, raster.pixels, 2)
        middles = blocks.mean((1, 3)).flatten(0, 1)
        torch.testing.assert_close(middles, raster.at, atol=1e-6, rtol=0)
    assert written(cells, COARSE) is cells
