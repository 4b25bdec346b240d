"""Places are learnt alone, and how well drawings are drawn again is measured."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("skia")

from untrained import save_autoencoder

from storyforge.model.cell_decoder import COARSE, FINE
from storyforge.model.ink import Raster, inked
from storyforge.pocket import world
from storyforge.pocket.pretrain.encoder import Encoding
from storyforge.pocket.pretrain.fidelity import (
    CELLS,
    EYE_WEIGHT,
    GRID,
    HEAD_WEIGHT,
    eyes_and_heads,
    psnr,
    told_by,
)
from storyforge.pocket.pretrain.latents import autoencoder_of
from storyforge.pocket.pretrain.run import Job, Team
from storyforge.pocket.pretrain.scenery import (
    Furnishing,
    empty,
    everywhere,
    told_of_places,
    train_scenery,
)

ALONE = Team(0, 1)


def job(folder: Path, stage: str) -> Job:
    """A moment of training on two drawings."""
    return Job(stage, folder, 0.01, 0.0, "cpu", 1, 2, 2, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an autoencoder whose code has random directions."""
    place = tmp_path_factory.mktemp("pocket")
    save_autoencoder(place)
    return place


def test_heads_count_more_and_eyes_most() -> None:
    for seed in range(4):
        picture = world.imagine(np.random.default_rng(seed))
        found = set(np.unique(eyes_and_heads(picture, GRID)).tolist())
        assert found == ({1.0, HEAD_WEIGHT, EYE_WEIGHT} if any(world.faces(picture)) else {1.0})


def test_psnr_of_pictures_off_by_a_tenth_of_their_range_is_20_decibel() -> None:
    whole, heads = psnr(lambda _, x: x - 0.2 * torch.where(x < 0, -1.0, 1.0), [1, 2, 3, 4])
    assert whole == pytest.approx(20.0, abs=1e-3)
    assert heads == pytest.approx(20.0, abs=1e-3)


@pytest.mark.parametrize("raster", [COARSE, FINE])
def test_places_are_drawn_as_pictures_with_nobody_in_them_are(raster: Raster, folder: Path) -> None:
    model = autoencoder_of(folder).eval()
    pictures = [empty(np.random.default_rng(seed)) for seed in range(3)]
    told = torch.cat([told_by(picture) for picture in pictures])
    every = torch.ones(len(pictures), CELLS, CELLS, dtype=torch.bool)
    with torch.no_grad():
        around = model.decoder.place(told_of_places(pictures)[:, :, None, None])
        alone = inked(*model.decoder.behind(around, everywhere(len(pictures)), every, raster))
        whole = model.decoder.drawn(told, every, raster)
    torch.testing.assert_close(alone, whole, atol=1e-2, rtol=0)


def test_scenery_learns_and_no_figure_does(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "vae", tmp_path / "vae")
    before = autoencoder_of(tmp_path).state_dict()
    with torch.random.fork_rng():
        learning = Furnishing(job(tmp_path, "scenery"), ALONE)
        for _ in range(4):
            learning.learn(1.0)
        learning.keep()
        steps = learning.trained.step
        train_scenery(job(tmp_path, "scenery"), ALONE)
        assert Furnishing(job(tmp_path, "scenery"), ALONE).trained.step > steps
    made = autoencoder_of(tmp_path).state_dict()
    changed = {
        name for name, value in made.items() if not torch.allclose(value, before[name], atol=1e-3)
    }
    assert changed
    assert all(name.startswith("decoder.behind.") for name in changed)


def test_stages_in_one_folder_leave_each_others_parts_alone(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "vae", tmp_path / "vae")
    with torch.random.fork_rng():
        places = Furnishing(job(tmp_path, "scenery"), ALONE)
        reading = Encoding(job(tmp_path, "encoder"), ALONE)
        for learner in (reading, places):
            learner.learn(1.0)
        reading.keep()
        read = autoencoder_of(tmp_path).code.state_dict()
        places.keep()
    after = autoencoder_of(tmp_path).code.state_dict()
    assert all(torch.equal(after[name], value) for name, value in read.items())
    first = autoencoder_of(folder).code.state_dict()
    assert not all(torch.equal(first[name], value) for name, value in read.items())
