"""The decoder of the embedded model learns which components go with what is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

pytest.importorskip("skia")

from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.pocket.pretrain.components import LEARNT, train_components
from storyforge.pocket.pretrain.decoder import Decoding, train_decoder
from storyforge.pocket.pretrain.latents import autoencoder_of, draw_latents
from storyforge.pocket.pretrain.run import Job, Team


def progress(folder: Path) -> int:
    with safe_open(folder / "components.safetensors", "pt") as file:
        return int(json.loads(file.metadata()["progress"])["step"])


def test_the_stage_goes_on_from_its_checkpoint_and_changes_what_it_is_to_change(
    tmp_path: Path,
) -> None:
    job, alone = Job("components", tmp_path, 0.01, 0.0, "cpu", 1, 2, 4, 0), Team(0, 1)
    draw_latents(job, alone)
    before = autoencoder_of(tmp_path).state_dict()
    with torch.random.fork_rng():
        train_components(job, alone)
        steps = progress(tmp_path)
        train_components(job, alone)
    assert 0 < steps < progress(tmp_path)
    after = PatchAutoencoder.from_pretrained(tmp_path / "vae").float().state_dict()
    changed = {name for name in before if not torch.equal(before[name].half(), after[name].half())}
    assert "decoder.instead.weight" in changed
    assert all(name.removeprefix("decoder.").startswith(LEARNT) for name in changed)


def test_what_the_decoder_draws_by_goes_on_from_the_components_that_were_learnt_since(
    tmp_path: Path,
) -> None:
    job, alone = Job("decoder", tmp_path, 0.01, 0.0, "cpu", 1, 2, 4, 0), Team(0, 1)
    draw_latents(job, alone)
    with torch.random.fork_rng():
        train_decoder(job, alone)
        assert Decoding(job, alone, 1e-3).step > 0
        train_components(job, alone)
        learning = Decoding(job, alone, 1e-3)
    learnt = autoencoder_of(tmp_path).decoder.state_dict()
    assert all(torch.equal(v, learnt[k]) for k, v in learning.decoder.state_dict().items())
    assert learning.step == 0
