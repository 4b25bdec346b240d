"""The decoder of the embedded model in training: what it learns from, and how it is measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

pytest.importorskip("skia")

from storyforge.model.cell_decoder import DRAWN, PATCH
from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.pocket.pretrain.critic import train_doubler, train_with_critic
from storyforge.pocket.pretrain.decoder import (
    CELLS,
    CROP,
    EYE_WEIGHT,
    HEAD_WEIGHT,
    Drawings,
    known_latents,
    picture_loss,
    psnr,
    train_decoder,
)
from storyforge.pocket.pretrain.encoder import Encoding
from storyforge.pocket.pretrain.latents import autoencoder_of
from storyforge.pocket.pretrain.parts import COMPONENTS, new_autoencoder
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
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(3 * PATCH**2, COMPONENTS, generator=generator))
    model = new_autoencoder()
    model.set_code(torch.zeros(3 * PATCH**2), basis, torch.tensor(2.0))
    model.save_pretrained(place / "vae")
    return place


@pytest.fixture(scope="module")
def drawings(folder: Path) -> Drawings:
    """Four drawings."""
    return Drawings(autoencoder_of(folder), 4, 4)


def steps_of(folder: Path) -> int:
    with safe_open(folder / "decoder.safetensors", "pt") as file:
        return int(json.loads(file.metadata()["progress"])["step"])


@torch.no_grad()
def test_the_latents_of_a_crop_are_those_of_its_pixels(drawings: Drawings) -> None:
    crops = drawings.crops(6, np.random.default_rng(0))
    assert crops.pixels.shape == (6, 3, CROP * DRAWN, CROP * DRAWN)
    assert len(crops.weights) == 6
    latents = crops.latents.permute(0, 2, 3, 1)[crops.here].reshape(6, CROP, CROP, -1)
    latents = latents.permute(0, 3, 1, 2)
    seen = drawings.model.code.plain(F.avg_pool2d(crops.pixels, DRAWN // PATCH))
    plain = latents[:, :COMPONENTS]
    # A drawing of half the size is nearly, not quite, the mean of the larger one's pixels.
    assert (seen - plain).square().mean() < 0.05 * plain.square().mean()
    assert latents[:, COMPONENTS:].abs().max() > 0.9


def test_heads_count_more_and_eyes_most(drawings: Drawings) -> None:
    with_faces = [row for row, heads in enumerate(drawings.heads) if heads]
    assert with_faces
    for row, weights in enumerate(drawings.weights):
        found = set(weights.unique().tolist())
        assert found == ({1.0, HEAD_WEIGHT, EYE_WEIGHT} if row in with_faces else {1.0})


def test_a_drawing_is_renewed_with_all_that_belongs_to_it(folder: Path) -> None:
    one = Drawings(autoencoder_of(folder), 1, 7)
    before = one.pixels.clone(), one.latents.clone()
    one.renew([0])
    assert not torch.equal(one.pixels, before[0])
    assert not torch.equal(one.latents, before[1])


def test_the_loss_of_the_same_picture_is_nothing_and_heads_and_colour_count() -> None:
    wanted, plain = torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 4, 4)
    assert picture_loss(wanted, wanted, plain) == 0
    grey, red = torch.full_like(wanted, 0.1), torch.zeros_like(wanted)
    red[:, 0] = 0.3
    assert picture_loss(red, wanted, plain) > picture_loss(grey, wanted, plain) > 0
    corner, weighted = wanted.clone(), plain.clone()
    corner[..., :8, :8] = 0.5
    weighted[..., 0, 0] = 4
    assert picture_loss(corner, wanted, weighted) > 2 * picture_loss(corner, wanted, plain)


def test_psnr_of_pictures_off_by_a_tenth_of_their_range_is_20_decibel() -> None:
    whole, heads = psnr(lambda _, x: x - 0.2 * torch.where(x < 0, -1.0, 1.0), [1, 2, 3, 4])
    assert whole == pytest.approx(20.0, abs=1e-3)
    assert heads == pytest.approx(20.0, abs=1e-3)


def test_the_decoder_trains_for_a_moment_and_goes_on_from_its_checkpoint(folder: Path) -> None:
    with torch.random.fork_rng():
        train_decoder(job(folder, "decoder"), ALONE)
        before = steps_of(folder)
        train_decoder(job(folder, "decoder"), ALONE)
        middle = steps_of(folder)
        train_with_critic(job(folder, "critic"), ALONE)
    assert 0 < before < middle < steps_of(folder)
    made = PatchAutoencoder.from_pretrained(folder / "vae").float()
    code = autoencoder_of(folder).code.plain.weight
    torch.testing.assert_close(made.code.plain.weight, code, atol=1e-3, rtol=1e-3)
    assert made.config.sample_size == CELLS * DRAWN


def test_places_are_drawn_as_pictures_with_nobody_in_them_are(folder: Path) -> None:
    model = autoencoder_of(folder).eval()
    pictures = [empty(np.random.default_rng(seed)) for seed in range(3)]
    latents = torch.cat([known_latents(model, picture) for picture in pictures])
    latents[:, :COMPONENTS] = 0
    every = torch.ones(len(pictures), CELLS, CELLS, dtype=torch.bool)
    with torch.no_grad():
        around = model.decoder.place(told_of_places(pictures)[:, :, None, None])
        alone = model.decoder.behind(around, everywhere(len(pictures)), every, coarse=True)
        whole = model.decoder.drawn(latents, every, coarse=True)
    # Latents are kept in half precision.
    torch.testing.assert_close(alone, whole, atol=5e-3, rtol=0)


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


def test_the_doubler_learns_and_nothing_else_does(folder: Path) -> None:
    model = autoencoder_of(folder)
    with torch.random.fork_rng():
        train_doubler(job(folder, "double"), ALONE)
    made = PatchAutoencoder.from_pretrained(folder / "vae").float().state_dict()
    changed = {
        name.rpartition(".")[0]
        for name, before in model.state_dict().items()
        if not torch.equal(made[name], before.half().float())
    }
    # One step moves the last layer alone, which was nothing.
    assert "decoder.doubler.second" in changed
    assert changed <= {"decoder.doubler.first", "decoder.doubler.second"}
    assert str(folder) not in (folder / "vae" / "config.json").read_text()
