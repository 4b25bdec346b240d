"""The decoder of the embedded model learns to draw what is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("skia")

from storyforge.model.cell_decoder import PATCH
from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.pocket.pretrain.decoder import Decoding, train_decoder
from storyforge.pocket.pretrain.latents import autoencoder_of
from storyforge.pocket.pretrain.parts import COMPONENTS, LATENT_CHANNELS, new_autoencoder
from storyforge.pocket.pretrain.run import Job, Team
from storyforge.pocket.pretrain.shapes import LEARNT, Shaping, train_shapes

ALONE = Team(0, 1)


@torch.no_grad()
def test_what_is_drawn_coarsely_is_the_larger_picture_without_its_finest_parts() -> None:
    torch.manual_seed(0)
    model = new_autoencoder()
    # Neither has anything to say yet.
    assert not model.decoder.figures.finer.out.weight.any()
    assert not model.decoder.refiner.second.weight.any()
    latents = torch.randn(1, LATENT_CHANNELS, 4, 5)
    wanted = F.avg_pool2d(model.decoder(latents), 2)
    assert wanted.shape == (1, 3, 4 * PATCH, 5 * PATCH)
    amiss = (model.decoder.coarse(latents) - wanted).abs().mean()
    assert amiss < 0.2 * (wanted - wanted.mean()).abs().mean()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an autoencoder whose code has random directions."""
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(3 * PATCH**2, COMPONENTS, generator=generator))
    model = new_autoencoder()
    model.set_code(torch.zeros(3 * PATCH**2), basis, torch.tensor(2.0))
    model.save_pretrained(tmp_path / "vae")
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
    assert "decoder.behind.inking.out.weight" in changed
    assert all(name.removeprefix("decoder.").startswith(LEARNT) for name in changed)
    assert not any("finer" in name for name in changed)


def test_what_draws_lines_goes_on_from_the_shapes_that_were_learnt_since(folder: Path) -> None:
    with torch.random.fork_rng():
        train_decoder(job(folder, "decoder"), ALONE)
        assert Decoding(job(folder, "decoder"), ALONE, 1e-3).trained.step > 0
        train_shapes(job(folder, "shapes"), ALONE)
        learning = Decoding(job(folder, "decoder"), ALONE, 1e-3)
    learnt = autoencoder_of(folder).decoder.state_dict()
    assert all(torch.equal(v, learnt[k]) for k, v in learning.decoder.state_dict().items())
    assert learning.trained.step == 0
