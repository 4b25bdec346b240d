"""The encoder of the embedded model in training: it reads what the cells of a drawing tell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

pytest.importorskip("skia")

from storyforge.model.agreement import OWN
from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.model.second_look import looked_over
from storyforge.modelref import POCKET
from storyforge.pocket import world
from storyforge.pocket.pretrain import parts
from storyforge.pocket.pretrain.encoder import (
    ALONE,
    Encoding,
    read_well,
    reading_loss,
    seeing_loss,
    shown,
    surprise,
    train_encoder,
)
from storyforge.pocket.pretrain.latents import draw_latents
from storyforge.pocket.pretrain.run import Job, Team


def pictures(count: int) -> list[world.Picture]:
    return [world.imagine(np.random.default_rng(seed)) for seed in range(count)]


def test_every_cell_of_a_drawing_has_all_that_it_tells() -> None:
    seen, told = shown(pictures(2))
    assert seen.shape == (2, 3, parts.PICTURE, parts.PICTURE)
    assert told.shape == (2, world.MEANINGS, *[parts.PICTURE // parts.DOWNSCALE] * 2)
    assert seen.min() >= -1
    assert seen.max() <= 1


def test_who_reads_nothing_is_as_far_off_as_what_there_is_to_read() -> None:
    some = pictures(3)
    found = read_well(parts.new_autoencoder(), some)
    assert found["error"] == pytest.approx(shown(some)[1].square().mean().item(), rel=1e-3)
    assert found["kinds"] < 0.5


def test_what_reads_all_rightly_loses_least() -> None:
    told = shown(pictures(2))[1]
    right = reading_loss(told, told)
    assert right < 0.2 * reading_loss(torch.zeros_like(told), told)
    other = told.clone()
    other[:, world.PLACE_OF["kind"]] *= -1
    assert right < 0.2 * reading_loss(other, told)


def progress(folder: Path) -> int:
    with safe_open(folder / "encoder.safetensors", "pt") as file:
        return int(json.loads(file.metadata()["progress"])["step"])


def test_the_encoder_trains_for_a_moment_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    before = parts.new_autoencoder()
    before.save_pretrained(tmp_path / "vae")
    job = Job("encoder", tmp_path, 0.01, 0.0, "cpu", 1, 2, 2, 0)
    draw_latents(job, Team(0, 1))
    with torch.random.fork_rng():
        train_encoder(job, Team(0, 1))
        steps = progress(tmp_path)
        train_encoder(job, Team(0, 1))
    assert 0 < steps < progress(tmp_path)
    made = PatchAutoencoder.from_pretrained(tmp_path / "vae").float()
    assert torch.equal(made.patches.basis, before.patches.basis.half().float())
    assert not torch.equal(made.code.out.weight, before.code.out.weight)
    assert str(tmp_path) not in (tmp_path / "vae" / "config.json").read_text()


def test_pictures_in_other_colours_tell_of_these(tmp_path: Path) -> None:
    parts.new_autoencoder().save_pretrained(tmp_path / "vae")
    job = Job("encoder", tmp_path, 0.01, 0.0, "cpu", 1, 2, 2, 0)
    with torch.random.fork_rng():
        learning = Encoding(job, Team(0, 1))
    seen, told = shown(pictures(12))
    before = seen.clone(), told.clone()
    found, said = learning.recoloured(seen, told)
    changed = [not torch.equal(a, b) for a, b in zip(found, before[0], strict=True)]
    assert 0 < sum(changed) < 12
    first = world.COLOURS_TOLD[0]
    for row, other in enumerate(changed):
        assert torch.equal(said[row], before[1][row]) is not other
        colours = [
            next(b for b in range(3) if torch.equal(found[row, a], before[0][row, b]))
            for a in range(3)
        ]
        at = slice(first, first + 3)
        assert torch.equal(said[row, at], before[1][row, at][colours])


def test_what_one_cell_sees_its_subject_tells() -> None:
    told = shown(pictures(3))[1]
    seen, sure = told.clone(), torch.zeros_like(told[:, OWN:])
    right = seeing_loss(seen, sure, told)
    # Every second cell sees nothing, and knows that.
    blind = torch.arange(told.shape[-1]) % 2 == 1
    seen[:, ALONE:, :, blind], sure[:, ALONE - OWN :, :, blind] = 0.0, -9.0
    assert seeing_loss(seen, sure, told) < right + 0.02
    sure[:, :, :, blind] = 0.0
    assert seeing_loss(seen, sure, told) > right + 0.1


def test_a_cell_is_to_be_as_sure_as_what_it_sees_is_right() -> None:
    told = shown(pictures(2))[1]
    chance = torch.Generator().manual_seed(0)
    off = 0.1 * torch.randn(told.shape, generator=chance)
    off[..., ::2] *= 5
    spread = told.square().mean((0, 2, 3), keepdim=True).clamp(min=0.15**2)[:, OWN:]
    right = -((off[:, OWN:].square() / spread).mean((0, 2), keepdim=True).log()).expand_as(
        off[:, OWN:]
    )
    least = surprise(told + off, right, told)
    for other in (right + 0.5, right - 0.5, right.mean((1, 3), keepdim=True).expand_as(right)):
        assert surprise(told + off, other, told) > least


def test_the_shipped_autoencoder_solves_for_the_colours_that_figures_have() -> None:
    model = PatchAutoencoder.from_pretrained(POCKET / "vae").float().eval()
    striped = [each for each in pictures(120) if any(_striped(s.what) for s in each.subjects)]
    assert len(striped) > 5
    pixels, told = shown(striped)
    for name, of in world.HAD_BY.items():
        first = world.PLACE_OF[name].start
        at = slice(first, first + 3)
        has = (told[:, 0] > 0) & (told[:, world.PLACE_OF[of]].abs().amax(1) > 0.5)
        other = told.clone()
        other[:, at] *= 0.5
        found = looked_over(model.decoder, other, pixels)
        lacks = [(x - told)[:, at].abs().mean(1)[has].mean() for x in (other, found)]
        assert lacks[1] < 0.8 * lacks[0], name


def test_the_shipped_autoencoder_finds_the_tint_of_a_place_by_drawing_it() -> None:
    model = PatchAutoencoder.from_pretrained(POCKET / "vae").float().eval()
    tinted = [each for each in pictures(150) if each.tint]
    plain = [each for each in pictures(12) if not each.tint]
    assert len(tinted) > 5
    first = world.PLACE_OF["colour"].start
    pixels, told = shown(tinted + plain)
    here = ~model.decoder.known(told).subject
    other = told.clone()
    other[:, first : first + 3] *= ~here[:, None]
    found = looked_over(model.decoder, other, pixels)
    off = (found - told)[:, first : first + 3].abs().amax(1)
    right = [(off[row][here[row]] < 0.1).all().item() for row in range(len(pixels))]
    assert sum(right[: len(tinted)]) >= 0.75 * len(tinted)
    assert sum(right[len(tinted) :]) >= 0.9 * len(plain)


def _striped(what: world.Look | world.Thing) -> bool:
    return isinstance(what, world.Look) and what.extra("stripes") is not None


def test_how_sure_a_cell_is_can_be_learnt_again_when_nobody_hears_it() -> None:
    told = shown(pictures(1))[1]
    sure = torch.full_like(told[:, OWN:], -30.0).requires_grad_()
    torch.autograd.backward(surprise(told + 0.1, sure, told))
    assert sure.grad is not None
    assert (sure.grad < 0).all()
