"""Stage `patches`: what components leave out is learnt, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("skia")

from untrained import save_autoencoder

from storyforge.model.cell_decoder import DRAWN, PATCH
from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.modelref import POCKET
from storyforge.pocket.pretrain.fidelity import HELD_OUT_SEED, psnr
from storyforge.pocket.pretrain.latents import autoencoder_of
from storyforge.pocket.pretrain.patches import Mending, lack, psnr_through, train_patches
from storyforge.pocket.pretrain.run import Job, Team

ALONE = Team(0, 1)


def job(folder: Path) -> Job:
    """A hundredth of a minute, two drawings a step."""
    return Job("patches", folder, 0.01, 0.0, "cpu", 1, 2, 2, 0)


def test_nothing_lacks_of_what_is_as_it_was_and_what_counts_more_lacks_more() -> None:
    wanted = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    counts = torch.ones(1, 1, 64, 64)
    assert lack(wanted, wanted, counts) == 0
    off = wanted.clone()
    off[..., :32] += 0.1
    lacks = []
    for share in (0.5, 1.0, 2.0):
        counts[..., :32] = share
        lacks.append(float(lack(off, wanted, counts)))
    assert lacks == sorted(lacks)
    # A tenth off all over: .1 + 2 · .01 in the one size, and 2 · .01 in the other.
    assert lack(wanted + 0.1, wanted, counts) == pytest.approx(0.14, abs=1e-4)


def test_patches_learn_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_autoencoder(tmp_path)
    before = autoencoder_of(tmp_path).state_dict()
    with torch.random.fork_rng():
        learning = Mending(job(tmp_path), ALONE)
        drawn = learning.drawings()
        monkeypatch.setattr(learning, "drawings", lambda: drawn)
        losses = [learning.learn(1.0) for _ in range(8)]
        assert losses[-1] < 0.95 * losses[0]
        learning.keep()
        steps = learning.trained.step
        train_patches(job(tmp_path), ALONE)
        assert Mending(job(tmp_path), ALONE).trained.step > steps
    made = autoencoder_of(tmp_path).state_dict()
    changed = {name for name, value in made.items() if not torch.equal(value, before[name].half())}
    assert "patches.last.weight" in changed
    assert all(name.startswith("patches.") for name in changed)
    assert not {"patches.basis", "patches.mean", "patches.scale"} & changed
    said = json.loads((tmp_path / "patches.jsonl").read_text().splitlines()[-1])
    assert {"psnr", "heads"} <= set(said)


def test_what_the_shipped_autoencoder_reads_it_draws_better_than_its_components() -> None:
    model = PatchAutoencoder.from_pretrained(POCKET / "vae").float().eval()
    model.write(PATCH)
    code, seeds = model.patches, [HELD_OUT_SEED + 50 + i for i in range(4)]
    with torch.no_grad():
        blurred = psnr(lambda _, drawn: code.blurred(code.read(drawn)), seeds)
        drawn = psnr(lambda _, drawn: model(drawn), seeds)
    assert all(better > worse + 2 for better, worse in zip(drawn, blurred, strict=True))
    assert psnr_through(model, 2)[0] > 26
    # The size that is looked at is that of the other, averaged.
    picture = torch.rand(1, 3, 2 * PATCH, 2 * PATCH) * 2 - 1
    latents = model.read(picture)
    small = model.draw(latents)
    model.write(DRAWN)
    torch.testing.assert_close(F.avg_pool2d(model.draw(latents), DRAWN // PATCH), small)
